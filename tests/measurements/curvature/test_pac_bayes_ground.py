"""What a bound stands on: which prior, which factor, which axes, and when it is not valid."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.measurements.contract import RNG
from tests.numerics.solutions import batch_norm, binary, held, mlp, random
from vallis.core.types import Solution
from vallis.measurements.curvature._pac_bayes_ground import Ground, axes_at, judged, prepare, settling, unseen
from vallis.numerics.axes import kronecker_axes
from vallis.numerics.kronecker import factors


def ground(*path: Solution) -> Ground:
    found = prepare(path, "train", None, RNG)
    assert isinstance(found, Ground)
    return found


def test_the_factor_lifts_the_loss_above_the_error() -> None:
    assert ground(binary()).factor == pytest.approx(1 / math.log(2))
    assert ground(mlp()).factor == 1.0
    assert (ground(binary()).num_classes, ground(mlp()).num_classes) == (2, 3)


def test_the_prior_is_where_training_began() -> None:
    first = mlp()
    last = replace(first, params={name: value + 1 for name, value in first.params.items()}, step=5)
    found = ground(first, last)
    torch.testing.assert_close(found.prior_mean, found.objective.vector(found.objective.origin) - 1)
    assert not bool(ground(last).prior_mean.any())
    assert not bool(ground(replace(first, step=1), last).prior_mean.any())


def test_axes_at_another_mean_are_those_of_another_network() -> None:
    solution = mlp(double=True)
    found = ground(solution)
    vector = found.objective.vector(found.objective.origin)
    probe = torch.arange(61, dtype=torch.float64)
    here = axes_at(found, "curvature").turn(probe)
    torch.testing.assert_close(found.axes_at_mean(vector).turn(probe), here)
    assert axes_at(found, "standard").turn(probe) is probe
    other = replace(solution, params={name: 2 * value for name, value in solution.params.items()})
    there = ground(other)
    expected = kronecker_axes(there.objective, factors(there.objective)).turn(probe)
    torch.testing.assert_close(found.axes_at_mean(2 * vector).turn(probe), expected)


def test_what_is_not_covered_is_named() -> None:
    (note,) = (note for note in ground(batch_norm()).notes if note.code == "not_valid")
    assert "running_mean" in note.text
    assert not ground(batch_norm()).valid
    assert ground(batch_norm(), batch_norm()).valid
    assert ground(mlp()).valid


@pytest.mark.parametrize(("smallest", "vacuous"), [(0.1, 0.0), (0.66, 0.0), (0.667, 1.0), (1.0, 1.0)])
def test_vacuous_is_what_is_no_better_than_guessing(smallest: float, vacuous: float) -> None:
    values, notes = judged(ground(mlp()), smallest)
    assert values["vacuous"].value == vacuous  # type: ignore[union-attr]
    assert ("vacuous" in [note.code for note in notes]) == bool(vacuous)


def test_guessing_and_the_most_frequent_class_are_told_apart() -> None:
    """Three classes, the first on four of five examples: 2/3 and 1/5."""
    rare = ground(held(mlp().net.module, random(20, 2), (torch.arange(20) % 5 == 4).long(), batch_size=8))
    assert (rare.num_classes, rare.majority_error) == (3, pytest.approx(0.2))
    for smallest, code in ((0.1, []), (0.3, ["no_better_than_majority"]), (0.7, ["vacuous"])):
        values, notes = judged(rare, smallest)
        assert values["guessing_error"].value == pytest.approx(2 / 3)  # type: ignore[union-attr]
        assert values["majority_error"].value == pytest.approx(0.2)  # type: ignore[union-attr]
        assert [note.code for note in notes] == code


def test_what_still_falls_has_not_settled() -> None:
    falling, still = np.linspace(2, 1, 50), np.full(50, 1.0)
    (note,) = settling({"standard": falling, "curvature": still})
    assert note.code == "not_converged"
    assert "standard" in note.text
    assert "curvature" not in note.text
    assert settling({"curvature": still}) == ()
    assert len(settling({"standard": np.empty(0)})) == 1


def test_unseen_examples_where_there_are_any() -> None:
    assert unseen(mlp(), "test", "train") is None
    assert unseen(mlp(), "train", "train") is None
    assert unseen(mlp(), "train", "other") is not None
