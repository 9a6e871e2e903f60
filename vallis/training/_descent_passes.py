"""Passes of a network in training over a batch, and over a whole split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from vallis.core import tree
from vallis.core.errors import LossError
from vallis.core.functional import arguments
from vallis.core.losses import Loss
from vallis.core.rng import Rng
from vallis.core.types import Batch
from vallis.numerics.scores import ignored_target, judge
from vallis.training._descent_state import State


def gradients(state: State, batch: Batch) -> tuple[torch.Tensor, Any]:
    """The mean loss of the batch and what the network returned; the gradients lie in the parameters.

    Made again at the same step, it draws the same noise and so is the same function of the weights.
    """
    for parameter in state.params.values():
        parameter.grad = None
    args, kwargs = arguments(state.module, batch.x)
    drawn = noise(state.rng.child("noise", state.step), state.device) if state.draws else nullcontext()
    with drawn, torch.enable_grad():
        outputs = state.module(*args, **kwargs)
        loss = state.task.loss.mean(outputs, batch.y)
        loss.backward()
    return loss.detach(), outputs


def each(state: State, outputs: Any, batch: Batch) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Loss and correctness of each example ``(B,)``, from the forward pass that was made anyway."""
    losses = None
    with torch.no_grad():
        if state.separable:
            try:
                losses = state.task.loss.per_example(outputs, batch.y)[0]
            except LossError:
                state.separable = False
        return losses, correct(state.task.loss, outputs, batch.y)


def correct(loss: Loss, outputs: Any, y: Any) -> torch.Tensor | None:
    """``(B,)`` bool, whether all targets of an example that count are classified rightly; None without classes.

    It is what `vallis.numerics.scores.judge` says, a tie being wrong, in the few operations that every step can afford.
    """
    scores = loss.scores(outputs)
    if scores is None or not isinstance(y, torch.Tensor):
        return None
    if loss.kind == "binary" and scores.numel() == y.numel() and y.ndim > 0:
        scores = scores.reshape(y.shape)
        return _of_examples(torch.where(y > 0.5, scores, -scores) > 0)
    if loss.kind != "categorical" or scores.ndim < 2 or scores.shape[1] < 2:
        return None
    if y.is_floating_point() and y.shape == scores.shape:
        y = y.argmax(1)
    if y.is_floating_point() or y.shape != scores.shape[:1] + scores.shape[2:]:
        return None
    classes = y.clamp(0, scores.shape[1] - 1)
    # Only the true class itself is not below its score: a rival that is NaN counts against it.
    right = (~(scores < scores.gather(1, classes.unsqueeze(1)))).sum(1) == 1
    right |= classes != y  # no class, so it does not count
    ignored = ignored_target(loss)
    if ignored is not None and ignored >= 0:
        right |= y == ignored
    return _of_examples(right)


def evaluate(state: State) -> tuple[float, float | None]:
    """Mean loss, and the share of counted targets that are classified rightly, on the train split in eval mode.

    The share is None where nothing is classified.
    """
    loss, total, weight, right, counted = state.task.loss, 0.0, 0.0, 0, 0
    state.module.eval()
    with torch.no_grad():
        for batch in state.data:
            x, y = tree.to(batch.x, state.device), tree.to(batch.y, state.device)
            args, kwargs = arguments(state.module, x)
            outputs = state.module(*args, **kwargs)
            share = loss.weight(y)
            if share > 0:
                total += share * loss.mean(outputs, y).item()
                weight += share
            judged = judge(loss, outputs, y)
            if judged is not None:
                right += int((judged.margins > 0).sum())
                counted += len(judged.margins)
    state.module.train()
    return total / weight, right / counted if counted else None


def _of_examples(right: torch.Tensor) -> torch.Tensor:
    return right if right.ndim == 1 else right.flatten(1).all(1)


@contextmanager
def noise(rng: Rng, device: torch.device) -> Iterator[None]:
    """Within it, torch's global generators stand at the start of this stream; after it, where they stood before."""
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        # Not torch.manual_seed: it would also seed every other device of the caller's.
        torch.default_generator.manual_seed(rng.seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(rng.seed)
        yield
