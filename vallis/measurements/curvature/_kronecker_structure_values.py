"""What is found of the weights of one layer, and how it becomes labelled numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Note, Result
from vallis.measurements.curvature._resolved import not_converged, num_resolved
from vallis.measurements.curvature._words import listed, shown_name, spoken_name
from vallis.numerics.curvature import Hessian
from vallis.numerics.distances import relative_distance
from vallis.numerics.eigenspaces import (
    Floats,
    dominance,
    input_correspondence,
    output_correspondence,
    overlap_curve,
    rank_one_energy,
    reshaped,
    right_alignment,
)
from vallis.numerics.flows import Affine
from vallis.numerics.kronecker import Factors
from vallis.numerics.kronecker_operators import Kronecker
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.layer_curvature import LayerGaussNewton
from vallis.numerics.layer_hessian import weight_hessian
from vallis.numerics.operators import Dense, Operator
from vallis.numerics.spectra import Eigenpairs

# What counts as a large eigenvalue of E[M], relative to the largest.
_LARGE = 0.05
_NAMED = 3  # layers that a note names


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How much of each layer is looked at: see the settings of `KroneckerStructure`."""

    num_top: int
    dense_size: int
    tolerance: float
    max_products: int
    num_probes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """The weights of a layer ``(m, n)``; NaN where there is no eigenvalue that is more than rounding.

    Attributes:
        name: of the layer.
        ranked: ``(k,)`` numbers by rank, under the names of the result.
        single: numbers of the layer, under the names of the result.
        output_values: ``(m,)`` the eigenvalues of E[M], falling.
        input_shares: ``(k, n)`` of each eigenvector along the eigenvectors of E[x x'].
        output_shares: ``(k, m)`` of each eigenvector along the eigenvectors of E[M].
        converged: whether all eigenpairs are within the tolerance.
    """

    name: str
    ranked: Mapping[str, Floats]
    single: Mapping[str, float]
    output_values: Floats
    input_shares: Floats
    output_shares: Floats
    converged: bool


def structure_of(objective: Objective, layer: Affine, factors: Factors, asked: Asked, rng: Rng) -> Structure:
    """The block of the Hessian of a layer's weight, beside ``E[M ⊗ x x']`` and ``E[M] ⊗ E[x x']``."""
    hessian = weight_hessian(objective, layer)
    exact = LayerGaussNewton(objective, layer.name, "weight")
    product = Kronecker(factors.outputs, factors.inputs)
    size, dense = hessian.size, hessian.size <= asked.dense_size
    # The eigenpairs of a matrix that is held cost no product with the network.
    block: Operator = Dense(_symmetric(hessian.dense().double())) if dense else hessian
    spectrum = eigenpairs(
        block,
        largest=min(asked.num_top, size),
        smallest=1,
        rng=rng.child("eigenpairs"),
        tolerance=asked.tolerance,
        max_products=size if dense else asked.max_products,
        dense_size=0 if not dense else size,
    )
    distances = [
        _apart(block, exact, asked, rng.child("distance")),
        _apart(block, product, asked, rng.child("distance")),
    ]
    if isinstance(hessian, Hessian):
        hessian.clear()
    pairs = spectrum.largest
    top = float(pairs.values[0]) if len(pairs) else 0.0
    own = torch.linalg.eigvalsh(factors.outputs).flip(0).clamp(min=0).cpu().numpy()
    ranked, shares = _ranked(factors, product, pairs, asked.num_top, objective.dtype)
    return Structure(
        name=layer.name,
        ranked=ranked,
        single={
            "smallest_ratios": float(spectrum.smallest.values.min(initial=np.inf)) / top if top > 0 else np.nan,
            "factorised_distances": distances[0],
            "kronecker_distances": distances[1],
            "input_ratios": 1 / dominance(factors.inputs),
            "mean_input_shares": float(factors.mean_input.square().sum() / factors.inputs.trace()),
            "num_output_directions": float((own > _LARGE * own.max()).sum()) if own.max() > 0 else 0.0,
            "num_weights": float(size),
        },
        output_values=own,
        input_shares=shares[0],
        output_shares=shares[1],
        converged=spectrum.converged,
    )


def result_of(found: Sequence[Structure], unit: str, notes: Sequence[Note]) -> Result:
    """The result, with a note for what is missing."""
    names = np.array([shown_name(each.name) for each in found])
    values: dict[str, Estimate | Array] = {}
    units = {"eigenvalues": unit, "kronecker_eigenvalues": unit, "num_weights": "parameters"}
    for key in found[0].ranked:
        rows = np.stack([each.ranked[key] for each in found])
        coords = {"layer": names, "rank": np.arange(1.0, rows.shape[1] + 1)}
        values[key] = Array(data=rows, dims=("layer", "rank"), unit=units.get(key, "1"), coords=coords)
    for key in found[0].single:
        column = np.array([each.single[key] for each in found])
        values[key] = Array(data=column, dims=("layer",), unit=units.get(key, "1"), coords={"layer": names})
    values["output_eigenvalues"] = Array(
        data=_padded([each.output_values[None] for each in found])[:, 0],
        dims=("layer", "output"),
        unit=f"{unit}/output^2",
        coords={"layer": names},
    )
    for key, axis in (("input_shares", "input"), ("output_shares", "output")):
        tables = _padded([getattr(each, key) for each in found])
        values[key] = Array(data=tables, dims=("layer", "rank", axis), coords={"layer": names})
    values |= _summaries(values)
    return Result(values=values, notes=(*notes, *_remarks(found, values)))


