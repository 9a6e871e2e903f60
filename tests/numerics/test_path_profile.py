"""Profiles: losses, errors and barriers against plain loops and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, batch_norm, built, classes, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.batch_statistics import BatchStatistics, at_own_statistics
from vallis.numerics.path_profile import Looker, Profile, Seen, barrier_of, excess, look
from vallis.numerics.paths import straight
from vallis.numerics.surface import in_eval_mode


def ends(objective: Objective, shift: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    start = objective.vector(objective.origin)
    return start, start + shift * random(start.numel(), seed=7).to(start)


@pytest.mark.parametrize("name", AWKWARD)
def test_a_look_is_the_mean_loss_and_the_share_of_wrong_answers(name: str) -> None:
    objective = Objective(in_eval_mode(AWKWARD[name]()))
    seen = look(objective, objective.origin)
    assert seen.loss == objective.value()
    if seen.losses is not None and seen.weights is not None:
        assert float((seen.losses * seen.weights).sum() / seen.weights.sum()) == pytest.approx(seen.loss, rel=1e-5)
    if name == "mlp":
        (x, y) = (objective.data.x, objective.data.y)  # type: ignore[attr-defined]
        assert seen.error == float((objective.module(x).argmax(1) != y).double().mean())
    if name == "regression":
        assert np.isnan(seen.error) and seen.wrong is None


def test_a_profile_is_a_plain_loop_and_its_ends_are_the_networks() -> None:
    objective = Objective(mlp(double=True))
    start, end = ends(objective)
    (found,) = Looker([objective], straight(start, end)).profiles(11, tolerance=0.02)
    assert found.losses[0] == objective.value()
    assert found.losses[-1] == objective.value(objective.point(end))
    for t, loss in zip(found.moments, found.losses, strict=True):
        assert loss == pytest.approx(objective.value(objective.point((1 - t) * start + t * end)), rel=1e-12)
    highest = int(excess(found.moments, found.losses).argmax())
    assert np.diff(found.moments)[max(highest - 1, 0) : highest + 1].max() <= 0.02
    assert found.integral() == pytest.approx(np.trapezoid(found.losses, found.moments))


def parabola() -> tuple[Objective, torch.Tensor, torch.Tensor]:
    """One weight, ``L = w^2``, between -1 and 2."""
    module = built(lambda: nn.Linear(1, 1, bias=False).double())
    x = torch.ones(4, 1, dtype=torch.float64)
    solution = held(module, x, torch.zeros(4, 1, dtype=torch.float64), loss=SquaredError())
    objective = Objective(solution)
    return objective, torch.tensor([-1.0], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)


def test_a_convex_loss_has_no_barrier() -> None:
    objective, start, end = parabola()
    (found,) = Looker([objective], straight(start, end)).profiles()
    barrier = barrier_of(found, Rng(0))
    assert (barrier.height, barrier.stderr) == (0.0, 0.0)


def test_the_place_of_a_narrow_peak_is_found_to_the_tolerance() -> None:
    """Losses ``1 - |t - 0.413|``: above the line between the ends by most at the kink."""

    class Kink(Looker):
        def __init__(self) -> None:
            objective, start, end = parabola()
            super().__init__([objective], straight(start, end))

        def at(self, t: float) -> tuple[Seen, ...]:
            loss = 1 - abs(t - 0.413)
            return (Seen(loss, float("nan"), np.full(3, loss), None, np.ones(3), None),)

    (found,) = Kink().profiles(5, tolerance=1e-4)
    barrier = barrier_of(found, Rng(0))
    assert barrier.moment == pytest.approx(0.413, abs=1e-4)
    assert barrier.height == pytest.approx(1 - (0.587 * 0.587 + 0.413 * 0.413), abs=1e-3)
    assert len(found.moments) < 40


def test_the_error_bar_covers_other_examples() -> None:
    """The barrier on fresh examples from one distribution scatters as the error bar says.

    The end is the start with the signs of all hidden units changed: the same function, with next to none between them.
    """
    module = built(lambda: nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 3))).double()
    signs = torch.cat([-torch.ones(12 + 6 + 18), torch.ones(3)]).double()
    heights, errors = [], []
    for seed in range(24):
        x = random(60, 2, seed=seed).double()
        objective = Objective(held(module, x, module(x).detach().argmax(1), batch_size=60))
        start = objective.vector(objective.origin)
        (found,) = Looker([objective], straight(start, signs * start)).profiles(9, tolerance=0.2)
        barrier = barrier_of(found, Rng(seed), num_resamples=100)
        heights.append(barrier.height)
        errors.append(barrier.stderr)
        assert barrier.interval[0] <= barrier.interval[1]
    assert 0.6 < np.std(heights, ddof=1) / np.mean(errors) < 1.6


@pytest.mark.parametrize("rise", [0.0, 0.02, 0.4])
def test_intervals_cover_the_barrier_of_all_examples(rise: float) -> None:
    """Answers that are wrong by lot, so the barrier is known; quantiles of resampled heights cover in 0.36 to 0.66."""
    moments = np.linspace(0, 1, 11)
    chances = 0.1 + 4 * rise * moments * (1 - moments)
    draws, covered, generator = 120, 0, np.random.default_rng(0)
    for draw in range(draws):
        wrong = (generator.random((11, 80)) < chances[:, None]).astype(float)
        ones = np.ones(80)
        seen = tuple(Seen(0.0, row.mean(), None, row, None, ones) for row in wrong)
        low, high = barrier_of(Profile(moments, seen), Rng(draw), "wrong", num_resamples=100).interval
        covered += low <= rise <= high
    assert covered / draws > 0.9


def test_class_weights_do_not_weigh_wrong_answers() -> None:
    module, weight = built(lambda: nn.Linear(2, 3)), torch.tensor([1.0, 50.0, 1.0])
    held_by = Solution.of(module, nn.CrossEntropyLoss(weight=weight), train=(random(40, 2), classes(40)))
    objective = Objective(in_eval_mode(held_by))
    (found,) = Looker([objective], straight(*ends(objective))).profiles(3, tolerance=0.5)
    wrong, weights = found.of_examples("wrong") or (np.nan, np.ones(1))
    assert wrong @ weights / weights.sum() == pytest.approx(found.errors)  # they were weighed as the losses are
    losses, weights = found.of_examples() or (np.nan, np.ones(1))
    assert losses @ weights / weights.sum() == pytest.approx(found.losses, rel=1e-5)


def test_errors_have_a_barrier_of_their_own() -> None:
    seen = [Seen(0.0, e, np.zeros(4), np.array([e] * 4), np.ones(4), np.ones(4)) for e in (0.0, 0.5, 0.25)]
    barrier = barrier_of(Profile(np.array([0.0, 0.5, 1.0]), tuple(seen)), Rng(0), "wrong")
    assert (barrier.height, barrier.moment, barrier.stderr) == (0.375, 0.5, 0.0)


def test_running_statistics_are_anew_or_between_those_of_the_ends() -> None:
    solution = batch_norm()
    start = Objective(solution)
    moved = {name: value + 1 if value.is_floating_point() else value for name, value in solution.buffers.items()}
    other = Objective(replace(solution, buffers=moved))
    vector = start.vector(start.origin)
    path = straight(vector, vector + 0.1)
    kept = Looker([start], path, other)
    assert kept.at(1.0)[0].loss == other.value(other.point(vector + 0.1))
    middle = at_own_statistics(start, {n: torch.lerp(v, moved[n], 0.5) if v.is_floating_point() else v
                                       for n, v in start.buffers.items()})  # fmt: skip
    assert kept.at(0.5)[0].loss == pytest.approx(middle.value(start.point(vector + 0.05)), rel=1e-5)
    anew = Looker([start], path, other, BatchStatistics(start)).at(1.0)[0].loss
    point = start.point(vector + 0.1)
    assert anew == pytest.approx(at_own_statistics(start, BatchStatistics(start).at(point)).value(point), rel=1e-6)
    assert anew != kept.at(1.0)[0].loss


def test_a_loss_that_is_no_number_is_an_infinite_barrier() -> None:
    objective = Objective(mlp())
    start, _ = ends(objective)
    (found,) = Looker([objective], straight(start, start * torch.inf)).profiles(5, tolerance=0.3)
    assert barrier_of(found, Rng(0)).height == np.inf


def test_impossible_grids_are_refused() -> None:
    objective = Objective(mlp())
    looker = Looker([objective], straight(*ends(objective)))
    with pytest.raises(SettingsError, match="three points"):
        looker.profiles(2)
