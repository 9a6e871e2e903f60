"""Another training on nine tenths of the examples, and of all its weights the best on the last tenth.

The labels held out come from the same place as the others: where those are noisy, these are too, and what is kept is
what explains noisy labels best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from vallis.core.data import Arrays
from vallis.core.errors import DataError, SettingsError
from vallis.core.objective import Objective
from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.types import Data, Net, Packed, Solution, StepInfo, Task
from vallis.numerics.surface import in_eval_mode
from vallis.problems._checks import check_number, check_part, check_share
from vallis.training._nested import only_task, pack_within, packed_within

_HELD = "validation"


@dataclass(kw_only=True, eq=False)
class State:
    """Everything the next step depends on.

    Attributes:
        inner: the state of the training within.
        tasks: as they came, for solutions.
        split: the task that is learned, with the split that is held out.
        best: the weights of the lowest loss on it so far.
        loss: that loss; infinite before the first look.
        waited: how many looks ago that was.
        step: of the last info.
        reason: why the whole is done; empty while it goes on.
    """

    inner: Any
    tasks: tuple[Task, ...]
    split: Task
    best: Solution
    loss: float = math.inf
    waited: int = 0
    step: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """`base` on a part of the train split; a solution is the best so far by the mean loss on the other part.

    Attributes:
        base: the training.
        validation_fraction: the share of the train split that is held out, chosen at random.
        check_every: how many steps lie between two looks at its loss, in eval mode; there is one at the end.
        patience: it stops after so many looks without a better one; None goes on as long as `base` does.
    """

    version: ClassVar[int] = 1

    base: Training
    validation_fraction: float = 0.1
    check_every: int = 100
    patience: int | None = None

    def __post_init__(self) -> None:
        check_part("early_stopping.base", self.base, "init")
        check_share("early_stopping.validation_fraction", self.validation_fraction, zero=False, one=False)
        check_number("early_stopping.check_every", self.check_every)
        check_number("early_stopping.patience", self.patience)

    @classmethod
    def tiny(cls) -> EarlyStopping:
        """The cheapest settings, for tests."""
        from vallis.testing.awkward.company import StackedDescent

        return cls(base=StackedDescent(max_steps=6), check_every=2)

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
            DataError: the train split is too small to be parted, or a stream.
            UsageError: `base` cannot train this.
        """
        split = self._parted(only_task(tasks, "early_stopping"), rng)
        inner = self.base.init(net, params, buffers, (split,), rng)
        return State(inner=inner, tasks=tasks, split=split, best=self.base.solution(inner))

    def step(self, state: State) -> StepInfo:
        """One step of `base`.

        Raises:
            SettingsError: `base` begins anew on its way, so that weights of its stages do not compare.
        """
        if state.reason:
            return StepInfo(step=state.step, loss=math.nan, task=state.split.name, done=True, reason=state.reason)
        info = self.base.step(state.inner)
        if info.stage:
            raise SettingsError(
                f'a base of one stage was required by early_stopping, one with others than "{info.stage}" came: '
                "give early_stopping to the trainings within it"
            )
        state.step = info.step
        if info.done or info.step % self.check_every == 0:
            self._look(state)
        state.reason = info.reason if info.done else self._impatience(state)
        return replace(info, done=bool(state.reason), reason=state.reason)

    def solution(self, state: State) -> Solution:
        """The best weights so far; the step is that of the training, not the one they were found at."""
        return replace(state.best, tasks=state.tasks, step=state.step)

    def pack(self, state: State) -> Packed:
        tensors = {f"best/params/{name}": value.clone() for name, value in state.best.params.items()}
        tensors |= {f"best/buffers/{name}": value.clone() for name, value in state.best.buffers.items()}
        values: dict[str, Any] = {name: getattr(state, name) for name in ("waited", "step", "reason")}
        values["loss"] = state.loss if math.isfinite(state.loss) else None  # JSON has no infinity
        return pack_within(self.base.pack(state.inner), tensors, values)

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> State:
        split = self._parted(only_task(tasks, "early_stopping"), rng)
        inner = self.base.unpack(packed_within(packed), net, (split,), rng)
        now, values = self.base.solution(inner), packed.values
        best = replace(
            now,
            params={name: packed.tensors[f"best/params/{name}"].clone().to(held) for name, held in now.params.items()},
            buffers={
                name: packed.tensors[f"best/buffers/{name}"].clone().to(held) for name, held in now.buffers.items()
            },
        )
        return State(
            inner=inner,
            tasks=tasks,
            split=split,
            best=best,
            loss=math.inf if values["loss"] is None else values["loss"],
            waited=values["waited"],
            step=values["step"],
            reason=values["reason"],
        )

    def _parted(self, task: Task, rng: Rng) -> Task:
        data: Data = task.splits["train"]
        num_held = round(self.validation_fraction * len(data))
        if not 1 <= num_held < len(data):
            raise DataError(
                f"examples enough to hold some out were required, {len(data)} came of which "
                f"{self.validation_fraction:g} is {num_held}: give more, or another validation_fraction"
            )
        order = torch.randperm(len(data), generator=rng.child(_HELD).torch())
        parts = {_HELD: order[:num_held].sort().values, "train": order[num_held:].sort().values}
        taken = {name: data.take(positions) for name, positions in parts.items()}
        splits = {name: Arrays(x=batch.x, y=batch.y, index=batch.index) for name, batch in taken.items()}
        return replace(task, splits=splits)

    def _look(self, state: State) -> None:
        now = self.base.solution(state.inner)
        loss = Objective(in_eval_mode(now), _HELD).value()
        if loss < state.loss:  # never of NaN
            state.best, state.loss, state.waited = now, loss, 0
        else:
            state.waited += 1

    def _impatience(self, state: State) -> str:
        return "validation_loss" if self.patience is not None and state.waited >= self.patience else ""
