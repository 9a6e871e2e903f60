"""Tables of the study of layer-wise Hessians as they would come out if the paper were right, or wrong in one point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vallis.core.types import Array, Estimate, Failed, Outcome, Result, Row
from vallis.studies._dissecting_cells import LABELS, NORMS, cell

Tags = Mapping[str, str | bool]
Numbers = dict[str, Any]
Change = Callable[[Numbers, Tags, str, int], None]
LAYERS = ("hidden1", "hidden2", "output")
RANKS, COUNTS = 12, 40


def structure(tags: Tags, seed: int) -> Numbers:
    """A curve a rank, or a number a layer, for each of three layers."""
    centred, small = tags["norm"] == "batch", 1e-12 * (1 + seed)
    falling = 2.0 ** -np.arange(RANKS)
    return {
        "eigenvalues": falling,
        "kronecker_eigenvalues": falling * (0.5 if centred else 1.05),
        "kronecker_overlaps": np.full(RANKS, 0.3 if centred else 0.9),
        "rank_one_energies": np.full(RANKS, (0.6 if centred else 0.97) + 0.001 * seed),
        "mean_input_alignments": np.full(RANKS, 0.1 if centred else 0.99),
        "input_shares": np.full((RANKS, 14), 1 / 14),
        "output_shares": np.full((RANKS, 9), 1 / 9),
        "factorised_distances": small,
        "smallest_ratios": -small,
        "num_output_directions": 9.0 if tags["network"] == "one_hidden" else 8.0,
    }


def overlap(tags: Tags, seed: int) -> Numbers:
    centred = tags["norm"] == "batch"
    counts = np.arange(1.0, COUNTS + 1)
    peak = counts / 160 if centred else 0.5 * np.exp(-((np.log(counts / 10)) ** 2))
    at = peak[[9, 19]] + 0.0001 * seed
    return {
        "overlaps": peak + 0.0001 * seed,
        "random_overlaps": counts / 200,
        "num_outputs": 10.0,
        "num_weights": 200.0,
        "overlaps_at_outputs": at[0],
        "overlaps_at_twice_outputs": at[1],
        "random_at_outputs": 0.05,
        "own_overlaps": 1 + 1e-14,
        "turning_changes": 1e-15,
        "drawn_counts": 10.0,
        "drawn_overlaps": 0.05 + 0.002 * (seed % 2),
        "drawn_errors": 0.001,
    }


def bounds(tags: Tags, seed: int) -> Numbers:
    random = tags["labels"] == "random"
    level = {"standard": 0.3, "curvature": 0.25, "refreshed": 0.2}
    found = {f"bound_{axes}": (0.8 if random else bound) + 0.001 * seed for axes, bound in level.items()}
    return {**found, **{f"test_error_{axes}": 0.5 if random else 0.1 for axes in level}, "guessing_error": 0.5}


def identities(tags: Tags, seed: int) -> Numbers:
    small = 1e-13 * (1 + seed)
    keys = ("orthogonality_error", "divergence_error", "inverse_error", "zero_error", "closed_form_error")
    return {**dict.fromkeys(keys, small), "smallest_rise": 0.0}


def cells(data: str) -> list[tuple[str, Tags]]:
    """Every measurement with every cell in which it is made."""
    found: list[tuple[str, Tags]] = []
    for norm in NORMS:
        for labels in LABELS:
            tags = cell(data, norm=norm, labels=labels)
            found += [(name, tags) for name in ("kronecker_structure", "pac_bayes_identities", "eigenspace_overlap")]
            found.append(("kronecker_structure", cell(data, network="convnet", norm=norm, labels=labels)))
        found.append(("kronecker_structure", cell(data, network="one_hidden", norm=norm)))
    for network in ("mlp", "one_hidden", "one_wide"):
        found.append(("kronecker_structure", cell(data, network=network, trained=False)))
    return found + [("pac_bayes", cell(data, network="bound", labels=labels)) for labels in LABELS]


MADE: Mapping[str, Callable[[Tags, int], Numbers]] = {
    "kronecker_structure": structure,
    "eigenspace_overlap": overlap,
    "pac_bayes": bounds,
    "pac_bayes_identities": identities,
}
_OF_LAYERS = ("kronecker_structure", "eigenspace_overlap")


def rows_of(
    data: str,
    num_seeds: int,
    change: Change | None = None,
    missing: Callable[[Tags, int], bool] | None = None,
) -> list[Row]:
    """The rows of every cell of a data set, changed or failed where wished."""
    rows = []
    for measurement, tags in cells(data):
        for seed in range(num_seeds):
            numbers = MADE[measurement](tags, seed)
            if change is not None:
                change(numbers, tags, measurement, seed)
            outcome: Outcome = _result(numbers, LAYERS if measurement in _OF_LAYERS else ())
            if missing is not None and missing(tags, seed):
                outcome = Failed(error="DataMissing", message="nowhere")
            rows.append(Row(tags=tags, seed=seed, measurement=measurement, outcome=outcome))
    return rows


def _result(numbers: Numbers, layers: Sequence[str]) -> Result:
    if not layers:
        return Result(values={key: Estimate(value=float(value)) for key, value in numbers.items()})
    values = {}
    for key, value in numbers.items():
        data = np.stack([np.asarray(value, dtype=np.float64)] * len(layers))
        axes = ("layer", "rank", "other")[: data.ndim]
        values[key] = Array(data=data, dims=axes, coords={"layer": np.array(layers)})
    return Result(values=values)
