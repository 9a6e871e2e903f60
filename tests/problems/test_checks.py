from __future__ import annotations

import math
from typing import Any, Literal

import pytest

from vallis.core.errors import SettingsError
from vallis.problems._checks import check_choice, check_number, check_part, check_share
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.noisy_labels import NoisyLabels
from vallis.problems.subset import Subset
from vallis.training.early_stopping import EarlyStopping
from vallis.training.loss_correction import LossCorrection


@pytest.mark.parametrize("value", [1, 7, None])
def test_numbers_that_pass(value: int | None) -> None:
    check_number("x", value)


@pytest.mark.parametrize("value", [0, -3])
def test_numbers_that_do_not(value: int) -> None:
    with pytest.raises(SettingsError, match=f"x must be at least 1, {value} came"):
        check_number("x", value)
    check_number("x", value, least=value)


@pytest.mark.parametrize(("value", "zero", "one"), [(0.5, False, False), (0, True, False), (1, False, True)])
def test_shares_that_pass(value: float, zero: bool, one: bool) -> None:
    check_share("x", value, zero=zero, one=one)


@pytest.mark.parametrize(
    ("value", "interval"), [(0, r"\(0, 1\)"), (1, r"\(0, 1\)"), (-0.1, r"\(0, 1\)"), (math.nan, r"\(0, 1\)")]
)
def test_shares_that_do_not(value: float, interval: str) -> None:
    with pytest.raises(SettingsError, match=interval):
        check_share("x", value, zero=False, one=False)
    with pytest.raises(SettingsError, match=r"\[0, 1\]"):
        check_share("x", 1.5, zero=True, one=True)


def test_choices() -> None:
    words = Literal["a", "b"]
    check_choice("x", "a", words)
    with pytest.raises(SettingsError, match="x must be one of a, b, 'c' came"):
        check_choice("x", "c", words)


@pytest.mark.parametrize("value", ["all", None, [1]])
def test_what_is_no_number_is_said(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"x must be in \[0, 1\], .* came"):
        check_share("x", value, zero=True, one=True)
    if value is not None:
        with pytest.raises(SettingsError, match=r"x must be a number of at least 1, .* came"):
            check_number("x", value)


@pytest.mark.parametrize("value", ["digits", None, Digits])
def test_what_is_no_part_is_said(value: Any) -> None:
    check_part("x", Digits(), "build")
    with pytest.raises(SettingsError, match=r"x must be a part, .* came: give one with its settings"):
        check_part("x", value, "build")
    for made in (
        lambda: Corrupted(base=value),
        lambda: NoisyLabels(base=value),
        lambda: Subset(base=value),
        lambda: EarlyStopping(base=value),
        lambda: LossCorrection(base=value),
    ):
        with pytest.raises(SettingsError, match=r"base must be a part"):
            made()