def _ranked(
    factors: Factors, product: Kronecker, pairs: Eigenpairs, num_top: int, dtype: torch.dtype
) -> tuple[dict[str, Floats], tuple[Floats, Floats]]:
    """Everything that there is of each eigenvector."""
    m, n = product.basis.shape
    other = product.largest(max(1, min(num_top, product.size)))
    count = min(num_resolved(pairs.values, dtype), num_resolved(other.values, dtype))
    shares = np.full((num_top, n), np.nan), np.full((num_top, m), np.nan)
    keys = ("eigenvalues", "kronecker_eigenvalues", "kronecker_overlaps", "rank_one_energies", "mean_input_alignments")
    ranked = {key: np.full(num_top, np.nan) for key in keys}
    ranked["eigenvalues"][: len(pairs)] = pairs.values
    ranked["kronecker_eigenvalues"][: len(other)] = other.values
    if count:
        vectors, basis = pairs.vectors[:, :count].double(), product.basis
        matrices = reshaped(vectors, (m, n))
        ranked["kronecker_overlaps"][:count] = overlap_curve(vectors, other.vectors[:, :count].to(vectors.device))
        ranked["rank_one_energies"][:count] = rank_one_energy(matrices)
        ranked["mean_input_alignments"][:count] = right_alignment(matrices, factors.mean_input)
        shares[0][:count] = input_correspondence(matrices, basis.input_vectors)
        shares[1][:count] = output_correspondence(matrices, basis.output_vectors)
    return ranked, shares


def _summaries(values: Mapping[str, Estimate | Array]) -> dict[str, Estimate | Array]:
    """One number of each kind over all layers, for tables."""
    made: dict[str, Estimate | Array] = {}
    for key, source, word, reduce in (
        ("median_rank_one_energy", "rank_one_energies", "median over layers and eigenvectors", np.nanmedian),
        ("median_kronecker_overlap", "kronecker_overlaps", "median over layers and counts", np.nanmedian),
        ("largest_factorised_distance", "factorised_distances", "largest over layers", np.nanmax),
    ):
        data = values[source].data  # type: ignore[union-attr]
        told = data[np.isfinite(data)]
        if len(told):
            made[key] = Estimate(value=float(reduce(told)), stderr=None, n=len(told), method=word)
    return made


def _remarks(found: Sequence[Structure], values: Mapping[str, Estimate | Array]) -> tuple[Note, ...]:
    """What did not converge, which layers are flat, and which have fewer directions than were asked for."""
    notes = not_converged([spoken_name(shown_name(each.name)) for each in found if not each.converged])
    counts = {
        spoken_name(shown_name(each.name)): int(np.isfinite(each.ranked["rank_one_energies"]).sum()) for each in found
    }
    flat = [name for name, number in counts.items() if not number]
    if flat:
        text = f"There is no curvature above rounding in {listed(flat, _NAMED)}, so eigenvectors there have no shape."
        notes = (*notes, Note(code="flat_layers", text=text))
    asked = len(found[0].ranked["rank_one_energies"])
    short = [f"{name} ({number})" for name, number in counts.items() if 0 < number < asked]
    if short:
        text = f"Fewer than num_top={asked} directions have curvature above rounding in {listed(short, _NAMED)}."
        notes = (*notes, Note(code="gaps", text=text))
    arrays = [value.data for value in values.values() if isinstance(value, Array)]
    if not notes and not all(np.isfinite(data).all() for data in arrays):
        text = "Tables are as wide as the largest layer: the rows of the others end where their inputs or outputs do."
        notes = (Note(code="gaps", text=text),)
    return notes


def _apart(block: Operator, other: Kronecker | LayerGaussNewton, asked: Asked, rng: Rng) -> float:
    """``|H - B| / |H|``: exactly, where H is held."""
    if not isinstance(block, Dense):
        return relative_distance(block, other, num_probes=asked.num_probes, rng=rng, exact_size=0)[0]
    whole = torch.kron(other.outputs, other.inputs) if isinstance(other, Kronecker) else other.dense()
    size = float(block.matrix.norm())
    return float((block.matrix - whole.to(block.matrix)).norm()) / size if size > 0 else np.nan


def _padded(tables: Sequence[Floats]) -> Floats:
    """``(L, k, w)`` the tables ``(k, n)`` one above the other, with NaN where one is narrower."""
    data = np.full((len(tables), len(tables[0]), max(table.shape[1] for table in tables)), np.nan)
    for place, table in enumerate(tables):
        data[place, :, : table.shape[1]] = table
    return data


def _symmetric(matrix: torch.Tensor) -> torch.Tensor:
    return (matrix + matrix.T) / 2
