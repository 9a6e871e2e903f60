"""Reads the rows of a study: one number a seed for a cell, and only seeds that have every number that is compared.

A rule may look at one seed after the other and ask whether it is met there: `judged` puts it to all of them, and the
claim holds where an exact binomial test rejects that no more than half of all seeds would meet it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vallis.core.types import Array, Estimate, Result, Row, Verdict
from vallis.numerics.stats import majority, verdict_from

INTERVALS = "Error bars: Student's 95 % interval over the seeds."
Tags = Mapping[str, str | int | float | bool]
# Whether a seed meets the rule, and what is shown of it.
Look = Callable[[Sequence[Result]], tuple[bool, float]]


def by_seed(
    rows: Sequence[Row], measurement: str, key: str, tags: Tags, *, undefined: bool = False
) -> dict[int, float]:
    """What a measurement found under a key in the cell with these tags, by seed; what failed is left out.

    So is what is not finite, unless `undefined` asks for it: a rule that is put to one seed after the other must not
    lose those that break it worst.
    """
    found = {}
    for row in rows:
        wanted = row.measurement == measurement and all(row.tags.get(name) == tag for name, tag in tags.items())
        if wanted and isinstance(row.outcome, Result):
            value = row.outcome.values.get(key)
            if isinstance(value, Estimate) and (undefined or math.isfinite(value.value)):
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


def results(rows: Sequence[Row], measurement: str, tags: Tags) -> dict[int, Result]:
    """All that a measurement found in the cell with these tags and no others, by seed; what failed is left out."""
    return {
        row.seed: row.outcome
        for row in rows
        if row.measurement == measurement and dict(row.tags) == dict(tags) and isinstance(row.outcome, Result)
    }


def judged(rows: Sequence[Row], measurement: str, cells: Sequence[Tags], look: Look) -> Verdict:
    """The rule put to each seed that has all the cells; the median of what is shown stands for all.

    What is shown of a seed may be NaN, for nothing; without cells, or seeds that have them all, nothing was run.
    """
    held = [results(rows, measurement, tags) for tags in cells]
    seeds = sorted(set.intersection(*(set(found) for found in held))) if held else []
    if not seeds:
        return verdict_from(None)
    looked = [look([found[seed] for found in held]) for seed in seeds]
    shown = [value for _, value in looked if np.isfinite(value)]
    return verdict_from(majority([met for met, _ in looked]), statistic=float(np.median(shown)) if shown else math.nan)


def paired(cells: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """``(n, len(cells))`` one line for each seed that all cells have, in the order of the seeds."""
    common = sorted(set.intersection(*(set(cell) for cell in cells))) if cells else []
    return np.array([[cell[seed] for cell in cells] for seed in common]).reshape(len(common), len(cells))


def same_seeds(
    rows: Sequence[Row], measurement: str, keys: Sequence[str], cells: Sequence[Tags], *, undefined: bool = False
) -> NDArray[np.float64]:
    """``(n, keys, cells)`` several numbers of a measurement in several cells, for the seeds that have all of them."""
    lines = [by_seed(rows, measurement, key, tags, undefined=undefined) for key in keys for tags in cells]
    return paired(lines).reshape(-1, len(keys), len(cells))


def mean_and_error(lines: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of each column and its standard error over the lines; one line has an error of zero."""
    n = len(lines)
    error = lines.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.zeros(lines.shape[1])
    return lines.mean(axis=0), error


def mean_and_interval(lines: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of each column and the half-length of Student's interval at 95 %; of one line drawn as zero."""
    mean, error = mean_and_error(lines)
    return mean, error * (float(stats.t.ppf(0.975, len(lines) - 1)) if len(lines) > 1 else 0.0)
