"""What every model must do: the same net for the same stream, honest about its layers, defined in eval mode."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch

from vallis.core import tree
from vallis.core.errors import UsageError
from vallis.core.functional import call
from vallis.core.own import coordinates
from vallis.core.protocols import Model, Problem
from vallis.core.rng import Rng
from vallis.core.spec import name_of
from vallis.core.types import Net, Task
from vallis.testing.awkward.binary_perceptron import SignPatterns
from vallis.testing.awkward.graphs import CyclesAndPaths
from vallis.testing.conformance.parts import Broken, Check, is_quick, require, untouched_surroundings
from vallis.testing.toys.problems import Bars, Blobs, LinearRegression

TRAITS = frozenset(
    {
        "differentiable",
        "smooth",
        "homogeneous",
        "binary",
        "recurrent",
        "convolutional",
        "attention",
        "normalised",
        "feedforward",
    }
)
_RNG = Rng(0).child("model")
# A model is built on the first of these that it takes; the cheapest come first.
PROBLEMS: tuple[Problem, ...] = (
    Blobs(),
    Bars(num_train=8, num_test=4),
    Bars(num_train=8, num_test=4, channels=3, size=28),
    SignPatterns(num_inputs=21),
    LinearRegression(),
    CyclesAndPaths(num_train=8, num_test=4),
)


def is_a_model(part: Any) -> None:
    """It offers what the protocol asks for, and fits one of the toy problems."""
    require(isinstance(part, Model), f"{name_of(part)} must have version and build")
    _fitting(part)


def same_stream_same_net(part: Any) -> None:
    """Built twice it has the same weights; nothing global changes, and neither do the data."""
    tasks, net = _fitting(part)
    data = tree.fingerprint([list(split) for split in tasks[0].splits.values()])
    with untouched_surroundings(f"{name_of(part)}.build"):
        again = part.build(tasks, _RNG)
    require(_bits(net) == _bits(again), f"{name_of(part)} must have the same weights for the same stream")
    require(again.module is not net.module, f"{name_of(part)} must build a module of its own every time")
    require(data == tree.fingerprint([list(split) for split in tasks[0].splits.values()]), "it changed the data")


def layers_own_the_parameters(part: Any) -> None:
    """Every parameter belongs to one layer, every layer is a module, and every trait is a known word."""
    _, net = _fitting(part)
    modules = dict(net.module.named_modules())
    owned = [name for layer in net.layers for name in layer.parameters]
    names = [name for name, _ in net.module.named_parameters()]
    require(sorted(owned) == sorted(names), f"{name_of(part)} must give each parameter to one layer: {owned}, {names}")
    for layer in net.layers:
        require(layer.name in modules, f"layer {layer.name} must be a module")
        require(type(modules[layer.name]).__name__ == layer.kind, f"layer {layer.name} is no {layer.kind}")
    require(net.traits <= TRAITS, f"traits must be among {sorted(TRAITS)}, {sorted(net.traits - TRAITS)} came")


def eval_mode_is_a_function(part: Any) -> None:
    """In eval mode the loss is finite, twice the same and, where it says so, differentiable; buffers stay."""
    tasks, net = _fitting(part)
    module = copy.deepcopy(net.module).eval()
    params, buffers = coordinates(module)
    before = tree.fingerprint(buffers)
    batch, loss = next(iter(tasks[0].splits["train"])), tasks[0].loss
    with untouched_surroundings(f"{name_of(part)} in eval mode"):
        leaves = {name: value.requires_grad_() for name, value in params.items()}
        values = [loss.mean(call(module, leaves, buffers, batch.x), batch.y) for _ in range(2)]
    require(bool(values[0].isfinite()), f"{name_of(part)} must start with a finite loss, {values[0].item()} came")
    require(bool(values[0] == values[1]), f"{name_of(part)} must answer the same twice in eval mode")
    require(before == tree.fingerprint(buffers), f"{name_of(part)} must leave its buffers alone in eval mode")
    if "differentiable" in net.traits:
        slopes = torch.autograd.grad(values[0], list(leaves.values()), allow_unused=True)
        reached = [slope is not None and bool(slope.isfinite().all()) for slope in slopes]
        require(all(reached), f"{name_of(part)} must have a finite gradient by every parameter")


def is_called_as_it_says(part: Any) -> None:
    """An answer for every example, whichever others stand in the batch."""
    tasks, net = _fitting(part)
    module, batch = copy.deepcopy(net.module).eval(), next(iter(tasks[0].splits["train"]))
    params, buffers = coordinates(module)
    chosen = torch.arange(1, 4)
    with torch.no_grad():
        whole = tree.tensors(call(module, params, buffers, batch.x))[0]
        some = tree.tensors(call(module, params, buffers, tree.take(batch.x, chosen)))[0]
    require(
        len(whole) == len(batch), f"{name_of(part)} must answer for each of {len(batch)} examples, {len(whole)} came"
    )
    same = torch.allclose(whole[chosen], some, rtol=1e-3, atol=1e-5)
    require(same, f"{name_of(part)} must answer for an example alone what it answers in a batch, in eval mode")


def builds_quickly(part: Any) -> None:
    """The tiny settings build in under a second."""
    tasks, _ = _fitting(part)
    is_quick(f"{name_of(part)}.build", lambda: part.build(tasks, _RNG))


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        is_a_model,
        same_stream_same_net,
        layers_own_the_parameters,
        eval_mode_is_a_function,
        is_called_as_it_says,
        builds_quickly,
    )
}


@cache
def grounds() -> tuple[tuple[Task, ...], ...]:
    """The toy problems, built."""
    return tuple(problem.build(Rng(0).child("problem")) for problem in PROBLEMS)


def fitting(part: Any) -> Iterator[tuple[tuple[Task, ...], Net]]:
    """The toy problems that a model takes, each with its net there; one it cannot take it refuses in one sentence."""
    for tasks in grounds():
        try:
            net = part.build(tasks, _RNG)
        except UsageError:
            continue
        yield tasks, net


def _fitting(part: Any) -> tuple[tuple[Task, ...], Net]:
    for found in fitting(part):
        return found
    raise Broken(f"{name_of(part)} must fit one of the toy problems in vallis.testing: add one that it takes")


def _bits(net: Net) -> str:
    return tree.fingerprint(dict(net.module.state_dict()))
