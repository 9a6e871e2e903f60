"""Tables of the study of loss correction as they would come out if the paper were right, or wrong in one point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vallis.core.types import Array, Estimate, Failed, Outcome, Result, Row
from vallis.studies._loss_correction_rules import (
    AS_IDENTITY,
    COMPARED,
    CONDITIONS,
    CROSS_ENTROPY,
    EARLY,
    ESTIMATED,
    IDENTITY,
    Condition,
    Method,
    cell,
    true_transition,
)

Numbers = dict[str, float]
Change = Callable[[Numbers, Condition, Method, int], None]


def cells() -> list[tuple[Condition, Method]]:
    """All that the study trains on a data set."""
    compared = [(condition, method) for condition in CONDITIONS for method in (*COMPARED, EARLY)]
    return [*compared, *((condition, EARLY) for condition in ESTIMATED), (AS_IDENTITY, IDENTITY)]


def told(condition: Condition, method: Method, seed: int) -> Numbers:
    """What is measured where the paper is right."""
    corrected = method[0] in ("forward", "backward") and method[1] != "identity"
    gain = (0.1 if corrected else 0.0) * (1 + 0.01 * seed)
    return {
        "test_accuracy": 0.9 - 0.5 * condition[1] + gain,
        "train_loss": 1.0 + 0.001 * seed,
        "memorized_fraction": 0.5 - 2 * gain,
        "backward_gap": 1e-14 * (1 + seed),
        "forward_distance": 1e-11 * (1 + seed),
        "transition_error": 0.05 + 0.001 * seed,
    }


def rows_of(data: str, num_seeds: int, change: Change | None = None) -> list[Row]:
    """The rows of a data set; `change` makes numbers what they are not in the paper."""
    rows = []
    for seed in range(num_seeds):
        for condition, method in cells():
            numbers = told(condition, method, seed)
            if change is not None:
                change(numbers, condition, method, seed)
            rows += [
                Row(tags=cell(data, condition, method), seed=seed, measurement=name, outcome=outcome)
                for name, outcome in _outcomes(data, condition, method, numbers).items()
            ]
    return rows


def failed(data: str, seed: int) -> list[Row]:
    """A seed of which nothing came."""
    trouble = Failed(error="DataError", message="It went wrong.")
    return [
        Row(tags=cell(data, condition, method), seed=seed, measurement=name, outcome=trouble)
        for condition, method in cells()
        for name in ("generalization_gap", "label_noise", "correction_identities")
    ]


def _outcomes(data: str, condition: Condition, method: Method, numbers: Numbers) -> dict[str, Outcome]:
    matrix = true_transition(data, condition).numpy().copy()
    matrix[0] += numbers["transition_error"] * np.array([-1.0, 1.0, *[0.0] * 8])
    found: dict[str, Outcome] = {
        "generalization_gap": _result(numbers, "test_accuracy", "train_loss"),
        "label_noise": Result(
            values={
                "transition": Array(data=matrix, dims=("true_class", "noisy_class")),
                "memorized_fraction": Estimate(value=numbers["memorized_fraction"]),
            }
        ),
    }
    if method == CROSS_ENTROPY:
        found["correction_identities"] = _result(numbers, "backward_gap", "forward_distance")
    return found


def _result(numbers: Numbers, *keys: str) -> Result:
    return Result(values={key: Estimate(value=numbers[key]) for key in keys})
