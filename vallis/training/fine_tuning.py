"""Training that leaves another's path: after some steps of a first training a second one goes on from its weights.

So minima beside a path are found: Huang et al. (2019) start from points along an ordinary training, and go on with
poison. The second training begins afresh, with an optimizer, a schedule and an order of examples of its own. Both get
the stream that the whole is given: the first is, step by step, what it would be alone, and the second, after no steps
of the first, what it would be alone.

Source: Huang et al. (2019), Understanding generalization through visualizations, figure 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.types import Net, Packed, Solution, StepInfo, Task
from vallis.problems._checks import check_number, check_part
from vallis.training._nested import in_stage, only_task, pack_within, packed_within


@dataclass(kw_only=True, eq=False)
class State:
    """Everything the next step depends on.

    Attributes:
        inner: the state of the present training.
        before: how many steps the first one made; None while it is at work.
        stage: of the first in which it was left; the second goes on in it.
    """

    inner: Any
    net: Net
    tasks: tuple[Task, ...]
    rng: Rng
    before: int | None = None
    stage: str = ""


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """`base` for some steps, and from there on `tuning`.

    Attributes:
        base: the training whose path is left.
        tuning: the training that goes on from its weights.
        num_steps: after how many steps of `base`; None, or more than it makes, is its end. One that diverges is the end
            of both.
    """

    version: ClassVar[int] = 1

    base: Training
    tuning: Training
    num_steps: int | None = None

    def __post_init__(self) -> None:
        check_part("fine_tuning.base", self.base, "init")
        check_part("fine_tuning.tuning", self.tuning, "init")
        check_number("fine_tuning.num_steps", self.num_steps, least=0)

    @classmethod
    def tiny(cls) -> FineTuning:
        """The cheapest settings, for tests."""
        from vallis.testing.awkward.company import StackedDescent

        return cls(base=StackedDescent(max_steps=5), tuning=StackedDescent(max_steps=4), num_steps=3)

    def init(
        self,
        net: Net,
        params: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        tasks: tuple[Task, ...],
        rng: Rng,
    ) -> State:
        """The state before the first step.

        Raises:
            SettingsError: there are several tasks.
            DataError: there is nothing to train on, or no poison that is asked for.
            UsageError: one of the trainings cannot train this.
        """
        only_task(tasks, "fine_tuning")
        state = State(inner=self.base.init(net, params, buffers, tasks, rng), net=net, tasks=tasks, rng=rng)
        # What the second cannot train is refused before the first has spent its time.
        second = self.tuning.init(net, params, buffers, tasks, rng)
        if self.num_steps == 0:
            state.inner, state.before = second, 0
        return state

    def step(self, state: State) -> StepInfo:
        """One step of the present training."""
        if state.before is not None:
            info = in_stage(self.tuning.step(state.inner), state.stage)
            return replace(info, step=state.before + info.step)
        info = self.base.step(state.inner)
        goes_on = not info.done and (self.num_steps is None or info.step < self.num_steps)
        if goes_on or info.reason == "diverged":
            return info
        left = self.base.solution(state.inner)
        state.inner = self.tuning.init(state.net, left.params, left.buffers, state.tasks, state.rng)
        state.before, state.stage = info.step, left.stage
        # Of no steps, the first made none now either.
        return replace(info, done=False, reason="") if info.step else self.step(state)

    def solution(self, state: State) -> Solution:
        found = in_stage(self._present(state).solution(state.inner), state.stage)
        return replace(found, step=(state.before or 0) + found.step)

    def pack(self, state: State) -> Packed:
        return pack_within(self._present(state).pack(state.inner), {}, {"before": state.before, "stage": state.stage})

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> State:
        values = packed.values
        # (Without a stage where the first has none, as states at rest of earlier versions are.)
        held = {"before": values["before"], "stage": values.get("stage", "")}
        state = State(inner=None, net=net, tasks=tasks, rng=rng, **held)
        state.inner = self._present(state).unpack(packed_within(packed), net, tasks, rng)
        return state

    def _present(self, state: State) -> Training:
        return self.base if state.before is None else self.tuning
