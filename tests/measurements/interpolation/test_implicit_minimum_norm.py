"""Six trainings of a linear model on real images, against the solution of numpy's pinv."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.measurements.interpolation.subjects import IMAGES, on
from tests.numerics.solutions import classes, held, random, tokens
from vallis.core.errors import SettingsError
from vallis.core.types import NotApplicable
from vallis.measurements.interpolation.implicit_minimum_norm import TRAININGS, ImplicitMinimumNorm


@pytest.mark.parametrize("name", IMAGES)
def test_from_zero_the_least_norm_is_found_and_else_it_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """B7."""
    found = measured(ImplicitMinimumNorm(num_examples=6), on(IMAGES[name], monkeypatch))
    values = {key: found.estimate(key).value for key in found.values}
    for training in ("gradient_descent", "stochastic", "momentum"):
        assert values[f"{training}_difference"] <= 1e-6
        assert values[f"{training}_norm_ratio"] == pytest.approx(1, abs=1e-6)
        assert values[f"{training}_outside"] < 1e-12
    assert values["random_start_norm_ratio"] > 2 and values["random_start_residual"] < 1e-5
    assert max(values[f"{training}_limit_difference"] for training in ("random_start", "weight_decay")) <= 1e-6
    assert values["weight_decay_norm_ratio"] < 1 and values["weight_decay_outside"] < 1e-12
    assert values["adam_norm_ratio"] > 1.01 and values["adam_outside"] > 0.05 and values["adam_residual"] < 1e-4
    assert found.notes == ()
    assert found.estimate("condition").n == 6
    assert len(values) == 1 + 5 * len(TRAININGS) + 2


def test_too_few_steps_are_noted() -> None:
    solution = held(nn.Linear(40, 3), random(30, 40), classes(30))
    found = measured(ImplicitMinimumNorm(max_steps=20), solution)
    assert [note.code for note in found.notes] == ["not_converged"]
    assert "gradient descent from 0 after 20 steps" in found.notes[0].text


def test_where_only_one_model_fits_there_is_no_choice() -> None:
    single = held(nn.Linear(1, 3), random(30, 1), classes(30))
    outcome = ImplicitMinimumNorm().measure(single, RNG)
    assert isinstance(outcome, NotApplicable) and "fewer examples than inputs" in outcome.note.text
    same = held(nn.Linear(40, 3), torch.ones(30, 40), classes(30))
    assert isinstance(ImplicitMinimumNorm().measure(same, RNG), NotApplicable)
    assert isinstance(ImplicitMinimumNorm().measure(tokens(), RNG), NotApplicable)


@pytest.mark.parametrize("name", ["num_examples", "max_steps", "weight_decay", "std_start", "tolerance"])
def test_impossible_settings_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        ImplicitMinimumNorm(**{name: 0})  # type: ignore[arg-type]
