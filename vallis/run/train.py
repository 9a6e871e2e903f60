"""The only loop over steps: builds the problem and the net, steps until done, keeps what was asked for on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from vallis.core.own import coordinates
from vallis.core.progress import bar
from vallis.core.protocols import Model, Problem
from vallis.core.rng import Rng
from vallis.core.spec import name_of
from vallis.core.types import Failed, Job, Net, Outcome, Packed, Solution, StepInfo, Task
from vallis.run.isolation import RAISED, failure, isolated
from vallis.run.memory import pack, unpack
from vallis.run.plan import TrainNode, measure_node, origin, train_node


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a training and its measurements stand on: the data and the template of the net."""

    tasks: tuple[Task, ...]
    net: Net


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a training ended: after how many steps, why, and what those saw who watched it, by digest."""

    steps: int
    reason: str
    watched: Mapping[str, Outcome] = field(default_factory=dict)


class Keeper(Protocol):
    """Where a training puts what must not be lost."""

    def resume(self) -> Packed | None:
        """The last checkpoint, None to start afresh."""
        ...

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        ...

    def checkpoint(self, packed: Packed) -> None:
        """Keeps the state in place of the one before."""
        ...

    def solution(self, found: Solution, last: bool) -> None:
        """Keeps a snapshot, or the end."""
        ...


@dataclass
class InMemory:
    """Keeps the solutions in a list, and makes no checkpoint."""

    solutions: list[Solution] = field(default_factory=list)

    @property
    def distinct(self) -> tuple[Solution, ...]:
        """One solution a step."""
        return tuple({found.step: found for found in self.solutions}.values())

    def resume(self) -> Packed | None:
        """Nothing is ever kept."""
        return None

    def due(self) -> bool:
        """Never."""
        return False

    def checkpoint(self, packed: Packed) -> None:
        """Never called, because never due."""

    def solution(self, found: Solution, last: bool) -> None:
        """Appends it."""
        self.solutions.append(found)


def train(job: Job) -> tuple[Solution, ...]:
    """Trains one network, with neither store nor study.

    Returns:
        The solutions at ``job.snapshots``, in order, and the last; ``job.measurements`` are not looked at.
    """
    keeper = InMemory()
    with isolated():
        follow(train_node(job), ground(job.problem, job.model, job.seed), keeper)
    return keeper.distinct


def watch(job: Job) -> tuple[tuple[Solution, ...], tuple[Outcome, ...]]:
    """Trains one network while those of ``job.measurements`` that watch training do so.

    Returns:
        The solutions as `train` returns them, and the outcomes of the watchers in their order.
    """
    keeper, node = InMemory(), train_node(job)
    watchers = [part for part in job.measurements if part.takes == "training"]
    nodes = [measure_node(part, [node.digest]) for part in watchers]
    named = {made.digest: part for made, part in zip(nodes, watchers, strict=True) if made is not None}
    with isolated():
        finished = follow(replace(node, watchers=named), ground(job.problem, job.model, job.seed), keeper)
    return keeper.distinct, tuple(finished.watched[name] for name in named)


def ground(problem: Problem, model: Model, seed: int) -> Ground:
    """Builds the data and the net, each from its own random stream."""
    tasks = problem.build(Rng(seed).child("problem"))
    return Ground(tasks=tasks, net=model.build(tasks, Rng(seed).child("model")))


def follow(node: TrainNode, on: Ground, keeper: Keeper, quiet: bool = False) -> Finished:
    """Trains to the end, from the last checkpoint if there is one.

    Args:
        node: what to train, what to keep on the way, and who watches.
        on: its problem and net, as `ground` builds them.
        keeper: where solutions and checkpoints go.
        quiet: shows no progress bar.
    """
    return Followed(node, on, keeper).to_the_end(quiet)


class Followed:
    """A training on its way, from its last checkpoint if there is one: keeps what is to be kept, tells who watches.

    Attributes:
        state: what the training steps.
        step: how many steps are done.
        done: whether it has ended, and its end is kept.
    """

    def __init__(self, node: TrainNode, on: Ground, keeper: Keeper) -> None:
        self.node, self._keeper, self._reason, self.done = node, keeper, "", False
        self.state, self.step, self._watchers = _start(node, on, keeper)
        self._origin = origin(node)
        if self.step == 0 and 0 in node.snapshots:
            self._keep()

    def to_the_end(self, quiet: bool = False) -> Finished:
        """Makes all steps that are left."""
        with _bar(self.node, self.step, quiet) as moving:
            while not self.done:
                before = self.step
                self.see(self.node.training.step(self.state))
                moving.update(self.step - before)
        return self.finished()

    def see(self, info: StepInfo) -> None:
        """Takes note of a step that was made."""
        self._watchers.see(info)
        self.step = info.step
        if info.done:
            self._reason, self.done = info.reason, True
            self._keep(last=True)
            return
        if self.step in self.node.snapshots:
            self._keep()
        if self._keeper.due():
            packed = self.node.training.pack(self.state)
            self._keeper.checkpoint(pack(packed, self.step, self._watchers.memories, self._watchers.failed))

    def finished(self) -> Finished:
        """How it ended; to be asked once it is done."""
        return Finished(steps=self.step, reason=self._reason, watched=self._watchers.conclude())

    def _keep(self, last: bool = False) -> None:
        found = self.node.training.solution(self.state)
        self._keeper.solution(replace(found, origin=self._origin), last)


class _Watchers:
    """Those who watch a training, each with its memory; one that raises fails alone."""

    def __init__(
        self, parts: Mapping[str, Any], memories: dict[str, dict[str, Any]], failed: dict[str, Failed]
    ) -> None:
        self.parts, self.memories, self.failed = parts, memories, failed

    def begin(self, tasks: tuple[Task, ...]) -> None:
        for name, part in self.parts.items():
            # One that fails keeps an empty memory: the checkpoint must know that it was there from the start.
            self.memories[name] = self._try(name, part.begin, tasks) or {}

    def see(self, info: StepInfo) -> None:
        for name, part in self.parts.items():
            self._try(name, part.watch, self.memories[name], info)

    def conclude(self) -> dict[str, Outcome]:
        found = {name: self._try(name, part.conclude, self.memories[name]) for name, part in self.parts.items()}
        return found | self.failed

    def _try(self, name: str, act: Callable[..., Any], *given: Any) -> Any:
        if name in self.failed:
            return None
        try:
            return act(*given)
        except RAISED as error:
            self.failed[name] = failure(error)
            return None


def _start(node: TrainNode, on: Ground, keeper: Keeper) -> tuple[Any, int, _Watchers]:
    """The state, the steps done and the watchers: as the checkpoint left them, or fresh."""
    rng = Rng(node.seed).child("training")
    kept = keeper.resume()
    if kept is not None:
        # One that cannot be read, such as an older version left, costs its steps once more; it would fail every time.
        with suppress(Exception):
            packed, step, memories, failed = unpack(kept)
            if set(node.watchers) <= set(memories):  # somebody who was not there from the start needs a fresh one
                state = node.training.unpack(packed, on.net, on.tasks, rng)
                return state, step, _Watchers(node.watchers, memories, failed)
    params, buffers = coordinates(on.net.module)
    state = node.training.init(on.net, params, buffers, on.tasks, rng)
    watchers = _Watchers(node.watchers, {}, {})
    watchers.begin(on.tasks)
    return state, 0, watchers


def _bar(node: TrainNode, step: int, quiet: bool) -> AbstractContextManager[Any]:
    total = getattr(node.training, "max_steps", None)  # where it has such a setting
    moving = bar(f"training {name_of(node.model)} on {name_of(node.problem)}", total, quiet)
    moving.update(step)
    shown: AbstractContextManager[Any] = moving
    return shown
