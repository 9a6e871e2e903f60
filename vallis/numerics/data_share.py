"""The loss surface over one process's share of the data: cut from what all processes have, or cut before they came.

Nothing is cut that was cut already: before they share data, processes compare how many examples each was given, and
their content, and what differs is refused unless the caller says that these are shares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from vallis.core import tree
from vallis.core.capture import layers_of, traits_of
from vallis.core.data import Batches
from vallis.core.functional import full_precision, preserving_global_state
from vallis.core.objective import Objective
from vallis.core.own import coordinates, owned
from vallis.core.own_data import Reader
from vallis.core.own_loss import OwnLoss, adapt
from vallis.core.types import Data, Net, Solution, Task
from vallis.numerics.at import objective_of
from vallis.numerics.ranks import Ranks, must_count
from vallis.numerics.shards import Numbered, loader_of, order_of, probes_of, shard

_ADVICE = "give all of them all of the data, or say already_sharded=True if each was given a share of its own"
_TWICE = "leave the DistributedSampler out of a loader whose data were cut before"


def share_surface(
    held: nn.Module | Solution | Objective,
    loss: Callable[..., Any] | None,
    data: Any,
    ranks: Ranks,
    already_sharded: bool,
    read: dict[str, Any],
) -> Objective:
    """The surface over this process's share; see `vallis.numerics.distributed.sharded`.

    Raises:
        UsageError: processes were given other data or another `already_sharded`, another one failed, or nothing counts.
    """
    route = ranks.together(lambda: _route(held, loss, data, already_sharded))
    # Else they would go on to say different things to each other, and wait for answers.
    ranks.must_agree("way to share the data", route, "give all of them a DataLoader, or none, and one already_sharded")
    if route in ("a surface", "data"):
        whole = ranks.together(lambda: objective_of(held, loss, data, **read))
        _must_be_whole(ranks, len(whole.data), whole.data, _ADVICE)
        return ranks.together(lambda: shard(whole, ranks.rank, ranks.num_ranks))
    if route == "a surface over a share":
        return ranks.together(lambda: objective_of(held, loss, data, **read))
    module: Any = held
    if route == "a DataLoader":
        own, index = ranks.together(lambda: _from_loader(module, data, ranks, read))
        # A loader is read no further than its own share goes, so a few examples must stand for all.
        probes = ranks.together(lambda: _read(module, probes_of(data), read))
        _must_be_whole(ranks, len(data.dataset), probes, _advice(data, already_sharded))
        ranks.must_agree(*order_of(data))
    else:
        own = ranks.together(lambda: _read(module, data, read))
        index = _numbered_on(ranks, len(own))
    return _surface(module, loss, own, index, ranks, read)


def _route(held: Any, loss: Any, data: Any, already_sharded: bool) -> str:
    if not isinstance(held, nn.Module) or loss is None or data is None:
        objective_of(held, loss, data)  # which knows what is wrong, if anything
        return "a surface over a share" if already_sharded else "a surface"
    if isinstance(data, DataLoader) and (not already_sharded or order_of(data)[1]):
        return "a DataLoader"
    return "shares of data" if already_sharded else "data"


def _must_be_whole(ranks: Ranks, size: int, data: Data, advice: str) -> None:
    ranks.must_agree("data", f"{size} examples ({data.fingerprint()[:8]})", advice)


def _advice(loader: DataLoader[Any], already_sharded: bool) -> str:
    return _TWICE if already_sharded else f"{_ADVICE}; {_TWICE}" if order_of(loader)[1] else _ADVICE


def _from_loader(held: nn.Module, loader: DataLoader[Any], ranks: Ranks, read: dict[str, Any]) -> tuple[Data, Any]:
    own, index = loader_of(loader, ranks.rank, ranks.num_ranks)
    return (Batches(kept=()) if own is None else _read(held, own, read)), index


def _read(held: nn.Module, data: Any, read: dict[str, Any]) -> Data:
    """The data as a split, which may be empty: that of a process with nothing to do."""
    if _is_empty(data):
        return Batches(kept=())
    trained = [value for value in held.parameters() if value.requires_grad and value.is_floating_point()]
    dtype = trained[0].dtype if trained else torch.float32
    how = {name: read[name] for name in ("inputs", "targets", "batch_size") if name in read}
    return Reader(dtype=dtype, **how).read(data, "train", 0)


def _is_empty(data: Any) -> bool:
    if isinstance(data, DataLoader):
        return hasattr(data.dataset, "__len__") and len(data.dataset) == 0
    if isinstance(data, (tuple, dict)):
        sizes = [leaf.shape[0] for leaf in tree.leaves(data) if getattr(leaf, "shape", ())]
        return bool(sizes) and not any(sizes)
    return hasattr(data, "__len__") and len(data) == 0


def _numbered_on(ranks: Ranks, size: int) -> torch.Tensor:
    """``(n,)`` identities in the order of ranks, that no two examples share: what is drawn for one follows its own."""
    first = int(ranks.gather([size])[: ranks.rank, 0].sum())
    return torch.arange(first, first + size)


def _surface(held: Any, loss: Any, own: Data, index: torch.Tensor, ranks: Ranks, read: dict[str, Any]) -> Objective:
    """The surface over a share in which perhaps nothing counts; then there is nothing to prove the module on."""
    weighed = ranks.together(lambda: adapt(loss, read.get("weight"), read.get("outputs")))
    weight = ranks.together(lambda: float(sum(weighed.weight(batch.y) for batch in own)))
    working = must_count(ranks, weight)
    found = ranks.together(
        lambda: objective_of(held, loss, own, **read) if weight > 0 else _unproved(held, weighed, own, read)
    )
    found = found.over(Numbered(own, index))
    # What kind of loss a function of the user's is shows on the first batch: all go by the first that has one.
    kind = ranks.gather_objects(found.loss.kind)[working]
    if isinstance(found.loss, OwnLoss):
        found.loss = replace(found.loss, kind=kind)
    return found


def _unproved(held: nn.Module, loss: Any, own: Data, read: dict[str, Any]) -> Objective:
    with preserving_global_state(), full_precision():
        module = owned(held)
        params, buffers = coordinates(module)
        net = Net(module=module, layers=layers_of(module), traits=traits_of(module))
        task = Task(name="own data", splits={"train": own}, loss=loss)
        return Objective(Solution(net=net, params=params, buffers=buffers, tasks=(task,)), dtype=read.get("dtype"))
