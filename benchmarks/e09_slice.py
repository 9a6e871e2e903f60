"""E9: the loss on a grid of 25 by 25 points of a plane."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting
from benchmarks.ours import objective
from vallis.core.rng import Rng
from vallis.numerics.directions import filter_normalised
from vallis.numerics.slices import plane

SIDE, LIMIT = 25, 1e-6
STEPS = np.concatenate([-np.linspace(0, 1, SIDE // 2 + 1)[:0:-1], np.linspace(0, 1, SIDE // 2 + 1)])


def directions(setting: Setting) -> list[tuple[torch.Tensor, ...]]:
    at = objective(setting)
    return [filter_normalised(at.names, at.origin, Rng(0).child(name)) for name in ("first", "second")]


def _ours(setting: Setting) -> Callable[[], Answer]:
    at, (first, second) = objective(setting), directions(setting)
    return lambda: Answer(plane(at, first, second, STEPS, STEPS))


def _plain(setting: Setting) -> Callable[[], Answer]:
    """What a careful user writes: the weights are set anew in place at each point, and put back at the end."""
    module, batches, (first, second) = setting.module(), setting.batches(), directions(setting)
    num_examples = len(setting.data()[1])
    start = [value.detach().clone() for value in module.parameters()]

    def grid() -> Answer:
        found = np.zeros((SIDE, SIDE))
        with torch.no_grad():
            for row, b in enumerate(STEPS):
                for column, a in enumerate(STEPS):
                    for value, here, d, e in zip(module.parameters(), start, first, second, strict=True):
                        value.copy_(here + a * d + b * e)
                    for x, y in batches:
                        share = len(y) / num_examples
                        found[row, column] += share * nn.functional.cross_entropy(module(x), y).item()
            for value, here in zip(module.parameters(), start, strict=True):
                value.copy_(here)
        return Answer(found)

    return grid


def _peer(setting: Setting) -> Callable[[], Answer]:
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    x, y = setting.data()
    module, metric = setting.module(), Loss(nn.CrossEntropyLoss(), x, y)
    return lambda: Answer(
        np.asarray(loss_landscapes.random_plane(module, metric, distance=1, steps=SIDE, normalization="filter"))
    )


def judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    """The centre against the loss of the network."""
    centre = float(answer.value[SIDE // 2, SIDE // 2])
    error = abs(centre / setting.loss - 1)
    return Score(error=error, is_within=error <= LIMIT)


BENCHMARK = Benchmark(
    id="E9",
    title="The loss on a plane of 25 by 25 points",
    work="625 losses over all data, on two filter-normalised directions",
    limit=f"the centre is the loss of the network to {LIMIT:g}",
    target=0.8,
    settings=(Setting("D-MLP", 599),),
    contenders=(
        Contender("Vallis", "vallis", "ours", "plane(objective, first, second, steps, steps)", _ours),
        Contender(
            "loss-landscapes",
            "loss-landscapes",
            "peer",
            'random_plane(module, metric, distance=1, steps=25, normalization="filter")',
            _peer,
        ),
        Contender("plain loop", "torch", "peer", "value.copy_(here + a * d + b * e), then the loss", _plain),
    ),
    judge=judge,
    remarks=(
        "loss-landscapes 3.0.6 draws directions of its own, uniform in (0, 1), and its grid is sheared; "
        "its centre is not the network.",
    ),
)
