"""Slices: the true centre, no shear, nothing that adds up, nothing hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, batch_norm, built, held, mlp, random
from vallis.core.data import Stream, chosen
from vallis.core.errors import UsageError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.directions import filter_normalised
from vallis.numerics.slices import Landscape, line, plane
from vallis.numerics.surface import in_eval_mode

STEPS = np.array([-1.0, -0.3, 0.0, 0.1, 0.7])


def directions(objective: Objective) -> list[tuple[torch.Tensor, ...]]:
    rngs = [Rng(0).child(name) for name in ("first", "second")]
    return [filter_normalised(objective.names, objective.origin, rng) for rng in rngs]


def by_hand(objective: Objective, *moves: tuple[float, tuple[torch.Tensor, ...]]) -> float:
    point = [value.clone() for value in objective.origin]
    for step, direction in moves:
        point = [value + step * along for value, along in zip(point, direction, strict=True)]
    return objective.value(point)


@pytest.mark.parametrize("name", AWKWARD)
def test_a_line_is_what_a_loop_over_copies_finds(name: str) -> None:
    objective = Objective(in_eval_mode(AWKWARD[name]()))
    first, _ = directions(objective)
    np.testing.assert_allclose(
        line(objective, first, STEPS), [by_hand(objective, (a, first)) for a in STEPS], rtol=1e-5
    )


def test_a_plane_is_what_a_loop_over_copies_finds() -> None:
    objective = Objective(mlp())
    first, second = directions(objective)
    found = plane(objective, first, second, STEPS, STEPS[1:])
    expected = [[by_hand(objective, (b, second), (a, first)) for a in STEPS] for b in STEPS[1:]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.shape == (4, 5)


@pytest.mark.parametrize("name", AWKWARD)
def test_the_centre_is_the_loss_to_the_last_bit(name: str) -> None:
    objective = Objective(in_eval_mode(AWKWARD[name]()))
    first, second = directions(objective)
    steps = [1.0, 0.3, 0.0, -0.7]
    assert line(objective, first, steps)[2] == objective.value()
    found = plane(objective, first, second, steps, steps)
    assert found[2, 2] == objective.value()
    np.testing.assert_array_equal(found[2, 2], line(objective, second, steps)[2])


def linear_solution(slope: float = 1.0) -> Solution:
    """A loss that is linear in the weights: ``mean(outputs)`` of a linear layer on ones."""
    module = nn.Linear(3, 2, bias=False).double()
    loss = OwnLoss(function=lambda outputs, y: slope * outputs.mean())
    return held(module, torch.ones(6, 3, dtype=torch.float64), torch.zeros(6), loss=loss)


def test_a_linear_function_gives_constant_steps() -> None:
    """The peers' sheared grid: there alternate columns are shifted by one step."""
    objective = Objective(linear_solution())
    ones, ramp = torch.ones(2, 3).double(), torch.arange(6.0).view(2, 3).double()
    steps = np.linspace(-1, 1, 9)
    flat = plane(objective, [ones], [ramp], steps, steps)
    # Along ones the mean output rises by 3 a unit, along the ramp by 7.5.
    np.testing.assert_allclose(np.diff(flat, axis=1), 3 * 0.25, atol=1e-12)
    np.testing.assert_allclose(np.diff(flat, axis=0), 7.5 * 0.25, atol=1e-12)
    np.testing.assert_allclose(np.diff(line(objective, [ramp], steps)), 7.5 * 0.25, atol=1e-12)


def test_points_do_not_depend_on_how_one_came_there() -> None:
    objective = Objective(mlp())
    first, second = directions(objective)
    forth = plane(objective, first, second, STEPS, STEPS)
    back = plane(objective, first, second, STEPS[::-1], STEPS[::-1])[::-1, ::-1]
    np.testing.assert_array_equal(forth, back)
    np.testing.assert_array_equal(forth, plane(objective, first, second, STEPS, STEPS))
    column = plane(objective, first, second, STEPS[:1], STEPS)
    np.testing.assert_array_equal(column, forth[:, :1])
    alone = [plane(objective, first, second, [a], [b])[0, 0] for b in STEPS for a in STEPS]
    np.testing.assert_array_equal(forth.ravel(), alone)


