"""How the sharpest directions of the loss change along a training, with a proof for each value.

Definition: the largest and the smallest eigenvalues of the Hessian of the mean loss over a split, by all trainable
    parameters, at each of several moments of a training. Each comes with its residual: an eigenvalue lies within it.
    At every moment after the first the iteration starts in the eigenvectors of the one before.
Unit: nats/weight^2 (nats is the loss's own unit where it is no log-likelihood); steps of training along the path.
Source: Cohen et al. (2021), sections 2 and 3 (the largest eigenvalue along the path of gradient descent).
Cost: two gradients for each product; at a tolerance of 0.02 and one eigenvalue about six products a moment.
Says little when: moments lie so far apart that eigenvectors have turned away: values stay right and cost more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.numbers import quantity
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Axis, Estimate, Figure, Mark, Note, Outcome, Result, Solution, Source
from vallis.numerics.curvature import Hessian
from vallis.numerics.spectra import Eigenpairs, Spectrum
from vallis.numerics.surface import Precision, Surface, surface
from vallis.numerics.tracking import track_eigenpairs


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
        search: products at each moment spent on looking for eigenvectors that were not there before.
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
    search: int = 2
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if min(self.num_top, self.num_bottom, self.search) < 0 or self.num_top + self.num_bottom < 1:
            raise SettingsError(f"at least one eigenvalue was required, {self} came: raise the counts")
        if not self.tolerance > 0 or self.max_products < 1:
            raise SettingsError(f"a tolerance above 0 and a product were required, {self} came: raise them")

    @classmethod
    def tiny(cls) -> HessianTrajectory:
        """The cheapest settings, for tests."""
        return cls(search=0, max_products=60)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        moments: Sequence[Solution] = subject
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
        notes = (*grounds[0].notes, *self._troubles(found, steps, len(moments)))
        return Result(values=_values(found, steps, f"{grounds[0].unit}/weight^2"), notes=notes)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        marks = []
        for end, label in (("top", "largest"), ("bottom", "smallest")):
            if f"eigenvalues_{end}" in result.values:
                found, error = result.array(f"eigenvalues_{end}"), result.array(f"residuals_{end}")
                for rank in range(found.data.shape[1]):
                    name = label if rank == 0 else f"{label}, rank {rank + 1}"
                    y, bar = found.data[:, rank], error.data[:, rank]
                    marks.append(Mark(kind="line", x=found.coords["step"], y=y, error=bar, label=name))
        any_end = "eigenvalues_top" if "eigenvalues_top" in result.values else "eigenvalues_bottom"
        figure = Figure(
            name="hessian_trajectory",
            title="Eigenvalues of the Hessian along the training",
            x=Axis(label="step of training"),
            y=Axis(label=f"eigenvalue ({result.array(any_end).unit})"),
            marks=tuple(marks),
            caption="Bars: the residual; an eigenvalue lies within it.",
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        if "last_top_eigenvalue" not in result.values:
            last = result.estimate("last_bottom_eigenvalue")
            return f"The smallest eigenvalue of the Hessian ends at {quantity(last)}."
        first, last = result.estimate("first_top_eigenvalue"), result.estimate("last_top_eigenvalue")
        found = result.array("eigenvalues_top")
        steps, spent = found.coords["step"], result.estimate("products_per_moment").value
        if len(steps) == 1:
            return (
                f"The largest eigenvalue of the Hessian is {quantity(first)} at step {steps[0]:,.0f}; one moment shows "
                f"no change.{_where_it_ends(result)}"
            )
        text = f"The largest eigenvalue of the Hessian goes from {quantity(first)} to {quantity(last)}"
        peak = int(found.data[:, 0].argmax())
        if 0 < peak < len(steps) - 1:
            text += f", by way of {found.data[peak, 0]:.3g} at step {steps[peak]:,.0f}"
        return f"{text}; a look took {spent:.3g} products on average.{_where_it_ends(result)}"

    def _nothing(self, first: Solution, rng: Rng) -> Outcome:
        diverged = surface(first, self.split, self.precision, self.max_examples, rng).not_finite()
        assert diverged is not None
        return diverged

    def _troubles(self, found: list[Spectrum], steps: np.ndarray[Any, Any], num_moments: int) -> tuple[Note, ...]:
        notes = []
        bad = [f"{step:.0f}" for step, look in zip(steps, found, strict=True) if not look.converged]
        if bad:
            text = f"Not all eigenvalues are within the tolerance of {self.tolerance:g} at step {', '.join(bad)}."
            notes.append(Note(code="not_converged", text=text))
        if len(found) < num_moments:
            text = f"The loss is not finite from moment {len(found) + 1} of {num_moments} on: the path ends before it."
            notes.append(Note(code="not_finite", text=text))
        return tuple(notes)


def _where_it_ends(result: Result) -> str:
    """Said where the path goes on without a finite loss."""
    if any(note.code == "not_finite" for note in result.notes):
        return " After that the loss is no finite number: the training has diverged."
    return ""


def _values(found: list[Spectrum], steps: np.ndarray[Any, Any], unit: str) -> dict[str, Estimate | Array]:
    values: dict[str, Estimate | Array] = {}
    for end, pairs in (("top", [look.largest for look in found]), ("bottom", [look.smallest for look in found])):
        if len(pairs[0]):
            values |= _end(end, pairs, steps, unit)
    spent = np.array([float(look.num_products) for look in found])
    values["products"] = Array(data=spent, dims=("step",), unit="products", coords={"step": steps})
    values["products_per_moment"] = Estimate(
        value=float(spent.mean()), n=len(spent), unit="products", method="counted; another start may need others"
    )
    return values


def _end(end: str, pairs: list[Eigenpairs], steps: np.ndarray[Any, Any], unit: str) -> dict[str, Estimate | Array]:
    count = min(len(one) for one in pairs)
    coords = {"step": steps, "rank": np.arange(1.0, count + 1)}
    data = np.stack([one.values[:count] for one in pairs])
    residuals = np.stack([one.residuals[:count] for one in pairs])
    method = "thick-restart Lanczos; the error bar is the residual, which bounds the distance to an eigenvalue"
    values: dict[str, Estimate | Array] = {
        f"eigenvalues_{end}": Array(data=data, dims=("step", "rank"), unit=unit, coords=coords),
        f"residuals_{end}": Array(data=residuals, dims=("step", "rank"), unit=unit, coords=coords),
    }
    for when, place in (("first", 0), ("last", -1)):
        values[f"{when}_{end}_eigenvalue"] = Estimate(
            value=float(data[place, 0]), stderr=float(residuals[place, 0]), unit=unit, method=method
        )
    return values
