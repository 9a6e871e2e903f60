"""What a network, a loss and data from outside must be before they are measured, proved on their first batches.

The network must answer twice alike, targets must be in range, the loss must be the mean over what it counts, and
weights must act through the network alone. What could make every later number wrong is refused, in one sentence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from vallis.core import tree
from vallis.core.errors import DataError, LossError, ModelError, VallisError
from vallis.core.losses import Loss
from vallis.core.objective import Objective
from vallis.core.own_hooks import WatchedHooks
from vallis.core.own_loss import OwnLoss, shapes
from vallis.core.own_mixing import must_answer_alone, must_normalise_alone
from vallis.core.types import Batch, Data, Solution

_PROBED_BATCHES = 4
_NUDGE = 0.01  # relative to a weight, or to one where that is larger
_LESS = 16  # times smaller is a second nudge: slopes follow it, jumps do not
_RUNS_AGAIN = "vallis: what is saved for the way back may not be computed anew"
# Which axes of inputs and targets may hold the examples: the first, or the second where time comes first.
_EXAMPLE_AXES = ((0, 0), (1, 0), (1, 1))


def proved(solution: Solution, original: nn.Module) -> Solution:
    """The solution, with the kind of its loss and the traits of its net as they showed.

    Args:
        solution: with a copy of the module.
        original: the module that was copied.

    Raises:
        ModelError: the network cannot be called, normalises by the batch at hand, changes its buffers or weights,
            answers differently when asked twice, its weights act on the loss in another way, too, one acts on the
            outputs without a gradient, or a hook changes slopes.
        LossError: the loss is no mean over what it counts, is not finite, or raises when differentiated.
        DataError: targets are out of range, or none counts.
    """
    task, net = solution.task, solution.net
    train = Objective(solution)
    first = next(train.batches())
    buffers, weights = tree.fingerprint(train.buffers), [value.clone() for value in train.origin]
    outputs = _answer(train, first, "train")
    _must_repeat(train, first, outputs, buffers)
    loss = _with_kind(task.loss, outputs, first.y)
    for split in task.splits:
        objective = Objective(solution, split)
        _targets_in_range(loss, outputs, objective.data, split)
        counted = next((batch for batch in objective.batches() if loss.weight(batch.y) > 0), None)
        if counted is None:
            raise DataError(f"one counted target was required, {split} has none: check weight= or ignore_index")
        for batch in _telling_batches(objective):
            _must_be_mean(objective, loss, batch, split)
        if split == "train" and not _depends_on_weights(objective, loss, counted, original):
            net = replace(net, traits=net.traits - {"differentiable", "smooth"})
    _must_stand_still(train, weights)
    return replace(solution, net=net, tasks=(replace(task, loss=loss),))


def _telling_batches(objective: Objective) -> list[Batch]:
    """The first batches, and the next that hold targets that may not count."""
    first = list(itertools.islice(objective.batches(), _PROBED_BATCHES))
    later = itertools.islice(objective.batches(), _PROBED_BATCHES, None)
    negative = (b for b in later if any(not t.is_floating_point() and bool((t < 0).any()) for t in tree.tensors(b.y)))
    return first + list(itertools.islice(negative, 2))


def _answer(objective: Objective, batch: Batch, split: str) -> Any:
    try:
        with torch.no_grad():
            return objective.outputs_at(objective.origin, batch)
    except VallisError:
        raise
    except Exception as error:
        must_normalise_alone(objective.module)
        advice = _advice(batch.x, objective.dtype) or "use inputs= to say how it is called"
        raise ModelError(
            f"{type(objective.module).__name__} must take the inputs of {split}, {shapes(batch.x)} came and it "
            f"raised {type(error).__name__}: {str(error).partition(chr(10))[0]}; {advice}"
        ) from error


def _advice(x: Any, dtype: torch.dtype) -> str:
    """What to do about inputs in one tensor that are of another type than the weights; empty where they are not."""
    if not isinstance(x, torch.Tensor) or x.dtype == dtype:
        return ""
    name = str(dtype).removeprefix("torch.")
    return f"its weights are {name}: give inputs of that type, x.to(torch.{name})"


def _must_repeat(objective: Objective, batch: Batch, outputs: Any, buffers: str) -> None:
    again = _answer(objective, batch, "train")
    if tree.fingerprint(objective.buffers) != buffers:
        raise ModelError(
            "a model that leaves its buffers alone in eval mode was required, this one changes them at every call: "
            "keep counters and caches out of its buffers"
        )
    if not tree.tensors(outputs):
        raise ModelError(
            f"a model that returns tensors was required, it returned a {type(outputs).__name__}: return its predictions"
        )
    pairs = itertools.zip_longest(tree.tensors(outputs), tree.tensors(again))
    if not all(one is not None and two is not None and _close(one, two) for one, two in pairs):
        raise ModelError(
            "the same answer to the same batch was required, two calls in eval mode differ: "
            "switch off whatever is random in the forward pass"
        )


def _must_stand_still(objective: Objective, weights: Sequence[torch.Tensor]) -> None:
    """Refuses a network whose calls move its weights: every later number would be of others than it was given."""
    pairs = zip(objective.names, objective.origin, weights, strict=True)
    moved = next((name for name, now, before in pairs if not _close(now, before)), None)
    if moved is not None:
        raise ModelError(
            f"a model that leaves its weights alone was required, calls change {moved}: where it is an Embedding with "
            "max_norm, call the model once on all data under torch.no_grad() before, or set max_norm to None"
        )


def _close(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Equal, but for the rounding of kernels that add in no fixed order."""
    if one.shape != two.shape:
        return False
    tolerance = 1e-5 if one.dtype.itemsize >= 4 else 1e-2
    exact = torch.complex128 if one.is_complex() else torch.float64
    return torch.allclose(one.to(exact), two.to(exact), rtol=tolerance, atol=tolerance, equal_nan=True)


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
        or scores.is_complex()
        or scores.shape[1] < 2
        or y.dtype != torch.int64
        or y.shape != scores.shape[:1]
    ):
        return loss
    if not bool(((y >= 0) & (y < scores.shape[1])).all()):
        return loss
    # A hinge is no likelihood: nats are said of what is cross-entropy on the first batch.
    entropy = F.cross_entropy(scores.double(), y)
    is_entropy = bool(torch.isclose(loss.mean(outputs, y).double(), entropy, rtol=1e-3, atol=1e-6))
    return replace(loss, kind="categorical", unit=None if is_entropy else "1")


