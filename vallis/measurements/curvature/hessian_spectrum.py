"""How sharply the loss bends: the extreme eigenvalues of its Hessian, with a proof for each.

Definition: the largest and the smallest eigenvalues of the matrix of second derivatives of the mean loss over a split,
    by all trainable parameters. Each comes with the residual |H v - value v|: an eigenvalue lies within it. The step
    along the sharpest direction is the one at which slope and curvature there raise the loss by `rise`, if the loss
    were its quadratic model. The mean eigenvalue, over all P directions, is what the sharpest is compared with.
Unit: nats/weight^2 (nats is the loss's own unit where it is no log-likelihood).
Source: Sagun et al. (2017); Ghorbani et al. (2019), section 2.
Cost: two gradients for each product; tens to hundreds of products, P products for up to 256 parameters.
Says little when: networks of different scale are compared, because rescaling the layers of a ReLU network changes every
    eigenvalue and not the function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.errors import SettingsError
from vallis.core.numbers import quantity, written
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Array, Axis, Estimate, Figure, Mark, Note, Outcome, Result, Source
from vallis.numerics.concentrated import concentrated
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Operator
from vallis.numerics.spectra import Eigenpairs, Spectrum
from vallis.numerics.surface import Precision, Surface, surface
from vallis.numerics.trace import trace


@dataclass(frozen=True, kw_only=True)
class HessianSpectrum:
    """Both ends of the Hessian's spectrum.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        num_top: how many of the largest eigenvalues.
        num_bottom: how many of the smallest.
        tolerance: residuals may be this large, relative to the largest magnitude of an eigenvalue, and errors of values
            (the residual squared over the gap), relative to their own.
        max_products: the most products with the Hessian; what has not converged by then is said so.
        search: after convergence, products spent on looking for copies of multiple eigenvalues, of which the iteration
            by itself finds one.
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
        num_probes: random vectors that estimate the mean eigenvalue; 0 for none.
        rise: by how much the step along the sharpest direction raises the quadratic model.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"max_examples": 5000},
        "full": {"num_top": 30, "num_bottom": 5, "tolerance": 1e-4},
    }
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Empirical analysis of the Hessian of over-parametrized neural networks",
            authors="L. Sagun, U. Evci, V. U. Güney, Y. Dauphin, L. Bottou",
            year=2017,
            url="https://arxiv.org/abs/1706.04454",
        ),
        Source(
            title="An investigation into neural net optimization via Hessian eigenvalue density",
            authors="B. Ghorbani, S. Krishnan, Y. Xiao",
            year=2019,
            url="https://arxiv.org/abs/1901.10159",
        ),
    )

    split: str = "train"
    max_examples: int | None = None
    num_top: int = 10
    num_bottom: int = 3
    tolerance: float = 1e-3
    max_products: int = 1000
    search: int = 10
    precision: Precision = "auto"
    num_probes: int = 8
    rise: float = 0.1

    def __post_init__(self) -> None:
        counts = self.num_top, self.num_bottom, self.search, self.num_probes
        if min(counts) < 0 or self.num_top + self.num_bottom < 1 or self.max_products < 1:
            raise SettingsError(f"at least one eigenvalue and one product were required, {self} came: raise the counts")
        if not (self.tolerance > 0 and self.rise > 0):
            raise SettingsError(f"tolerance and rise above 0 were required, {self} came: raise them")

    @classmethod
    def tiny(cls) -> HessianSpectrum:
        """The cheapest settings, for tests."""
        return cls(num_top=2, num_bottom=1, tolerance=1e-2, max_products=60, search=0, num_probes=0)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, self.precision, self.max_examples, rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        hessian = concentrated(ground.objective, Hessian, self.tolerance)
        found = eigenpairs(
            hessian,
            largest=self.num_top,
            smallest=self.num_bottom,
            rng=rng.child("eigenpairs"),
            tolerance=self.tolerance,
            max_products=self.max_products,
            search=self.search,
        )
        beside = {}
        if self.num_probes:
            beside["mean_eigenvalue"] = _mean(hessian, found, self.num_probes, f"{ground.unit}/weight^2", rng)
        return self._result(ground, found, beside)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        marks = []
        for end, label in (("top", "largest"), ("bottom", "smallest")):
            if f"eigenvalues_{end}" in result.values:
                found, error = result.array(f"eigenvalues_{end}"), result.array(f"residuals_{end}")
                marks.append(Mark(kind="scatter", x=found.coords["rank"], y=found.data, error=error.data, label=label))
        unit = result.estimate("top_eigenvalue" if "top_eigenvalue" in result.values else "bottom_eigenvalue").unit
        figure = Figure(
            name="hessian_eigenvalues",
            title="Extreme eigenvalues of the Hessian",
            x=Axis(label="rank, from the outermost"),
            y=Axis(label=f"eigenvalue ({unit})"),
            marks=tuple(marks),
            caption="Bars: the residual; an eigenvalue lies within it.",
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        said = []
        if "top_eigenvalue" in result.values:
            top = result.estimate("top_eigenvalue")
            said.append(f"The sharpest direction has a curvature of {quantity(top)}{_against_the_mean(result)}")
        if "sharpest_step_fraction" in result.values:
            step, share = result.estimate("sharpest_step"), result.estimate("sharpest_step_fraction")
            said.append(
                f"along it, a step of {quantity(replace(step, unit='1'), 2)}, {quantity(share, 2)} of the norm of all "
                f"weights, raises the quadratic model of the loss by {self.rise:g}"
            )
        if "bottom_eigenvalue" in result.values:
            said.append(_of_the_bottom(result))
        text = "; ".join(said) + "."
        if any(note.code == "not_converged" for note in result.notes):
            text += " Not all of these have converged: values from the inside of the spectrum may be missing."
        return text[:1].upper() + text[1:]

    def _result(self, ground: Surface, found: Spectrum, beside: Mapping[str, Estimate]) -> Result:
        unit = f"{ground.unit}/weight^2"
        values: dict[str, Estimate | Array] = {}
        for end, pairs in (("top", found.largest), ("bottom", found.smallest)):
            if len(pairs):
                values |= _end(end, pairs, unit, found)
        if len(found.largest) and found.largest.values[0] > 0:
            values |= self._step(ground, found.largest)
        size = ground.objective.num_parameters
        num_wanted = min(self.num_top, size) + min(self.num_bottom, size)
        good = int(found.largest.converged.sum() + found.smallest.converged.sum())
        values["num_products"] = Estimate(
            value=found.num_products, stderr=None, unit="products", method="counted; another start may need others"
        )
        values["converged_fraction"] = Estimate(
            value=good / num_wanted,
            stderr=None,
            n=num_wanted,
            method="share of the eigenvalues whose residual is within the tolerance",
        )
        values |= beside
        return Result(values=values, notes=(*ground.notes, *found.notes, *self._troubles(found, num_wanted - good)))

    def _step(self, ground: Surface, top: Eigenpairs) -> dict[str, Estimate | Array]:
        """The root s of ``slope s + curvature s^2 / 2 = rise``, along the side on which the loss rises."""
        slope = abs(float(ground.objective.gradient().double() @ top.vectors[:, 0]))
        curvature = float(top.values[0])
        step = 2 * self.rise / (slope + math.sqrt(slope**2 + 2 * curvature * self.rise))
        method = f"quadratic model along the sharpest direction, rise {self.rise:g}"
        values: dict[str, Estimate | Array] = {
            "sharpest_step": Estimate(value=step, stderr=None, unit="weight", method=method)
        }
        length = _length(ground.objective)
        if length > 0:
            values["sharpest_step_fraction"] = Estimate(
                value=step / length, stderr=None, method=f"{method}, over the norm of all weights"
            )
        return values

    def _troubles(self, found: Spectrum, num_bad: int) -> tuple[Note, ...]:
        if found.converged:
            return ()
        why = "the most products that were allowed were spent"
        if found.stop == "rounding":
            why = 'rounding hides what is left (precision="float64" resolves more)'
        text = (
            f"After {found.num_products} products {num_bad} eigenvalues are not within the tolerance of "
            f"{self.tolerance:g}, because {why}."
        )
        return (Note(code="not_converged", text=text),)


def _end(end: str, pairs: Eigenpairs, unit: str, found: Spectrum) -> dict[str, Estimate | Array]:
    ranks = {"rank": np.arange(1.0, len(pairs) + 1)}
    way = "dense solver" if found.stop == "dense" else "thick-restart Lanczos"
    first = Estimate(
        value=float(pairs.values[0]),
        stderr=float(pairs.residuals[0]),
        unit=unit,
        method=f"{way}; the error bar is the residual, which bounds the distance to an eigenvalue",
    )
    return {
        f"{end}_eigenvalue": first,
        f"eigenvalues_{end}": Array(data=pairs.values, dims=("rank",), unit=unit, coords=ranks),
        f"residuals_{end}": Array(data=pairs.residuals, dims=("rank",), unit=unit, coords=ranks),
    }


def _mean(hessian: Operator, found: Spectrum, num_probes: int, unit: str, rng: Rng) -> Estimate:
    """The trace over P. What the largest eigenvalues add is known already, so the probes see the rest alone."""
    # A handful of directions hold most of the trace: without taking them out, few probes would say little.
    known = found.largest if len(found.largest) else None
    estimate = trace(hessian, num_probes=num_probes, rng=rng.child("mean"), known=known)
    return Estimate(
        value=estimate.value / hessian.size,
        stderr=None if estimate.stderr is None else estimate.stderr / hessian.size,
        n=len(estimate.samples) or hessian.size,
        unit=unit,
        method="trace over the number of parameters; Hutchinson on what the largest eigenvalues leave",
    )


def _against_the_mean(result: Result) -> str:
    """How many times as sharp as a direction on average, where that is known well enough to say."""
    top, mean = result.estimate("top_eigenvalue"), result.values.get("mean_eigenvalue")
    if not isinstance(mean, Estimate) or mean.stderr is None or mean.value < 3 * mean.stderr or mean.value <= 0:
        return ""
    return f", {written(top.value / mean.value, digits=2)} times the mean over all directions"


def _length(objective: Objective) -> float:
    return math.sqrt(sum(float(torch.sum(value.double() ** 2)) for value in objective.origin))


def _of_the_bottom(result: Result) -> str:
    bottom = result.estimate("bottom_eigenvalue")
    error = bottom.stderr or 0.0
    if bottom.value >= -error:
        return f"no direction bends down (the smallest eigenvalue is {quantity(replace(bottom, unit='1'), 2)})"
    said = f"the loss bends down in some direction, with {quantity(bottom)}"
    if "top_eigenvalue" not in result.values or result.estimate("top_eigenvalue").value <= 0:
        return f"{said}, so this is no minimum"
    share = -bottom.value / result.estimate("top_eigenvalue").value
    nearly = ", though nearly one" if share < 0.05 else ""
    return f"{said} ({share:.2g} of the sharpest), so this is no minimum{nearly}"
