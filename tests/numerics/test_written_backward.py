"""Networks with functions that bring their own backward pass: right ones are taken, others refused and not believed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from tests.core.caller import is_sentence
from tests.numerics.solutions import built, classes, random
from vallis import Fisher, GaussNewton, Hessian, Residual
from vallis.core.errors import ModelError
from vallis.numerics.at import objective_of
from vallis.numerics.operators import Operator
from vallis.numerics.written_backward import functions_in

X, Y = random(40, 3), classes(40)
DOUBLE = torch.float64


class Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return slope * (1 - x.tanh() ** 2)


class RightWithKinks(Right):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        return slope * (ctx.saved_tensors[0] > 0)


class Once(Right):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return slope * (1 - x.tanh() ** 2)


class Detached(Right):
    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return slope * (1 - x.detach().tanh() ** 2)


class Reversed(Right):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        return -slope


class Halved(Reversed):
    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        return slope / 2


class NearlyRight(Right):
    """Hides a hundredth of what its derivative depends on."""

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return slope * (0.99 * (1 - x.tanh() ** 2) + 0.01 * (1 - x.detach().tanh() ** 2))


class Linear(torch.autograd.Function):
    """Right for the bias, and for nothing else together."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, weight = ctx.saved_tensors
        return slope @ weight.detach(), slope.T @ x.detach(), slope.sum(0)


class Single(Right):
    """Takes float32 and nothing else, as compiled kernels do."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        if x.dtype != torch.float32:
            raise RuntimeError("float32 only")
        return Right.forward(ctx, x)


class Network(nn.Module):
    def __init__(self, function: type[Right]) -> None:
        super().__init__()
        self.first, self.second, self.function = nn.Linear(3, 8), nn.Linear(8, 3), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.function.apply(self.first(x)))


class Activated(nn.Module):
    def __init__(self, function: type[Right]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function.apply(x)


def product(kind: type[Any], function: type[Right], dtype: torch.dtype | None = None) -> torch.Tensor:
    operator: Operator = kind.of(
        built(lambda: Network(function)), nn.CrossEntropyLoss(), (X, Y), dtype=dtype, batch_size=16
    )
    return operator @ torch.linspace(-1, 1, operator.size, dtype=operator.dtype)


class Last(Network):
    """The function is the last there is, so that all slopes are wrong alike."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function.apply(self.second(self.first(x).tanh()))


class InTheMiddle(Network):
    def __init__(self) -> None:
        super().__init__(Right)
        self.middle = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(Linear.apply(self.first(x).tanh(), self.middle.weight, self.middle.bias).tanh())


class Plain(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize("kind", [Hessian, Residual, GaussNewton, Fisher])
def test_a_right_one_gives_the_same_as_plain_operations(kind: type[Any]) -> None:
    plain = kind.of(built(lambda: Plain(Right)), nn.CrossEntropyLoss(), (X, Y), dtype=DOUBLE, batch_size=16)
    truth = plain @ torch.linspace(-1, 1, plain.size, dtype=DOUBLE)
    torch.testing.assert_close(product(kind, Right, DOUBLE), truth)
    torch.testing.assert_close(product(kind, Single).double(), truth, rtol=1e-4, atol=1e-5)
    assert product(kind, RightWithKinks).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        *((kind, Once) for kind in (Hessian, Residual, GaussNewton, Fisher)),
        *((kind, function) for kind in (Hessian, Residual) for function in (Detached, Reversed, NearlyRight)),
        *((kind, Reversed) for kind in (GaussNewton, Fisher)),
    ],
)
@pytest.mark.parametrize("dtype", [None, DOUBLE])
def test_one_that_hides_something_is_refused_by_name(kind: type[Any], function: type[Right], dtype: Any) -> None:
    with pytest.raises(ModelError, match=f"the backward pass of {function.__name__} hides") as caught:
        product(kind, function, dtype)
    assert is_sentence(str(caught.value))


@pytest.mark.parametrize("kind", [Hessian, Residual, GaussNewton, Fisher])
def test_slopes_that_are_all_wrong_alike_are_refused(kind: type[Any]) -> None:
    operator = kind.of(built(lambda: Last(Halved)), nn.CrossEntropyLoss(), (X, Y))
    with pytest.raises(ModelError, match="the backward pass of Halved"):
        operator @ torch.ones(operator.size)


def test_what_is_right_for_some_parameters_is_not_believed_of_all() -> None:
    objective = objective_of(built(InTheMiddle), nn.CrossEntropyLoss(), (X, Y), dtype=DOUBLE)
    Hessian(objective, only="middle.bias").dense()
    Hessian(objective, only="second").dense()
    with pytest.raises(ModelError, match="the backward pass of Linear"):
        Hessian(objective).matvec(torch.ones(objective.num_parameters, dtype=DOUBLE))


def test_many_units_with_kinks_do_not_spoil_the_proof() -> None:
    wide = nn.Sequential(nn.Linear(3, 4000), Activated(RightWithKinks), nn.Linear(4000, 3))
    operator = Hessian.of(wide, nn.CrossEntropyLoss(), (random(200, 3), classes(200)))
    assert (operator @ torch.ones(operator.size)).isfinite().all()


def test_a_backward_that_is_cut_from_its_inputs_does_for_first_derivatives() -> None:
    truth = product(GaussNewton, Right, DOUBLE)
    torch.testing.assert_close(product(GaussNewton, Detached, DOUBLE), truth)


def test_our_own_functions_and_torchs_are_none_of_them() -> None:
    convolution = built(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)))
    data = random(5, 1, 4, 4), classes(5)
    assert Hessian.of(convolution, nn.CrossEntropyLoss(), data).dense().isfinite().all()
    assert functions_in((convolution(data[0]).sum(),)) == frozenset()
    assert functions_in((Network(Once)(X),)) == {"Once"}