def _targets_in_range(loss: Loss, outputs: Any, data: Data, split: str) -> None:
    scores = loss.scores(outputs)
    if loss.kind == "binary":
        highest, wanted = 1, "targets from 0 to 1 were required"
    elif loss.kind == "categorical" and scores is not None and scores.ndim > 1:
        highest = scores.shape[1] - 1
        wanted = f"classes 0 to {highest} were required (the model has {scores.shape[1]} outputs)"
    else:
        return
    ignored = getattr(getattr(loss, "loss", loss), "ignore_index", None)
    for batch in data:
        y = batch.y
        if not isinstance(y, torch.Tensor) or (loss.kind == "categorical" and y.is_floating_point()):
            return
        wrong = y[(y > highest) | (y < 0)]
        if loss.kind == "categorical":  # a function of the user's may ignore any negative class
            wrong = wrong[wrong != ignored] if ignored is not None else wrong[wrong >= 0]
        if len(wrong):
            raise DataError(
                f"{wanted}, {split} holds {wrong[0].item()}: check the labels or the width of the last layer"
            )


def _must_be_mean(objective: Objective, loss: Loss, batch: Batch, split: str) -> None:
    """The loss of the batch must be finite, and the weighted mean of the losses of its parts when it is cut in two."""
    weight = loss.weight(batch.y)
    if not weight > 0:
        return
    must_normalise_alone(objective.module)  # where all losses are next to zero those of the parts add up all the same
    outputs = _answer(objective, batch, split)
    whole = _mean(loss, outputs, batch.y)
    if not math.isfinite(whole):
        raise LossError(f"a finite loss was required, {split} gives {whole}: check the scale of inputs and weights")
    floating = [leaf.detach() for leaf in tree.tensors(outputs) if leaf.is_floating_point() and leaf.numel()]
    scale = 1 + max((float(leaf.abs().nan_to_num(0, 0).max()) for leaf in floating), default=0.0)
    rounding = 10 * torch.finfo(objective.dtype).eps * scale
    trouble: VallisError | None = None
    for pairs in _cuts(batch):
        try:
            for parts in pairs:
                answers = [_answer(objective, part, split) for part in parts]
                losses = _losses(loss, parts, answers)
                _must_add_up(whole, weight, losses, rounding, split)
                if max(abs(whole), *(abs(value) for value, _ in losses)) <= rounding:
                    must_answer_alone(objective, loss, outputs, answers, split)
        except VallisError as error:
            trouble = trouble or error
        else:
            return
    if trouble is not None:
        raise trouble


