"""Both ends of a spectrum, at one point or along a path: their labelled values, their picture, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Array, Estimate, Note, Result
from vallis.measurements.curvature._words import listed
from vallis.numerics.means import Floats
from vallis.numerics.spectra import Eigenpairs, Spectrum

_LABELS = {"top": "largest", "bottom": "smallest"}


def ends(found: Spectrum) -> dict[str, Eigenpairs]:
    """The pairs of each end that was asked for, under the name of the end."""
    both = {"top": found.largest, "bottom": found.smallest}
    return {end: pairs for end, pairs in both.items() if len(pairs)}


def extreme(found: Spectrum, end: str, unit: str) -> Estimate:
    """The outermost eigenvalue of one end."""
    pairs = ends(found)[end]
    way = "dense solver" if found.stop == "dense" else "thick-restart Lanczos"
    method = f"{way}; the error bar is the residual, which bounds the distance to an eigenvalue"
    return Estimate(value=float(pairs.values[0]), stderr=float(pairs.residuals[0]), unit=unit, method=method)


def tables(end: str, looks: Sequence[Eigenpairs], unit: str, steps: Floats | None = None) -> dict[str, Array]:
    """Eigenvalues and residuals by rank; by step and rank along a path.

    Args:
        end: "top" or "bottom".
        looks: the pairs of this end, one for each step; a single one where there are no steps.
        unit: of the eigenvalues.
        steps: ``(T,)`` along the path.
    """
    num_ranks = min(len(pairs) for pairs in looks)
    coords, dims = {"rank": np.arange(1.0, num_ranks + 1)}, ("rank",)
    found = {
        f"eigenvalues_{end}": np.stack([pairs.values[:num_ranks] for pairs in looks]),
        f"residuals_{end}": np.stack([pairs.residuals[:num_ranks] for pairs in looks]),
    }
    if steps is None:
        return {key: Array(data=data[0], dims=dims, unit=unit, coords=coords) for key, data in found.items()}
    coords["step"] = steps
    return {key: Array(data=data, dims=("step", *dims), unit=unit, coords=coords) for key, data in found.items()}


def figure(result: Result, *, name: str, title: str) -> Figure:
    """Both ends with their residuals: points over the rank, or lines over the step."""
    marks: list[Mark] = []
    unit, is_path = "1", False
    for end, label in _LABELS.items():
        if f"eigenvalues_{end}" not in result.values:
            continue
        values, errors = result.array(f"eigenvalues_{end}"), result.array(f"residuals_{end}")
        unit, is_path = values.unit, "step" in values.dims
        if not is_path:
            marks.append(Mark(kind="scatter", x=values.coords["rank"], y=values.data, error=errors.data, label=label))
            continue
        for rank, (row, error) in enumerate(zip(values.data.T, errors.data.T, strict=True), start=1):
            word = label if rank == 1 else f"{label}, rank {rank}"
            marks.append(Mark(kind="line", x=values.coords["step"], y=row, error=error, label=word))
    return Figure(
        name=name,
        title=title,
        x=Axis(label="step of training" if is_path else "rank, from the outermost"),
        y=Axis(label=f"eigenvalue ({unit})"),
        marks=tuple(marks),
        caption="Bars: the residual; an eigenvalue lies within it.",
    )


def not_converged(subject: str, looks: Sequence[Spectrum], tolerance: float) -> tuple[Note, ...]:
    """A note where eigenvalues are not within the tolerance, and why; none where all are.

    Args:
        subject: how the sentence begins, with its verb: "After 15 products 2 eigenvalues are".
        looks: all that were taken.
        tolerance: that was asked for.
    """
    reasons = list(dict.fromkeys(_reason(look) for look in looks if not look.converged))
    if not reasons:
        return ()
    text = f"{subject} not within the tolerance of {tolerance:g}, because {listed(reasons)}."
    return (Note(code="not_converged", text=text),)


def _reason(look: Spectrum) -> str:
    if look.stop == "rounding":
        return 'rounding hides what is left (precision="float64" resolves more)'
    return "the most products that were allowed were spent"
