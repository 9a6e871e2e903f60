"""The few types everything is made of. All are frozen; tensors in them are owned, not borrowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from vallis.core.answers import Answers
    from vallis.core.losses import Loss
    from vallis.core.protocols import Measurement, Model, Problem, Training, Watcher

# ---------------------------------------------------------------------------------------------- data and networks


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some examples.

    Attributes:
        x: what the network is called with: a tensor ``(N, ...)``, tuple, list or dict of such, or a list of N objects.
        y: the targets, of the same freedom.
        index: ``(N,)`` int64, the identity of each example, unique over all tasks and splits of a problem.
    """

    x: Any
    y: Any
    index: torch.Tensor

    def __len__(self) -> int:
        return int(self.index.shape[0])


class Data(Protocol):
    """A split: the same batches in the same order at every pass (see `vallis.core.data`)."""

    def __len__(self) -> int:
        """The number of examples N."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """One pass, in batches; the last may be smaller."""
        ...

    def take(self, positions: torch.Tensor) -> Batch:
        """The examples at these positions ``(B,)`` of 0..N-1."""
        ...

    def fingerprint(self) -> str:
        """A SHA-256 of the content, the same for the same examples in the same order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to learn: named splits ("train", "test", "poison" ...) and the loss they are judged by."""

    name: str
    splits: Mapping[str, Data]
    loss: Loss


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A module with parameters of its own, by its dotted name, its kind ("Linear", "Conv2d" ...) and theirs."""

    name: str
    kind: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Net:
    """An architecture.

    Attributes:
        module: the owned template that maps x to outputs. Its values are the initial ones, others are a `Solution`'s.
        layers: the modules that own parameters, in the order of the forward pass as declared.
        traits: what a measurement may rely on: "differentiable", "smooth", "homogeneous", "binary", "recurrent",
            "convolutional", "attention", "normalised", "feedforward".
    """

    module: torch.nn.Module
    layers: tuple[Layer, ...] = ()
    traits: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """A point in weight space with the ground it stands on. It owns copies of its tensors.

    Attributes:
        params: the trainable parameters by name: the coordinates of weight space.
        buffers: everything else the module needs, by name: running statistics and frozen parameters.
        tasks: what it was trained for; one, save in continual learning.
        step: how many steps of training led here, `stage` being that of the training then (see `StepInfo`).
        origin: the plain-JSON spec of the job that made it; None for a network brought from outside.
    """

    net: Net
    params: Mapping[str, torch.Tensor]
    buffers: Mapping[str, torch.Tensor]
    tasks: tuple[Task, ...]
    step: int = 0
    stage: str = ""
    origin: Mapping[str, Any] | None = None

    @staticmethod
    def of(
        module: torch.nn.Module,
        loss: Callable[..., Any],
        *,
        train: Any,
        test: Any = None,
        other_splits: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> Solution:
        """Your own network, as it stands; see `vallis.core.own.solution_of` for the arguments."""
        from vallis.core.own import solution_of

        return solution_of(module, loss, train=train, test=test, other_splits=other_splits, **how)

    @property
    def task(self) -> Task:
        """The task that is measured: the only one, or the first (`on` chooses another)."""
        return self.tasks[0]

    def on(self, name: str) -> Solution:
        """The same weights, measured on the task of this name.

        Raises:
            UnknownPart: there is no task of this name.
        """
        from vallis.core.catalog import unknown

        chosen = tuple(task for task in self.tasks if task.name == name)
        if not chosen:
            raise unknown("task", name, [task.name for task in self.tasks])
        return replace(self, tasks=chosen)

    @property
    def num_parameters(self) -> int:
        """P, the number of trainable parameters."""
        return sum(tensor.numel() for tensor in self.params.values())


# ------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """What one step of training saw.

    Attributes:
        step: how many steps are done, this one included.
        loss: mean training loss of the batch, before the update; in `unit`, or in that of the task's loss where empty.
        index: ``(B,)`` which examples it saw (`Batch.index`).
        answers: what was said of each of them before the update, to be read before the next step is made.
        task: the name of the task that it learned from; a sequence of tasks is cut where it changes.
        stage: of which stage, where the network begins anew from one to the next, as in `loss_correction`; else empty.
        done: training is over, because of `reason`.
    """

    step: int
    loss: float
    index: torch.Tensor | None = None
    answers: Answers | None = None
    task: str = ""
    stage: str = ""
    done: bool = False
    reason: str = ""
    unit: str = ""

    @property
    def losses(self) -> torch.Tensor | None:
        """``(B,)`` the losses of the examples, or None where the training has none."""
        return None if self.answers is None else self.answers.losses

    @property
    def correct(self) -> torch.Tensor | None:
        """``(B,)`` bool, whether each example was classified rightly, or None."""
        return None if self.answers is None else self.answers.correct


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A training state at rest: tensors by name (they go to safetensors) and plain values (they go to JSON)."""

    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]


