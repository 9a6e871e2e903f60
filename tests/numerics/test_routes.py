"""Routes: what joins two networks, and why two are no ends of one way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.solutions import batch_norm, built, classes, held, mlp, random
from vallis.core.errors import ModelError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.paths import straight
from vallis.numerics.permutations import PermutationSpec, Place
from vallis.numerics.routes import Ends, aligned, band_between, curve_between, must_match


def ends() -> Ends:
    one = mlp(double=True)
    other = replace(
        one, params={name: value.flip(0) if name.startswith("0") else value for name, value in one.params.items()}
    )
    other = replace(other, params={**other.params, "2.weight": other.params["2.weight"].flip(1)})
    return Ends.of(Objective(one), Objective(other), rng=Rng(0))


def test_alignment_undoes_what_a_written_spec_allows() -> None:
    here = ends()
    places = (Place("0.weight", 0), Place("0.bias", 0), Place("2.weight", 1))
    for spec in (None, PermutationSpec(groups={"first": places}, sizes={"first": 6})):
        found = aligned(here, Rng(0), spec)
        assert found.vectors[1].equal(here.vectors[0])
    assert not here.vectors[1].equal(here.vectors[0])


class Shared(nn.Module):
    """One normalisation for the inputs and for the units."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first, self.last = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(torch.relu(self.first(self.norm(x)))))


def test_the_aligned_end_answers_as_the_end_does() -> None:
    """Beside a fresh network, whose scales are ones, another one's units may not be taken to move freely."""
    x, y = random(20, 6).double(), classes(20)
    begun = built(Shared).double()
    begun.norm.reset_parameters()
    fresh, other = held(begun, x, y), held(built(Shared, seed=1).double(), x, y)
    scaled = {**other.params, "norm.weight": torch.arange(6.0).double(), "norm.bias": random(6).double()}
    here = Ends.of(Objective(fresh), Objective(replace(other, params=scaled)), rng=Rng(0))
    try:
        found = aligned(here, Rng(0))
    except ModelError:  # no unit may move
        found = here
    assert found.end.value() == pytest.approx(here.end.value(), rel=1e-12)


def test_units_of_half_precision_are_matched() -> None:
    one = mlp()
    low = replace(
        one,
        net=replace(one.net, module=copy.deepcopy(one.net.module).bfloat16()),
        params={name: value.bfloat16() for name, value in one.params.items()},
    )
    turned = {name: value.flip(0) if name.startswith("0") else value for name, value in low.params.items()}
    other = replace(low, params={**turned, "2.weight": turned["2.weight"].flip(1)})
    here = Ends.of(Objective(low), Objective(other), rng=Rng(0))
    assert aligned(here, Rng(0)).vectors[1].equal(here.vectors[0])


def test_a_network_without_hidden_units_cannot_be_aligned() -> None:
    solution = held(built(lambda: nn.Linear(2, 3)), random(9, 2), classes(9))
    with pytest.raises(ModelError, match="may change places"):
        aligned(Ends.of(Objective(solution), Objective(solution), rng=Rng(0)), Rng(0))


def test_trained_ways_lead_from_end_to_end() -> None:
    here = ends()
    curve = curve_between(here, rng=Rng(0), num_bends=2, num_steps=3, learning_rate=0.1, batch_size=5)
    band = band_between(here, rng=Rng(0), cycles=((2, 0.1),), batch_size=5)
    for path in (curve, band.path):
        assert path.controls[0].equal(here.vectors[0]) and path.controls[-1].equal(here.vectors[1])


def test_a_trained_curve_leaves_what_another_implementation_leaves() -> None:
    """Garipov et al. (2018) by torch's own Adam and modules: two networks on four clouds."""
    x = random(200, 2)
    y = 2 * (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    made = [built(lambda: nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4)), seed=seed) for seed in (0, 1)]
    for module in made:
        _learned(module.parameters(), lambda module=module: nn.functional.cross_entropy(module(x), y), 200)
    names = [name for name, _ in made[0].named_parameters()]
    one, other = ([value.detach() for value in module.parameters()] for module in made)
    bend = [((a + b) / 2).requires_grad_() for a, b in zip(one, other, strict=True)]

    def at(t: float) -> torch.Tensor:
        controls = zip(one, bend, other, strict=True)
        point = [(1 - t) ** 2 * a + 2 * t * (1 - t) * m + t**2 * b for a, m, b in controls]
        held = torch.func.functional_call(made[0], dict(zip(names, point, strict=True)), (x,))
        return nn.functional.cross_entropy(held, y)

    moments = iter(torch.rand(400, generator=torch.Generator().manual_seed(0)).tolist())
    _learned(bend, lambda: at(next(moments)), 400)
    with torch.no_grad():
        theirs = np.array([float(at(t)) for t in np.linspace(0, 1, 41).tolist()])
    start, end = (Objective(held(module, x, y, batch_size=200)) for module in made)
    both = Ends.of(start, end, rng=Rng(0))
    path = curve_between(both, rng=Rng(0), num_bends=1, num_steps=400, learning_rate=0.03, batch_size=None)
    (ours,) = both.profiles(path, (), 41, 0.1)
    (line,) = both.profiles(straight(*both.vectors), (), 41, 0.1)
    assert ours.integral() == pytest.approx(float(np.trapezoid(theirs, dx=1 / 40)), rel=0.05)
    assert ours.losses.max() == pytest.approx(theirs.max(), rel=0.05)
    assert ours.losses.max() < 0.7 * line.losses.max()


def _learned(params: Iterable[torch.Tensor], loss: Callable[[], torch.Tensor], steps: int) -> None:
    optimizer = torch.optim.Adam(params, 0.03)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        falling.step()


def test_the_loss_has_the_statistics_that_belong_to_the_weights() -> None:
    objective = Objective(batch_norm())
    anew, kept = (Ends.of(objective, objective, anew=flag, rng=Rng(0)) for flag in (True, False))
    vector = anew.vectors[0]
    assert kept.loss(vector) == objective.value()
    assert anew.loss(vector) != kept.loss(vector)
    assert Ends.of(Objective(mlp()), Objective(mlp()), rng=Rng(0)).statistics is None


def test_why_two_do_not_match() -> None:
    assert must_match(mlp(), mlp()) == ""
    assert "other names" in must_match(mlp(), batch_norm())
    other = replace(mlp(), params={**mlp().params, "0.weight": torch.zeros(7, 2)})
    assert "0.weight has the shape (6, 2)" in must_match(mlp(), other)
