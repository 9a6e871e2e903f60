"""Passes of a network in training over a batch, and over a whole split."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from vallis.core import tree
from vallis.core.functional import arguments, preserving_python_generators
from vallis.core.rng import Rng
from vallis.core.types import Batch
from vallis.numerics.scores import Judged, judge
from vallis.training._descent_state import State


def gradients(state: State, batch: Batch) -> tuple[torch.Tensor, Any]:
    """The mean loss of the batch and what the network returned; the gradients lie in the parameters.

    Made again at the same step, it draws the same noise and so is the same function of the weights.
    """
    if state.line is not None:
        return state.line.gradients(state.loss, batch, state.chance())
    for parameter in state.params.values():
        parameter.grad = None
    args, kwargs = arguments(state.module, batch.x)
    drawn = noise(state.rng.child("noise", state.step), state.device) if state.draws else nullcontext()
    with drawn, torch.enable_grad():
        outputs = state.module(*args, **kwargs)
        loss = state.loss.mean(outputs, batch.y)
        loss.backward()
    return loss.detach(), outputs


# So many examples are looked at before it is decided whether to look at more.
_AT_ONCE = 128


def all_right(state: State) -> bool | None:
    """Whether every counted target of the train split is classified rightly in eval mode: the first wrong one ends it.

    While a network learns, nearly every look ends after a few examples. None where nothing is classified.
    """
    counted = 0
    for positions in torch.arange(len(state.data), device="cpu").split(_AT_ONCE):
        _, judged = _looked_at(state, state.data.take(positions))
        if judged is None:
            return None
        if not bool((judged.margins > 0).all()):
            return False
        counted += len(judged.margins)
    return True if counted else None


def evaluate(state: State) -> tuple[float, float | None]:
    """Mean loss, and the share of counted targets that are classified rightly, on the train split in eval mode.

    The share is None where nothing is classified.
    """
    loss, total, weight, right, counted = state.task.loss, 0.0, 0.0, 0, 0
    for batch in state.data:
        (outputs, y), judged = _looked_at(state, batch)
        share = loss.weight(y)
        if share > 0:
            total += share * loss.mean(outputs, y).item()
            weight += share
        if judged is not None:
            right += int((judged.margins > 0).sum())
            counted += len(judged.margins)
    return total / weight, right / counted if counted else None


def _looked_at(state: State, batch: Batch) -> tuple[tuple[Any, Any], Judged | None]:
    """What the network says of a batch in eval mode, beside its targets; and how that is judged."""
    x, y = tree.to(batch.x, state.device), tree.to(batch.y, state.device)
    args, kwargs = arguments(state.module, x)
    state.module.eval()
    with torch.no_grad():
        outputs = state.module(*args, **kwargs)
    state.module.train()
    return (outputs, y), judge(state.task.loss, outputs, y)


@contextmanager
def noise(rng: Rng, device: torch.device) -> Iterator[None]:
    """Within it, the global generators of torch, Python and numpy stand at the start of this stream.

    After it, they stand where they stood before.
    """
    on_cuda = device.type == "cuda"
    with preserving_python_generators(), torch.random.fork_rng(devices=[device] if on_cuda else []):
        # Not torch.manual_seed: it would also seed every other device of the caller's.
        torch.default_generator.manual_seed(rng.seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(rng.seed)
        random.seed(rng.seed)
        np.random.seed(rng.seed % 2**32)  # noqa: NPY002
        yield