# --------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One number as it leaves the house.

    Attributes:
        stderr: its standard error; 0.0 when exact, None when nobody knows.
        n: how many samples (examples, probes, seeds) it rests on.
        unit: "nats", "1" for a pure number or a probability, "nats/weight^2" ...
        method: how it was got, in a few words.
    """

    value: float
    stderr: float | None = None
    n: int = 1
    unit: str = "1"
    method: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Array:
    """Numbers on a grid: one name in `dims` for each axis of `data`, and optional coordinates along some of them."""

    data: NDArray[np.float64]
    dims: tuple[str, ...]
    unit: str = "1"
    coords: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Note:
    """A coded remark: the code is for machines ("not_converged"), the text is one sentence for people."""

    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a measurement found."""

    values: Mapping[str, Estimate | Array]
    notes: tuple[Note, ...] = ()

    def estimate(self, key: str) -> Estimate:
        """The value under `key`, which must be an `Estimate`."""
        if not isinstance(value := self.values[key], Estimate):
            raise TypeError(f"{key} is an Array, not an Estimate: use array({key!r})")
        return value

    def array(self, key: str) -> Array:
        """The value under `key`, which must be an `Array`."""
        if not isinstance(value := self.values[key], Array):
            raise TypeError(f"{key} is an Estimate, not an Array: use estimate({key!r})")
        return value


@dataclass(frozen=True, kw_only=True)
class NotApplicable:
    """The question makes no sense here, because of the note. A result like any other."""

    note: Note

    @property
    def notes(self) -> tuple[Note, ...]:
        return (self.note,)


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The measurement could not be made: the class and the message of what went wrong."""

    error: str
    message: str

    @property
    def notes(self) -> tuple[Note, ...]:
        return (Note(code=self.error, text=self.message),)


Outcome = Result | NotApplicable | Failed

# --------------------------------------------------------------------------------------------------------- studies


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a definition or a claim comes from."""

    title: str
    authors: str
    year: int
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One network to train and what to measure on it.

    Attributes:
        partner: another job; pair measurements compare this one's solution with the partner's.
        others: more jobs, whose last solutions are laid beside this one's path by what takes "path_and_others".
        tags: the words a study's claims and figures find it by, e.g. ``{"labels": "random"}``.
        snapshots: steps (beside the last) at which a `Solution` is kept; 0 is the start.
    """

    problem: Problem
    model: Model
    training: Training
    measurements: tuple[Measurement | Watcher, ...] = ()
    seed: int = 0
    snapshots: tuple[int, ...] = ()
    partner: Job | None = None
    others: tuple[Job, ...] = ()
    tags: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One finished (or failed) measurement of a study: the job's tags and seed, the measurement's name, its outcome."""

    tags: Mapping[str, str | int | float | bool]
    seed: int
    measurement: str
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the evidence says of a claim, with the statistic, its p-value and the number of samples."""

    verdict: Literal["holds", "fails", "undecided", "not_run"]
    statistic: float | None = None
    p: float | None = None
    n: int = 0


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of a paper that can turn out wrong.

    Attributes:
        says: the claim in words, with the threshold that was written before the run.
        where: the place in the paper.
        test: the rule, from all rows of the study to a verdict.
        about: what it is about, where the same is claimed of several things; `says` then begins with "On" and this.
        shows: what the statistic of its verdict is, in a few words.
    """

    id: str
    says: str
    where: str
    test: Callable[[Sequence[Row]], Verdict]
    about: str = ""
    shows: str = ""
