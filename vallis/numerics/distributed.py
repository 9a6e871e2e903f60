"""Data-parallel products: each process holds a part of the data, and all see the operator over the whole.

``A v = sum_r (w_r / w) A_r v`` over processes r with w_r counted units (examples, or tokens) each, so that neither an
uneven share, nor an empty one, nor their number changes a product by more than rounding. All processes get the same
bits and so take the same steps: eigenpairs, traces and densities run in lockstep, without knowing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vallis.core import tree
from vallis.core.errors import UsageError
from vallis.core.objective import Objective
from vallis.core.types import Solution
from vallis.numerics.data_share import share_surface
from vallis.numerics.operators import Operator
from vallis.numerics.ranks import Group, Ranks, must_count


class DataParallel(Operator):
    """An operator that is a mean over counted units, over the data of all processes.

    Every process makes it, with the same weights, and makes the same products in the same order.

    Args:
        kind: `Hessian`, `GaussNewton`, `Residual`, `Fisher`, or anything else that makes an operator of an objective.
        objective: this process's own: its share of the data, which may be empty.
        group: which processes; all if None.
        **how: what else `kind` takes, such as ``only=["head"]``.

    Attributes:
        local: this process's operator.
        share: w_r / w.

    Raises:
        UsageError: there is no process group, processes disagree on parameters or weights, another one failed, or no
            target counts on any.
    """

    def __init__(self, kind: Callable[..., Operator], objective: Objective, *, group: Group = None, **how: Any) -> None:
        self._ranks = Ranks(group, objective.device)
        self.local = self._ranks.together(lambda: kind(objective, **how))
        super().__init__(self.local.size, self.local.dtype, self.local.device)
        self.is_symmetric = self.local.is_symmetric
        self.share = share_of(objective, self._ranks)
        facts = {"number of parameters": self.size, "floating type": str(self.dtype), "weights": _weights(objective)}
        for what, held in facts.items():
            self._ranks.must_agree(what, held)

    @classmethod
    def of(
        cls,
        kind: Callable[..., Operator],
        held: nn.Module | Solution | Objective,
        loss: Callable[..., Any] | None = None,
        data: Any = None,
        *,
        group: Group = None,
        already_sharded: bool = False,
        how: dict[str, Any] | None = None,
        **read: Any,
    ) -> DataParallel:
        """The operator around a module or solution that every process has, with data that they are to share.

        Args:
            kind: see above.
            held: a module (also under `DistributedDataParallel`), a solution, or the objective over all data.
            loss: for a module.
            data: for a module: all of the data on every process, or a DataLoader, with a `DistributedSampler` or not.
            group: which processes; all if None.
            already_sharded: whether each process was given its own share of the data; see `sharded`.
            how: what `kind` takes beside the objective.
            **read: see `objective_of`.

        Raises:
            UsageError: see above, and `sharded`.
        """
        own = sharded(held, loss, data, group=group, already_sharded=already_sharded, **read)
        return cls(kind, own, group=group, **(how or {}))

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        own, error = torch.zeros_like(vector), None
        try:
            if self.share > 0:
                own = self.local.matvec(vector) * self.share
        except Exception as raised:  # the others wait for this process: they must hear of it
            error = raised
        self._must_be_in_step(vector, error)
        return self._ranks.sum(own)

    def _must_be_in_step(self, vector: torch.Tensor, error: Exception | None) -> None:
        """All processes multiply the same vector, and none has failed; else all raise.

        A vector is known by the sum of its entries and of their squares, as they come out on equal machines.
        """
        wide = vector.double() if vector.device.type != "mps" else vector
        signs = [float(error is not None), float(wide.sum()), float(wide @ wide)]
        found = self._ranks.gather(signs)
        if error is not None:
            raise error
        failed = found[:, 0].nonzero().reshape(-1).tolist()
        if failed:
            raise UsageError(f"a product on all processes was required, it failed on rank {failed[0]}: see its error")
        if not bool(((found == found[0]) | found.isnan()).all()):
            raise UsageError(
                "the same vector on all processes was required, others came: draw it from the same Rng, and call the "
                "same functions in the same order"
            )


def sharded(
    held: nn.Module | Solution | Objective,
    loss: Callable[..., Any] | None = None,
    data: Any = None,
    *,
    group: Group = None,
    already_sharded: bool = False,
    **read: Any,
) -> Objective:
    """The loss surface over this process's share of the data.

    Processes compare what they were given before it is cut: of a DataLoader, which each reads only as far as its own
    share goes, the number of examples and the content of some; of all else the whole content.

    Args:
        held: see `objective_of`.
        loss: see `objective_of`.
        data: see `objective_of`.
        group: which processes; all if None.
        already_sharded: what each process gives is its own share, of any size, also empty, or without a counted target;
            nothing is cut, and examples are numbered in the order of ranks (those of a solution or an objective keep
            their `Batch.index`). Of a `DistributedSampler`, which repeats or drops examples, the shares are made whole.
        **read: see `objective_of`.

    Raises:
        UsageError: there is no process group, processes were given different data and do not say that these are shares,
            another process could not read its own, or no target counts on any.
    """
    return share_surface(held, loss, data, Ranks(group, _device(held)), already_sharded, read)


def mean_loss(objective: Objective, group: Group = None) -> float:
    """The mean loss over the data of all processes; each gives its own objective, and gets the same number.

    Raises:
        UsageError: processes disagree on the weights, another one failed, or no target counts on any.
    """
    ranks = Ranks(group, objective.device)
    ranks.must_agree("weights", _weights(objective))
    share = share_of(objective, ranks)
    own = ranks.together(lambda: objective.value() if share > 0 else 0.0)
    return float(ranks.gather([own * share])[:, 0].sum())


def mean_gradient(objective: Objective, group: Group = None) -> torch.Tensor:
    """``(P,)`` the gradient of the mean loss over the data of all processes, with the same bits on each.

    Raises:
        UsageError: processes disagree on the weights, another one failed, or no target counts on any.
    """
    ranks = Ranks(group, objective.device)
    ranks.must_agree("weights", _weights(objective))
    share = share_of(objective, ranks)
    empty = torch.zeros(objective.num_parameters, dtype=objective.dtype, device=objective.device)
    return ranks.sum(ranks.together(lambda: objective.gradient() if share > 0 else empty) * share)


def share_of(objective: Objective, ranks: Ranks) -> float:
    """What part of all counted units this process has.

    Raises:
        UsageError: none counts on any process, or another one failed to count.
    """
    own = ranks.together(lambda: objective.counted)
    must_count(ranks, own)
    return own / float(ranks.gather([own])[:, 0].sum())


def _device(held: Any) -> torch.device:
    if isinstance(held, nn.Module):
        return next((value.device for value in held.parameters()), torch.device("cpu"))
    if isinstance(held, Solution):
        return next(iter(held.params.values())).device
    return torch.device(getattr(held, "device", "cpu"))


def _weights(objective: Objective) -> str:
    """Parameters and buffers in a few letters."""
    return tree.fingerprint([*objective.names, *objective.origin, *objective.buffers.values()])[:12]
