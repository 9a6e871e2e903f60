"""Products with a transposed derivative against closed forms."""

from __future__ import annotations

import pytest
import torch

from vallis.core.errors import ModelError
from vallis.numerics.derivatives import pull


def test_the_product_is_that_with_the_transposed_jacobian() -> None:
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    matrix = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    vector = torch.tensor([5.0, -1.0])
    for _ in range(2):  # the graph is kept
        (found,) = pull((matrix @ x,), (x,), (vector,))
        torch.testing.assert_close(found, matrix.T @ vector)


def test_it_can_be_differentiated_again() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (slope,) = pull(((x**3).sum(),), (x,), (torch.tensor(1.0),), differentiable=True)
    (bend,) = pull((slope,), (x,), (torch.tensor([1.0, 10.0]),))
    torch.testing.assert_close(bend, torch.tensor([6.0, 120.0]))


def test_what_does_not_depend_gives_zeros() -> None:
    x, y = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    constant = torch.ones(4)
    found = pull((x * 2, constant), (x, y), (torch.ones(2), torch.ones(4)))
    torch.testing.assert_close(found, (torch.full((2,), 2.0), torch.zeros(3)))
    torch.testing.assert_close(pull((constant,), (x,), (torch.ones(4),)), (torch.zeros(2),))


def test_a_derivative_that_torch_lacks_is_named() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = torch.nn.functional.multi_margin_loss(x, torch.tensor([0, 1, 2, 0]), p=2)
    with pytest.raises(ModelError, match="torch has no derivative of"):
        (slope,) = pull((loss,), (x,), (torch.ones(()),), differentiable=True)
        pull((slope,), (x,), (torch.ones(4, 3),))
