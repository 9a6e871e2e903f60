"""Passes of a network in training over a batch, and over a whole split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vallis.core import tree
from vallis.core.errors import LossError
from vallis.core.functional import arguments
from vallis.core.losses import Loss
from vallis.core.rng import Rng
from vallis.core.types import Batch
from vallis.training._descent_state import State


def gradients(state: State, batch: Batch) -> tuple[torch.Tensor, Any]:
    """The mean loss of the batch and what the network returned; the gradients lie in the parameters.

    Made again at the same step, it draws the same noise and so is the same function of the weights.
    """
    for parameter in state.params.values():
        parameter.grad = None
    args, kwargs = arguments(state.module, batch.x)
    with noise(state.rng.child("noise", state.step), state.device), torch.enable_grad():
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
    """``(B,)`` bool, whether each example is classified rightly; None where nothing is classified.

    An example with several targets (tokens) is right when all of them that count are.
    """
    scores = loss.scores(outputs)
    if scores is None or not isinstance(y, torch.Tensor):
        return None
    if loss.kind == "categorical" and not y.is_floating_point() and scores.ndim == y.ndim + 1:
        right = scores.argmax(1) == y
        if right.ndim > 1:
            right = right | (y == getattr(loss, "ignore_index", -100))
    elif loss.kind == "binary" and scores.numel() == y.numel():
        right = (scores.reshape(y.shape) > 0) == (y > 0.5)
    else:
        return None
    return right if right.ndim == 1 else right.flatten(1).all(1)


def evaluate(state: State) -> tuple[float, float | None]:
    """Mean loss and accuracy on the whole train split of the present task, in eval mode.

    The accuracy is None where nothing is classified.
    """
    loss, total, weight, right = state.task.loss, 0.0, 0.0, 0.0
    classified = True
    state.module.eval()
    with torch.no_grad():
        for batch in state.data:
            x, y = tree.to(batch.x, state.device), tree.to(batch.y, state.device)
            args, kwargs = arguments(state.module, x)
            outputs = state.module(*args, **kwargs)
            counted = loss.weight(y)
            if counted > 0:
                total += counted * loss.mean(outputs, y).item()
                weight += counted
            found = correct(loss, outputs, y)
            classified = classified and found is not None
            right += 0.0 if found is None else float(found.sum())
    state.module.train()
    return total / weight, right / len(state.data) if classified else None


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
