"""What every part must do, of whatever kind: it is inert settings with a name, and touches nothing around it."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from vallis.core.spec import digest, from_spec, name_of, to_spec

Check = Callable[[Any], None]
MOST_SECONDS = 1.0
RUNS = 8


class Broken(AssertionError):
    """A part does not do what every part of its kind must."""


class NotTested(Exception):
    """A check has nothing to say of this part, because of the text."""


def require(condition: bool, text: str) -> None:
    """Says what is wrong unless the condition holds.

    Raises:
        Broken: it does not.
    """
    if not condition:
        raise Broken(text)


def tiny(part: type[Any]) -> Any:
    """The cheapest instance of a part: ``part.tiny()`` where there is one, else ``part()``.

    Raises:
        Broken: it has settings without a default and no `tiny`.
    """
    if hasattr(part, "tiny"):
        return part.tiny()
    try:
        return part()
    except TypeError as error:
        raise Broken(f"{part.__name__} must have a classmethod tiny(), or a default for each setting") from error


def is_inert(part: Any) -> None:
    """A part is a frozen, keyword-only dataclass with a version."""
    cls = type(part)
    require(dataclasses.is_dataclass(cls), f"{cls.__name__} must be a dataclass")
    parameters = cls.__dataclass_params__
    require(parameters.frozen, f"{cls.__name__} must be frozen: a part never remembers a call")
    require(all(item.kw_only for item in dataclasses.fields(cls)), f"{cls.__name__} must be keyword-only")
    version = getattr(cls, "version", None)
    require(type(version) is int and version >= 1, f"{cls.__name__}.version must be a whole number from 1 on")
    require("version" not in {item.name for item in dataclasses.fields(cls)}, "version must be a ClassVar")


def survives_json(part: Any) -> None:
    """The settings come back from plain JSON as they were, and so does the name of the results."""
    spec = to_spec(part)
    again = from_spec(json.loads(json.dumps(spec, allow_nan=False)))
    require(again == part, f"{name_of(part)} comes back from JSON as {again}, it was {part}")
    require(digest(again) == digest(part), f"{name_of(part)} comes back from JSON with another digest")
    require(to_spec(again) == spec, f"{name_of(part)} comes back from JSON with another spec")


CHECKS: Mapping[str, Check] = {"is_inert": is_inert, "survives_json": survives_json}


@contextmanager
def untouched_surroundings(what: str) -> Iterator[None]:
    """Nothing global may change within it: generators, gradient mode, default dtype, threads, deterministic mode.

    Raises:
        Broken: something did.
    """
    before = _surroundings()
    yield
    after = _surroundings()
    changed = [name for name, value in before.items() if after[name] != value]
    require(not changed, f"{what} must leave the surroundings alone, it changed {', '.join(changed)}")


def is_quick(what: str, act: Callable[[], Any]) -> None:
    """The tiny settings take less than a second of one thread: the best of a few runs, because a machine may be busy.

    Raises:
        Broken: every run took longer.
    """
    threads, took = torch.get_num_threads(), [math.inf]
    torch.set_num_threads(1)
    try:
        while len(took) <= RUNS and min(took) > MOST_SECONDS:
            start = time.thread_time()
            act()
            took.append(time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    require(
        min(took) <= MOST_SECONDS, f"{what} must take less than {MOST_SECONDS:g} s when tiny, {min(took):.2f} s came"
    )


def _surroundings() -> dict[str, str]:
    return {
        "torch's generator": str(torch.get_rng_state().tolist()),
        "numpy's generator": repr(np.random.get_state()),  # noqa: NPY002 - it is watched, not used
        "Python's generator": str(random.getstate()),
        "the gradient mode": str((torch.is_grad_enabled(), torch.is_inference_mode_enabled())),
        "the default dtype": str(torch.get_default_dtype()),
        "the number of threads": str(torch.get_num_threads()),
        "the deterministic mode": str(torch.are_deterministic_algorithms_enabled()),
    }