def _losses(loss: Loss, parts: tuple[Batch, Batch], answers: Sequence[Any]) -> list[tuple[float, float]]:
    """The loss and the weight of each part that counts."""
    weighed = [(part, answer, loss.weight(part.y)) for part, answer in zip(parts, answers, strict=True)]
    return [(_mean(loss, answer, part.y), weight) for part, answer, weight in weighed if weight > 0]


def _mean(loss: Loss, outputs: Any, y: Any) -> float:
    with torch.no_grad():  # the loss may have parameters of its own
        return float(loss.mean(outputs, y))


def _cuts(batch: Batch) -> Iterator[list[tuple[Batch, Batch]]]:
    """The batch in two uneven parts, in two places, along every axis that may hold its examples."""
    if tree.length(batch.x) == tree.length(batch.y) == 1:
        return
    for x_axis, y_axis in _EXAMPLE_AXES:
        size = _size(batch.y, y_axis)
        if size is None or size < 2 or _size(batch.x, x_axis) != size:
            continue
        places = sorted({max(1, size // 3), min(2, size - 1)})
        yield [(_part(batch, x_axis, y_axis, 0, at), _part(batch, x_axis, y_axis, at, size)) for at in places]


def _must_add_up(whole: float, weight: float, losses: list[tuple[float, float]], rounding: float, split: str) -> None:
    weighted = sum(value * counted for value, counted in losses) / weight
    if abs(weighted - whole) <= 1e-4 * max(abs(whole), abs(weighted)) + rounding:
        return
    adds_up = abs(sum(value for value, _ in losses) - whole) <= 1e-4 * abs(whole) + rounding
    raise LossError(
        f"a mean over the batch was required, but a batch of {split} has loss {whole:.6g} and the weighted mean over "
        f"its two parts is {weighted:.6g}: "
        + (
            "it adds up examples, so divide it by their number (reduction='mean')"
            if adds_up
            else "say what it counts with weight=lambda targets: ..., and keep examples from mixing in the model"
        )
    )


def _size(held: Any, axis: int) -> int | None:
    if axis == 0:
        return tree.length(held)
    sizes = {leaf.shape[axis] if leaf.ndim > axis else -1 for leaf in tree.tensors(held)}
    return sizes.pop() if len(sizes) == 1 else None


def _part(batch: Batch, x_axis: int, y_axis: int, start: int, stop: int) -> Batch:
    def cut(held: Any, axis: int) -> Any:
        if axis == 0:
            return tree.take(held, torch.arange(start, stop, device="cpu"))
        return tree.map_tensors(lambda leaf: leaf.narrow(axis, start, stop - start), held)

    return Batch(x=cut(batch.x, x_axis), y=cut(batch.y, y_axis), index=batch.index[start:stop])


def _depends_on_weights(objective: Objective, loss: Loss, batch: Batch, original: nn.Module) -> bool:
    """Whether the loss of a batch has a gradient by the weights of the copy, and by no others of the same network.

    A forward pass that is run again on the way back would be so outside of `call`, with the weights of the template.
    """
    own = [value.detach().requires_grad_() for value in objective.origin]
    others = {name: value for name, value in original.named_parameters() if value.requires_grad}
    hooks = WatchedHooks()
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks(_RUNS_AGAIN), hooks:
            value = loss.mean(objective.outputs_at(own, batch), batch.y)
        if not value.requires_grad:
            return False
        found = torch.autograd.grad(value, [*own, *others.values()], allow_unused=True)
    except VallisError:
        raise
    except Exception as error:
        if _RUNS_AGAIN in str(error):
            raise ModelError(
                f"a forward pass that runs once was required, {type(original).__name__} checkpoints its activations "
                "and would run again with its old weights: switch that off, as in gradient_checkpointing_disable()"
            ) from error
        raise LossError(
            "a loss that can be differentiated was required, going back through it raised "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}; check the types of outputs and targets, "
            "and switch off activation checkpointing"
        ) from error
    if hooks.answered:
        raise ModelError(
            f"slopes that pass as they are were required, a hook that the forward pass of {type(original).__name__} "
            "puts on a tensor returns others: put it there in training only, if self.training, or return None from it"
        )
    read = [name for name, slope in zip(others, found[len(own) :], strict=True) if slope is not None]
    if read:
        raise ModelError(
            f"weights that act through the network alone were required, but {read[0]} is also read by the loss, a hook "
            "or a patched forward: leave weight decay out of the loss, and patch the class instead of the module"
        )
    slopes = found[: len(own)]
    if any(slope is not None for slope in slopes):
        _must_not_be_cut(objective, batch, slopes, original)
    return any(slope is not None for slope in slopes)


def _must_not_be_cut(
    objective: Objective, batch: Batch, slopes: Sequence[torch.Tensor | None], original: nn.Module
) -> None:
    """Refuses a weight on which the outputs depend and by which there is no gradient, though others have one.

    Such are the weights of a layer under reentrant checkpointing whose inputs need no gradient: every block of theirs
    would be zero. A weight that is never used, or only chooses (as by an argmax), has none in truth.
    """
    cut = [place for place, slope in enumerate(slopes) if slope is None]
    if not cut or not bool(_changes(objective, batch, cut).any()):
        return
    place = next((place for place in cut if _follow(objective, batch, place)), None)
    if place is None:
        return
    raise ModelError(
        f"a gradient by every weight that the outputs depend on was required, {objective.names[place]} of "
        f"{type(original).__name__} has none: something cuts it off, such as .detach(), or checkpoint(..., "
        "use_reentrant=True) on inputs without a gradient, so switch that off, or freeze the weight"
    )


def _follow(objective: Objective, batch: Batch, place: int) -> bool:
    """Whether outputs follow a small change of this weight: most of those that move do so in proportion.

    A choice that flips jumps instead: by as much for a change that is smaller, or not at all.
    """
    whole, small = (_changes(objective, batch, [place], times) for times in (1.0, 1 / _LESS))
    moved = whole > 0
    in_proportion = (small > whole / (4 * _LESS)) & (small < 4 * whole / _LESS)
    return bool(moved.any()) and float(in_proportion[moved].double().mean()) > 0.5


def _changes(objective: Objective, batch: Batch, places: list[int], times: float = 1.0) -> torch.Tensor:
    """By how much each of the outputs moves when these weights are nudged; 0 where it may be rounding."""
    moved = list(objective.origin)
    for place in places:
        value = moved[place]
        signs = 1 - 2 * (torch.arange(value.numel(), device=value.device) % 2).reshape(value.shape)
        moved[place] = value + times * _NUDGE * (1 + value.abs()) * signs
    with torch.no_grad():
        pair = [tree.tensors(objective.outputs_at(point, batch)) for point in (objective.origin, moved)]
    changes = [torch.zeros(0, dtype=torch.float64, device=objective.device)]
    for one, two in zip(*pair, strict=True):
        if one.is_floating_point() and one.shape == two.shape and one.numel():
            one, rounding = one.double().nan_to_num(0, 0), 4 * _LESS * torch.finfo(one.dtype).eps
            change = (two.double().nan_to_num(0, 0) - one).abs()
            changes.append(torch.where(change > times * rounding * one.abs().max(), change, 0.0).flatten())
    return torch.cat(changes)
