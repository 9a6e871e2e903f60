from __future__ import annotations

import math

import pytest

from vallis.numerics.condition import condition_number


def test_six_digits_and_no_more() -> None:
    assert condition_number(1e-3) == 1000.0
    assert condition_number(1 / 123456789.0) == 123457000.0
    assert condition_number(1 / 123456789.1) == condition_number(1 / 123456789.0)
    assert condition_number(3e-17) == pytest.approx(1 / 3e-17, rel=1e-5)
    assert condition_number(0.0) == math.inf
