"""Defects that were seen in other software for the same job, and must never be ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import vallis
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Result, Solution
from vallis.measurements.curvature.hessian_spectrum import HessianSpectrum
from vallis.measurements.curvature.hessian_trace import HessianTrace
from vallis.measurements.landscape.loss_slice import LossSlice
from vallis.numerics.curvature import Hessian
from vallis.numerics.directions import filter_normalised
from vallis.numerics.slices import line, plane
from vallis.problems.digits import load_digits


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load_digits()
    return x[:600].flatten(1), y[:600]


@pytest.fixture(scope="module")
def net(digits: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    """A trained network with dropout and batch normalisation: everything that a careless tool trips over."""
    x, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.2), nn.Linear(12, 10))
        optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
        for _ in range(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()
    return module.train()


def result(solution: Solution, measurement: HessianSpectrum | HessianTrace | LossSlice) -> Result:
    found = vallis.measure(solution, measurement)
    assert isinstance(found, Result)
    return found


@pytest.mark.parametrize("batch_size", [512, 256, 599, 1, 600])
def test_a_ragged_last_batch_changes_no_eigenvalue(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor], batch_size: int
) -> None:
    """Averaging batch means without weights is off by tens of percents."""
    part = (digits[0][:60], digits[1][:60]) if batch_size == 1 else digits
    asked = HessianSpectrum(num_top=1, num_bottom=0, tolerance=1e-9, precision="float64", search=0)
    whole = Solution.of(net, nn.CrossEntropyLoss(), train=part, batch_size=len(part[0]))
    ragged = Solution.of(net, nn.CrossEntropyLoss(), train=part, batch_size=batch_size)
    truth = result(whole, asked).estimate("top_eigenvalue").value
    assert result(ragged, asked).estimate("top_eigenvalue").value == pytest.approx(truth, rel=1e-9)


def test_a_network_in_train_mode_is_measured_in_eval_mode(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """In train mode two equal products differ and the running statistics move."""
    before = {key: value.clone() for key, value in net.state_dict().items()}
    hessian = Hessian(Objective(Solution.of(net, nn.CrossEntropyLoss(), train=digits, batch_size=250)))
    vector = torch.randn(hessian.size, generator=Rng(0).torch())
    assert torch.equal(hessian.matvec(vector), hessian.matvec(vector))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert net.training


def test_products_in_float64_are_float64(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    solution = Solution.of(net, nn.CrossEntropyLoss(), train=digits)
    hessian = Hessian(Objective(solution, dtype=torch.float64))
    vector = torch.randn(hessian.size, generator=Rng(0).torch(), dtype=torch.float64)
    other = torch.randn(hessian.size, generator=Rng(1).torch(), dtype=torch.float64)
    assert hessian.matvec(vector).dtype is torch.float64
    assert float(other @ hessian.matvec(vector)) == pytest.approx(float(vector @ hessian.matvec(other)), rel=1e-11)


def test_a_linear_loss_gives_constant_steps_in_a_plane() -> None:
    """A grid whose alternate columns are shifted by one step shows 0.051, 0.251, 0.051 ..."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Linear(6, 1, bias=False).double()
    x = torch.ones(4, 6, dtype=torch.float64)
    solution = Solution.of(module, lambda out, _: out.mean(), train=(x, torch.zeros(4, 1, dtype=torch.float64)))
    objective = Objective(solution)
    first, second = (filter_normalised(objective.names, objective.origin, Rng(0).child(name)) for name in ("d", "e"))
    grid = plane(objective, first, second, np.linspace(-1, 1, 7), np.linspace(-1, 1, 5))
    for axis in (0, 1):
        steps = np.diff(grid, axis=axis)
        assert np.abs(steps - steps.flat[0]).max() < 1e-12
        assert abs(steps.flat[0]) > 1e-3


def test_the_centre_of_a_slice_is_the_network_itself(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Others plot around a point that is not the model."""
    solution = Solution.of(net, nn.CrossEntropyLoss(), train=digits)
    found = result(solution, LossSlice(num_points=5, num_points_plane=5))
    loss = Objective(solution).value()
    assert found.array("losses_plane").data[2, 2] == loss
    assert found.array("losses_first").data[2] == loss


def test_directions_have_mean_zero_and_are_normalised_filter_by_filter() -> None:
    """Others draw from U(0, 1), or normalise a whole tensor."""
    weight = torch.randn(40, 30, 3, 3, generator=Rng(0).torch()) * torch.linspace(0.1, 9, 40)[:, None, None, None]
    bias = torch.ones(40)
    drawn, none = filter_normalised(["conv.weight", "conv.bias"], [weight, bias], Rng(1))
    assert torch.allclose(drawn.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1), rtol=1e-6)
    scaled = drawn / weight.flatten(1).norm(dim=1)[:, None, None, None]
    assert abs(float(scaled.mean())) < 4 * float(scaled.std()) / np.sqrt(scaled.numel())
    assert not none.any()


def test_two_slices_are_the_same_to_the_last_bit_and_hide_no_infinity() -> None:
    """Others add noise to the maximum of the surface and replace NaN by the mean."""

    class Overflowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((1, 1), 60.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ self.weight).exp()

    solution = Solution.of(Overflowing(), lambda out, _: out.mean(), train=(torch.ones(3, 1), torch.zeros(3, 1)))
    objective = Objective(solution)
    one, two = (line(objective, [torch.full((1, 1), 60.0)], np.linspace(-1, 1, 9)) for _ in range(2))
    assert np.array_equal(one, two)
    assert np.isinf(one[-1])


def test_the_trace_has_an_interval_that_covers(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    """A stop at the first small change ends 13 % off with no warning."""
    x, y = digits[0][:100], digits[1][:100]
    solution = Solution.of(net, nn.CrossEntropyLoss(), train=(x, y))
    truth = float(Hessian(Objective(solution, dtype=torch.float64)).dense().trace())
    found = result(solution, HessianTrace()).estimate("trace")
    assert found.stderr is not None
    assert found.stderr > 0
    assert abs(found.value - truth) < 4 * found.stderr


def test_what_did_not_converge_says_so(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    solution = Solution.of(net, nn.CrossEntropyLoss(), train=digits)
    found = result(solution, HessianSpectrum(num_top=10, num_bottom=5, max_products=20, tolerance=1e-10, search=0))
    assert "not_converged" in {note.code for note in found.notes}
    assert found.estimate("converged_fraction").value < 1
