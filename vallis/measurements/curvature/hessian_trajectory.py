"""How the sharpest directions of the loss change along a training, with a proof for each value.

Definition: the largest and the smallest eigenvalues of the Hessian of the mean loss over a split, by all trainable
    parameters, at each of several moments of a training. Each comes with its residual: an eigenvalue lies within it.
    At every moment after the first the iteration starts in the eigenvectors of the one before.
Unit: nats/weight^2 (nats is the loss's own unit where it is no log-likelihood); steps of training along the path.
Source: Cohen et al. (2021), sections 2 and 3 (the largest eigenvalue along the path of gradient descent).
Cost: two gradients for each product; at a tolerance of 0.02 and one eigenvalue about eight products a moment.
Says little when: moments lie so far apart that eigenvectors have turned away: values stay right and cost more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.figures import Figure
from vallis.core.numbers import quantity, written
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Note, Outcome, Result, Solution, Source
from vallis.measurements import _stages
from vallis.measurements.curvature import _spectrum_ends as spectrum_ends
from vallis.measurements.curvature._settings import must_be_at_least, must_be_positive
from vallis.measurements.curvature._words import listed
from vallis.numerics.curvature import Hessian
from vallis.numerics.means import Floats
from vallis.numerics.spectra import Spectrum
from vallis.numerics.surface import Precision, Surface, surface
from vallis.numerics.tracking import track_eigenpairs

_NAMED = 5  # steps that a note names


@dataclass(frozen=True, kw_only=True)
class HessianTrajectory:
    """Extreme eigenvalues of the Hessian along a training.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken, the same at all moments; None takes all.
        num_top: how many of the largest eigenvalues.
        num_bottom: how many of the smallest.
        tolerance: see `HessianSpectrum`.
        max_products: the most products at a moment; what has not converged by then is said so.
        search: products at each moment spent on looking for eigenvectors that were not there before; None takes half as
            many as there are eigenvalues wanted, and at least 5.
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "trajectory"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Gradient descent on neural networks typically occurs at the edge of stability",
            authors="J. Cohen, S. Kaur, Y. Li, J. Z. Kolter, A. Talwalkar",
            year=2021,
            url="https://arxiv.org/abs/2103.00065",
        ),
    )

    split: str = "train"
    max_examples: int | None = None
    num_top: int = 1
    num_bottom: int = 0
    tolerance: float = 0.02
    max_products: int = 300
    search: int | None = None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        must_be_at_least(0, self, "num_top", "num_bottom", "search")
        must_be_at_least(1, self, "max_products")
        must_be_positive(self, "tolerance")
        if self.num_top + self.num_bottom < 1:
            raise SettingsError("at least one eigenvalue was required, num_top=0 and num_bottom=0 came: raise one")

    @classmethod
    def tiny(cls) -> HessianTrajectory:
        """The cheapest settings, for tests."""
        return cls(search=0, max_products=60)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        moments, of_stages = _stages.last_of(subject)
        grounds: list[Surface] = []
        for moment in moments:
            ground = surface(moment, self.split, self.precision, self.max_examples, rng)
            if ground.not_finite() is not None:
                break
            grounds.append(ground)
        if not grounds:
            return self._nothing(moments[0], rng)
        looks = track_eigenpairs(
            (Hessian(ground.objective) for ground in grounds),
            largest=self.num_top,
            smallest=self.num_bottom,
            rng=rng.child("eigenpairs"),
            tolerance=self.tolerance,
            max_products=self.max_products,
            search=self.search,
        )
        found = list(track(looks, "moments", len(grounds)))
        steps = np.array([float(moment.step) for moment in moments[: len(grounds)]])
        notes = (*grounds[0].notes, *self._troubles(found, steps, len(moments)), *of_stages)
        return Result(values=_values(found, steps, f"{grounds[0].unit}/weight^2"), notes=notes)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        title = "Eigenvalues of the Hessian along the training"
        return (spectrum_ends.figure(result, name="hessian_trajectory", title=title),)

    def reading(self, result: Result) -> str:
        end, word = ("top", "largest") if "last_top_eigenvalue" in result.values else ("bottom", "smallest")
        first, last = (result.estimate(f"{when}_{end}_eigenvalue") for when in ("first", "last"))
        found, spent = result.array(f"eigenvalues_{end}"), result.estimate("products_per_moment").value
        steps, subject = found.coords["step"], f"The {word} eigenvalue of the Hessian"
        missed = " Not all eigenvalues have converged." if _has(result, "not_converged") else ""
        after = f"{missed}{_where_it_ends(result)}"
        if len(steps) == 1:
            return f"{subject} is {quantity(first)} at step {steps[0]:,.0f}; one moment shows no change.{after}"
        text = f"{subject} goes from {quantity(first)} to {quantity(last)}"
        if quantity(first) == quantity(last):
            text = f"{subject} begins and ends at {quantity(first)}"
        peak = int(found.data[:, 0].argmax() if end == "top" else found.data[:, 0].argmin())
        if 0 < peak < len(steps) - 1:
            text += f", by way of {written(float(found.data[peak, 0]), digits=3)} at step {steps[peak]:,.0f}"
        mean = f"{spent:.3g} {'product' if spent == 1 else 'products'}"
        return f"{text}; a look took {mean} on average.{after}"

    def _nothing(self, first: Solution, rng: Rng) -> Outcome:
        diverged = surface(first, self.split, self.precision, self.max_examples, rng).not_finite()
        assert diverged is not None
        return diverged

    def _troubles(self, found: list[Spectrum], steps: Floats, num_moments: int) -> tuple[Note, ...]:
        bad = [f"{step:,.0f}" for step, look in zip(steps, found, strict=True) if not look.converged]
        word = "step" if len(bad) == 1 else "steps"
        subject = f"Some eigenvalues at {word} {listed(bad, _NAMED)} are" if bad else ""
        notes = spectrum_ends.not_converged(subject, found, self.tolerance)
        if len(found) < num_moments:
            text = f"The loss is not finite from moment {len(found) + 1} of {num_moments} on: the path ends before it."
            notes += (Note(code="not_finite", text=text),)
        return notes


def _has(result: Result, code: str) -> bool:
    return any(note.code == code for note in result.notes)


def _where_it_ends(result: Result) -> str:
    """Said where the path goes on without a finite loss."""
    if _has(result, "not_finite"):
        return " After that the loss is no finite number: the training has diverged."
    return ""


def _values(found: list[Spectrum], steps: Floats, unit: str) -> dict[str, Estimate | Array]:
    values: dict[str, Estimate | Array] = {}
    for end in spectrum_ends.ends(found[0]):
        values |= spectrum_ends.tables(end, [spectrum_ends.ends(look)[end] for look in found], unit, steps)
        for when, look in (("first", found[0]), ("last", found[-1])):
            values[f"{when}_{end}_eigenvalue"] = spectrum_ends.extreme(look, end, unit)
    spent = np.array([float(look.num_products) for look in found])
    values["products"] = Array(data=spent, dims=("step",), unit="products", coords={"step": steps})
    values["products_per_moment"] = Estimate(
        value=float(spent.mean()), n=len(spent), unit="products", method="counted; another start may need others"
    )
    return values
