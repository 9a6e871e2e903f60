"""What a PAC-Bayes bound in the axes of the curvature is computed with, checked on this network.

Definition: orthogonality_error, the largest entry of Q Q' - I over the axes Q of all layers, and of Q' Q v - v for a
    random v of length one; divergence_error, |KL - KL'| / KL of the formula for a posterior N(w, Q' diag(e^2s) Q)
    beside that for dense covariances, with random w, w_0 and s, over all layers that are small enough. Of the inverse
    of the binary divergence: inverse_error, the largest |kl(q || p) - d| at p = kl^-1(q, d), over the slope of kl in p
    where that is above one; zero_error, the largest
    |kl^-1(q, 0) - q|; closed_form_error, the largest |kl^-1(0, d) - (1 - e^-d)|, and with it
    |kl(0 || p) + log(1 - p)|; smallest_rise, the smallest step of kl^-1(q, d) from one d to the next.
Unit: 1; all but smallest_rise are zero up to rounding, and that is not below zero.
Source: Wu et al. (2020), Dissecting Hessian; Dziugaite and Roy (2017), sections 2 and 3.
Cost: C - 1 gradients for the factors (C classes); a few dense matrices of at most max_size rows.
Says little when: everything is well: it is a check of the arithmetic, and no property of the network.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.errors import LossError
from vallis.core.figures import Figure
from vallis.core.numbers import written
from vallis.core.rng import Rng
from vallis.core.types import Estimate, NotApplicable, Note, Outcome, Result, Source
from vallis.measurements.curvature._settings import must_be_at_least
from vallis.measurements.curvature._words import counted
from vallis.numerics.axes import Axes, Block, kronecker_axes
from vallis.numerics.kl_inverse import binary_divergence, kl_inverse
from vallis.numerics.kronecker import factors
from vallis.numerics.posterior import Posterior
from vallis.numerics.surface import surface

_OBSERVED = (0.0, 1e-12, 0.001, 0.03, 0.2, 0.5, 0.9, 1.0)
_DIVERGENCES = (0.0, 1e-6, 1e-3, 0.03, 0.2, 1.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class PacBayesIdentities:
    """The identities that `pac_bayes` relies on.

    Attributes:
        split: over which examples the axes are computed.
        max_examples: of more examples a random part of this size is taken; None takes all.
        max_size: layers with at most so many weights are written out.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation", "layer_rescaling"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Dissecting Hessian: understanding common structure of Hessian in neural networks",
            authors="Y. Wu, X. Zhu, C. Wu, A. Wang, R. Ge",
            year=2020,
            url="https://arxiv.org/abs/2010.04261",
        ),
    )

    split: str = "train"
    max_examples: int | None = None
    max_size: int = 2048

    def __post_init__(self) -> None:
        must_be_at_least(1, self, "max_size")

    @classmethod
    def tiny(cls) -> PacBayesIdentities:
        """The cheapest settings, for tests."""
        return cls(max_size=150)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, "float64", self.max_examples, rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        try:
            axes = kronecker_axes(ground.objective, factors(ground.objective))
        except LossError as error:
            text = f"The loss has no Kronecker factors: {str(error).partition(':')[0]}."
            return NotApplicable(note=Note(code="no_kronecker_form", text=text))
        if not axes.blocks:
            text = "No layer multiplies its inputs with a matrix of its own, so none has axes of its own."
            return NotApplicable(note=Note(code="no_kronecker_form", text=text))
        small = [block for block in axes.blocks if block.size <= self.max_size]
        if not small:
            least = min(block.size for block in axes.blocks)
            text = f"No layer has at most max_size={self.max_size} weights; the smallest has {least:,}: raise max_size."
            return NotApplicable(note=Note(code="too_large", text=text))
        size = ground.objective.num_parameters
        values: dict[str, Estimate] = {
            "orthogonality_error": _exact(_orthogonality(axes, size, rng.child("turned")), "over all layers"),
            "divergence_error": _exact(
                _divergence(small, rng.child("posterior")), f"over {counted(len(small), 'parameter tensor')}"
            ),
            **_inverse(),
        }
        return Result(values=values, notes=ground.notes)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return ()

    def reading(self, result: Result) -> str:
        worst = max(result.estimate(key).value for key in result.values if key.endswith("_error"))
        return f"The pieces of a PAC-Bayes bound agree with what they should be to {written(worst, digits=2)}."


