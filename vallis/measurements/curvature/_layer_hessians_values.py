"""What was found of every layer, as labelled numbers with notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vallis.core.types import Array, Estimate, Note, Result
from vallis.measurements.curvature._without_factors import without_factors
from vallis.measurements.curvature._words import listed, shown_name, spoken_name
from vallis.numerics.blocks import LayerBlock
from vallis.numerics.curvature import Hessian
from vallis.numerics.kronecker_fit import KroneckerFit
from vallis.numerics.layer_shares import Shares
from vallis.numerics.spectra import Spectrum
from vallis.numerics.trace import Trace

Floats = NDArray[np.float64]
Values = dict[str, Estimate | Array]
Block = Hessian | LayerBlock

_NAMED = 3  # layers that a note names


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer: its block, the spectrum and the trace of it, and how the factors fit, if there are some.

    The distances, with standard errors, are of the block from ``E[M] ⊗ E[x x']`` and from ``E[M ⊗ x x']``.
    """

    name: str
    names: tuple[str, ...]
    block: Block
    spectrum: Spectrum
    trace: Trace | None
    fit: KroneckerFit | None
    distance: tuple[float, float | None] | None = None
    exact_distance: tuple[float, float | None] | None = None

    @property
    def word(self) -> str:
        """What it is called in tables and figures; the module itself has no name."""
        return shown_name(self.name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """All that was found."""

    unit: str
    layers: tuple[Layer, ...]
    whole: Spectrum
    shares: Shares | None
    reasons: Mapping[str, str]
    num_draws: int
    num_top: int
    tolerance: float
    notes: tuple[Note, ...]


def result_of(found: Found) -> Result:
    """The result, with a note for each thing that is missing."""
    values = _spectra(found) | _traces(found) | _sharpest(found) | _kronecker(found)
    products = sum(layer.block.num_products for layer in found.layers) + found.whole.num_products
    values["num_products"] = Estimate(
        value=products, stderr=None, unit="products", method="counted; with one layer each, save for the whole network"
    )
    notes = (
        *found.notes,
        *_gaps(found),
        *_not_converged(found),
        *_of_traces(found),
        *without_factors(found.reasons, len(found.layers)),
        *_drawn(found),
        *_unsure(found),
    )
    return Result(values=values, notes=notes)


def _spectra(found: Found) -> Values:
    names = np.array([layer.word for layer in found.layers])
    coords = {"layer": names, "rank": np.arange(1.0, found.num_top + 1)}
    pairs = [layer.spectrum.largest for layer in found.layers]

    def table(rows: Sequence[Floats]) -> Array:
        data = np.full((len(rows), found.num_top), np.nan)
        for row, given in zip(data, rows, strict=True):
            row[: len(given)] = given
        return Array(data=data, dims=("layer", "rank"), unit=found.unit, coords=coords)

    values: Values = {
        "eigenvalues": table([each.values for each in pairs]),
        "residuals": table([each.residuals for each in pairs]),
    }
    lowest = [layer.spectrum.smallest.values[:1] for layer in found.layers]
    if all(len(each) for each in lowest):
        data = np.concatenate(lowest)
        values["smallest_eigenvalues"] = Array(data=data, dims=("layer",), unit=found.unit, coords={"layer": names})
    sizes = np.array([float(layer.block.size) for layer in found.layers])
    values["num_parameters"] = Array(data=sizes, dims=("layer",), unit="parameters", coords={"layer": names})
    return values


def _traces(found: Found) -> Values:
    traces = [layer.trace for layer in found.layers if layer.trace is not None]
    if not traces:
        return {}
    coords = {"layer": np.array([layer.word for layer in found.layers])}
    errors = np.array([np.nan if each.stderr is None else each.stderr for each in traces])
    values = np.array([each.value for each in traces])
    made: Values = {"traces": Array(data=values, dims=("layer",), unit=found.unit, coords=coords)}
    if np.isfinite(errors).all():
        made["trace_errors"] = Array(data=errors, dims=("layer",), unit=found.unit, coords=coords)
    return made


def _sharpest(found: Found) -> Values:
    pairs = found.whole.largest
    if not len(pairs):
        return {}
    values: Values = {
        "top_eigenvalue": Estimate(
            value=float(pairs.values[0]),
            stderr=float(pairs.residuals[0]),
            unit=found.unit,
            method="of the whole network; the error bar is the residual, which bounds the distance to an eigenvalue",
        )
    }
    if found.shares is None:
        return values
    coords = {"layer": np.array([layer.word for layer in found.layers])}
    values["shares_of_top"] = Array(data=found.shares.of_length, dims=("layer",), coords=coords)
    values["own_shares_of_top"] = Array(data=found.shares.alone, dims=("layer",), coords=coords)
    values["largest_share_fraction"] = Estimate(
        value=float(found.shares.of_length.max()),
        stderr=None,
        method="largest part of the squared length of the sharpest direction that lies in one layer",
    )
    if sum(layer.block.size for layer in found.layers) == len(pairs.vectors):
        values["between_layers"] = Estimate(
            value=found.shares.between,
            stderr=None,
            method="share of the largest eigenvalue that no layer's own block has; it can be negative",
        )
    return values


def _kronecker(found: Found) -> Values:
    fitted = [(layer, layer.fit) for layer in found.layers if layer.fit is not None]
    if not fitted:
        return {}
    names = np.array([layer.word for layer, _ in fitted])
    ranks = np.arange(1.0, found.num_top + 1)

    def table(rows: Sequence[Floats], unit: str = "1") -> Array:
        data = np.full((len(rows), found.num_top), np.nan)
        for row, given in zip(data, rows, strict=True):
            row[: len(given)] = given
        return Array(
            data=data, dims=("kronecker_layer", "rank"), unit=unit, coords={"kronecker_layer": names, "rank": ranks}
        )

    def column(numbers: Sequence[float]) -> Array:
        return Array(data=np.array(numbers), dims=("kronecker_layer",), coords={"kronecker_layer": names})

    top = [layer.spectrum.largest.values[0] for layer, _ in fitted]
    ratios = [fit.values[0] / value if value > 0 else np.nan for value, (_, fit) in zip(top, fitted, strict=True)]
    made: Values = {
        "kronecker_eigenvalues": table([fit.values for _, fit in fitted], found.unit),
        "kronecker_ratios": column(ratios),
        "kronecker_overlaps": table([fit.overlaps for _, fit in fitted]),
        "rank_one_energies": table([fit.rank_one for _, fit in fitted]),
        "mean_input_alignments": table([fit.alignments for _, fit in fitted]),
        "input_ratios": column([fit.input_ratio for _, fit in fitted]),
        "num_output_directions": column([float(fit.num_outputs) for _, fit in fitted]),
    }
    made |= _distances("kronecker", [layer.distance for layer, _ in fitted], column)
    made |= _distances("factorised", [layer.exact_distance for layer, _ in fitted], column)
    for key, source, method in (
        ("median_rank_one_energy", "rank_one_energies", "median over layers and eigenvectors"),
        ("median_kronecker_overlap", "kronecker_overlaps", "median over layers and numbers of eigenvectors"),
    ):
        data = made[source].data  # type: ignore[union-attr]
        if np.isfinite(data).any():
            made[key] = Estimate(
                value=float(np.nanmedian(data)), stderr=None, n=int(np.isfinite(data).sum()), method=method
            )
    return made


def _distances(
    key: str, pairs: Sequence[tuple[float, float | None] | None], column: Callable[[Sequence[float]], Array]
) -> Values:
    """Distances with their standard errors, where these are known."""
    given = [pair for pair in pairs if pair is not None]
    if not given or len(given) < len(pairs):
        return {}
    made: Values = {f"{key}_distances": column([distance for distance, _ in given])}
    # A block of zeros is no distance from anything, and has no error.
    errors = [np.nan if np.isnan(distance) else error for distance, error in given]
    told = [error for error in errors if error is not None]
    return made | ({f"{key}_distance_errors": column(told)} if len(told) == len(errors) else {})


def _gaps(found: Found) -> tuple[Note, ...]:
    """Why some entries are not numbers."""
    short = [layer.word for layer in found.layers if layer.block.size < found.num_top]
    rounded = [
        layer.word for layer in found.layers if layer.fit is not None and not np.isfinite(layer.fit.overlaps).all()
    ]
    said = []
    if short:
        said.append(f"{_have(short)} fewer parameters than num_top={found.num_top}")
    if rounded:
        said.append(f"{_have(rounded)} no further direction with curvature above rounding")
    return (Note(code="gaps", text=f"Entries are missing, because {' and '.join(said)}."),) if said else ()


def _have(layers: Sequence[str]) -> str:
    if len(layers) == 1:
        return f"{spoken_name(layers[0])} has"
    return f"layers {listed(layers, _NAMED)} have"


def _not_converged(found: Found) -> tuple[Note, ...]:
    bad = [spoken_name(layer.word) for layer in found.layers if not layer.spectrum.converged]
    bad += [] if found.whole.converged else ["the network as a whole"]
    if not bad:
        return ()
    text = (
        f"Residuals exceed {found.tolerance:g} of the largest magnitude in {listed(bad, _NAMED)}, after the most "
        "products that were allowed or at the limit of rounding."
    )
    return (Note(code="not_converged", text=text),)


def _of_traces(found: Found) -> tuple[Note, ...]:
    """What the traces have to say, once for all layers of which it is true."""
    by_code: dict[str, list[tuple[str, Note]]] = {}
    for layer in found.layers:
        for note in layer.trace.notes if layer.trace is not None else ():
            # Of the eigenvalues it is said already whether they have converged.
            if note.code != "known_not_converged":
                by_code.setdefault(note.code, []).append((layer.word, note))
    return tuple(
        Note(
            code=code,
            text=f"Of the trace of {listed([spoken_name(word) for word, _ in said], _NAMED)}: {said[0][1].text}",
        )
        for code, said in by_code.items()
    )


def _drawn(found: Found) -> tuple[Note, ...]:
    if not found.num_draws:
        return ()
    text = (
        f"E[M] was estimated from {found.num_draws} random combinations of the scores of each example, because there "
        "are more scores than these (max_columns sets how many)."
    )
    return (Note(code="sampled_factors", text=text),)


def _unsure(found: Found) -> tuple[Note, ...]:
    """Between eigenvalues that lie close together a direction is no more certain than its residual over their gap."""
    pairs = found.whole.largest
    if found.shares is None or len(pairs) < 2:
        return ()
    gap = float(pairs.values[0] - pairs.values[1])
    if pairs.residuals[0] <= 0.05 * gap and gap > found.tolerance * found.whole.scale:
        return ()
    text = "The two largest eigenvalues of the network lie so close that its sharpest direction is not sure."
    return (Note(code="direction_unsure", text=text),)
