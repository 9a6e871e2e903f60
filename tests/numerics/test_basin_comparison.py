"""Two basins on one level: the exact ratio of two bowls, paired rays, and words where a comparison would mislead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.numerics.bowls import bowl
from tests.numerics.solutions import binary, mlp
from vallis.core.errors import SettingsError, UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.basin_comparison import compare_basins, matched_cutoffs, near_cutoff_notes


def shifted(solution: Solution, by: float) -> Solution:
    """A bowl a little above its minimum."""
    return replace(solution, params={name: value + by for name, value in solution.params.items()})


def test_two_bowls_one_four_times_as_steep() -> None:
    """``n/2 log10 4``, and the norms of the filters are the same."""
    one, other = (Objective(bowl([k] * 30)) for k in (1.0, 4.0))
    found = compare_basins(one, other, rng=Rng(0), num_rays=40, cutoff=0.01)
    exact = 15 * np.log10(4.0)
    assert found.ratio.value == pytest.approx(exact, rel=1e-6)
    assert found.ratio.typical == pytest.approx(exact, rel=1e-6)
    assert found.ratio.interval == pytest.approx((exact, exact), rel=1e-6)
    assert found.notes == () and found.one.num_coordinates == 30
    turned = compare_basins(other, one, rng=Rng(0), num_rays=40, cutoff=0.01)
    assert turned.ratio.value == pytest.approx(-exact, rel=1e-6)


def test_rays_are_paired() -> None:
    objective = Objective(mlp(double=True))
    scaled = objective.at([value.clone() for value in objective.origin])
    found = compare_basins(objective, scaled, rng=Rng(0), num_rays=10, level="rise")
    np.testing.assert_array_equal(found.one.radii, found.other.radii)
    assert (found.ratio.value, found.ratio.interval, found.ratio.typical_stderr) == (0.0, (0.0, 0.0), 0.0)


def test_one_cutoff_for_all_or_one_rise_for_each() -> None:
    assert matched_cutoffs([0.001, 0.01], 0.1) == ((0.1, 0.1), ())
    cutoffs, notes = matched_cutoffs([0.001, 0.01], 0.1, "rise")
    assert cutoffs == pytest.approx((0.101, 0.11)) and notes == ()


def test_a_centre_near_the_cutoff_is_said_to_be() -> None:
    """Card 1, pitfall 5: the radius then measures the residual loss."""
    _, (note,) = matched_cutoffs([0.001, 0.06], 0.1)
    assert note.code == "near_cutoff" and "0.06" in note.text and note.text.endswith(".")
    assert near_cutoff_notes(0.05, 0.1) == near_cutoff_notes(0.11, 0.1) == ()
    one, other = Objective(bowl([1.0] * 5)), Objective(shifted(bowl([1.0] * 5), 0.17))
    assert 0.05 < other.value() < 0.1
    found = compare_basins(one, other, rng=Rng(0), num_rays=20, cutoff=0.1)
    assert [note.code for note in found.notes] == ["near_cutoff"]
    assert found.ratio.typical > 0


def test_basins_of_one_depth_at_other_heights_are_said_to_be() -> None:
    _, (note,) = matched_cutoffs([0.0, 0.3], 0.1, "rise")
    assert note.code == "different_heights" and "0.3" in note.text


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="rise"):
        matched_cutoffs([0.01, 0.2], 0.1)
    with pytest.raises(UsageError, match="none"):
        matched_cutoffs([])
    with pytest.raises(SettingsError):
        matched_cutoffs([0.0], 0.1, "percent")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="dimensions"):
        compare_basins(Objective(mlp()), Objective(binary()), rng=Rng(0), level="rise")


def test_solutions_are_left_alone() -> None:
    solution = bowl([1.0, 2.0])
    (before,) = (value.clone() for value in solution.params.values())
    compare_basins(Objective(solution), Objective(solution), rng=Rng(0), num_rays=3)
    assert torch.equal(before, next(iter(solution.params.values())))
