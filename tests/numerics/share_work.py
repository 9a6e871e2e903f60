"""What the processes of the tests of shares do: data that were cut before, and what is wrong with some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from tests.numerics.parallel_work import few_products
from tests.numerics.solutions import built, classes, mlp, random, tokens
from vallis.core.errors import VallisError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.distributed import DataParallel, mean_gradient, mean_loss, sharded
from vallis.numerics.fisher import SampledFisher
from vallis.numerics.shards import shard
from vallis.numerics.surface import in_eval_mode

Tensors = dict[str, torch.Tensor]
LOSS = nn.CrossEntropyLoss()
DRAWN = {"rng": Rng(2), "num_draws": 2}
# The first of three has most examples and the last one none; of two, both have some.
CUTS = {1: [17], 2: [11, 6], 3: [13, 4, 0]}


def network() -> nn.Module:
    return built(lambda: nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))).double()


def whole() -> TensorDataset:
    return TensorDataset(random(17, 2).double(), classes(17))


def partly_ignored() -> TensorDataset:
    """Of the runs and of the strides that three processes take, one holds nothing that counts."""
    x, y = whole().tensors
    y = y.clone()
    y[2::3] = -100
    return TensorDataset(x, y)


class Some(IterableDataset[Any]):
    """A stream of one process's own examples."""

    def __init__(self, held: Dataset[Any], places: range) -> None:
        self.held, self.places = held, places

    def __iter__(self) -> Any:
        return (self.held[place] for place in self.places)


def places_of(rank: int, num_ranks: int) -> range:
    sizes = CUTS[num_ranks]
    return range(sum(sizes[:rank]), sum(sizes[: rank + 1]))


def cut_before(rank: int, num_ranks: int) -> Tensors:
    """Shares that the caller cut, in every form in which they come; the batches differ in size between processes."""
    module, dataset = network(), whole()
    own = places_of(rank, num_ranks)
    x, y = (part[own.start : own.stop] for part in dataset.tensors)
    size = rank + 2
    loader = DataLoader(Subset(dataset, own), batch_size=size)
    given: dict[str, Any] = {"tensors": (x, y), "dataset": Subset(dataset, own), "loader": loader, "list": list(loader)}
    if len(own):
        given["stream"] = DataLoader(Some(dataset, own), batch_size=size)
    else:
        given["stream"] = loader
    found = {}
    for name, data in given.items():
        found[name] = few_products(DataParallel.of(Hessian, module, LOSS, data, already_sharded=True))
        drawn = DataParallel.of(SampledFisher, module, LOSS, data, already_sharded=True, how=DRAWN)
        found[f"{name}.drawn"] = few_products(drawn)
    surface = sharded(module, LOSS, loader, already_sharded=True)
    found["loss"] = torch.tensor(mean_loss(surface), dtype=torch.float64)
    found["gradient"] = mean_gradient(surface)
    sampler: Any = DistributedSampler(dataset, num_replicas=num_ranks, rank=rank, shuffle=True, seed=3)
    sampled = DataLoader(dataset, batch_size=size, sampler=sampler)
    found["sampler"] = few_products(DataParallel.of(Hessian, module, LOSS, sampled, already_sharded=True))
    share = shard(Objective(in_eval_mode(mlp()), dtype=torch.float64), rank, num_ranks)
    found["surface"] = few_products(DataParallel.of(Hessian, share, already_sharded=True))
    return found


def ignored(rank: int, num_ranks: int) -> Tensors:
    """Shares of which some hold only targets that do not count."""
    module, dataset = network(), partly_ignored()
    own = range(rank, 17, num_ranks)
    strided = DataLoader(Subset(dataset, own), batch_size=4)
    sampler: Any = DistributedSampler(dataset, num_replicas=num_ranks, rank=rank, shuffle=False)
    found = {
        "plain": DataParallel.of(Hessian, module, LOSS, DataLoader(dataset, batch_size=4 + rank)),
        "sampler": DataParallel.of(Hessian, module, LOSS, DataLoader(dataset, batch_size=4, sampler=sampler)),
        "already": DataParallel.of(Hessian, module, LOSS, strided, already_sharded=True),
    }
    shares = torch.tensor([operator.share for operator in found.values()])
    return {name: few_products(operator) for name, operator in found.items()} | {"shares": shares}


def own_ignored(rank: int, num_ranks: int) -> Tensors:
    """The same with a loss of the user's own, whose kind shows only where something counts."""
    module, dataset = network(), partly_ignored()

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        kept = y >= 0
        return nn.functional.cross_entropy(outputs[kept], y[kept])

    count = lambda y: float((y >= 0).sum())  # noqa: E731
    loader = DataLoader(dataset, batch_size=6)
    objective = sharded(module, loss, loader, weight=count)
    return {"hessian": few_products(DataParallel(Hessian, objective)), "kind": torch.tensor(len(objective.loss.kind))}


def mistakes(rank: int, num_ranks: int) -> dict[str, str]:
    """What each process hears of data that are not what it takes them for, and that none waits."""
    module, dataset = network(), whole()
    x, y = dataset.tensors

    def heard(data: Any, held: Any = module, **more: Any) -> str:
        try:
            loss = LOSS if isinstance(held, nn.Module) else None
            DataParallel.of(Hessian, held, loss, data, **more)
        except (VallisError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def work(act: Callable[[], object]) -> str:
        try:
            act()
        except VallisError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def sampled(over: Dataset[Any] = dataset, **more: Any) -> DataLoader[Any]:
        sampler: Any = DistributedSampler(over, **{"num_replicas": num_ranks, "rank": rank, **more})
        return DataLoader(over, batch_size=4, sampler=sampler)

    mine = Subset(dataset, range(rank, 16, num_ranks))
    own = places_of(rank, num_ranks)
    moved = network()
    if rank == 1:
        with torch.no_grad():
            next(moved.parameters()).add_(1e-7)
    surface = Objective(in_eval_mode(mlp()))
    other = mlp() if rank == 0 else tokens()
    return {
        "tensors": heard((x[rank:16:num_ranks], y[rank:16:num_ranks])),
        "sizes": heard((x[own.start : own.stop], y[own.start : own.stop])),
        "dataset": heard(mine),
        "loader": heard(DataLoader(mine, batch_size=4)),
        "list": heard(list(sampled())),
        "batching": heard(list(DataLoader(dataset, batch_size=4 + rank))),
        "shared surface": heard(None, shard(surface, rank, num_ranks)),
        "solution": heard(None, other),
        "seed": heard(sampled(seed=rank)),
        "foreign sampler": heard(sampled(num_replicas=5, rank=rank)),
        "twice": heard(sampled(mine), already_sharded=True),
        "stream": heard(DataLoader(Some(dataset, own), batch_size=4)),
        "said by one": heard((x, y), already_sharded=rank == 1),
        "kinds": heard(DataLoader(dataset) if rank == 0 else (x, y)),
        "bad targets": heard((x, y + 9 * rank), already_sharded=True),
        "nothing": heard((x, y * 0 - 100), already_sharded=True),
        "no examples": heard((x[:0], y[:0]), already_sharded=True),
        "weights": heard((x, y), moved),
        "loss": work(lambda: mean_loss(sharded(moved, LOSS, (x, y)))),
        "gradient": work(lambda: mean_gradient(sharded(moved, LOSS, (x, y)))),
        "after": heard((x, y)),
    }
