"""The exponential unit as a measurement: a live network learns, a dead one sends the unit away."""

from __future__ import annotations

import pytest
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.numerics.solutions import binary, built, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.losses import BinaryCrossEntropy
from vallis.core.types import NotApplicable, Solution
from vallis.measurements.landscape.exponential_neuron import ExponentialNeuron


def solution(single: bool) -> Solution:
    module = built(lambda: nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1 if single else 2))).double()
    x = random(24, 2).double()
    y = (x[:, 0] > 0).long()
    return held(module, x, y, loss=BinaryCrossEntropy() if single else None)


@pytest.mark.parametrize("single", [True, False])
def test_a_live_network_learns(single: bool) -> None:
    part = ExponentialNeuron(num_steps=600, learning_rate=0.1)
    found = measured(part, solution(single))
    assert found.estimate("own_loss").value < 0.2 * found.estimate("start_loss").value
    assert found.estimate("coefficient").value < found.estimate("largest_coefficient").value
    assert "on its way to infinity" not in part.reading(found)


def test_a_dead_network_sends_the_unit_away() -> None:
    part = ExponentialNeuron(num_steps=500, dead=True)
    found = measured(part, solution(False))
    assert found.estimate("own_loss").value > 0.5
    assert found.estimate("norm_growth").value > 0
    assert "on its way to infinity" in part.reading(found)


def test_only_two_classes() -> None:
    outcome = ExponentialNeuron().measure(mlp(), RNG)
    assert isinstance(outcome, NotApplicable) and outcome.note.code == "not_two_classes"
    assert measured(ExponentialNeuron(num_steps=10), binary()).estimate("start_loss").n == 17
    with pytest.raises(SettingsError):
        ExponentialNeuron(penalty=0.0)
