"""Products with several Hessians at once are those of the dense Hessians of each."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.numerics.populations import Make, small, solutions
from tests.numerics.test_population import Scaled, Tied, convolutional, normalised
from vallis.core.errors import ModelError, UsageError
from vallis.core.objective import Objective
from vallis.core.own import solution_of
from vallis.core.rng import Rng
from vallis.numerics import hessians as module
from vallis.numerics.at import objective_of
from vallis.numerics.curvature import Hessian
from vallis.numerics.hessians import Hessians, in_step
from vallis.numerics.lanczos import eigenpairs, finding
from vallis.numerics.trace import trace, tracing
from vallis.testing.oracles import dense_hessian


def drawn(hessians: Hessians) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(hessians), hessians[0].size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "shape"), [(small, (3,)), (normalised, (3,)), (convolutional, (1, 8, 8)), (Scaled, (3,)), (Tied, (3,))]
)
@pytest.mark.parametrize(("own_x", "own_y"), [(False, False), (True, True)])
def test_products_are_those_of_the_dense_hessians(make: Make, shape: tuple[int, ...], own_x: bool, own_y: bool) -> None:
    held = solutions(make, shape=shape, own_x=own_x, own_y=own_y)
    hessians = Hessians.of(held)
    assert hessians.num_joint == len(hessians) == len(held)
    vectors = drawn(hessians)
    true = torch.stack([dense_hessian(each) @ vector for each, vector in zip(held, vectors, strict=True)])
    torch.testing.assert_close(hessians @ vectors, true, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(hessians @ vectors, hessians.matvec(vectors), rtol=0, atol=0)
    torch.testing.assert_close(hessians[1] @ vectors[1], true[1], rtol=1e-9, atol=1e-11)


def test_in_single_precision_up_to_rounding() -> None:
    held = solutions(dtype=torch.float32)
    hessians, double = Hessians.of(held), Hessians.of(held, dtype=torch.float64)
    vectors = drawn(hessians)
    assert hessians[0].dtype == torch.float32 and double[0].dtype == torch.float64
    torch.testing.assert_close((hessians @ vectors).double(), double @ vectors, rtol=1e-4, atol=1e-6)


def test_bits_do_not_hang_on_who_else_asks() -> None:
    hessians = Hessians.of(solutions(count=5))
    vectors = drawn(hessians)
    whole = hessians @ vectors
    some = hessians.answer([(hessians[place], vectors[place]) for place in (3, 1)])
    assert torch.equal(some[0], whole[3]) and torch.equal(some[1], whole[1])
    assert torch.equal(hessians[4] @ vectors[4], whole[4])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_bits_do_not_hang_on_the_kind_of_the_vectors_of_others(dtype: torch.dtype) -> None:
    hessians = Hessians.of(solutions(dtype=torch.float32))
    vectors = drawn(hessians).float()
    whole = hessians @ vectors
    assert whole.dtype == torch.float32
    some = hessians.answer([(hessians[0], vectors[0].to(dtype)), (hessians[3], vectors[3])])
    assert torch.equal(some[1], whole[3])


@pytest.mark.parametrize("whole", [True, False])
def test_graphs_and_examples_are_freed_with_the_last_that_asks(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[object]] = []
    for kind in (module._JointGraph, module.Population):
        right = kind.__init__
        monkeypatch.setattr(kind, "__init__", _noting(held, right))
    gc.disable()
    try:
        hessians = Hessians.of(solutions(own_x=True))
        left: object = hessians if whole else hessians[1]
        del hessians
        assert len([each for each in held if each() is not None]) == 4  # three batches
        del left
        assert not [each for each in held if each() is not None]
    finally:
        gc.enable()


def _noting(held: list[weakref.ref[object]], right: Callable[..., None]) -> Callable[..., None]:

    def made(self: object, *given: object) -> None:
        right(self, *given)
        held.append(weakref.ref(self))

    return made


def test_products_are_counted_for_each() -> None:
    hessians = Hessians.of(solutions(count=3))
    hessians.matvec(drawn(hessians))
    hessians.answer([(hessians[1], drawn(hessians)[1])])
    hessians[2].matvec(drawn(hessians)[2])
    assert [hessians[place].num_products for place in range(3)] == [1, 2, 2]


def test_whoever_must_go_alone_is_multiplied_alone() -> None:
    held = [*solutions(count=3), *solutions(normalised, count=1)]
    hessians = Hessians.of(held)
    assert hessians.num_joint == 3
    assert isinstance(hessians[3], Hessian)
    vectors = [torch.ones(hessians[place].size, dtype=torch.float64) for place in range(4)]
    found = hessians.answer([(hessians[place], vectors[place]) for place in (3, 0, 2)])
    for place, product in zip((3, 0, 2), found, strict=True):
        torch.testing.assert_close(product, dense_hessian(held[place]) @ vectors[place], rtol=1e-9, atol=1e-11)
    with pytest.raises(UsageError, match="networks of one number of parameters were required"):
        hessians @ torch.ones(4, 52)


def test_without_memory_for_graphs_the_bits_are_the_same() -> None:
    objectives = [objective_of(each) for each in solutions()]
    rich, poor = Hessians(objectives), Hessians(objectives, budget=0)
    vectors = drawn(rich)
    for _ in range(2):
        assert torch.equal(rich @ vectors, poor @ vectors)
    before = rich @ vectors
    rich.clear()
    assert torch.equal(rich @ vectors, before)


@pytest.mark.parametrize(
    "vectors",
    [torch.ones(4), torch.ones(3, 52), torch.ones(4, 51), torch.ones(4, 52, dtype=torch.complex64), [[1.0] * 52] * 4],
)
def test_vectors_of_another_shape_or_kind_are_a_sentence(vectors: Any) -> None:
    with pytest.raises(UsageError, match=r"real vectors of shape \(4, 52\) were required"):
        Hessians.of(solutions()) @ vectors


@pytest.mark.parametrize("held", [[], [small()]])
def test_nothing_or_something_else_is_a_sentence(held: list[object]) -> None:
    with pytest.raises(UsageError, match="at least one solution was required"):
        Hessians.of(held)  # type: ignore[arg-type]


def test_a_wrong_product_together_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = module._Joint.products
    monkeypatch.setattr(module._Joint, "products", lambda *given: 1.01 * right(*given))
    assert Hessians.of(solutions()).num_joint == 0


class _Halved(torch.autograd.Function):
    """A backward pass that is no derivative."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, slope: torch.Tensor) -> torch.Tensor:
        return slope / 2


