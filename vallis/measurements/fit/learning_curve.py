"""How the training loss falls from step to step, and when it has come down to a level.

Definition: the mean, over each window of steps, of the loss of the batches before their update, with dropout and
    augmentation as they were. Time to fit is the end of the first window whose mean is at or below the level. Where a
    training has stages, each from the first weights on, all is of the last, and steps are counted from its start.
Unit: the loss's own (nats where it is a log-likelihood); steps.
Source: Zhang et al. (2017), figure 1a.
Cost: nothing beyond training.
Says little when: windows are shorter than an epoch: their means then also differ by which batches they hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity, written
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Source, StepInfo, Task
from vallis.measurements import _stages
from vallis.numerics.surface import loss_unit


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """The training loss by step, and the time it took.

    Attributes:
        window: how many steps are averaged for one point; the last window holds the rest.
        level: the loss at which an example counts as fitted on average.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "training"
    needs: ClassVar[frozenset[str]] = frozenset()
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Understanding deep learning requires rethinking generalization",
            authors="C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals",
            year=2017,
            url="https://arxiv.org/abs/1611.03530",
        ),
    )

    window: int = 10
    level: float = 0.1

    def __post_init__(self) -> None:
        if self.window < 1 or not math.isfinite(self.level):
            raise SettingsError(
                f"a window of at least 1 step and a finite level were required, window={self.window} and "
                f"level={self.level} came: change them"
            )

    @classmethod
    def tiny(cls) -> LearningCurve:
        """The cheapest settings, for tests."""
        return cls(window=2)

    def begin(self, tasks: tuple[Task, ...]) -> dict[str, Any]:
        unit = loss_unit(tasks[0].loss)
        return {"means": [], "steps": [], "open": [], "step": 0, "unit": unit, "own_unit": unit, **_stages.none()}

    def watch(self, memory: dict[str, Any], info: StepInfo) -> None:
        if info.step == memory["before_stage"] + memory["step"]:
            return  # no step was made: a training of none tells that it is done
        if _stages.is_next(memory, info):
            memory.update(means=[], steps=[], open=[])
        memory["unit"] = info.unit or memory["own_unit"]
        memory["open"].append(info.loss if math.isfinite(info.loss) else None)  # JSON has no infinity
        memory["step"] = info.step - memory["before_stage"]
        if len(memory["open"]) == self.window:
            _close(memory)

    def conclude(self, memory: Mapping[str, Any]) -> Outcome:
        held = {**memory, **{name: list(memory[name]) for name in ("means", "steps", "open")}}
        if held["open"]:
            _close(held)
        if not held["means"]:
            return NotApplicable(note=Note(code="no_steps", text="The training made no step, so it has no curve."))
        means, steps = np.array(held["means"], dtype=np.float64), np.array(held["steps"], dtype=np.float64)
        unit = held["unit"]
        curve = Array(data=means, dims=("step",), unit=unit, coords={"step": steps})
        method = f"mean over the last window of at most {self.window} steps, before their updates"
        last = Estimate(value=float(means[-1]), stderr=None, n=1, unit=unit, method=method)
        values: dict[str, Estimate | Array] = {"training_loss": curve, "last_training_loss": last}
        reached = np.flatnonzero(means <= self.level)
        if len(reached):
            method = f"end of the first window of {self.window} steps whose mean loss is at most {self.level:g}"
            first = float(steps[reached[0]])
            values["steps_to_level"] = Estimate(value=first, stderr=0.0, n=1, unit="steps", method=method)
        return Result(values=values, notes=(*self._notes(means, bool(len(reached))), *_stages.notes(memory)))

    def _notes(self, means: Any, reached: bool) -> tuple[Note, ...]:
        if not np.isfinite(means).all():
            text = "Some losses are not finite: the training has diverged, or an answer was infinitely wrong."
            return (Note(code="not_finite", text=text),)
        if reached:
            return ()
        text = f"No window of {self.window} steps has a mean loss of {self.level:g} or less."
        return (Note(code="level_not_reached", text=text),)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        curve = result.array("training_loss")
        unit = "" if curve.unit == "1" else f" ({curve.unit})"
        return (
            Figure(
                name="learning_curve",
                title="The training loss by step",
                x=Axis(label="steps"),
                y=Axis(label=f"training loss{unit}"),
                marks=(Mark(kind="line", x=curve.coords["step"], y=curve.data),),
                caption=f"Each point is the mean of up to {self.window} steps, before their updates.",
            ),
        )

    def reading(self, result: Result) -> str:
        curve = result.array("training_loss")
        first, last = written(float(curve.data[0]), digits=3), quantity(result.estimate("last_training_loss"))
        number = float(curve.coords["step"][-1])
        said = f"The training loss goes from {first} to {last} in {number:,.0f} step{'' if number == 1 else 's'}"
        if "steps_to_level" in result.values:
            steps = result.estimate("steps_to_level").value
            return f"{said}; it is at or below {self.level:g} for the first time after {steps:,.0f}."
        return f"{said}, and never comes down to {self.level:g}."


def _close(memory: dict[str, Any]) -> None:
    """The window that is open becomes a point."""
    losses = memory["open"]
    memory["means"].append(None if None in losses else math.fsum(losses) / len(losses))
    memory["steps"].append(memory["step"])
    memory["open"] = []
