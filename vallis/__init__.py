"""Vallis looks at a trained network and at the ground it stands on.

``vallis.examine(module, loss, train=..., test=...)`` measures your own network and writes a report;
``vallis.measure(solution, "hessian_spectrum")`` asks one question; every part is importable alone:
``eigenpairs(Hessian.of(module, loss, data), largest=5, rng=Rng(0))``.

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
    from vallis.numerics.at import objective_of as objective_of
    from vallis.numerics.curvature import GaussNewton as GaussNewton
    from vallis.numerics.curvature import Hessian as Hessian
    from vallis.numerics.distributed import DataParallel as DataParallel
    from vallis.numerics.dynamics import DynamicsRecorder as DynamicsRecorder
    from vallis.numerics.fisher import EmpiricalFisher as EmpiricalFisher
    from vallis.numerics.fisher import Fisher as Fisher
    from vallis.numerics.fisher import SampledFisher as SampledFisher
    from vallis.numerics.hessians import Hessians as Hessians
    from vallis.numerics.lanczos import eigenpairs as eigenpairs
    from vallis.numerics.residual import Residual as Residual
    from vallis.report.examine import examine as examine
    from vallis.run.measure import measure as measure
    from vallis.run.measure import measure_many as measure_many
    from vallis.run.population import train_all as train_all
    from vallis.run.train import train as train

__version__ = "0.1.0"
__all__ = [
    "DataParallel",
    "DynamicsRecorder",
    "EmpiricalFisher",
    "Fisher",
    "GaussNewton",
    "Hessian",
    "Hessians",
    "Residual",
    "Rng",
    "SampledFisher",
    "Solution",
    "VallisError",
    "__version__",
    "eigenpairs",
    "examine",
    "load",
    "measure",
    "measure_many",
    "objective_of",
    "train",
    "train_all",
]

_HOMES = {
    "DataParallel": "vallis.numerics.distributed",
    "DynamicsRecorder": "vallis.numerics.dynamics",
    "EmpiricalFisher": "vallis.numerics.fisher",
    "Fisher": "vallis.numerics.fisher",
    "GaussNewton": "vallis.numerics.curvature",
    "Hessian": "vallis.numerics.curvature",
    "Hessians": "vallis.numerics.hessians",
    "Residual": "vallis.numerics.residual",
    "Rng": "vallis.core.rng",
    "SampledFisher": "vallis.numerics.fisher",
    "Solution": "vallis.core.types",
    "VallisError": "vallis.core.errors",
    "eigenpairs": "vallis.numerics.lanczos",
    "examine": "vallis.report.examine",
    "load": "vallis.core.catalog",
    "measure": "vallis.run.measure",
    "measure_many": "vallis.run.measure",
    "objective_of": "vallis.numerics.at",
    "train": "vallis.run.train",
    "train_all": "vallis.run.population",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vallis' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