class _Wrong(Scaled):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _Halved.apply(self.layer(x))
        return out


def test_a_backward_pass_that_is_no_derivative_is_refused_as_ever() -> None:
    hessians = Hessians.of(solutions(_Wrong, count=3))
    with pytest.raises(ModelError):
        hessians.matvec(torch.ones(3, hessians[0].size))


class _Cubed(torch.autograd.Function):
    """Right alone; the batch rule forgets the derivative of all but the last."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        found: torch.Tensor = 3 * x**2 * slope
        return found

    @staticmethod
    def vmap(info: object, ways: tuple[int], x: torch.Tensor) -> tuple[torch.Tensor, int]:
        rows = x.movedim(ways[0], 0)
        return torch.cat([rows[:1] ** 3, rows[1:-1].detach() ** 3, rows[-1:] ** 3]), 0


class _Through(Scaled):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _Cubed.apply(self.layer(x))
        return out


def test_every_network_with_code_of_its_own_is_put_to_the_proof() -> None:
    held = solutions(_Through)
    hessians = Hessians.of(held)
    assert hessians.num_joint == 0
    vectors = drawn(hessians)
    true = torch.stack([dense_hessian(each) @ vector for each, vector in zip(held, vectors, strict=True)])
    torch.testing.assert_close(hessians @ vectors, true, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("own", "num_joint"), [(False, 4), (True, 0)])
def test_the_row_of_the_padding_stands_still_in_every_network(own: bool, num_joint: int) -> None:
    torch.manual_seed(0)
    held, x, y = [], torch.randint(0, 3, (8, 5)), torch.randint(0, 4, (8,))
    for _ in range(4):
        x = torch.randint(0, 3, (8, 5)) if own else x
        module = nn.Sequential(nn.Embedding(3, 2, padding_idx=1), nn.Flatten(), nn.Linear(10, 4)).double()
        held.append(solution_of(module.eval(), nn.CrossEntropyLoss(), train=(x, y)))
    hessians = Hessians.of(held)
    assert hessians.num_joint == num_joint
    vectors = drawn(hessians)
    true = torch.stack([dense_hessian(each) @ vector for each, vector in zip(held, vectors, strict=True)])
    torch.testing.assert_close(hessians @ vectors, true, rtol=1e-9, atol=1e-11)


def wide() -> nn.Module:
    """Of 324 parameters, so that nothing is written out."""
    return nn.Sequential(nn.Linear(3, 40), nn.Tanh(), nn.Linear(40, 4))


def _objectives(count: int = 4) -> list[Objective]:
    return [objective_of(each) for each in solutions(wide, count=count)]


def test_eigenpairs_in_step_are_those_of_each() -> None:
    objectives = _objectives()
    found = in_step(
        objectives, lambda place, hessian: finding(hessian, largest=3, smallest=1, rng=Rng(0)), "eigenvalues"
    )
    for objective, together in zip(objectives, found, strict=True):
        alone = eigenpairs(Hessian(objective), largest=3, smallest=1, rng=Rng(0))
        assert together is not None and together.converged and alone.converged
        torch.testing.assert_close(
            torch.from_numpy(together.largest.values), torch.from_numpy(alone.largest.values), rtol=1e-3, atol=1e-6
        )


def test_traces_in_step_are_those_of_each() -> None:
    """With the same probes, so they agree far better than either knows the trace."""
    objectives = _objectives()
    found = in_step(
        objectives, lambda place, hessian: tracing(hessian, num_probes=24, rng=Rng(0), method="auto"), "trace"
    )
    for objective, together in zip(objectives, found, strict=True):
        alone = trace(Hessian(objective), num_probes=24, rng=Rng(0), method="auto")
        assert together is not None
        assert together.value == pytest.approx(alone.value, rel=1e-8)
        assert together.num_products == alone.num_products == 24


def test_whoever_goes_alone_is_not_asked() -> None:
    objectives = [*_objectives(3), objective_of(solutions(normalised, count=1)[0])]
    found = in_step(objectives, lambda place, hessian: tracing(hessian, num_probes=4, rng=Rng(0)), "trace")
    assert [each is None for each in found] == [False, False, False, True]


def test_a_loss_that_looks_at_its_targets_is_that_of_each() -> None:

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, y) if bool((y >= 0).all()) else outputs.sum()

    torch.manual_seed(0)
    x, y = torch.randn(8, 3), torch.randint(0, 4, (8,))
    held = [solution_of(small(), loss, train=(x, y)) for _ in range(3)]
    hessians = Hessians.of(held)
    vectors = drawn(hessians).float()
    for place, each in enumerate(held):
        true = dense_hessian(each) @ vectors[place].double()
        torch.testing.assert_close((hessians @ vectors)[place].double(), true, rtol=1e-3, atol=1e-5)