def _exact(value: float, method: str) -> Estimate:
    return Estimate(value=value, stderr=None, method=f"largest error {method}")


def _orthogonality(axes: Axes, size: int, rng: Rng) -> float:
    apart = [0.0]
    for block in axes.blocks:
        for rows in (block.outputs, block.inputs):
            if rows is not None:
                unit = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
                apart.append(float((rows @ rows.T - unit).abs().max()))
    vector = torch.randn(size, generator=rng.torch(), dtype=torch.float64)
    vector /= vector.norm()
    vector = vector.to(axes.blocks[0].outputs)
    apart.append(float((axes.back(axes.turn(vector)) - vector).abs().max()))
    return max(apart)


def _divergence(blocks: list[Block], rng: Rng) -> float:
    """The divergences of independent parts add up, so that each block can be compared by itself."""
    apart = []
    for place, block in enumerate(blocks):
        alone, size = replace(block, start=0), block.size
        generator = rng.child(place).torch()
        mean, prior_mean, log_std = torch.randn(3, size, generator=generator, dtype=torch.float64).unbind()
        posterior = Posterior(
            mean=mean,
            log_std=0.5 * log_std - 2,
            axes=Axes((_on_cpu(alone),)),
            prior_mean=prior_mean,
            log_std_prior=-1.0,
            objectives=np.empty(0),
        )
        found, dense = posterior.divergence(), _dense_divergence(posterior)
        apart.append(abs(found - dense) / dense)
    return max(apart)


def _dense_divergence(posterior: Posterior) -> float:
    """KL(N(w, S) || N(w_0, lambda I)) = 1/2 [tr S / lambda + |w - w_0|^2 / lambda - P - log det(S / lambda)]."""
    size, variance = len(posterior.mean), math.exp(2 * posterior.log_std_prior)
    widths = posterior.log_std.exp()
    roots = torch.stack([posterior.axes.back(row) for row in torch.diag(widths)], 1)
    covariance = roots @ roots.T / variance
    away = float((posterior.mean - posterior.prior_mean).square().sum()) / variance
    return 0.5 * (float(covariance.trace()) + away - size - float(torch.logdet(covariance)))


def _on_cpu(block: Block) -> Block:
    inputs = None if block.inputs is None else block.inputs.cpu().double()
    return replace(block, outputs=block.outputs.cpu().double(), inputs=inputs)


def _inverse() -> dict[str, Estimate]:
    errors, rises = [0.0], [math.inf]
    for q in _OBSERVED:
        found = [kl_inverse(q, divergence) for divergence in _DIVERGENCES]
        rises += [after - before for before, after in itertools.pairwise(found)]
        errors += [
            abs(binary_divergence(q, p) - divergence) / max(1.0, (p - q) / (p * (1 - p)))
            for p, divergence in zip(found, _DIVERGENCES, strict=True)
            if 0 < p < 1 - 1e-9
        ]
    closed = [abs(kl_inverse(0.0, d) + math.expm1(-d)) for d in _DIVERGENCES]
    closed += [abs(binary_divergence(0.0, p) + math.log1p(-p)) for p in (0.0, 1e-6, 0.1, 0.5, 0.99)]
    zero = max(abs(kl_inverse(q, 0.0) - q) for q in _OBSERVED)
    number = len(_OBSERVED) * len(_DIVERGENCES)
    return {
        "inverse_error": _exact(max(errors), f"over {number} pairs of an observation and a divergence"),
        "zero_error": _exact(zero, f"over {len(_OBSERVED)} observations"),
        "closed_form_error": _exact(max(closed), f"over {len(_DIVERGENCES)} divergences"),
        "smallest_rise": Estimate(
            value=min(rises), stderr=None, n=number, method="smallest difference between neighbours"
        ),
    }
