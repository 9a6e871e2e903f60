"""What makes second derivatives wrong is found out on every way to them, or does not matter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vallis import GaussNewton, Hessian, Rng, eigenpairs
from vallis.core.errors import UsageError
from vallis.numerics.density import spectral_density
from vallis.numerics.determinant import log_determinant
from vallis.numerics.powers import powers

LOSS = nn.CrossEntropyLoss()


class Broken(nn.Module):
    """A hook cuts its gradient out of what can be differentiated again, and nothing in the graph says so.

    It does so from when it is told to on: at the door it would be refused.
    """

    cuts = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.a(x)
        if self.cuts and inner.requires_grad:
            inner.register_hook(torch.Tensor.detach)
        return self.b(inner.tanh())


class WithDerivative(nn.Module):
    """Takes a derivative in its forward function, as energy models do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o(torch.vmap(lambda row: torch.func.jacrev(torch.tanh)(self.a(row)).diagonal())(x))


def data(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(12, 4), torch.randint(0, 3, (12,))


def net(width: int = 5) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))


def exact(module: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Any = LOSS) -> torch.Tensor:
    """The dense Hessian in float64, by torch alone."""
    module = module.double()
    names = [name for name, _ in module.named_parameters()]
    shapes = [value.shape for _, value in module.named_parameters()]
    flat = torch.cat([value.detach().flatten() for value in module.parameters()])

    def of(point: torch.Tensor) -> torch.Tensor:
        parts = point.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return loss(torch.func.functional_call(module, values, (x.double(),)), y)

    return torch.autograd.functional.hessian(of, flat)


@pytest.mark.parametrize("width", [5, 60])
def test_an_asymmetric_hessian_is_refused_everywhere(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    operator = Hessian.of(Broken(width), LOSS, data())
    monkeypatch.setattr(Broken, "cuts", True)
    with pytest.raises(UsageError, match="symmetric operator was required"):
        eigenpairs(operator, largest=2, rng=Rng(0))
    with pytest.raises(UsageError, match="symmetric operator was required"):
        spectral_density(operator, num_probes=2, num_steps=20, rng=Rng(0))
    with pytest.raises(UsageError, match="symmetric operator was required"):
        log_determinant(operator, shift=10.0, num_probes=2, num_steps=20, rng=Rng(0))


def test_so_it_is_where_its_powers_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    operator = Hessian.of(Broken(5), LOSS, data())
    monkeypatch.setattr(Broken, "cuts", True)
    with pytest.raises(UsageError, match="symmetric operator was required"):
        powers(operator, num_probes=2, rng=Rng(0))


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
def test_the_callers_autocast_changes_no_bit(kind: Any) -> None:
    x, y = data()
    plain = kind.of(net(), LOSS, (x, y)).dense()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        operator = kind.of(net(), LOSS, (x, y))
        inside = operator.dense()
    assert torch.equal(plain, inside)
    assert torch.equal(plain, operator.dense())


def test_a_network_that_takes_derivatives_itself() -> None:
    torch.manual_seed(4)
    module, (x, y) = WithDerivative(), data()
    found = Hessian.of(module, LOSS, (x, y)).dense()
    torch.testing.assert_close(found.double(), exact(module, x, y), rtol=1e-4, atol=1e-6)


def test_class_weights_are_summed_in_double_precision() -> None:
    x, y = data()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 0.2]))
    batches = list(zip(x.double().split(5), y.split(5), strict=True))
    found = Hessian.of(net().double(), loss, batches).dense()
    double = nn.CrossEntropyLoss(weight=loss.weight.double())
    torch.testing.assert_close(found, exact(net(), x, y, double), rtol=0, atol=1e-14)
