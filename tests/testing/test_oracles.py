from __future__ import annotations

import pytest
import torch

from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.testing.oracles import dense_gradient, dense_hessian, dense_loss, dense_vector
from vallis.testing.toys.models import LinearModel, TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs, QuadraticBowl, regression_hessian
from vallis.testing.toys.solutions import start, trained

CASES = {
    "tanh": lambda: trained(Blobs(num_classes=3), TinyMlp(), Rng(0)),
    "relu": lambda: trained(Blobs(), TinyMlp(activation="relu"), Rng(0)),
    "convolutions": lambda: start(Bars(), TinyConvnet(width=2), Rng(0)),
}


def by_differences(solution: Solution, direction: torch.Tensor, width: float) -> tuple[float, float]:
    """First and second derivative of the loss along a direction, from its values alone."""
    at = dense_vector(solution)
    low, middle, high = (float(dense_loss(solution, at + t * direction)) for t in (-width, 0.0, width))
    return (high - low) / (2 * width), (high - 2 * middle + low) / width**2


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_those_of_the_values(case: str) -> None:
    solution = CASES[case]()
    generator = Rng(0).child("direction").torch()
    direction = torch.randn(solution.num_parameters, generator=generator, dtype=torch.float64)
    direction /= direction.norm()
    first, second = by_differences(solution, direction, 1e-4)
    assert float(dense_gradient(solution) @ direction) == pytest.approx(first, abs=1e-7)
    assert float(direction @ dense_hessian(solution) @ direction) == pytest.approx(second, abs=1e-5)


def test_the_hessian_is_symmetric_and_in_the_order_of_the_parameters() -> None:
    solution = CASES["tanh"]()
    hessian = dense_hessian(solution)
    assert torch.allclose(hessian, hessian.T, atol=1e-12)
    place = 0
    for name, value in solution.params.items():
        moved = dict(solution.params)
        moved[name] = value + 0.1
        changed = dense_vector(Solution(net=solution.net, params=moved, buffers={}, tasks=solution.tasks))
        assert (changed != dense_vector(solution)).nonzero()[:, 0].tolist() == list(range(place, place + value.numel()))
        place += value.numel()


def test_a_bowl_is_its_own_oracle() -> None:
    solution = start(QuadraticBowl(), LinearModel(), Rng(0))
    assert torch.allclose(dense_hessian(solution), regression_hessian(solution.task), atol=1e-12)


def test_ragged_batches_are_weighted() -> None:
    solution = CASES["tanh"]()
    task = solution.task
    data = task.splits["train"].in_batches_of(11)  # type: ignore[attr-defined]
    ragged = Solution(
        net=solution.net,
        params=solution.params,
        buffers={},
        tasks=(type(task)(name="ragged", splits={"train": data}, loss=task.loss),),
    )
    assert torch.allclose(dense_hessian(ragged), dense_hessian(solution), atol=1e-12)
