"""Tables of what is built in closed form, as they would come out if the paper were right, or wrong in one point."""

from __future__ import annotations

from typing import Any

from vallis.core.types import Estimate, Result, Row
from vallis.studies._closed_form_rules import BUILT, CONSTRUCTED, GABOR, RANDOM_LABELS
from vallis.studies._randomization_rules import cell

TRAININGS = ("gradient_descent", "stochastic", "momentum", "random_start", "weight_decay", "adam")


def rows_of(data: str, num_seeds: int, broken: tuple[str, str, float | None, float | None] | None = None) -> list[Row]:
    rows, n = [], 100
    for seed in range(num_seeds):
        for place, variant in enumerate((RANDOM_LABELS, {})):
            norm = 40.0 if place == 0 else 24.0
            found: dict[str, dict[str, float]] = {
                "generalization_gap": {"train_accuracy": 1.0, "test_accuracy": 0.1},
                "finite_sample_expressivity": {
                    "num_parameters": n + BUILT[data].num_inputs + 10 * n,
                    "one_output_num_parameters": 2 * n + BUILT[data].num_inputs,
                    "largest_error": 1.9e-6,
                    "one_output_largest_error": 9e-6,
                    "largest_error_float32": 2.0,
                },
                "implicit_minimum_norm": {
                    **{f"{name}_difference": 1e-7 for name in TRAININGS},
                    **{f"{name}_norm_ratio": 2.0 for name in TRAININGS},
                },
                "kernel_interpolation": {"train_error": 0.0, "test_error": 0.02, "norm": norm}
                | {"test_noise_norm": 2 * norm, "random_centres_norm": 30 * norm},
            }
            if broken is not None and (value := broken[2 + place]) is not None:
                found[broken[0]][broken[1]] = value
            rows += [row_of(data, CONSTRUCTED, variant, seed, name, numbers, n) for name, numbers in found.items()]
            numbers = {"norm": 2 * norm + seed, "test_error": 0.01}
            rows.append(row_of(data, GABOR, variant, seed, "kernel_interpolation", numbers, n))
    return rows


def row_of(data: str, network: str, variant: Any, seed: int, name: str, numbers: dict[str, float], n: int) -> Row:
    outcome = Result(values={key: Estimate(value=value, n=n) for key, value in numbers.items()})
    return Row(tags=cell(data, network, variant), seed=seed, measurement=name, outcome=outcome)
