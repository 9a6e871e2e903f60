"""What counts as right: the errors of answers, against float64."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks import truth
from benchmarks.contest import Answer, Score
from benchmarks.fixtures import Setting
from benchmarks.truth import Floats, Product


def eigenpairs(
    found: tuple[Floats, torch.Tensor],
    exact: Floats,
    product: Product,
    limit: float,
    thorough: bool,
    is_certified: bool = False,
) -> Score:
    """The largest relative error of an eigenvalue; thoroughly, also ``|H v - value v|`` over the largest eigenvalue.

    What is certified must be within the limit by its residuals, too.
    """
    values, vectors = found
    error = float(np.max(np.abs(np.asarray(values, dtype=np.float64) - exact) / np.abs(exact)))
    details = {}
    if thorough:
        details["largest_residual"] = max(
            float((product(vector) - value * vector.double()).norm() / vector.double().norm() / exact[0])
            for value, vector in zip(values, vectors.unbind(1), strict=True)
        )
    residual = details.get("largest_residual", 0.0) if is_certified else 0.0
    return Score(error, error <= limit and residual <= limit, details)


def product(setting: Setting, answer: Answer, exact: torch.Tensor, limit: float) -> Score:
    """``|found - exact| / |exact|``; a reference that makes no product passes."""
    if answer.value is None:
        return Score(0.0, True)
    error = float((answer.value.double() - exact).norm() / exact.norm())
    return Score(error, error <= limit)


def probe(setting: Setting) -> torch.Tensor:
    """``(P,)`` the float32 vector that E5 and E6 multiply."""
    drawn = torch.randn(setting.num_parameters, generator=torch.Generator().manual_seed(1))
    return drawn / drawn.norm()


def wasserstein(values: Floats, weights: Floats, exact: Floats) -> float:
    """The first Wasserstein distance of a weighted sample to the exact eigenvalues, over the largest of them."""
    from scipy.stats import wasserstein_distance

    keep = weights > 0
    return float(wasserstein_distance(values[keep], exact, weights[keep])) / float(exact.max())


def eigenvalue_truth(setting: Setting, count: int, layer: str = "") -> tuple[Floats, Product]:
    return truth.largest(setting, count, layer), truth.hessian_product(setting, layer)
