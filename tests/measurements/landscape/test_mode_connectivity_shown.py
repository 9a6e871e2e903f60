"""What is said of barriers: which is lowest, and when one is no more than its error bar."""

from __future__ import annotations

import numpy as np

from vallis.core.types import Array, Estimate, Result
from vallis.measurements.landscape._mode_connectivity_shown import reading, routes_of


def result(**heights: tuple[float, float]) -> Result:
    values: dict[str, Estimate | Array] = {}
    for route, (height, error) in heights.items():
        values[f"{route}_barrier"] = Estimate(value=height, stderr=error, unit="nats", method="given")
        values[f"{route}_losses"] = Array(data=np.zeros(3), dims=("moment",), unit="nats")
    return Result(values=values)


def test_the_words_follow_the_numbers() -> None:
    valley = result(curve=(0.01, 0.001), straight=(0.5, 0.02))
    assert routes_of(valley) == ["straight", "curve"]
    assert "0.500 ± 0.020 nats on the straight line and 0.0100 ± 0.0010 nats on the trained curve" in reading(valley)
    assert "one valley" in reading(valley)
    assert "one valley" not in reading(result(straight=(0.5, 0.02), curve=(0.3, 0.02)))
    assert "nothing lies between" in reading(result(straight=(0.01, 0.02)))
