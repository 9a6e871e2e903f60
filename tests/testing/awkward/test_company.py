"""Four perceptrons trained as one computation are four ordinary trainings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.own import coordinates
from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.testing.awkward.company import Member, StackedDescent
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training.gradient_descent import GradientDescent

# Each with data, initial weights, order, learning rate and weight decay of its own.
SETTINGS = ((0.1, 0.0), (0.05, 0.01), (0.2, 0.0), (0.1, 0.001))
STEPS = 60


def begin(
    make: Any, members: range = range(4), widths: tuple[int, ...] = (6, 4), double: bool = False
) -> list[tuple[Any, Any]]:
    states = []
    for k in members:
        tasks = Blobs(num_classes=3, double=double).build(Rng(k))
        net = TinyMlp(widths=widths, double=double).build(tasks, Rng(k))
        rate, decay = SETTINGS[k]
        training = make(learning_rate=rate, weight_decay=decay, momentum=0.9, batch_size=10, max_steps=STEPS)
        states.append((training, training.init(net, *coordinates(net.module), tasks, Rng(k).child("training"))))
    return states


def together(states: list[tuple[Any, Member]], steps: int = STEPS) -> list[Solution]:
    for _ in range(steps):
        StackedDescent.step_all([state for _, state in states])
    return [training.solution(state) for training, state in states]


def one_by_one(states: list[tuple[Any, Any]]) -> list[Solution]:
    for training, state in states:
        for _ in range(STEPS):
            training.step(state)
    return [training.solution(state) for training, state in states]


def furthest(some: list[Solution], others: list[Solution]) -> float:
    gaps = [(a.params[n] - b.params[n]).abs().max() for a, b in zip(some, others, strict=True) for n in a.params]
    return float(max(gaps))


@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-11), (False, 1e-3)])
def test_members_are_ordinary_solutions_equal_to_training_each_alone(double: bool, tolerance: float) -> None:
    """What is left is the order of sums, which 60 steps with momentum amplify some thousand times."""
    found = together(begin(StackedDescent, double=double))
    alone = one_by_one(begin(GradientDescent, double=double))
    assert furthest(found, alone) < tolerance
    assert furthest(found[:1], found[1:2]) > 0.1
    for solution, other in zip(found, alone, strict=True):
        assert solution.step == STEPS
        assert Objective(solution).value() == pytest.approx(Objective(other).value(), abs=tolerance)


def test_a_member_does_not_depend_on_its_company() -> None:
    """Not by one bit: so the name of a member's result needs not name the others."""
    four = together(begin(StackedDescent))
    for members in (range(1), range(2), range(1, 4)):
        fewer = together(begin(StackedDescent, members))
        assert furthest(fewer, [four[k] for k in members]) == 0.0
    assert furthest(one_by_one(begin(StackedDescent, range(2, 3))), four[2:3]) == 0.0


def test_steps_say_of_each_member_what_it_saw() -> None:
    states = begin(StackedDescent)
    for _ in range(4):
        infos = StackedDescent.step_all([state for _, state in states])
    for k, info in enumerate(infos):
        training, state = begin(GradientDescent)[k]
        for _ in range(4):
            expected = training.step(state)
        assert info.loss == pytest.approx(expected.loss, abs=1e-6)
        assert torch.equal(info.index, expected.index)
        assert torch.allclose(info.losses, expected.losses, atol=1e-6)
        assert torch.equal(info.correct, expected.correct)


def test_one_member_is_put_to_rest_and_joins_again() -> None:
    undisturbed = together(begin(StackedDescent))
    states = begin(StackedDescent)
    together(states, 17)
    training, state = states[2]
    states[2] = (training, training.unpack(training.pack(state), state.net, state.tasks, state.rng))
    assert furthest(together(states, STEPS - 17), undisturbed) == 0.0


def test_members_may_leave() -> None:
    undisturbed = together(begin(StackedDescent))
    states = begin(StackedDescent)
    together(states, 20)
    left = [states[3], states[1]]
    assert furthest(together(left, STEPS - 20), [undisturbed[3], undisturbed[1]]) == 0.0


def test_it_is_a_training() -> None:
    assert isinstance(StackedDescent(), Training)


def test_strangers_are_refused() -> None:
    states = begin(StackedDescent, range(1)) + begin(StackedDescent, range(1, 2), (5, 4))
    with pytest.raises(SettingsError, match="one architecture"):
        together(states, 1)
