"""Numbers that are known without Vallis, from analysis or from numpy alone. They are never regenerated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import vallis
from vallis.core.types import Result, Solution
from vallis.measurements.curvature.hessian_spectrum import HessianSpectrum
from vallis.problems.digits import load_digits

NUM_CLASSES = 10


@pytest.fixture(scope="module")
def softmax_regression_at_zero() -> Solution:
    x, y = load_digits()
    module = nn.Linear(64, NUM_CLASSES, bias=False)
    nn.init.zeros_(module.weight)
    return Solution.of(module, nn.CrossEntropyLoss(), train=(x.flatten(1), y), batch_size=500)


def measured(solution: Solution, name: str, **settings: object) -> Result:
    found = vallis.measure(solution, name, **settings)
    assert isinstance(found, Result)
    return found


def test_its_loss_is_the_logarithm_of_the_number_of_classes(softmax_regression_at_zero: Solution) -> None:
    found = measured(softmax_regression_at_zero, "generalization_gap").estimate("train_loss")
    assert found.value == pytest.approx(math.log(NUM_CLASSES), rel=1e-6)


def test_its_hessian_is_a_kronecker_product(softmax_regression_at_zero: Solution) -> None:
    """H = (I / C - 1 1T / C^2) (x) E[x xT]: C - 1 times every eigenvalue of the second, over C, and zeros."""
    images = load_digits()[0].flatten(1).double().numpy()
    of_inputs = np.linalg.eigvalsh(images.T @ images / len(images))[::-1]
    found = vallis.measure(
        softmax_regression_at_zero,
        HessianSpectrum(num_top=20, num_bottom=3, tolerance=1e-8, precision="float64", search=200),
    )
    assert isinstance(found, Result)
    expected = np.repeat(of_inputs, NUM_CLASSES - 1)[:20] / NUM_CLASSES
    assert found.array("eigenvalues_top").data == pytest.approx(expected, rel=1e-7)
    assert found.array("eigenvalues_bottom").data == pytest.approx(np.zeros(3), abs=1e-8)


def test_its_trace_is_that_of_the_product(softmax_regression_at_zero: Solution) -> None:
    images = load_digits()[0].flatten(1).double().numpy()
    expected = (images**2).sum(1).mean() * (NUM_CLASSES - 1) / NUM_CLASSES
    found = measured(softmax_regression_at_zero, "hessian_trace", num_probes=200).estimate("trace")
    assert found.stderr is not None
    assert abs(found.value - expected) < 4 * found.stderr
    assert found.stderr < 0.1 * expected


def test_least_squares_has_the_hessian_of_its_inputs() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(31, 7, generator=generator), torch.randn(31, 1, generator=generator)
    solution = Solution.of(nn.Linear(7, 1), nn.MSELoss(), train=(x, y), batch_size=8)
    design = np.hstack([x.double().numpy(), np.ones((31, 1))])
    expected = np.linalg.eigvalsh(2 * design.T @ design / 31)[::-1]
    found = measured(solution, "hessian_spectrum", num_top=8, num_bottom=0).array("eigenvalues_top")
    assert found.data == pytest.approx(expected, rel=1e-10)