def test_the_centre_is_the_very_same_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only equal ones: a kernel may round by where in memory a tensor lies; and no other point is it."""
    objective = Objective(mlp())
    points: list[object] = []
    monkeypatch.setattr(objective, "value", lambda point: points.append(point) or 0.0)
    first, second = directions(objective)
    plane(objective, first, second, [0.0, 1.0], [0.0])
    assert len(points) == 1
    assert points[0] is objective.origin


def test_what_is_not_finite_is_kept() -> None:
    """The peers put the mean in the place of NaN and noise on the maximum."""
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = lambda outputs, y: outputs.mean().log()  # noqa: E731
    solution = linear_solution()
    module = nn.Linear(3, 2, bias=False).double()
    nn.init.ones_(module.weight)
    objective = Objective(
        held(module, solution.task.splits["train"].x, torch.zeros(6), loss=OwnLoss(function=function))
    )  # type: ignore[attr-defined]
    found = line(objective, [torch.ones(2, 3).double()], [-2.0, -1.0, 0.0])
    assert np.isnan(found[0])
    assert found[1] == -np.inf
    assert found[2] == pytest.approx(np.log(3))


class Passes:
    """A stream that counts how often it is read."""

    def __init__(self, solution: Solution) -> None:
        self.batches = [(batch.x, batch.y) for batch in solution.task.splits["train"]]
        self.num_passes = 0

    def __call__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.num_passes += 1
        return iter(self.batches)


def test_a_stream_is_read_once_and_gives_the_same_numbers() -> None:
    solution = mlp()
    read = Passes(solution)
    task = replace(solution.task, splits={"train": Stream(read)})
    streamed = Objective(replace(solution, tasks=(task,)))
    first, second = directions(streamed)
    before = streamed.total_weight, read.num_passes
    found = plane(streamed, first, second, STEPS, STEPS)
    assert read.num_passes == before[1] + 1
    # Not the same bits: of data that are held, the answers of the first layer are kept.
    np.testing.assert_allclose(found, plane(Objective(solution), first, second, STEPS, STEPS), rtol=1e-6)


def test_error_bars_are_those_of_the_mean_of_examples() -> None:
    objective = Objective(mlp())
    first, second = directions(objective)
    points = [(0.0, 0.0), (0.3, -0.2)]
    found = Landscape(objective, [first, second]).spread(points)
    losses = []
    for a, b in points:
        point = [v + a * d + b * e for v, d, e in zip(objective.origin, first, second, strict=True)]
        held = [
            objective.loss.per_example(objective.outputs_at(point, batch), batch.y)[0] for batch in objective.batches()
        ]
        losses.append(torch.cat(held).double().numpy())
    n = len(losses[0])
    np.testing.assert_allclose(found.losses, [each.mean() for each in losses], rtol=1e-6)
    np.testing.assert_allclose(found.errors, [each.std(ddof=1) / n**0.5 for each in losses], rtol=1e-4)
    assert found.rise_errors[0] == 0
    np.testing.assert_allclose(found.rise_errors[1], (losses[1] - losses[0]).std(ddof=1) / n**0.5, rtol=1e-4)
    assert found.losses[0] == objective.value()


@pytest.mark.parametrize("num_chosen", [20, 160])
def test_error_bars_are_those_of_the_choice_among_the_examples_there_are(num_chosen: int) -> None:
    """Of 200: with 160 of them they were twice too wide, as if 160 were a few of very many."""
    whole = Objective(held(built(lambda: nn.Linear(2, 3)), random(200, 2), torch.arange(200) % 3))
    first, _ = directions(whole)
    points, generator = [(0.0,), (0.7,)], torch.Generator().manual_seed(0)
    true = Landscape(whole, [first]).losses(points)
    off = []
    for _ in range(200):
        marks = torch.zeros(200, dtype=torch.bool)
        marks[torch.randperm(200, generator=generator)[:num_chosen]] = True
        part = chosen(whole.data, marks)
        assert part is not None
        found = Landscape(whole.over(part), [first]).spread(points, of=200)
        rise = np.diff(found.losses - true)[0] / found.rise_errors[1]
        off.append([*((found.losses - true) / found.errors), rise])
    sizes = np.sqrt(np.mean(np.square(off), axis=0))
    assert ((sizes > 0.85) & (sizes < 1.2)).all()


def test_the_solution_is_left_alone() -> None:
    solution = batch_norm()
    before = {name: value.clone() for name, value in {**solution.params, **solution.buffers}.items()}
    objective = Objective(solution)
    first, second = directions(objective)
    plane(objective, first, second, STEPS, STEPS)
    assert all(torch.equal({**solution.params, **solution.buffers}[name], value) for name, value in before.items())
    assert all(torch.equal(a, b) for a, b in zip(objective.origin, solution.params.values(), strict=True))


def test_a_direction_of_another_shape_is_refused() -> None:
    objective = Objective(held(built(lambda: nn.Linear(2, 3)), random(4, 2), torch.arange(4) % 3))
    with pytest.raises(UsageError, match="one tensor a parameter"):
        line(objective, [torch.ones(3, 2)], [0.0])
    with pytest.raises(UsageError, match="one tensor a parameter"):
        plane(objective, [torch.ones(3, 2), torch.ones(3)], [torch.ones(2, 3), torch.ones(3)], [0.0], [0.0])
