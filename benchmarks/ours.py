"""Vallis's side: every setting of ours that a benchmark uses stands here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.contest import Answer, Contender
from benchmarks.fixtures import Setting
from vallis import Solution
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.concentrated import concentrated
from vallis.numerics.curvature import GaussNewton, Hessian
from vallis.numerics.lanczos import eigenpairs

# The residual that is asked of each eigenpair, relative to the largest eigenvalue: the target of E1 and E2.
TOLERANCE = 1e-3


def objective(setting: Setting) -> Objective:
    return Objective(setting.solution())


def hessian(at: Objective) -> Hessian:
    return Hessian(at)


def gauss_newton(at: Objective) -> GaussNewton:
    return GaussNewton(at)


def largest(at: Objective, count: int, *, is_split: bool, seed: int = 0) -> Answer:
    """Eigenpairs from a fresh operator: building its graphs, and splitting it in two, is part of the work."""
    operator = concentrated(at, Hessian, TOLERANCE) if is_split else Hessian(at)
    found = eigenpairs(operator, largest=count, tolerance=TOLERANCE, search=0, rng=Rng(seed).child("eigenvalues"))
    values, vectors = np.asarray(found.largest.values), torch.as_tensor(found.largest.vectors)
    return Answer((values, vectors), found.num_products, is_certified=True)


def eigenvalue_contenders(count: int) -> tuple[Contender, Contender]:
    """Both ways to the largest eigenvalues."""

    def prepare(is_split: bool) -> Callable[[Setting], Callable[[], Answer]]:
        def ready(setting: Setting) -> Callable[[], Answer]:
            at = objective(setting)
            return lambda: largest(at, count, is_split=is_split)

        return ready

    end = f", largest={count}, tolerance={TOLERANCE:g}, search=0)"
    split = f"eigenpairs(concentrated(objective, Hessian, {TOLERANCE:g}){end}"
    return (
        Contender("Vallis", "vallis", "ours", f"eigenpairs(Hessian(objective){end}", prepare(False)),
        Contender("Vallis, concentrated", "vallis", "ours", split, prepare(True)),
    )


LAYERS_CALL = f"eigenpairs(block, largest=5, tolerance={TOLERANCE:g}, search=0) for each of layer_blocks(objective)"


def largest_of_layers(at: Objective, layers: Sequence[str], count: int) -> Answer:
    """The largest eigenpairs of each layer's block; the blocks share the graphs."""
    from vallis.numerics.blocks import layer_blocks

    found, spent = {}, 0
    for layer, block in layer_blocks(at, layers).items():
        spectrum = eigenpairs(block, largest=count, tolerance=TOLERANCE, search=0, rng=Rng(0).child("layer", layer))
        found[layer] = (np.asarray(spectrum.largest.values), torch.as_tensor(spectrum.largest.vectors))
        spent += spectrum.num_products
    return Answer(found, spent, is_certified=True)


def density(at: Objective, num_steps: int, num_search_steps: int) -> Answer:
    """Nodes and weights of the density from one random vector."""
    from vallis.numerics.density import spectral_density

    steps = {"num_steps": num_steps, "num_search_steps": num_search_steps}
    found = spectral_density(hessian(at), num_probes=1, rng=Rng(0), **steps)
    return Answer(found.measure(), found.num_products)


TRACE_CALL = "trace(Hessian(objective), num_probes=90, method='auto')"


def trace(at: Objective, num_products: int, seed: int) -> tuple[float, float, int]:
    """An estimate, half of its 95 % interval, and how many products were spent."""
    from vallis.numerics.trace import trace as estimate

    found = estimate(hessian(at), num_probes=num_products, rng=Rng(seed), method="auto")
    low, high = found.interval()
    return found.value, (high - low) / 2, found.num_products


def kronecker(at: Objective) -> Answer:
    """By layer the two factors, with their eigenvalues found."""
    from vallis.numerics.kronecker import factors

    found = factors(at)
    for each in found.values():
        torch.linalg.eigvalsh(each.outputs), torch.linalg.eigvalsh(each.inputs)
    return Answer({layer: (each.outputs, each.inputs) for layer, each in found.items()})


def corrected_kronecker(at: Objective) -> Answer:
    """By layer the corrected eigenvalues."""
    from vallis.numerics.kronecker import factors
    from vallis.numerics.kronecker_corrected import corrected

    return Answer({layer: each.eigenvalues for layer, each in corrected(at, factors(at)).items()})


VOLUME_CALL = "basin_radii(objective, Rays(frame, ellipsoid=basin_ellipsoid(objective, frame).ellipsoid), 20)"
_NUM_CLASSES = 10


def divergence(setting: Setting, data: tuple[torch.Tensor, torch.Tensor]) -> Objective:
    """The divergence from the network's own outputs, up to a constant: cross-entropy with them as targets."""
    module, x = setting.module(), data[0]
    with torch.no_grad():
        own = module(x).softmax(1)
    return Objective(Solution.of(module, nn.CrossEntropyLoss(), train=[(x, own)]))


@dataclass(frozen=True)
class Volume:
    """An estimate in nats, the standard deviation of what single rays say, and what it cost in evaluations."""

    value: float
    spread: float
    num_evaluations: int


def basin_volume(at: Objective, cutoff: float, num_rays: int, seed: int) -> Volume:
    """The log-volume by rays of an ellipsoid that three pilots chose; a curvature costs 3 for each class but one."""
    from vallis.numerics.basin_ellipsoid import basin_ellipsoid
    from vallis.numerics.basin_radii import basin_radii
    from vallis.numerics.log_volume import log_volume
    from vallis.numerics.rays import Frame, Rays

    rng, frame = Rng(seed), Frame(at.origin)
    level: dict[str, Any] = {"cutoff": cutoff, "level": "rise"}
    fitted = basin_ellipsoid(at, frame, rng=rng.child("fit"), num_pilots=3, num_rounds=1, **level)
    found = basin_radii(at, Rays(frame, rng.child("rays"), ellipsoid=fitted.ellipsoid), num_rays, **level)
    volume = log_volume(found.log_radii, frame.num_coordinates, rng=rng, log_weights=found.log_weights)
    curvatures = 3 * (_NUM_CLASSES - 1) * fitted.num_curvatures
    return Volume(volume.value, volume.spread or 0.0, found.num_evaluations + fitted.num_evaluations + curvatures)
