"""Ellipsoids of layers against the dense Gauss-Newton matrix of a network, and of parameters without factors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.bowls import bowl, norm, spread_out
from tests.numerics.solutions import AWKWARD, built, classes, held, random
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import GaussNewton
from vallis.numerics.ellipsoids import Block, LayerEllipsoid, blocks_at
from vallis.numerics.rays import Frame
from vallis.numerics.surface import in_eval_mode

RNG = Rng(0)


def unit_vectors(frame: Frame, place: int) -> torch.Tensor:
    """``(size, *shape)`` all standard vectors of a parameter."""
    shape = frame.shapes[place]
    return torch.eye(shape.numel(), dtype=torch.float64).view(-1, *shape)


def matrix(ellipsoid: LayerEllipsoid, frame: Frame, place: int) -> torch.Tensor:
    """A of one parameter, dense."""
    noise = tuple(unit_vectors(frame, place) if other == place else None for other in range(len(frame.shapes)))
    (found,) = (part for part in ellipsoid.stretch(noise) if part is not None)
    return found.flatten(1).T


def test_a_bowl_s_ellipsoid_is_its_own() -> None:
    """One layer, one output: the Kronecker factors are the Hessian, and ``(A A')^-1`` is it in relative units."""
    objective = Objective(bowl(spread_out(6, 100.0)))
    frame = Frame(objective.origin)
    dense = GaussNewton(objective).dense() * norm(objective) ** 2
    ellipsoid = LayerEllipsoid(blocks_at([objective], frame, RNG), damping=0.0)
    axes = matrix(ellipsoid, frame, 0)
    torch.testing.assert_close(torch.linalg.inv(axes @ axes.T), dense, rtol=1e-6, atol=1e-9)
    assert ellipsoid.log_determinant == pytest.approx(-0.5 * float(torch.logdet(dense)))


def test_damping_is_relative_to_the_mean_curvature() -> None:
    blocks = [Block(alive=torch.arange(1), curvatures=torch.tensor([[1.0, 3.0]], dtype=torch.float64)), None]
    ellipsoid = LayerEllipsoid(blocks, damping=0.5)
    assert ellipsoid.log_determinant == pytest.approx(-0.5 * (np.log(2.0) + np.log(4.0)))
    flat = LayerEllipsoid([Block(alive=torch.arange(1), curvatures=torch.zeros(1, 2, dtype=torch.float64))], 0.5)
    assert flat.log_determinant == 0.0  # no curvature anywhere: a ball


@pytest.mark.parametrize("name", ["mlp", "dead_relu", "batch_norm", "binary", "regression"])
def test_blocks_are_the_factors_in_relative_units(name: str) -> None:
    """Traces: of ``S M S ⊗ E[x x']`` the sum of its diagonal, found with the diagonal structure as well."""
    objective = Objective(in_eval_mode(AWKWARD[name]()))
    frame = Frame(objective.origin)
    kronecker, diagonal = (blocks_at([objective], frame, RNG, structure) for structure in ("kronecker", "diagonal"))  # type: ignore[arg-type]
    for one, other, scale in zip(kronecker, diagonal, frame.scales, strict=True):
        assert (one is None) == (other is None) == (scale is None)
        if one is not None and other is not None:
            assert one.outputs is not None and other.outputs is None
            assert float(one.curvatures.sum()) == pytest.approx(float(other.curvatures.sum()), rel=1e-5)
            assert bool((one.curvatures >= 0).all())


def test_dead_filters_stay_out() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)))
    with torch.no_grad():
        module[0].weight[1] = 0
    objective = Objective(held(module, random(17, 3), classes(17)))
    frame = Frame(objective.origin)
    blocks = blocks_at([objective], frame, RNG)
    first = next(block for block in blocks if block is not None)
    assert first.alive.tolist() == [0, 2, 3] and first.curvatures.shape == (3, 3)
    found = LayerEllipsoid(blocks, 0.1).stretch(frame_noise(frame))
    assert not found[0][:, 1].any()  # type: ignore[index]


def frame_noise(frame: Frame) -> tuple[torch.Tensor | None, ...]:
    return tuple(None if part is None else part[None] for part in frame.noise(RNG))


@pytest.mark.parametrize("name", ["lstm", "transformer", "tokens", "tied"])
def test_parameters_without_factors_have_a_curvature_a_filter(name: str) -> None:
    objective = Objective(in_eval_mode(AWKWARD[name]()))
    frame = Frame(objective.origin)
    blocks = blocks_at([objective], frame, RNG)
    assert all((block is None) == (scale is None) for block, scale in zip(blocks, frame.scales, strict=True))
    ellipsoid = LayerEllipsoid(blocks, 0.1)
    stretched = ellipsoid.stretch(frame_noise(frame))
    assert all(part is None or bool(part.isfinite().all()) for part in stretched)
    assert np.isfinite(ellipsoid.log_determinant)
    if name == "tokens":  # the embedding: the mean of many draws is the mean diagonal of each row
        block = blocks[objective.names.index("embedding.weight")]
        assert block is not None and block.inputs is None
        assert all(torch.equal(*pair) for pair in pairwise(block.curvatures.unbind(1)))
        drawn = [blocks_at([objective], frame, RNG.child(k))[0].curvatures[:, 0] for k in range(40)]  # type: ignore[union-attr]
        diagonal = GaussNewton(objective, only=["embedding.weight"]).dense().diagonal().view(5, 3).double().mean(1)
        expected = diagonal * frame.scales[0].reshape(-1).square()  # type: ignore[union-attr]
        torch.testing.assert_close(torch.stack(drawn).mean(0), expected, rtol=0.3, atol=0.1 * float(expected.max()))


def test_curvature_is_averaged_over_points() -> None:
    one = Objective(AWKWARD["mlp"]())
    other = one.at([value * 1.5 for value in one.origin])
    frame = Frame(one.origin)
    diagonal = "diagonal"
    alone = [blocks_at([each], frame, RNG, diagonal)[4].curvatures for each in (one, other)]  # type: ignore[arg-type, union-attr]
    assert not torch.allclose(*alone)
    both = blocks_at([one, other], frame, RNG, diagonal)[4]  # type: ignore[arg-type]
    # The last layer: its outputs are the network's, and both factors are averaged by themselves.
    assert both is not None
    assert bool((both.curvatures >= torch.minimum(*alone) * 0.5).all())
