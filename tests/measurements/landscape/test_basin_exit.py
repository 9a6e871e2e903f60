"""Exits as a measurement: certified where the network is wide enough for its examples, and said where it is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.measurements.contract import RNG, measured
from tests.numerics.solutions import built, classes, held, lstm, mlp, random, tokens
from vallis.core.errors import SettingsError
from vallis.core.types import NotApplicable, Result, Solution
from vallis.measurements.landscape.basin_exit import BasinExit


def test_a_wide_network_has_a_way_out() -> None:
    solution = held(
        built(lambda: nn.Sequential(nn.Linear(2, 40), nn.Tanh(), nn.Linear(40, 3))), random(20, 2), classes(20)
    )
    part = BasinExit(max_examples=12)
    found = measured(part, solution)
    assert found.estimate("certified").value == 1.0
    assert found.estimate("rank_fraction").value == 1.0
    barriers = found.array("barriers").data
    assert barriers[2] < 0.05 * max(barriers[0], 1e-9) or barriers[2] < 1e-3
    assert found.estimate("end_loss").value < 0.01 * found.estimate("start_loss").value
    assert found.estimate("monotone").value == 1.0
    assert "part_of_the_data" in [note.code for note in found.notes]
    assert "not bad" in part.reading(found)


@pytest.mark.parametrize("name", ["smoothed", "absolute", "squared"])
def test_the_way_leads_to_the_bottom_of_any_convex_loss(name: str) -> None:
    """Where sure scores of the right class are not the best there are."""

    def apart(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return outputs - F.one_hot(y, 3)

    p = torch.tensor([0.8 + 0.2 / 3, 0.2 / 3, 0.2 / 3])
    bottoms = {"smoothed": float(-(p * p.log()).sum()), "absolute": 0.0, "squared": 0.0}
    losses = {
        "smoothed": nn.CrossEntropyLoss(label_smoothing=0.2),
        "absolute": lambda outputs, y: apart(outputs, y).abs().mean(),
        "squared": lambda outputs, y: apart(outputs, y).square().mean(),
    }
    module = built(lambda: nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 3))).double()
    solution = Solution.of(module, losses[name], train=(random(12, 4).double(), classes(12)))
    found = BasinExit().measure(solution, RNG)
    assert isinstance(found, Result)
    assert found.estimate("end_loss").value == pytest.approx(bottoms[name], abs=1e-4)
    assert found.estimate("barrier").value < 1e-3


def test_a_way_that_ends_no_lower_says_nothing_of_the_basin() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 3))).double()
    x = random(12, 4).double()
    flat = Solution.of(module, lambda outputs, y: (0 * outputs).mean() + 1, train=(x, classes(12)))
    found = BasinExit().measure(flat, RNG)
    assert isinstance(found, Result)
    assert [note.code for note in found.notes] == ["ends_no_lower"]
    assert "not bad" not in BasinExit().reading(found)


def test_a_narrow_one_has_none_that_is_certified() -> None:
    found = measured(BasinExit(), mlp())
    assert found.estimate("certified").value == 0.0
    assert [note.code for note in found.notes] == ["not_certified"]
    assert "Nothing is certified" in BasinExit().reading(found)
    assert measured(BasinExit(shakes=(0.01,)), lstm()).estimate("certified").value == 0.0


def test_a_network_without_a_last_layer() -> None:
    outcome = BasinExit().measure(tokens(), RNG)
    assert isinstance(outcome, NotApplicable) and outcome.note.code == "no_last_layer"
    with pytest.raises(SettingsError, match="falling shakes"):
        BasinExit(shakes=(0.1, 0.2))


def test_a_large_network_is_looked_at_in_double_precision() -> None:
    """In single precision its features would be dependent up to rounding, and nothing certified."""
    module = built(lambda: nn.Sequential(nn.Linear(2, 3500), nn.Tanh(), nn.Linear(3500, 2)))
    found = measured(BasinExit(shakes=(1e-4,), num_points=3), held(module, random(60, 2), classes(60, num_classes=2)))
    assert sum(value.numel() for value in module.parameters()) > 10_000
    assert found.estimate("certified").value == 1.0
