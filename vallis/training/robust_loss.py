"""Training on labels that may be noisy with a loss that suffers less from them and knows nothing of the noise.

Source: Patrini et al. (2017), Making deep neural networks robust to label noise: a loss correction approach, whose
    baselines these losses are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from vallis.core.errors import LossError
from vallis.core.losses import CrossEntropy
from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.robust_losses import Robust
from vallis.core.robust_losses import RobustLoss as Loss
from vallis.core.types import Net, Packed, Solution, StepInfo, Task
from vallis.problems._checks import check_choice, check_part, check_share


@dataclass(kw_only=True, eq=False)
class State:
    """Everything the next step depends on.

    Attributes:
        inner: the state of the training within.
        tasks: as they came, for solutions.
    """

    inner: Any
    tasks: tuple[Task, ...]


@dataclass(frozen=True, kw_only=True)
class RobustLoss:
    """`base` with another loss in place of the cross-entropy of its tasks; the tasks themselves stay as they are.

    Attributes:
        base: the training.
        loss: see `vallis.core.robust_losses.RobustLoss`.
        label_share: likewise, of "bootstrap".
    """

    version: ClassVar[int] = 1

    base: Training
    loss: Robust = "bootstrap"
    label_share: float = 0.95

    def __post_init__(self) -> None:
        check_part("robust_loss.base", self.base, "init")
        check_choice("robust_loss.loss", self.loss, Robust)
        check_share("robust_loss.label_share", self.label_share, zero=True, one=True)

    @classmethod
    def tiny(cls) -> RobustLoss:
        """The cheapest settings, for tests."""
        from vallis.testing.awkward.company import StackedDescent

        return cls(base=StackedDescent(max_steps=4))

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
            LossError: the loss of a task is no plain cross-entropy.
            UsageError: `base` cannot train this.
        """
        return State(inner=self.base.init(net, params, buffers, self._robust(tasks), rng), tasks=tasks)

    def step(self, state: State) -> StepInfo:
        """One step of `base`."""
        return replace(self.base.step(state.inner), unit=self._loss(CrossEntropy()).unit)

    def solution(self, state: State) -> Solution:
        return replace(self.base.solution(state.inner), tasks=state.tasks)

    def pack(self, state: State) -> Packed:
        return self.base.pack(state.inner)

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> State:
        return State(inner=self.base.unpack(packed, net, self._robust(tasks), rng), tasks=tasks)

    def _robust(self, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        return tuple(replace(task, loss=self._instead_of(task)) for task in tasks)

    def _instead_of(self, task: Task) -> Loss:
        if not isinstance(task.loss, CrossEntropy) or task.loss.label_smoothing:
            raise LossError(
                "a cross-entropy over classes without smoothing was required by robust_loss, task "
                f"{task.name} has another loss: choose a problem of classes"
            )
        return self._loss(task.loss)

    def _loss(self, loss: CrossEntropy) -> Loss:
        return Loss(name=self.loss, label_share=self.label_share, ignore_index=loss.ignore_index)
