"""Rows as the study leaves them, from numbers a cell and a seed."""

from __future__ import annotations

from collections.abc import Mapping

from vallis.core.types import Estimate, Result, Row

Tags = Mapping[str, str | int | float | bool]


def rows_of(measurement: str, values: Mapping[str, float], tags: Tags, seed: int) -> Row:
    found = {key: Estimate(value=value) for key, value in values.items()}
    return Row(tags=tags, seed=seed, measurement=measurement, outcome=Result(values=found))
