"""Pictures and words for the Hessians of layers."""

from __future__ import annotations

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity, written
from vallis.core.types import Array, Estimate, Result
from vallis.measurements.curvature._words import spoken_name

_LINES = 6  # more layers than these are drawn as a heatmap


def figures(result: Result) -> tuple[Figure, ...]:
    """A heatmap of eigenvalues, bars of shares, and how Kronecker factors fit; what would be empty is left out."""
    made = []
    if _has_positive(result, "eigenvalues"):
        made.append(_spectra(result))
    if "shares_of_top" in result.values:
        made.append(_shares(result))
    if _has_positive(result, "eigenvalues") and _has_positive(result, "kronecker_eigenvalues"):
        made.append(_fit(result))
    for key, label, title in (
        ("rank_one_energies", "rank-one energy", "Eigenvectors as matrices"),
        ("kronecker_overlaps", "overlap", "Top spaces: block and Kronecker factors"),
    ):
        if _has_positive(result, key):
            made.append(_by_rank(result, key, label, title))
    return tuple(made)


def _has_positive(result: Result, key: str) -> bool:
    found = result.values.get(key)
    return isinstance(found, Array) and bool((found.data > 0).any())


def reading(result: Result) -> str:
    """Which layer is sharpest, where the sharpest direction lies, how simple the layers are."""
    eigenvalues = result.array("eigenvalues")
    names, tops, unit = eigenvalues.coords["layer"], eigenvalues.data[:, 0], eigenvalues.unit
    high, low = int(np.nanargmax(tops)), int(np.nanargmin(tops))
    if not tops[high] > 0:
        if "shares_of_top" not in result.values:
            return "Neither a layer by itself nor the network has a direction in which the loss bends up."
        return f"No layer has, by itself, a direction in which the loss bends up; {_where(result)}."
    if len(tops) == 1:
        said = f"The only layer that was measured, {_called(names[0])}, has a largest curvature of"
        return " ".join([f"{said} {_number(tops[0], unit)}.", *_simple(result)])
    said = (
        f"By itself, {_called(names[high])} is the sharpest, with a curvature of {_number(tops[high], unit)} against "
        f"{_number(tops[low], '1')} in {_called(names[low])}"
    )
    return " ".join([f"{said}; {_where(result)}.", *_simple(result)])


def _called(name: str) -> str:
    return spoken_name(str(name))


def _where(result: Result) -> str:
    if "shares_of_top" not in result.values:
        return "the network has no direction in which the loss bends up"
    shares = result.array("shares_of_top")
    place = int(shares.data.argmax())
    share = float(shares.data[place])
    part = f"{written(share, digits=2)} of" if share < 0.995 else "almost all of" if share < 1 else "all of"
    return f"{part} the network's sharpest direction lies in {_called(shares.coords['layer'][place])}"


def _simple(result: Result) -> list[str]:
    if "kronecker_ratios" not in result.values:
        return []
    ratios, energy = result.array("kronecker_ratios").data, result.values.get("median_rank_one_energy")
    ratios = ratios[np.isfinite(ratios)]
    said = []
    if len(ratios):
        low, high = (written(float(value), digits=2) for value in (ratios.min(), ratios.max()))
        between = f"{low}" if str(low) == str(high) else f"{low} to {high}"
        said.append(f"Kronecker factors give {between} times the largest eigenvalue of a layer{_apart(result)}")
    if isinstance(energy, Estimate):
        shape = (
            "nearly of rank one"
            if energy.value >= 0.9
            else "of no simple shape"
            if energy.value < 0.5
            else "simple in part"
        )
        said.append(f"as matrices, eigenvectors of layers are {shape} (median rank-one energy {quantity(energy, 2)})")
    text = "; ".join(said)
    return [f"{text[:1].upper()}{text[1:]}."] if text else []


def _apart(result: Result) -> str:
    """How far the blocks are from the Kronecker products."""
    if "kronecker_distances" not in result.values:
        return ""
    distances = result.array("kronecker_distances").data
    if not np.isfinite(distances).any():
        return ""
    return (
        f", and their product is off by {written(float(np.nanmedian(distances)), digits=2)} of the norm of its block "
        "in the median"
    )


def _number(value: float, unit: str) -> str:
    return quantity(Estimate(value=float(value), unit=unit, method="shown"))


def _spectra(result: Result) -> Figure:
    found = result.array("eigenvalues")
    return Figure(
        name="layer_eigenvalues",
        title="Largest eigenvalues of each layer's Hessian",
        x=Axis(label="rank"),
        y=Axis(label="layer", scale="category"),
        z=Axis(label=f"eigenvalue ({found.unit})", scale="log"),
        marks=(Mark(kind="heatmap", x=found.coords["rank"], y=found.coords["layer"], z=found.data),),
    )


def _shares(result: Result) -> Figure:
    whole, alone = result.array("shares_of_top"), result.array("own_shares_of_top")
    names = whole.coords["layer"]
    return Figure(
        name="layer_shares",
        title="Where the sharpest direction lies",
        x=Axis(label="share"),
        y=Axis(label="layer", scale="category"),
        marks=(
            Mark(kind="bar", x=whole.data, y=names, label="of its squared length"),
            Mark(kind="bar", x=alone.data, y=names, label="of its curvature, by the layer alone"),
        ),
        caption="What the second misses to one is curvature between layers.",
    )


def _fit(result: Result) -> Figure:
    made, found = result.array("kronecker_eigenvalues"), result.array("eigenvalues")
    rows = dict(zip(found.coords["layer"], found.data, strict=True))
    marks = [
        Mark(kind="scatter", x=rows[name], y=row, label=str(name))
        for name, row in zip(made.coords["kronecker_layer"], made.data, strict=True)
    ]
    positive = found.data[np.isfinite(found.data) & (found.data > 0)]
    if positive.size:
        ends = np.array([positive.min(), positive.max()])
        marks.append(Mark(kind="line", x=ends, y=ends, label="equal"))
    return Figure(
        name="kronecker_eigenvalues",
        title="Eigenvalues by Kronecker factors",
        x=Axis(label=f"eigenvalue of the block ({found.unit})", scale="log"),
        y=Axis(label=f"by Kronecker factors ({found.unit})", scale="log"),
        marks=tuple(marks),
    )


def _by_rank(result: Result, key: str, label: str, title: str) -> Figure:
    found: Array = result.array(key)
    names, ranks = found.coords["kronecker_layer"], found.coords["rank"]
    rank = Axis(label="rank" if key == "rank_one_energies" else "number of eigenvectors")
    if len(names) > _LINES:
        grid = Mark(kind="heatmap", x=ranks, y=names, z=found.data)
        return Figure(
            name=key, title=title, x=rank, y=Axis(label="layer", scale="category"), z=Axis(label=label), marks=(grid,)
        )
    lines = tuple(
        Mark(kind="line", x=ranks, y=row, label=str(name)) for name, row in zip(names, found.data, strict=True)
    )
    return Figure(name=key, title=title, x=rank, y=Axis(label=label), marks=lines)
