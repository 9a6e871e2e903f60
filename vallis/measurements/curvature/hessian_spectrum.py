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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from vallis.core.errors import SettingsError
from vallis.core.figures import Figure
from vallis.core.numbers import quantity, written
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Note, Outcome, Result, Solution, Source
from vallis.measurements.curvature import _spectrum_ends as spectrum_ends
from vallis.measurements.curvature._settings import must_be_at_least, must_be_positive
from vallis.measurements.curvature._together import measured_together
from vallis.measurements.curvature._words import counted
from vallis.numerics.asking import Asking, answered
from vallis.numerics.concentrated import concentrated
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import finding
from vallis.numerics.operators import Operator
from vallis.numerics.spectra import Eigenpairs, Spectrum
from vallis.numerics.surface import QUICK, Budget, Precision, Surface, surface
from vallis.numerics.trace import tracing

# A product in float32 leaves less than this of the largest eigenvalue in the value of another.
_ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class HessianSpectrum:
    """Both ends of the Hessian's spectrum.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        max_operations: the most floating-point operations, by a count of what the network costs; of more examples than
            they are enough for a random part is taken, at least a hundred. None does not count.
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

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"max_examples": 5000, "max_operations": QUICK},
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
    max_operations: float | None = field(default=None, metadata={"was": None})
    num_top: int = 10
    num_bottom: int = 3
    tolerance: float = 1e-3
    max_products: int = 1000
    search: int = 10
    precision: Precision = "auto"
    num_probes: int = 8
    rise: float = 0.1

    def __post_init__(self) -> None:
        must_be_at_least(0, self, "num_top", "num_bottom", "search", "num_probes")
        must_be_at_least(1, self, "max_products")
        must_be_positive(self, "tolerance", "rise")
        if self.num_top + self.num_bottom < 1:
            raise SettingsError("at least one eigenvalue was required, num_top=0 and num_bottom=0 came: raise one")
        self._budget()  # complains of what makes no sense

    @classmethod
    def tiny(cls) -> HessianSpectrum:
        """The cheapest settings, for tests."""
        return cls(num_top=2, num_bottom=1, tolerance=1e-2, max_products=60, search=0, num_probes=0)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, self.precision, self.max_examples, rng, self._budget())
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        return answered(self._asking(ground, concentrated(ground.objective, Hessian, self.tolerance), rng))

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        grounds = [
            surface(each, self.split, self.precision, self.max_examples, rng, self._budget()) for each in subjects
        ]
        return measured_together(self, subjects, grounds, rng, self._asking)

    def _asking(self, ground: Surface, hessian: Operator, rng: Rng) -> Asking[Outcome]:
        """The answer, from what asks for products with the Hessian."""
        found = yield from finding(
            hessian,
            largest=self.num_top,
            smallest=self.num_bottom,
            rng=rng.child("eigenpairs"),
            tolerance=self.tolerance,
            max_products=self.max_products,
            search=self.search,
        )
        beside, notes = {}, found.notes
        if self.num_probes:
            beside["mean_eigenvalue"], more = yield from _mean(
                hessian, found, self.num_probes, f"{ground.unit}/weight^2", rng
            )
            notes = (*notes, *more)
        return self._result(ground, replace(found, notes=notes), beside)

    def _budget(self) -> Budget:
        # Four products for each pair is what usual spectra take, give or take a half.
        num_products = 4 * (self.num_top + self.num_bottom) + self.search + self.num_probes
        return Budget(gradients=2 * min(num_products, self.max_products), max_operations=self.max_operations)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return (spectrum_ends.figure(result, name="hessian_eigenvalues", title="Extreme eigenvalues of the Hessian"),)

    def reading(self, result: Result) -> str:
        missed = any(note.code == "not_converged" for note in result.notes)
        if _is_flat(result):
            text = "All eigenvalues that were found are 0: the loss bends in no direction."
        else:
            said = []
            if "top_eigenvalue" in result.values:
                said.append(_of_the_top(result))
            if "sharpest_step" in result.values:
                said.append(_of_the_step(result, self.rise))
            if "bottom_eigenvalue" in result.values:
                said.append(_of_the_bottom(result, is_sure=not missed))
            text = "; ".join(said) + "."
        if missed:
            text += " Not all of these have converged: values from the inside of the spectrum may be missing."
        return text[:1].upper() + text[1:]

    def _result(self, ground: Surface, found: Spectrum, beside: Mapping[str, Estimate]) -> Result:
        unit = f"{ground.unit}/weight^2"
        values: dict[str, Estimate | Array] = {}
        for end, pairs in spectrum_ends.ends(found).items():
            values[f"{end}_eigenvalue"] = spectrum_ends.extreme(found, end, unit)
            values |= spectrum_ends.tables(end, [pairs], unit)
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
        bad = num_wanted - good
        subject = (
            f"After {counted(found.num_products, 'product')} {counted(bad, 'eigenvalue')} {'is' if bad == 1 else 'are'}"
        )
        troubles = spectrum_ends.not_converged(subject, [found], self.tolerance)
        return Result(values=values, notes=(*ground.notes, *found.notes, *troubles))

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


def _mean(
    hessian: Operator, found: Spectrum, num_probes: int, unit: str, rng: Rng
) -> Asking[tuple[Estimate, tuple[Note, ...]]]:
    """The trace over P, with notes. What the largest eigenvalues add is known, so the probes see the rest alone."""
    # A handful of directions hold most of the trace: without taking them out, few probes would say little.
    known = found.largest if len(found.largest) else None
    estimate = yield from tracing(hessian, num_probes=num_probes, rng=rng.child("mean"), known=known)
    way = "exact"
    if not estimate.exact:
        way = "Hutchinson" if known is None else "Hutchinson on what the largest eigenvalues leave"
    mean = Estimate(
        value=estimate.value / hessian.size,
        stderr=None if estimate.stderr is None else estimate.stderr / hessian.size,
        n=len(estimate.samples) or hessian.size,
        unit=unit,
        method=f"trace over the number of parameters; {way}",
    )
    # Of the eigenvalues it is said already whether they have converged.
    return mean, tuple(note for note in estimate.notes if note.code != "known_not_converged")


def _is_flat(result: Result) -> bool:
    tables = [value for key, value in result.values.items() if key.startswith("eigenvalues_")]
    return all(isinstance(value, Array) and not value.data.any() for value in tables)


def _of_the_top(result: Result) -> str:
    top = result.estimate("top_eigenvalue")
    if top.value <= 0:
        return f"no direction was found in which the loss bends up (the largest eigenvalue is {quantity(top)})"
    return f"the sharpest direction has a curvature of {quantity(top)}{_against_the_mean(result)}"


def _against_the_mean(result: Result) -> str:
    """How many times as sharp as a direction on average, where that is known well enough to say."""
    top, mean = result.estimate("top_eigenvalue"), result.values.get("mean_eigenvalue")
    if not isinstance(mean, Estimate) or mean.stderr is None or mean.value < 3 * mean.stderr or mean.value <= 0:
        return ""
    ratio = top.value / mean.value
    # Where all directions are as sharp there is nothing to compare.
    return f", {written(ratio, digits=2)} times the mean over all directions" if ratio > 1.05 else ""


def _of_the_step(result: Result, rise: float) -> str:
    step, share = quantity(replace(result.estimate("sharpest_step"), unit="1"), 2), ""
    if "sharpest_step_fraction" in result.values:
        fraction = result.estimate("sharpest_step_fraction")
        times = "times " if fraction.value >= 1 else "of "
        share = f", {quantity(fraction, 2)} {times}the norm of all weights,"
    return f"along it, a step of {step}{share} raises the quadratic model of the loss by {rise:g}"


def _length(objective: Objective) -> float:
    return math.sqrt(sum(float(torch.sum(value.double() ** 2)) for value in objective.origin))


def _of_the_bottom(result: Result, is_sure: bool) -> str:
    bottom, top = result.estimate("bottom_eigenvalue"), result.values.get("top_eigenvalue")
    # A value is v' H v of a direction v that was found: it bends down there, whatever the residual, save for rounding.
    size = max(abs(bottom.value), abs(top.value) if isinstance(top, Estimate) else 0.0)
    if bottom.value >= -min(bottom.stderr or 0.0, _ROUNDING * size):
        found = "bends down" if is_sure and bottom.method.startswith("dense") else "was found to bend down"
        return f"no direction {found} (the smallest eigenvalue is {quantity(replace(bottom, unit='1'), 2)})"
    said = f"the loss bends down in some direction, with {quantity(bottom)}"
    if not isinstance(top, Estimate) or top.value <= 0:
        return f"{said}, so this is no minimum"
    share = -bottom.value / top.value
    nearly = ", though nearly one" if share < 0.05 else ""
    return f"{said} ({written(share, digits=2)} of the sharpest), so this is no minimum{nearly}"
