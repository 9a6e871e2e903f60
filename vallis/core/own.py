"""The bring-your-own door: a network, a loss and data, as they are, become a `Solution`.

The network is copied at the door and the copy is put into eval mode, so that the caller's module, its mode, gradients,
buffers and hooks, and the random generators are exactly what they were. What could make every later number wrong is
refused here, in one sentence: NaN weights, a network that answers differently twice, a loss that is no mean.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vallis.core import tree
from vallis.core.capture import layers_of, traits_of
from vallis.core.errors import DataError, LossError, ModelError, VallisError
from vallis.core.functional import call, preserving_global_state
from vallis.core.losses import Loss
from vallis.core.own_data import Reader
from vallis.core.own_loss import OwnLoss, adapt, shapes
from vallis.core.types import Batch, Data, Net, Solution, Task

_PROBED_BATCHES = 4


def solution_of(
    module: nn.Module,
    loss: Callable[..., Any],
    *,
    train: Any,
    test: Any = None,
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
        ModelError: the weights have NaN, none is trainable, the module cannot be called on the inputs, or answers
            differently when asked twice.
        LossError: the loss is not the mean over what it counts, or not finite.
        DataError: the data are empty, have NaN, targets out of range, or cannot be read twice.
        DataChanged: two passes over the data saw different examples.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"a torch.nn.Module was required, a {type(module).__name__} came: wrap it in a Module")
    with preserving_global_state():
        own = owned(module)
        params, buffers = coordinates(own)
        dtype = next(iter(params.values())).dtype
        reader = Reader(inputs=inputs, targets=targets, batch_size=batch_size, dtype=dtype)
        splits: dict[str, Data] = {"train": reader.read(train, "train", 0)}
        if test is not None:
            splits["test"] = reader.read(test, "test", len(splits["train"]))
        task = Task(name=name or "own data", splits=splits, loss=adapt(loss, weight, outputs))
        net = Net(module=own, layers=layers_of(own), traits=traits_of(own))
        solution = Solution(net=net, params=params, buffers=buffers, tasks=(task,))
        return _proved(solution)


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
        return copy.deepcopy(module, memo).eval()
    except Exception as error:
        raise ModelError(
            f"a module that can be copied was required, copying {type(module).__name__} raised "
            f"{type(error).__name__}: {error}; remove what it holds beside tensors and modules"
        ) from error


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


def _proved(solution: Solution) -> Solution:
    """The solution, after its first batches have shown that network and loss are what they must be."""
    task = solution.task
    first = _on_device(next(iter(task.splits["train"])), solution)
    outputs = _answer(solution, first, "train")
    _must_repeat(solution, first, outputs)
    loss = _with_kind(task.loss, outputs, first.y)
    for name, data in task.splits.items():
        _targets_in_range(loss, outputs, data, name)
        for batch in _telling_batches(data):
            _must_be_mean(solution, loss, _on_device(batch, solution), name)
    return replace(solution, tasks=(replace(task, loss=loss),))


def _telling_batches(data: Data) -> list[Batch]:
    """The first batches, and the first that hold targets that may not count."""
    first = list(itertools.islice(data, _PROBED_BATCHES))
    negative = (b for b in data if any(not t.is_floating_point() and bool((t < 0).any()) for t in tree.tensors(b.y)))
    return first + [batch for batch in itertools.islice(negative, 2) if all(batch is not seen for seen in first)]


def _on_device(batch: Batch, solution: Solution) -> Batch:
    device = next(iter(solution.params.values())).device
    return Batch(x=tree.to(batch.x, device), y=tree.to(batch.y, device), index=batch.index)


def _answer(solution: Solution, batch: Batch, split: str) -> Any:
    try:
        with torch.no_grad():
            return call(solution.net.module, solution.params, solution.buffers, batch.x)
    except VallisError:
        raise
    except Exception as error:
        raise ModelError(
            f"{type(solution.net.module).__name__} must take the inputs of {split}, {shapes(batch.x)} came and it "
            f"raised {type(error).__name__}: {str(error).partition(chr(10))[0]}; use inputs= to say how it is called"
        ) from error


def _must_repeat(solution: Solution, batch: Batch, outputs: Any) -> None:
    before = tree.fingerprint(dict(solution.buffers))
    again = _answer(solution, batch, "train")
    if tree.fingerprint(dict(solution.buffers)) != before:
        raise ModelError(
            "a model that leaves its buffers alone in eval mode was required, this one changes them at every call: "
            "keep counters and caches out of its buffers"
        )
    if not tree.tensors(outputs):
        raise ModelError(
            f"a model that returns tensors was required, it returned a {type(outputs).__name__}: return its predictions"
        )
    if not all(_close(one, two) for one, two in zip(tree.tensors(outputs), tree.tensors(again), strict=True)):
        raise ModelError(
            "the same answer to the same batch was required, two calls in eval mode differ: "
            "switch off whatever is random in the forward pass"
        )


def _close(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Equal, but for the rounding of kernels that add in no fixed order."""
    if one.shape != two.shape:
        return False
    tolerance = 1e-5 if one.dtype.itemsize >= 4 else 1e-2
    return torch.allclose(one.double(), two.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def _with_kind(loss: Loss, outputs: Any, y: Any) -> Loss:
    """A function of the user's on logits (N, C) and classes (N,) is a classification, whatever it is called."""
    if not isinstance(loss, OwnLoss) or loss.kind != "other" or not isinstance(y, torch.Tensor):
        return loss
    try:
        scores = loss.scores(outputs)
    except LossError:
        return loss
    if (
        scores is None
        or scores.ndim != 2
        or scores.shape[1] < 2
        or y.dtype != torch.int64
        or y.shape != scores.shape[:1]
    ):
        return loss
    in_range = bool(((y >= 0) & (y < scores.shape[1])).all())
    return replace(loss, kind="categorical") if in_range else loss


def _targets_in_range(loss: Loss, outputs: Any, data: Data, split: str) -> None:
    scores = loss.scores(outputs)
    if loss.kind != "categorical" or scores is None or scores.ndim < 2:
        return
    num_classes = scores.shape[1]
    ignored = getattr(getattr(loss, "loss", loss), "ignore_index", None)
    for batch in data:
        y = batch.y
        if not isinstance(y, torch.Tensor) or y.is_floating_point():
            return
        wrong = y[(y >= num_classes) | (y < 0)]
        # A function of the user's may ignore any negative class.
        wrong = wrong[wrong != ignored] if ignored is not None else wrong[wrong >= 0]
        if len(wrong):
            raise DataError(
                f"classes 0 to {num_classes - 1} were required (the model has {num_classes} outputs), {split} holds "
                f"{int(wrong[0])}: check the labels or the width of the last layer"
            )


def _must_be_mean(solution: Solution, loss: Loss, batch: Batch, split: str) -> None:
    """The loss of the batch must be finite, and the weighted mean of the losses of its two uneven parts.

    Raises:
        LossError: it is not.
    """
    weight = loss.weight(batch.y)
    if not weight > 0:
        return
    whole = float(loss.mean(_answer(solution, batch, split), batch.y))
    if not math.isfinite(whole):
        raise LossError(f"a finite loss was required, {split} gives {whole}: check the scale of inputs and weights")
    size = len(batch)
    if size < 2 or tree.length(batch.x) != size or tree.length(batch.y) != size:
        return  # there is no axis to cut along
    weighted, parts = 0.0, []
    cut = max(1, size // 3)
    for positions in (torch.arange(cut), torch.arange(cut, size)):
        y = tree.take(batch.y, positions)
        share = loss.weight(y) / weight
        if share > 0:
            part = Batch(x=tree.take(batch.x, positions), y=y, index=batch.index[positions])
            parts.append(float(loss.mean(_answer(solution, part, split), y)))
            weighted += share * parts[-1]
    tolerance = 1e-3 if next(iter(solution.params.values())).dtype.itemsize >= 4 else 5e-2
    if abs(weighted - whole) <= tolerance * max(abs(whole), abs(weighted), 1e-3):
        return
    adds_up = abs(sum(parts) - whole) <= tolerance * abs(whole)
    raise LossError(
        f"a mean over the batch was required, but a batch of {split} has loss {whole:.6g} and the weighted mean over "
        f"its two parts is {weighted:.6g}: "
        + (
            "it adds up examples, so divide it by their number (reduction='mean')"
            if adds_up
            else "say what it counts with weight=lambda targets: ..., and keep examples from mixing in the model"
        )
    )


def _has_code(loss: Loss) -> bool:
    return isinstance(loss, OwnLoss) or getattr(loss, "pick", None) is not None
