from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from vallis.core.errors import SettingsError
from vallis.measurements.curvature._settings import must_be_at_least, must_be_positive


def test_the_setting_that_is_wrong_is_named() -> None:
    part = SimpleNamespace(good=2, bad=0)
    must_be_at_least(0, part, "good", "bad")
    with pytest.raises(SettingsError, match=r"^bad of at least 1 was required, 0 came: raise it$"):
        must_be_at_least(1, part, "good", "bad")
    must_be_positive(part, "good")
    with pytest.raises(SettingsError, match=r"^bad above 0 was required, 0 came: raise it$"):
        must_be_positive(part, "good", "bad")


def test_none_is_no_count_and_nan_is_nothing() -> None:
    must_be_at_least(1, SimpleNamespace(number=None), "number")
    for check in (must_be_positive, lambda part, name: must_be_at_least(1, part, name)):
        with pytest.raises(SettingsError, match="nan came"):
            check(SimpleNamespace(number=math.nan), "number")
