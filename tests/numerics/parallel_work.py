"""What the processes of the tests of data-parallel products do; it is imported by each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from tests.numerics.solutions import batch_norm, built, classes, mlp, random, regression, tokens
from vallis.core.errors import VallisError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.curvature import GaussNewton, Hessian
from vallis.numerics.distributed import DataParallel, mean_gradient, mean_loss, sharded
from vallis.numerics.fisher import EmpiricalFisher, Fisher, SampledFisher
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Operator, Shifted
from vallis.numerics.residual import Residual
from vallis.numerics.shards import shard
from vallis.numerics.surface import in_eval_mode
from vallis.numerics.trace import trace

Tensors = dict[str, torch.Tensor]
KINDS: dict[str, Callable[..., Operator]] = {
    "hessian": Hessian,
    "gauss_newton": GaussNewton,
    "residual": Residual,
    "fisher": Fisher,
    "sampled": partial(SampledFisher, rng=Rng(2), num_draws=2),
    "empirical": EmpiricalFisher,
    "per_example": partial(EmpiricalFisher, per="example"),
}
# With "two", the third process of three has no example; with "tokens", shares count different numbers of them.
SOLUTIONS: dict[str, Callable[[], Solution]] = {
    "mlp": mlp,
    "two": lambda: mlp(num_examples=2),
    "tokens": tokens,
    "regression": regression,
}


def surface(make: Callable[[], Solution], dtype: torch.dtype | None = torch.float64) -> Objective:
    return Objective(in_eval_mode(make()), dtype=dtype)


def few_products(operator: Operator) -> torch.Tensor:
    """``(P, 2)``: two random directions see every entry of the matrix."""
    return operator @ random(operator.size, 2, seed=11)


def answers(operator: Callable[..., Operator]) -> Tensors:
    """What is asked of an operator, by algorithms that know nothing of processes."""
    found = eigenpairs(operator(), largest=2, smallest=1, rng=Rng(0), dense_size=0, tolerance=1e-6)
    traced = trace(operator(), num_probes=5, rng=Rng(1), exact_size=0)
    return {
        "largest": torch.as_tensor(found.largest.values),
        "smallest": torch.as_tensor(found.smallest.values),
        "residuals": torch.as_tensor(found.largest.residuals),
        "vectors": torch.as_tensor(found.largest.vectors),
        "trace": torch.tensor(traced.value),
    }


def matrices(rank: int, num_ranks: int) -> Tensors:
    """Every kind on every solution, written out, and what the algorithms make of one."""
    found: Tensors = {}
    for name, make in SOLUTIONS.items():
        own = shard(surface(make), rank, num_ranks)
        for kind, operator in KINDS.items():
            found[f"{name}.{kind}"] = few_products(DataParallel(operator, own))
        found[f"{name}.loss"] = torch.tensor(mean_loss(own), dtype=torch.float64)
        found[f"{name}.gradient"] = mean_gradient(own)
    own = shard(surface(mlp), rank, num_ranks)
    found["block"] = few_products(DataParallel(Hessian, own, only=["2", "4.bias"]))
    found |= answers(lambda: DataParallel(Hessian, own))
    low = shard(surface(halved, None), rank, num_ranks)
    found["half"] = DataParallel(Hessian, low) @ random(61, seed=3)
    counting = Shifted(DataParallel(GaussNewton, own), 0.5)
    counting @ torch.ones(61, 3)
    found["num_products"] = torch.tensor([counting.num_products, counting.operator.num_products])
    found["share"] = torch.tensor(DataParallel(Hessian, shard(surface(tokens), rank, num_ranks)).share)
    return found


def halved() -> Solution:
    solution = mlp()
    return replace(solution, params={name: value.half() for name, value in solution.params.items()})


def plain() -> tuple[nn.Module, TensorDataset]:
    """A network in training mode, with dropout and batch normalisation."""
    module = built(
        lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.3), nn.Linear(4, 3))
    )
    return module.double().train(), TensorDataset(random(17, 2).double(), classes(17))


def loaders(rank: int, num_ranks: int) -> Tensors:
    """A user's own module and loader, as they are."""
    module, dataset = plain()
    sampler: Any = DistributedSampler(dataset, num_replicas=num_ranks, rank=rank, shuffle=True, seed=3)
    dropping: Any = DistributedSampler(dataset, num_replicas=num_ranks, rank=rank, shuffle=False, drop_last=True)
    wrapped = nn.parallel.DistributedDataParallel(module)
    loss = nn.CrossEntropyLoss()
    given = {
        "sampler": DataLoader(dataset, batch_size=4, sampler=sampler),
        "dropping": DataLoader(dataset, batch_size=4, sampler=dropping, drop_last=True),
        "plain": DataLoader(dataset, batch_size=5, shuffle=True),
        "tensors": dataset.tensors,
    }
    found = {name: few_products(DataParallel.of(Hessian, wrapped, loss, data)) for name, data in given.items()}
    drawn = {"rng": Rng(2), "num_draws": 2}
    for name, data in given.items():
        found[f"{name}.drawn"] = few_products(DataParallel.of(SampledFisher, module, loss, data, how=drawn))
    few = TensorDataset(*(part[:2] for part in dataset.tensors))
    sampler = DistributedSampler(few, num_replicas=num_ranks, rank=rank)
    found["few"] = few_products(DataParallel.of(Hessian, module, loss, DataLoader(few, sampler=sampler)))
    found["few.plain"] = few_products(DataParallel.of(Hessian, module, loss, DataLoader(few)))
    found["loss"] = torch.tensor(mean_loss(sharded(wrapped, loss, given["sampler"])), dtype=torch.float64)
    found["solution"] = few_products(DataParallel.of(Hessian, batch_norm(), dtype=torch.float64))
    assert module.training
    return found


def troubles(rank: int, num_ranks: int) -> dict[str, str]:
    """What each process hears when something is wrong on one of them."""
    own = shard(surface(mlp), rank, num_ranks)

    def heard(work: Callable[[], object]) -> str:
        try:
            work()
        except (VallisError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def failing(objective: Objective) -> Operator:
        if rank == 1:
            raise RuntimeError("the graph fell over")
        return Hessian(objective)

    class Falling(Hessian):
        def _product(self, vector: torch.Tensor) -> torch.Tensor:
            if rank == 1:
                raise RuntimeError("out of memory")
            return super()._product(vector)

    other = surface(mlp)
    if rank == 1:
        other.origin = tuple(value + 1e-9 for value in other.origin)
    hessian, falling = DataParallel(Hessian, own), DataParallel(Falling, own)
    nothing = surface(tokens)
    nothing = nothing.over(
        nothing.data.__class__(  # type: ignore[call-arg]
            x=nothing.data.x[:5],
            y=nothing.data.y[:5] * 0 - 100,
            index=torch.arange(5),  # type: ignore[attr-defined]
        )
    )
    return {
        "size": heard(lambda: DataParallel(Hessian, own, only=["0"] if rank == 1 else [])),
        "weights": heard(lambda: DataParallel(Hessian, shard(other, rank, num_ranks))),
        "making": heard(lambda: DataParallel(failing, own)),
        "product": heard(lambda: falling @ torch.ones(61)),
        "step": heard(lambda: hessian @ torch.ones(61).mul(rank + 1)),
        "data": heard(lambda: sharded(plain()[0], nn.CrossEntropyLoss(), None if rank == 1 else plain()[1].tensors)),
        "nothing": heard(lambda: DataParallel(Hessian, nothing)),
        "after": heard(lambda: hessian @ torch.ones(61)),  # and the group still works
    }
