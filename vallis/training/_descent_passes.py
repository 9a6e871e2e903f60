"""Passes of a network in training over a batch, and over a whole split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from vallis.core import tree
from vallis.core.functional import arguments
from vallis.core.rng import Rng
from vallis.core.types import Batch
from vallis.numerics.scores import judge
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
