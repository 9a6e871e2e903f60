"""The constructed minimum: the survey card's prototype (N = 20, d = 3, m = 100), and other widths and problems."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.measurements.contract import RNG, measured
from tests.numerics.solutions import AWKWARD, held, mlp, random, regression
from vallis.core.errors import SettingsError
from vallis.core.losses import SquaredError
from vallis.core.types import NotApplicable
from vallis.measurements.landscape.constructed_minimum import ConstructedMinimum
from vallis.numerics.stationary_points import KINDS

CHECK = ConstructedMinimum(num_directions=100, num_steps=100)


def test_a_bad_local_minimum_of_a_hundred_units() -> None:
    module = regression().net.module
    solution = held(module, random(20, 2).double(), random(20, 2, seed=5).double(), loss=SquaredError())
    found = measured(CHECK, replace(solution))
    at, residual = found.estimate("minimum_loss").value, found.estimate("affine_residual").value
    assert at == pytest.approx(residual, abs=1e-10)
    assert found.estimate("minimum_gradient").value < 1e-10
    assert (found.array("lowest_changes").data >= -1e-12).all()
    assert KINDS[int(found.estimate("minimum_kind").value)] == "degenerate_minimum"
    assert found.estimate("descent_end").value == pytest.approx(residual, rel=1e-2)
    assert found.estimate("descent_end").value >= residual - 1e-12
    assert found.estimate("better_loss").value < 1e-10
    assert found.estimate("plateau_loss").value == pytest.approx(found.estimate("target_variance").value, abs=1e-10)
    assert found.estimate("plateau_gradient").value < 1e-12
    assert found.estimate("minimum_margin").value >= 1.0
    assert "it is bad" in CHECK.reading(found)


@pytest.mark.parametrize("width", [3, 40])
def test_at_any_width_and_for_classes(width: int) -> None:
    found = measured(replace(CHECK, width=width, num_directions=20, num_steps=10), mlp())
    assert found.estimate("minimum_loss").value == pytest.approx(found.estimate("affine_residual").value, abs=1e-10)
    assert (found.estimate("better_loss").value < 1e-10) == (width == 40)


def test_a_minimum_that_an_affine_function_reaches_is_not_called_bad() -> None:
    few = replace(CHECK, max_examples=3, num_directions=2, num_steps=2)
    found = measured(few, mlp())
    assert [note.code for note in found.notes] == ["affine_fits"]
    assert "it is not bad" in few.reading(found)


def test_examples_that_come_class_by_class_are_of_all_classes() -> None:
    y = torch.arange(2).repeat_interleave(60)
    solution = held(mlp().net.module, random(120, 2), y)
    found = measured(replace(CHECK, num_directions=2, num_steps=2), solution)
    assert found.estimate("target_variance").n == 50
    assert found.estimate("target_variance").value > 0.1
    assert found.estimate("better_loss").value < found.estimate("minimum_loss").value


def test_what_it_cannot_be_built_of() -> None:
    for part, solution in ((replace(CHECK, width=2), mlp()), (CHECK, AWKWARD["tokens"]())):
        outcome = part.measure(solution, RNG)
        assert isinstance(outcome, NotApplicable) and outcome.note.code == "not_built"


@pytest.mark.parametrize("settings", [{"width": 0}, {"radii": ()}, {"noise": -1.0}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        ConstructedMinimum(**settings)  # type: ignore[arg-type]
