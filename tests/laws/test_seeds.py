"""A plain number where a stream of random numbers is required is refused in one sentence, everywhere."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import vallis.numerics
from vallis.core.errors import SettingsError
from vallis.numerics.fisher import SampledFisher
from vallis.numerics.rays import Rays


def drawing() -> Iterator[Any]:
    """The public functions that take `rng` by name, and two classes."""
    for found in pkgutil.iter_modules(vallis.numerics.__path__, "vallis.numerics."):
        module = importlib.import_module(found.name)
        for name, held in vars(module).items():
            if inspect.isfunction(held) and held.__module__ == found.name and not name.startswith("_"):
                parameter = inspect.signature(held).parameters.get("rng")
                if parameter is not None and parameter.kind is parameter.KEYWORD_ONLY:
                    yield pytest.param(held, id=f"{found.name.rpartition('.')[2]}.{name}")
    yield from (SampledFisher, Rays)


@pytest.mark.parametrize("function", list(drawing()))
def test_a_seed_is_no_stream(function: Callable[..., Any]) -> None:
    others = inspect.signature(function).parameters.values()
    given = {each.name: None for each in others if each.default is each.empty and each.kind is not each.VAR_KEYWORD}
    with pytest.raises(SettingsError, match=r"an Rng was required for rng, 7 came: give Rng\(7\)"):
        made = function(**{**given, "rng": 7})
        next(made)  # of those that give one result after the other
