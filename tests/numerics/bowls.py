"""Losses whose basins are known: quadratic bowls of any eigenvalues, around their minimum or a little above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.log_volume import log_ball_volume
from vallis.testing.toys.models import LinearModel
from vallis.testing.toys.problems import QuadraticBowl, regression_minimum
from vallis.testing.toys.solutions import start


def bowl(eigenvalues: Sequence[float]) -> Solution:
    """A linear regression in float64 at its minimum, where the loss is 0 and has exactly these eigenvalues."""
    found = start(QuadraticBowl(eigenvalues=tuple(eigenvalues)), LinearModel(), Rng(0))
    (name,) = found.params
    return replace(found, params={name: regression_minimum(found.task)[None]})


def norm(objective: Objective) -> float:
    """Of the only filter: the unit of length of its relative coordinates."""
    return float(objective.origin[0].norm())


def log_volume_of_bowl(eigenvalues: Sequence[float], unit: float, rise: float) -> float:
    """The exact log-volume of ``{x: sum_i eigenvalue_i x_i^2 / 2 <= rise}`` in a unit of length."""
    axes = 0.5 * np.log(2 * rise / np.asarray(eigenvalues)) - np.log(unit)
    return log_ball_volume(len(axes), float(axes.mean()))


def spread_out(size: int, condition: float) -> list[float]:
    """Eigenvalues from 1 down to ``1 / condition``, evenly spaced in logarithms."""
    return np.logspace(0, -np.log10(condition), size).tolist()


def rayleigh(objective: Objective, direction: torch.Tensor, hessian: torch.Tensor) -> float:
    """``d' H d`` for a direction of the only parameter."""
    flat = direction.reshape(-1).double()
    return float(flat @ hessian @ flat)
