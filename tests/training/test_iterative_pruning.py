"""Lottery tickets: what is removed stays removed, rounds begin at the start, controls differ where they say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vallis.core.errors import SettingsError
from vallis.core.own import coordinates
from vallis.core.rng import Rng
from vallis.testing.toys.models import LinearModel, TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent
from vallis.training.iterative_pruning import IterativePruning, State, pruned, shuffled

BASE = GradientDescent(learning_rate=0.1, momentum=0.9, batch_size=16, max_steps=6)
PRUNING = IterativePruning(base=BASE, num_rounds=3)


def begun(part: IterativePruning, convolutional: bool = False) -> State:
    problem, model = (Bars(), TinyConvnet()) if convolutional else (Blobs(), TinyMlp(widths=(12, 10)))
    tasks = problem.build(Rng(0))
    net = model.build(tasks, Rng(0))
    return part.init(net, *coordinates(net.module), tasks, Rng(1))


def to_the_end(part: IterativePruning, state: State) -> list[int]:
    steps = []
    while not state.reason:
        steps.append(part.step(state).step)
    return steps


@pytest.mark.parametrize("convolutional", [False, True])
def test_a_fifth_of_what_is_left_goes_each_round_and_stays_away(convolutional: bool) -> None:
    state = begun(PRUNING, convolutional)
    total = sum(mask.numel() for mask in state.masks.values())
    assert to_the_end(PRUNING, state) == list(range(1, 25))
    left = total
    for _ in range(3):
        left -= int(0.2 * left)
    assert sum(int(mask.sum()) for mask in state.masks.values()) == left
    solution = PRUNING.solution(state)
    assert solution.step == 24
    for name, mask in state.masks.items():
        assert bool((solution.params[name][mask == 0] == 0).all())
        assert bool((solution.params[name][mask > 0] != 0).all())
    assert list(state.masks) == [n for n, v in solution.params.items() if v.ndim > 1][:-1]


def test_a_round_begins_at_the_initial_values() -> None:
    state = begun(PRUNING)
    for _ in range(6):
        PRUNING.step(state)
    assert (state.round, state.step) == (1, 6)
    here = PRUNING.solution(state).params
    for name, value in state.params.items():
        assert here[name].equal(value * state.masks[name] if name in state.masks else value)


def test_the_controls_differ_in_the_last_round_alone() -> None:
    states = {}
    for start in ("rewind", "reinitialise", "random_mask"):
        part = replace(PRUNING, start=start)
        states[start] = begun(part)
        while states[start].round < 3:
            part.step(states[start])
    ticket, other, mask = states.values()
    name = next(iter(ticket.masks))
    assert ticket.masks[name].equal(other.masks[name])
    assert not ticket.masks[name].equal(mask.masks[name])
    assert int(ticket.masks[name].sum()) == int(mask.masks[name].sum())
    values = [PRUNING.solution(state).params[name] for state in (ticket, other, mask)]
    assert not values[0].equal(values[1]) and not values[0].equal(values[2])


def test_the_smallest_over_all_tensors_are_removed() -> None:
    weights = {"a": torch.tensor([[0.1, -5.0], [3.0, 0.2]]), "b": torch.tensor([[-0.3, 4.0]])}
    masks = {name: torch.ones_like(value) for name, value in weights.items()}
    once = pruned(masks, weights, 0.34)
    assert once["a"].tolist() == [[0, 1], [1, 0]] and once["b"].tolist() == [[1, 1]]
    assert pruned(once, weights, 0.34)["b"].tolist() == [[0, 1]]
    assert pruned(masks, weights, 0.01)["a"].equal(masks["a"])
    assert sorted(shuffled(weights["a"], Rng(0)).flatten().tolist()) == sorted(weights["a"].flatten().tolist())


def test_of_weights_that_are_equally_small_no_more_go_than_asked() -> None:
    masks = {"a": torch.ones(2, 5), "b": torch.ones(1, 10)}
    weights = {"a": torch.zeros(2, 5), "b": torch.ones(1, 10)}
    left = [int(mask.sum()) for mask in pruned(masks, weights, 0.2).values()]
    assert left == [6, 10]
    assert [int(mask.sum()) for mask in pruned(masks, weights, 0.7).values()] == [0, 6]


def test_what_cannot_be_pruned_is_refused() -> None:
    tasks = Blobs().build(Rng(0))
    net = LinearModel().build(tasks, Rng(0))
    with pytest.raises(SettingsError, match="a weight to prune"):
        PRUNING.init(net, *coordinates(net.module), tasks, Rng(0))
    with pytest.raises(SettingsError, match="shows its weights"):
        begun(IterativePruning(base=EarlyStopping(base=BASE)))
    for settings in ({"num_rounds": 0}, {"prune_fraction": 1.0}, {"start": "x"}):
        with pytest.raises(SettingsError, match=f"iterative_pruning.{next(iter(settings))}"):
            IterativePruning(base=BASE, **settings)  # type: ignore[arg-type]
