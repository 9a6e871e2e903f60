"""What is found of one layer of two networks, and how it becomes labelled numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Note, Result
from vallis.measurements.curvature._resolved import not_converged
from vallis.measurements.curvature._words import counted, listed, spoken_name
from vallis.numerics.eigenspaces import Floats, random_overlap, trace_overlap

_NAMED = 3  # layers that a note names


@dataclass(frozen=True, kw_only=True, eq=False)
class Checks:
    """Overlaps whose values are known, for spaces of `width` dimensions: as many as outputs, or as directions at all.

    Attributes:
        width: k.
        own: of a space with itself, in other axes.
        moved: how far the overlap of both networks moves when both spaces are given in other axes.
        drawn: ``(draws,)`` with random spaces.
    """

    width: int
    own: float
    moved: float
    drawn: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlaps:
    """One layer of two networks.

    Attributes:
        name: of the layer.
        num_outputs: m.
        size: D, the number of weights.
        curve: ``(K,)`` the overlap for k = 1 to K; NaN where there are not so many directions.
        checks: see there.
        converged: whether all eigenvectors are within the tolerance.
    """

    name: str
    num_outputs: int
    size: int
    curve: Floats
    checks: Checks
    converged: bool

    def at(self, count: int) -> float:
        """The overlap for this many directions; NaN where there are not so many."""
        return float(self.curve[count - 1]) if count <= len(self.curve) else np.nan

    @property
    def at_outputs(self) -> float:
        """The overlap for as many directions as there are outputs."""
        return self.at(self.num_outputs)


def checked(one: torch.Tensor, other: torch.Tensor, num_draws: int, rng: Rng) -> Checks:
    """The overlaps that are known, for the spaces that columns ``(D, k)`` span."""
    if not one.shape[1]:
        return Checks(width=0, own=np.nan, moved=np.nan, drawn=np.full(num_draws, np.nan))
    turned = [_turned(space, rng.child("axes", place)) for place, space in enumerate((one, other))]
    generator = rng.child("drawn").torch()
    drawn = [trace_overlap(one, torch.randn(one.shape, generator=generator, dtype=one.dtype)) for _ in range(num_draws)]
    return Checks(
        width=one.shape[1],
        own=trace_overlap(one, _turned(one, rng.child("turned"))),
        moved=abs(trace_overlap(*turned) - trace_overlap(one, other)),
        drawn=np.array(drawn),
    )


def result_of(found: Sequence[Overlaps], notes: tuple[Note, ...]) -> Result:
    """The result, with a note for what is missing."""
    names, longest = np.array([each.name for each in found]), max(len(each.curve) for each in found)
    curves, chance, spread = (np.full((len(found), longest), np.nan) for _ in range(3))
    for place, each in enumerate(found):
        curves[place, : len(each.curve)] = each.curve
        for count in range(1, len(each.curve) + 1):
            chance[place, count - 1], spread[place, count - 1] = random_overlap(count, each.size)

    def column(numbers: Sequence[float]) -> Array:
        return Array(data=np.array(numbers, dtype=np.float64), dims=("layer",), coords={"layer": names})

    coords = {"layer": names, "count": np.arange(1.0, longest + 1)}
    tables = {"overlaps": curves, "random_overlaps": chance, "random_deviations": spread}
    values: dict[str, Estimate | Array] = {
        key: Array(data=data, dims=("layer", "count"), coords=coords) for key, data in tables.items()
    }
    checks = [each.checks for each in found]
    values |= {
        "num_outputs": column([each.num_outputs for each in found]),
        "overlaps_at_outputs": column([each.at_outputs for each in found]),
        "overlaps_at_twice_outputs": column([each.at(2 * each.num_outputs) for each in found]),
        "random_at_outputs": column([each.num_outputs / each.size for each in found]),
        "own_overlaps": column([each.own for each in checks]),
        "turning_changes": column([each.moved for each in checks]),
        "drawn_overlaps": column([float(each.drawn.mean()) for each in checks]),
        "drawn_errors": column([float(each.drawn.std(ddof=1) / len(each.drawn) ** 0.5) for each in checks]),
        "drawn_counts": column([each.width for each in checks]),
    }
    values["num_weights"] = column([each.size for each in found])
    at = values["overlaps_at_outputs"].data  # type: ignore[union-attr]
    if np.isfinite(at[0]):
        values["first_overlap"] = Estimate(
            value=float(at[0]),
            stderr=None,
            n=found[0].num_outputs,
            method=f"of the {counted(found[0].num_outputs, 'sharpest direction')} of {spoken_name(found[0].name)}",
        )
    return Result(values=values, notes=(*notes, *_remarks(found, values)))


def _remarks(found: Sequence[Overlaps], values: Mapping[str, Estimate | Array]) -> tuple[Note, ...]:
    """What did not converge, and where there are fewer directions than the layer has outputs."""
    notes = not_converged([spoken_name(each.name) for each in found if not each.converged])
    asked, rounded = [], []
    for each in found:
        if each.num_outputs > len(each.curve):
            asked.append(f"{spoken_name(each.name)} ({each.num_outputs})")
        elif not np.isfinite(each.at_outputs):
            rounded.append(f"{spoken_name(each.name)} ({np.isfinite(each.curve).sum()})")
    said = []
    if rounded:
        text = f"Fewer directions than outputs have curvature above rounding in both networks in {_list(rounded)}."
        said.append(text)
    if asked:
        said.append(f"Fewer directions were asked for than there are outputs in {_list(asked)}: raise num_top.")
    arrays = [value.data for value in values.values() if isinstance(value, Array)]
    if not said and not all(np.isfinite(data).all() for data in arrays):
        said.append("Layers have different numbers of directions: rows of the tables end where theirs do.")
    return (*notes, Note(code="gaps", text=" ".join(said))) if said else notes


def _list(words: Sequence[str]) -> str:
    return listed(words, _NAMED)


def _turned(space: torch.Tensor, rng: Rng) -> torch.Tensor:
    """``(D, k)`` the same space in other axes, drawn at random."""
    width = space.shape[1]
    drawn = torch.randn(width, width, generator=rng.torch(), dtype=space.dtype)
    axes: torch.Tensor = torch.linalg.qr(drawn).Q
    return space @ axes
