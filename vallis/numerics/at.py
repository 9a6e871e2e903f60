"""From whatever a caller has, a solution or a plain module with loss and data, to the loss surface around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vallis.core.errors import UsageError
from vallis.core.objective import Objective
from vallis.core.own import solution_of
from vallis.core.types import Solution
from vallis.numerics.surface import in_eval_mode

READING = frozenset({"split", "dtype", "inputs", "targets", "outputs", "weight", "batch_size"})


def objective_of(
    held: nn.Module | Solution | Objective,
    loss: Callable[..., Any] | None = None,
    data: Any = None,
    *,
    split: str = "train",
    dtype: torch.dtype | None = None,
    **how: Any,
) -> Objective:
    """The mean loss around a network, in eval mode with frozen buffers; the caller's module stays as it is.

    Args:
        held: a module, in any mode and also under `DistributedDataParallel` or `torch.compile`; or a solution.
        loss: for a module: ``(outputs, targets) -> mean``, a torch loss or a function of your own.
        data: for a module: ``(x, y)``, a Dataset, a DataLoader or a list of batches.
        split: of a solution, over which examples.
        dtype: compute in this floating type; None keeps the model's own, half precision raised to float32.
        **how: for a module: inputs, targets, outputs, weight and batch_size, as `vallis.core.own.solution_of` takes
            them.

    Raises:
        UsageError: loss or data are missing beside a module, or given beside a solution.
        ModelError: see `solution_of`, which also raises LossError, DataError and DataChanged.
        UnknownPart: the solution has no such split.
    """
    if isinstance(held, nn.Module):
        if loss is None or data is None:
            missing = " and ".join(name for name, value in (("loss", loss), ("data", data)) if value is None)
            raise UsageError(f"a loss and data were required beside a module, {missing} did not come: give (x, y)")
        return Objective(in_eval_mode(solution_of(held, loss, train=data, **how)), "train", dtype)
    if not isinstance(held, (Solution, Objective)):
        raise UsageError(
            f"a module, a Solution or an Objective was required, {type(held).__name__} came: give one of them"
        )
    if loss is not None or data is not None or how:
        raise UsageError(
            f"nothing was required beside a {type(held).__name__}, which has its own loss and data, but more came: "
            "leave it out, or give the module itself"
        )
    return held if isinstance(held, Objective) else Objective(in_eval_mode(held), split, dtype)
