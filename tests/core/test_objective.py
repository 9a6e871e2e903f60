"""The mean loss as a surface: its value, its slope and its coordinates, at the solution and away from it."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tests.core.caller import is_sentence
from tests.core.networks import CausalLanguageModel, draw, mlp
from vallis.core.data import Arrays
from vallis.core.errors import DataError, UnknownPart
from vallis.core.losses import CrossEntropy
from vallis.core.objective import Objective
from vallis.core.own import coordinates
from vallis.core.types import Net, Solution, Task

X, Y = draw(9, 3), torch.tensor([0, 1, 2, 3, -100, 1, -100, 0, 2])


def solution(batch_size: int = 4, module: nn.Module | None = None, **splits: Any) -> Solution:
    if module is None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = mlp().double()
    params, buffers = coordinates(module)
    made = {name: _split(x, y, batch_size) for name, (x, y) in (splits or {"train": (X, Y)}).items()}
    task = Task(name="toy", splits=made, loss=CrossEntropy())
    return Solution(net=Net(module=module.eval()), params=params, buffers=buffers, tasks=(task,))


def _split(x: torch.Tensor, y: torch.Tensor, batch_size: int) -> Arrays:
    return Arrays(x=x, y=y, index=torch.arange(len(x)), batch_size=batch_size)


def test_the_same_surface_around_another_point() -> None:
    here = Objective(solution())
    moved = [value + 0.1 for value in here.origin]
    there = here.at(moved)
    assert there.value() == here.value(moved) != here.value()
    torch.testing.assert_close(there.gradient(), here.gradient(moved), rtol=0, atol=0)
    assert here.origin is not there.origin and there.data is here.data


def by_hand(module: nn.Module, vector: torch.Tensor | None = None) -> tuple[float, torch.Tensor]:
    """The mean over the targets that count, all examples at once."""
    weights = list(module.parameters())
    flat = torch.cat([value.detach().reshape(-1) for value in weights]) if vector is None else vector
    first, second, third, fourth = (
        part.view_as(value).requires_grad_()
        for part, value in zip(flat.clone().split([value.numel() for value in weights]), weights, strict=True)
    )
    logits = F.linear(torch.tanh(F.linear(X, first, second)), third, fourth)[Y >= 0]
    mean = -(logits - logits.exp().sum(1, keepdim=True).log())[torch.arange(7), Y[Y >= 0]].mean()
    slopes = torch.autograd.grad(mean, [first, second, third, fourth])
    return float(mean.detach()), torch.cat([slope.reshape(-1) for slope in slopes])


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 12), st.integers(0, 99))
def test_value_and_gradient_anywhere_and_however_it_is_batched(batch_size: int, seed: int) -> None:
    found = Objective(solution(batch_size))
    value, slope = by_hand(found.module)
    assert found.value() == pytest.approx(value, rel=1e-14)
    torch.testing.assert_close(found.gradient(), slope, rtol=1e-12, atol=1e-15)
    vector = found.vector(found.origin) + draw(found.num_parameters, seed=seed)
    value, slope = by_hand(found.module, vector)
    assert found.value(found.point(vector)) == pytest.approx(value, rel=1e-13)
    torch.testing.assert_close(found.gradient(found.point(vector)), slope, rtol=1e-11, atol=1e-14)


def test_the_gradient_is_the_slope_of_the_value() -> None:
    found = Objective(solution())
    direction, at = draw(found.num_parameters), found.vector(found.origin)
    ahead, behind = (found.value(found.point(at + step * direction)) for step in (1e-5, -1e-5))
    assert float(found.gradient() @ direction) == pytest.approx((ahead - behind) / 2e-5, rel=1e-7)


def test_vectors_and_points_are_two_words_for_one_thing() -> None:
    found = Objective(solution())
    vector = draw(found.num_parameters)
    point = found.point(vector)
    assert [tuple(part.shape) for part in point] == [tuple(value.shape) for value in found.origin]
    assert torch.equal(found.vector(point), vector)
    assert found.names == ("0.weight", "0.bias", "3.weight", "3.bias")
    assert found.num_parameters == 6 * 3 + 6 + 4 * 6 + 4


def test_shares_add_up_and_what_counts_nothing_is_left_out() -> None:
    y = Y.clone()
    y[4:8] = -100  # the second of three batches
    found = Objective(solution(4, train=(X, y)))
    terms = list(found.terms())
    assert found.total_weight == 5
    assert [term.share for term in terms] == [4 / 5, 1 / 5]
    assert [term.batch.index.tolist() for term in terms] == [[0, 1, 2, 3], [8]]
    assert found.value() == pytest.approx(
        sum(term.share * float(term.loss(found.origin).detach()) for term in terms), rel=1e-15
    )
    first = terms[0]
    assert torch.equal(first.loss_of_outputs(first.outputs(found.origin)), first.loss(found.origin))


def test_nothing_that_counts_is_an_error_in_a_sentence() -> None:
    found = Objective(solution(train=(X, torch.full((9,), -100))))
    with pytest.raises(DataError, match="at least one counted target was required, none came") as caught:
        found.value()
    assert is_sentence(str(caught.value))


def test_an_unknown_split_says_which_there_are() -> None:
    both = solution(train=(X, Y), test=(X[:2], Y[:2]))
    assert len(Objective(both, "test").data) == 2
    with pytest.raises(UnknownPart, match="no split is named 'tset'; did you mean test"):
        Objective(both, "tset")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_wider_type_makes_the_numbers_exact(dtype: torch.dtype) -> None:
    single = solution(module=mlp().float(), train=(X.float(), Y))
    found = Objective(single, dtype=dtype)
    assert {value.dtype for value in found.origin} == {found.gradient().dtype} == {dtype}
    exact, slope = by_hand(single.net.module.double())
    tolerance = 1e-6 if dtype is torch.float64 else 1e-4  # the inputs were rounded to single precision
    assert found.value() == pytest.approx(exact, rel=tolerance)
    torch.testing.assert_close(found.gradient().double(), slope, rtol=tolerance, atol=tolerance)


def test_a_cast_objective_leaves_the_solution_as_it_is() -> None:
    single = solution(module=CausalLanguageModel(), train=(torch.arange(6).view(2, 3), torch.zeros(2, 7).long()))
    before = {name: value.clone() for name, value in single.params.items()}
    found = Objective(single, dtype=torch.float64)
    assert next(iter(found.batches())).x.dtype == torch.int64
    assert all(torch.equal(single.params[name], value) for name, value in before.items())
    assert {value.dtype for value in single.params.values()} == {torch.float32}


def test_a_solution_without_a_cast_is_not_copied() -> None:
    here = solution()
    shared = zip(Objective(here).origin, here.params.values(), strict=True)
    assert all(mine.data_ptr() == theirs.data_ptr() for mine, theirs in shared)


def test_gradients_leave_no_trace_in_the_solution() -> None:
    here = solution()
    found = Objective(here)
    found.gradient()
    assert not any(value.requires_grad or value.grad is not None for value in here.params.values())
    assert not any(value.requires_grad for value in found.origin)
    assert all(value.grad is None for value in here.net.module.parameters())


def test_a_parameter_that_nothing_uses_has_slope_zero() -> None:
    module = mlp().double()
    module.register_parameter("unused", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    slope = Objective(solution(module=module)).gradient()
    assert slope[:3].tolist() == [0.0, 0.0, 0.0]
    assert slope[3:].abs().max() > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_made_and_used_in_any_gradient_mode(mode: Any, dtype: torch.dtype | None) -> None:
    here = solution()
    wanted = Objective(here, dtype=dtype)
    with mode():
        found = Objective(here, dtype=dtype)
        assert found.value() == wanted.value()
        assert torch.equal(found.gradient(), wanted.gradient())
        batches = list(found.batches())
    assert torch.equal(found.gradient(), wanted.gradient()), "and outside of it again"
    assert found.gradient().requires_grad is False
    assert not any(batch.x.is_inference() for batch in batches)


def test_batches_keep_their_identities() -> None:
    assert torch.cat([batch.index for batch in Objective(solution()).batches()]).tolist() == list(range(9))
