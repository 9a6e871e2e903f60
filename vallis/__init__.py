"""Vallis looks at a trained network and at the ground it stands on.

``vallis.examine(module, loss, train=..., test=...)`` measures your own network and writes a report;
``vallis.measure(solution, "hessian_spectrum")`` asks one question; every part is importable alone.

Importing this package is cheap: torch is imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vallis.core.catalog import load as load
    from vallis.core.errors import VallisError as VallisError
    from vallis.core.rng import Rng as Rng
    from vallis.core.types import Solution as Solution
    from vallis.report.examine import examine as examine
    from vallis.run.measure import measure as measure
    from vallis.run.train import train as train

__version__ = "0.1.0"
__all__ = ["Rng", "Solution", "VallisError", "__version__", "examine", "load", "measure", "train"]

_HOMES = {
    "Rng": "vallis.core.rng",
    "Solution": "vallis.core.types",
    "VallisError": "vallis.core.errors",
    "examine": "vallis.report.examine",
    "load": "vallis.core.catalog",
    "measure": "vallis.run.measure",
    "train": "vallis.run.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vallis' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
