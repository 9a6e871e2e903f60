import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vallis.core.numbers import count, is_exact, probability, written
from vallis.core.types import Estimate


@pytest.mark.parametrize(
    ("value", "stderr", "says"),
    [
        (22.1234, 0.87, "22.12 ± 0.87"),
        (0.0996, 0.00996, "0.100 ± 0.010"),
        (56789, 1234, "56,800 ± 1,200"),
        (3.2e-5, 4e-7, "(3.200 ± 0.040) × 10^−5"),
        (1234567.2, 1234, "(1.2346 ± 0.0012) × 10^6"),
        (-4.2e-7, 1e-8, "(−4.20 ± 0.10) × 10^−7"),
        (0.0, 0.1, "0.00 ± 0.10"),
        (-0.001, 0.1, "0.00 ± 0.10"),
        (19.08, 1.2e-12, "19.080000 ± 1.2 × 10^−12"),
        (2.3e7, 1e-6, "2.3000000 × 10^7 ± 1.0 × 10^−6"),
        (9.99e5, 2e6, "(1.0 ± 2.0) × 10^6"),
        (3.2602143, None, "3.260"),
        (0.9722, 0.0, "0.9722"),
        (269722, 0.0, "269,722"),
        (-3, None, "−3"),
        (0.0, None, "0"),
        (1.5e-12, None, "1.50 × 10^−12"),
        (99.96, None, "99.96"),
        (123456.7, None, "123,457"),
        (float("nan"), 1.0, "not finite"),
        (float("inf"), None, "not finite"),
        (None, None, "not finite"),
        (5.0, float("nan"), "5"),
    ],
)
def test_known_numbers(value: float | None, stderr: float | None, says: str) -> None:
    assert str(written(value, stderr)) == says


def test_fewer_digits_on_request() -> None:
    assert str(written(22.4387, digits=3)) == "22.4"


@given(st.floats(-1e300, 1e300), st.none() | st.floats(0, 1e300))
def test_what_is_written_is_the_number(value: float, stderr: float | None) -> None:
    said = written(value, stderr)
    digits = said.value.replace(",", "").replace("\N{MINUS SIGN}", "-")
    back = float(f"{digits}e{said.exponent}")
    slack = 0.006 * (stderr or 0.0) * 10 + 1e-3 * abs(value) if said.stderr else 6e-3 * abs(value)
    assert math.isclose(back, value, rel_tol=1e-12, abs_tol=slack + 1e-300)
    assert len(digits) < 20


def test_p_values() -> None:
    assert [probability(p) for p in (0.003, 0.04999, 1e-9, 1.0, None, float("nan"))] == [
        "p=0.003",
        "p=0.05",
        "p<0.0001",
        "p=1",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("stderr", "method", "says"),
    [
        (0.0, "sum of the diagonal, exact", True),
        (0.0, "steps of training, counted", True),
        (0.0, "fraction of examples", False),
        (0.0, "", False),
        (0.1, "exact", False),
        (None, "exact", False),
    ],
)
def test_an_error_bar_of_zero_alone_is_not_exact(stderr: float | None, method: str, says: bool) -> None:
    assert is_exact(Estimate(value=1.0, stderr=stderr, method=method)) == says


def test_counts() -> None:
    assert [count(n) for n in (7, 1387786, -1200)] == ["7", "1,387,786", "−1,200"]
