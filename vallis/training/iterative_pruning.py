"""Lottery tickets: another training, over and over, the smallest weights removed and the rest put back to the start.

After each round but the last, `prune_fraction` of the weights that are left are removed, those of least magnitude over
all matrices and filters, and the others begin again at their initial values. In the last round what is left may be put
to two controls: other initial values under the same mask, or the initial values under a mask of random places.

Source: Frankle and Carbin (2019), The lottery ticket hypothesis: finding sparse, trainable neural networks, section 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch

from vallis.core.errors import SettingsError
from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.types import Net, Packed, Solution, StepInfo, Task
from vallis.problems._checks import check_choice, check_number, check_share
from vallis.training._nested import in_stage, only_task, pack_within, packed_within

Start = Literal["rewind", "reinitialise", "random_mask"]
Tensors = Mapping[str, torch.Tensor]


@dataclass(kw_only=True, eq=False)
class State:
    """Everything the next step depends on.

    Attributes:
        inner: the state of the training within.
        net: what is trained.
        tasks: what it learns.
        rng: streams of the whole.
        params: the initial weights.
        buffers: the initial rest.
        masks: of each weight that may be pruned, 1 where it is left.
        round: how many have ended.
        before: steps of the rounds that have ended.
        step: of all rounds.
        reason: why the whole is done; empty while it goes on.
    """

    inner: Any
    net: Net
    tasks: tuple[Task, ...]
    rng: Rng
    params: Tensors
    buffers: Tensors
    masks: dict[str, torch.Tensor]
    round: int = 0
    before: int = 0
    step: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class IterativePruning:
    """`base` in rounds, on fewer weights from round to round.

    Attributes:
        base: the training of a round, one that shows its weights, such as `gradient_descent`.
        num_rounds: how often weights are removed; there is one round more.
        prune_fraction: the share of the weights left that is removed.
        start: of the last round: "rewind" to the initial values; "reinitialise" shuffles these within each tensor;
            "random_mask" shuffles the places that are left.
        spare_output: leaves the weights of the last layer whole.
    """

    version: ClassVar[int] = 3

    base: Training
    num_rounds: int = 7
    prune_fraction: float = 0.2
    start: Start = "rewind"
    spare_output: bool = True

    def __post_init__(self) -> None:
        check_number("iterative_pruning.num_rounds", self.num_rounds)
        check_share("iterative_pruning.prune_fraction", self.prune_fraction, zero=False, one=False)
        check_choice("iterative_pruning.start", self.start, Start)

    @classmethod
    def tiny(cls) -> IterativePruning:
        """The cheapest settings, for tests."""
        from vallis.testing.awkward.company import StackedDescent

        return cls(base=StackedDescent(max_steps=3), num_rounds=1)

    def init(self, net: Net, params: Tensors, buffers: Tensors, tasks: tuple[Task, ...], rng: Rng) -> State:
        """The state before the first step.

        Raises:
            SettingsError: there are several tasks, nothing to prune, or `base` does not show its weights.
            DataError: there is nothing to train on.
            UsageError: `base` cannot train this.
        """
        only_task(tasks, "iterative_pruning")
        inner = self.base.init(net, params, buffers, tasks, rng.child("round", 0))
        if _weights_of(inner) is None:
            raise SettingsError(
                "a base that shows its weights was required by iterative_pruning, "
                f"{type(self.base).__name__} does not: choose gradient_descent"
            )
        first = self.base.solution(inner)
        weights = [name for name, value in first.params.items() if value.ndim > 1]
        chosen = weights[:-1] if self.spare_output else weights
        if not chosen:
            raise SettingsError("a weight to prune was required, none came: give a hidden layer, or spare_output=False")
        return State(
            inner=inner,
            net=net,
            tasks=tasks,
            rng=rng,
            params=first.params,
            buffers=first.buffers,
            masks={name: torch.ones_like(first.params[name]) for name in chosen},
        )

    def step(self, state: State) -> StepInfo:
        """One step of `base`, after which what was removed is zero again."""
        if state.reason:
            last = StepInfo(step=state.step, loss=math.nan, task=state.tasks[0].name, done=True, reason=state.reason)
            return in_stage(last, _round(state))
        info = in_stage(self.base.step(state.inner), _round(state))
        _keep_out(state)
        state.step = state.before + info.step
        if info.done and (state.round == self.num_rounds or info.reason == "diverged"):
            state.reason = info.reason
        elif info.done:
            self._begin_round(state)
        return replace(info, step=state.step, done=bool(state.reason), reason=state.reason)

    def solution(self, state: State) -> Solution:
        """Where the round stands; the step is that of all rounds."""
        return replace(in_stage(self.base.solution(state.inner), _round(state)), step=state.step)

    def pack(self, state: State) -> Packed:
        held = {"params": state.params, "buffers": state.buffers, "masks": state.masks}
        tensors = {f"{kind}/{name}": value.clone() for kind, part in held.items() for name, value in part.items()}
        values = {name: getattr(state, name) for name in ("round", "before", "step", "reason")}
        return pack_within(self.base.pack(state.inner), tensors, values)

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> State:
        values = packed.values
        stream = rng.child("round", values["round"])
        inner = self.base.unpack(packed_within(packed), net, tasks, stream)
        now = self.base.solution(inner)

        def kept(kind: str, like: Tensors) -> dict[str, torch.Tensor]:
            found = {name: packed.tensors.get(f"{kind}/{name}") for name in like}
            return {name: value.clone().to(like[name]) for name, value in found.items() if value is not None}

        return State(
            inner=inner,
            net=net,
            tasks=tasks,
            rng=rng,
            params=kept("params", now.params),
            buffers=kept("buffers", now.buffers),
            masks=kept("masks", now.params),
            **{name: values[name] for name in ("round", "before", "step", "reason")},
        )

    def _begin_round(self, state: State) -> None:
        trained = self.base.solution(state.inner).params
        state.masks = pruned(state.masks, trained, self.prune_fraction)
        state.round, state.before = state.round + 1, state.step
        stream, params = state.rng.child("round", state.round), dict(state.params)
        last = state.round == self.num_rounds
        if last and self.start == "random_mask":
            state.masks = {name: shuffled(mask, stream.child("mask", name)) for name, mask in state.masks.items()}
        if last and self.start == "reinitialise":
            params = {name: shuffled(value, stream.child("values", name)) for name, value in params.items()}
        params = {name: value * state.masks[name] if name in state.masks else value for name, value in params.items()}
        state.inner = self.base.init(state.net, params, state.buffers, state.tasks, stream)


def pruned(masks: Tensors, weights: Tensors, fraction: float) -> dict[str, torch.Tensor]:
    """The masks without the share of what is left that is smallest in magnitude, over all tensors.

    Of weights that are equally small the first go, so that no more are removed than was asked for.
    """
    sizes = torch.cat([weights[name].detach().abs()[mask > 0] for name, mask in masks.items()])
    kept = torch.ones_like(sizes)
    kept[sizes.argsort(stable=True)[: int(fraction * len(sizes))]] = 0
    parts = kept.split([int((mask > 0).sum()) for mask in masks.values()])
    found = {name: mask.clone() for name, mask in masks.items()}
    for mask, part in zip(found.values(), parts, strict=True):
        mask[mask > 0] = part.to(mask)
    return found


def shuffled(value: torch.Tensor, rng: Rng) -> torch.Tensor:
    """The entries of a tensor in random order."""
    order = torch.randperm(value.numel(), generator=rng.torch())
    return value.reshape(-1)[order.to(value.device)].view(value.shape)


def _round(state: State) -> str:
    return f"round {state.round + 1}"


def _weights_of(inner: Any) -> Tensors | None:
    """The weights that the training within steps, by name, where its state shows them."""
    found = getattr(inner, "params", getattr(inner, "weights", None))
    return found if isinstance(found, Mapping) else None


def _keep_out(state: State) -> None:
    weights = _weights_of(state.inner) if state.round else None
    if weights is not None:
        with torch.no_grad():
            for name, mask in state.masks.items():
                weights[name].mul_(mask)
