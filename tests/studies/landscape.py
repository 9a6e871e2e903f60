"""Tables of the study of the global landscape as they would come out if all is right, or wrong in one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vallis.core.types import Array, Estimate, Result, Row
from vallis.studies._global_landscape_cells import (
    DATA_SETS,
    STARTS,
    WIDTHS,
    construction,
    exit_of,
    lottery,
    modes,
    neuron,
    separable,
)

Numbers = Mapping[str, Any]
ROUTES = {"straight": 0.6, "aligned": 0.2, "curve": 0.01, "band": 0.02}


def _cells() -> list[tuple[Mapping[str, Any], str, Numbers]]:
    built = {
        "minimum_loss": 0.2, "affine_residual": 0.2, "better_loss": 1e-20, "minimum_kind": 2.0, "descent_end": 0.2,
        "plateau_loss": 0.25, "target_variance": 0.25, "plateau_gradient": 1e-17,
        "lowest_changes": np.array([0.0, 1e-9]),
    }  # fmt: skip
    leaving = {"barriers": np.array([0.1, 1e-5]), "end_loss": 1e-4, "start_loss": 0.5, "rank_fraction": 1.0}
    beside = {"largest_coefficient": 0.2, "start_loss": 1.0, "norm_growth": 0.1}
    norms = np.array([1.0, 2.0, 3.0])
    found: list[tuple[Mapping[str, Any], str, Numbers]] = [
        *((construction(width), "constructed_minimum", built) for width in WIDTHS),
        (exit_of("wide"), "basin_exit", {**leaving, "certified": 1.0}),
        (exit_of("narrow"), "basin_exit", {**leaving, "certified": 0.0}),
        (neuron("fresh"), "exponential_neuron", {**beside, "coefficient": 0.01, "own_loss": 0.01}),
        (neuron("dead"), "exponential_neuron", {**beside, "coefficient": 0.1, "own_loss": 1.0}),
        (separable("without"), "path_to_infinity", {"to_infinity": 1.0, "norm_growth": 0.1, "norms": norms}),
        (separable("with"), "path_to_infinity", {"to_infinity": 0.0, "norm_growth": 0.0, "norms": norms}),
        (separable("without"), "stationary_point", {"smallest_eigenvalue": -0.01, "largest_eigenvalue": 1.0}),
    ]
    ways = {f"{route}_barrier": height for route, height in ROUTES.items()}
    lines = {f"{route}_losses": np.array([0.0, height, 0.0]) for route, height in ROUTES.items()}
    for data in DATA_SETS:
        found.append((modes(data), "mode_connectivity", {**ways, **lines}))
        found.append((modes(data), "loss_slice", {"rise_radius_first": 0.3, "rise_radius_second": 0.4}))
    accuracies = dict(zip(STARTS, (0.97, 0.95, 0.9), strict=True))
    found += [(lottery(start), "generalization_gap", {"test_accuracy": accuracies[start]}) for start in STARTS]
    return found


def rows_of(num_seeds: int, changes: Mapping[str, Any] | None = None) -> Sequence[Row]:
    """All rows; `changes` replaces numbers of this name wherever they are."""
    rows = []
    for seed in range(num_seeds):
        for tags, measurement, numbers in _cells():
            values = {key: (changes or {}).get(key, number) for key, number in numbers.items()}
            rows.append(Row(tags=tags, seed=seed, measurement=measurement, outcome=Result(values=_values(values))))
    return rows


def _values(numbers: Numbers) -> dict[str, Estimate | Array]:
    dims = {"barriers": "shake", "norms": "step"}
    found: dict[str, Estimate | Array] = {}
    for key, number in numbers.items():
        if isinstance(number, np.ndarray):
            dim = dims.get(key, "moment")
            coords = {dim: np.linspace(0.1, 1, len(number))}
            found[key] = Array(data=number, dims=(dim,), coords=coords)
        else:
            found[key] = Estimate(value=float(number), method="given")
    return found
