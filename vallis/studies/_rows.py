"""Reads the rows of a study: one number a seed for a cell, and only seeds that have every number that is compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vallis.core.types import Array, Estimate, Result, Row

Tags = Mapping[str, str | int | float | bool]


def by_seed(rows: Sequence[Row], measurement: str, key: str, tags: Tags) -> dict[int, float]:
    """What a measurement found under a key in the cell with these tags, by seed; what failed or is NaN is left out."""
    found = {}
    for row in rows:
        wanted = row.measurement == measurement and all(row.tags.get(name) == tag for name, tag in tags.items())
        if wanted and isinstance(row.outcome, Result):
            value = row.outcome.values.get(key)
            if isinstance(value, Estimate) and math.isfinite(value.value):
                found[row.seed] = value.value
    return found


def arrays_by_seed(rows: Sequence[Row], measurement: str, key: str, tags: Tags) -> dict[int, Array]:
    """Likewise of arrays."""
    found = {}
    for row in rows:
        wanted = row.measurement == measurement and all(row.tags.get(name) == tag for name, tag in tags.items())
        if wanted and isinstance(row.outcome, Result):
            value = row.outcome.values.get(key)
            if isinstance(value, Array):
                found[row.seed] = value
    return found


def paired(cells: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """``(n, len(cells))`` one line for each seed that all cells have, in the order of the seeds."""
    common = sorted(set.intersection(*(set(cell) for cell in cells))) if cells else []
    return np.array([[cell[seed] for cell in cells] for seed in common]).reshape(len(common), len(cells))


def mean_and_error(lines: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of each column and its standard error over the lines; one line has an error of zero."""
    n = len(lines)
    error = lines.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.zeros(lines.shape[1])
    return lines.mean(axis=0), error


def mean_and_interval(lines: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of each column and the half-length of Student's interval at 95 %; of one line drawn as zero."""
    mean, error = mean_and_error(lines)
    return mean, error * (float(stats.t.ppf(0.975, len(lines) - 1)) if len(lines) > 1 else 0.0)
