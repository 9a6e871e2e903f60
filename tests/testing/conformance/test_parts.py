from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from vallis.testing.conformance import parts
from vallis.testing.conformance.parts import Broken


@dataclass(frozen=True, kw_only=True)
class Good:
    version: ClassVar[int] = 1
    rate: float = 0.1
    widths: tuple[int, ...] = (1, 2)


@dataclass
class Melting:
    version: ClassVar[int] = 1
    rate: float = 0.1


@dataclass(frozen=True)
class Positional:
    version: ClassVar[int] = 1
    rate: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Unversioned:
    version: ClassVar[Any] = "1"


@dataclass(frozen=True, kw_only=True)
class Absolute:
    """Its settings change on the way in, so what comes back is another part."""

    version: ClassVar[int] = 1
    rate: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", self.rate / 2)


@dataclass(frozen=True, kw_only=True)
class Demanding:
    version: ClassVar[int] = 1
    rate: float
    made: list[int] = field(default_factory=list)


class Modest(Demanding):
    @classmethod
    def tiny(cls) -> Modest:
        return cls(rate=0.5)


def test_a_good_part_passes() -> None:
    for check in parts.CHECKS.values():
        check(Good())


@pytest.mark.parametrize("part", [Melting(), Positional(), Unversioned()])
def test_what_is_not_inert_is_broken(part: Any) -> None:
    with pytest.raises(Broken):
        parts.is_inert(part)


def test_settings_that_change_on_the_way_are_broken() -> None:
    with pytest.raises(Broken, match="comes back"):
        parts.survives_json(Absolute())


def test_tiny_is_the_default_or_what_the_part_says() -> None:
    assert parts.tiny(Good) == Good()
    assert parts.tiny(Modest).rate == 0.5
    with pytest.raises(Broken, match="tiny"):
        parts.tiny(Demanding)


@pytest.mark.parametrize(
    ("change", "undo", "said"),
    [
        (lambda: torch.rand(1), lambda: None, "torch's generator"),
        (lambda: np.random.rand(), lambda: None, "numpy's generator"),  # noqa: NPY002
        (random.random, lambda: None, "Python's generator"),
        (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True), "gradient mode"),
        (
            lambda: torch.set_default_dtype(torch.float64),
            lambda: torch.set_default_dtype(torch.float32),
            "default dtype",
        ),
    ],
)
def test_changed_surroundings_are_noticed(change: Callable[[], Any], undo: Callable[[], Any], said: str) -> None:
    try:
        with pytest.raises(Broken, match=said), parts.untouched_surroundings("it"):
            change()
    finally:
        undo()
    with parts.untouched_surroundings("it"):
        pass


def test_slow_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_SECONDS", 0.02)
    with pytest.raises(Broken, match="less than"):
        parts.is_quick("it", lambda: sum(range(2_000_000)))
    parts.is_quick("it", lambda: None)


def test_one_quick_run_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_SECONDS", 0.02)
    sizes = iter((2_000_000, 10))
    parts.is_quick("it", lambda: sum(range(next(sizes))))
