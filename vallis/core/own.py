"""The bring-your-own door: a network, a loss and data, as they are, become a `Solution`.

The network is copied at the door and the copy is put into eval mode, so that the caller's module, its mode, gradients,
buffers and hooks, and the random generators are exactly what they were. What could make every later number wrong is
refused here, in one sentence: NaN weights here, and in `vallis.core.own_proof` a network that answers differently
twice or a loss that is no mean.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from vallis.core import tree
from vallis.core.capture import layers_of, traits_of
from vallis.core.errors import ModelError, SettingsError
from vallis.core.functional import full_precision, preserving_global_state
from vallis.core.losses import Loss
from vallis.core.own_data import Reader
from vallis.core.own_loss import OwnLoss, adapt
from vallis.core.own_proof import proved
from vallis.core.types import Data, Net, Solution, Task


def solution_of(
    module: nn.Module,
    loss: Callable[..., Any],
    *,
    train: Any,
    test: Any = None,
    other_splits: Mapping[str, Any] | None = None,
    inputs: Callable[[Any], Any] | None = None,
    targets: Callable[[Any], Any] | None = None,
    outputs: Callable[[Any], Any] | None = None,
    weight: Callable[[Any], Any] | int | None = None,
    batch_size: int = 256,
    name: str = "",
) -> Solution:
    """Your own network where it stands.

    Args:
        module: any trained module, on any device; it is copied and comes back as it was.
        loss: ``(outputs, targets) -> mean``, a torch loss or a function of your own.
        train: ``(x, y)`` as tensors or arrays, a dict of them, a Dataset, a DataLoader, or a list of batches.
        test: the same, or None.
        other_splits: more data by the name of their split, each as for train: what measurements ask for by `split=`,
            or "true_labels", the training examples in their order with the labels that are right.
        inputs: from a batch to what the module is called with; a dict is handed over as keyword arguments and a tuple
            as positional ones where the forward signature takes them. Not needed for pairs (x, y).
        targets: from a batch to what the loss is given. Not needed for pairs (x, y).
        outputs: from what the module returns to what the loss is given, e.g. ``lambda returned: returned.logits``.
        weight: what the mean is over when it is not examples: ``targets -> number``, e.g. the count of tokens that are
            not ignored; an integer is the ignore_index. Torch's own losses need none.
        batch_size: for tensors and Datasets; a DataLoader keeps its own.
        name: what to call the data in the report.

    Returns:
        A solution with copies of all tensors, in eval mode.

    Raises:
        ModelError: the weights have NaN, none is trainable, the module cannot be called on the inputs, answers
            differently when asked twice, or its weights are also read from outside.
        LossError: the loss is not the mean over what it counts, or not finite.
        DataError: the data are empty, have NaN, targets out of range, or cannot be read twice.
        SettingsError: batch_size is no positive integer, or another split is called train, test or no identifier.
        DataChanged: two passes over the data saw different examples.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"a torch.nn.Module was required, a {type(module).__name__} came: wrap it in a Module")
    with preserving_global_state(), full_precision():
        own = owned(module)
        params, buffers = coordinates(own)
        dtype = next(iter(params.values())).dtype
        reader = Reader(inputs=inputs, targets=targets, batch_size=batch_size, dtype=dtype)
        splits = _read(reader, {"train": train, **({} if test is None else {"test": test}), **_named(other_splits)})
        task = Task(name=name or "own data", splits=splits, loss=adapt(loss, weight, outputs))
        net = Net(module=own, layers=layers_of(own), traits=traits_of(own))
        solution = Solution(net=net, params=params, buffers=buffers, tasks=(task,))
        return proved(solution, module)


def _named(other_splits: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The splits beside train and test, whose names are proved."""
    if other_splits is None:
        return {}
    if not isinstance(other_splits, Mapping):
        raise SettingsError(
            f"a dict from names to data was required as other_splits, a {type(other_splits).__name__} came: "
            'give such as {"true_labels": (x, true_labels)}'
        )
    for name in other_splits:
        if not isinstance(name, str) or not name.isidentifier():
            raise SettingsError(
                f"an identifier was required as the name of a split, {name!r} came: use letters, digits and _"
            )
        if name in ("train", "test"):
            raise SettingsError(f"splits beside train and test were required in other_splits, {name} came: use {name}=")
    return other_splits


def _read(reader: Reader, given: Mapping[str, Any]) -> dict[str, Data]:
    """All splits, whose examples are numbered from one to the next."""
    splits: dict[str, Data] = {}
    for name, data in given.items():
        splits[name] = reader.read(data, name, sum(map(len, splits.values())))
    return splits


def owned(module: nn.Module) -> nn.Module:
    """A copy of the module in eval mode that shares nothing with it; wrappers of torch.compile and DDP are taken off.

    Raises:
        ModelError: it cannot be copied, or has parameters that were never initialised.
    """
    while hasattr(module, "_orig_mod") or isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        module = module._orig_mod if hasattr(module, "_orig_mod") else module.module  # type: ignore[assignment]
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            "a Module with Python code was required, a ScriptModule came: give the module it was made from"
        )
    # Tensors that a forward pass left in the module have a graph and refuse to be copied; their values will do.
    memo: dict[int, Any] = {}
    for part in module.modules():
        for held in tree.tensors(dict(vars(part))):
            if not held.is_leaf:
                memo[id(held)] = held.detach().clone()
    try:
        copied = copy.deepcopy(module, memo).eval()
    except Exception as error:
        raise ModelError(
            f"a module that can be copied was required, copying {type(module).__name__} raised "
            f"{type(error).__name__}: {error}; remove what it holds beside tensors and modules"
        ) from error
    for part in copied.modules():
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
            # How a gradient is stored is no matter of the function, and one scaled by frequencies is not its gradient.
            part.sparse = part.scale_grad_by_freq = False
    return copied


def coordinates(module: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Copies of the trainable parameters, and of everything else the module needs; shared tensors appear once.

    Raises:
        ModelError: none is trainable, one is not initialised, complex, on no device, or not finite.
    """
    named = dict(module.named_parameters())
    for name, value in named.items():
        if isinstance(value, nn.parameter.UninitializedParameter) or value.is_meta:
            raise ModelError(f"initialised weights were required, {name} has no values: run or load the model first")
        if value.is_complex():
            raise ModelError(f"real weights were required, {name} is complex: store real and imaginary part")
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise ModelError(
                f"finite weights were required, {name} has {bad} NaN or infinite of {value.numel()}: "
                "the training has diverged, take an earlier checkpoint"
            )
    params = {k: v.detach().clone() for k, v in named.items() if v.requires_grad and v.is_floating_point()}
    if not params:
        raise ModelError(
            f"at least one trainable parameter was required, {type(module).__name__} has none: "
            "set requires_grad on what is to be examined"
        )
    frozen = {k: v.detach().clone() for k, v in named.items() if k not in params}
    return params, frozen | {k: v.detach().clone() for k, v in module.named_buffers()}


def digest(solution: Solution) -> str:
    """SHA-256 of the weights, the architecture in words, the loss in words and the data."""
    task = solution.task
    words = [repr(solution.net.module), repr(task.loss) if not _has_code(task.loss) else type(task.loss).__name__]
    words += [tree.fingerprint([*solution.params.values(), *solution.buffers.values()]), *solution.params]
    words += [f"{name}:{data.fingerprint()}" for name, data in sorted(task.splits.items())]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _has_code(loss: Loss) -> bool:
    return isinstance(loss, OwnLoss) or getattr(loss, "pick", None) is not None
