"""Trained networks in the store: their weights as tensors, rebuilt on the ground that their job describes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field

from vallis.core.errors import OutputError, StoreError
from vallis.core.spec import from_spec
from vallis.core.types import Job, Packed, Solution
from vallis.run.plan import LAST, TrainNode, origin, solution_digest, train_node
from vallis.run.store import Record, Store
from vallis.run.train import Finished, Ground, ground

CHECKPOINT_SECONDS = 10.0


@dataclass
class InStore:
    """Keeps what a training must not lose in a store.

    Attributes:
        every: seconds between two checkpoints.
    """

    store: Store
    node: TrainNode
    every: float = CHECKPOINT_SECONDS
    _last: float = field(default_factory=time.monotonic)
    _end: Solution | None = None

    def resume(self) -> Packed | None:
        """The last checkpoint, None when there is none or it is damaged."""
        return self.store.checkpoint(self.node.digest)

    def due(self) -> bool:
        """Whether the last checkpoint is old enough."""
        return time.monotonic() - self._last >= self.every

    def checkpoint(self, packed: Packed) -> None:
        """Keeps the state in place of the one before."""
        self.store.keep_checkpoint(self.node.digest, packed)
        self._last = time.monotonic()

    def solution(self, found: Solution, last: bool) -> None:
        """Keeps the weights for good."""
        self._end = found
        put_solution(self.store, self.node.digest, found, LAST if last else found.step)

    def finish(self, finished: Finished) -> None:
        """Says that the training is done; only now does anybody look for its weights."""
        values = {"job": origin(self.node), "steps": finished.steps, "reason": finished.reason}
        if self._end is not None:
            examples = {name: len(data) for name, data in self._end.task.splits.items()}
            values |= {"parameters": self._end.num_parameters, "examples": examples}
        self.store.put(self.node.digest, Record(kind="training", values=values))
        self.store.drop_checkpoint(self.node.digest)


def put_solution(store: Store, training: str, found: Solution, at: int | str) -> None:
    """Keeps the weights of a training at a step, or at its end."""
    tensors = {f"params/{name}": value for name, value in found.params.items()}
    tensors |= {f"buffers/{name}": value for name, value in found.buffers.items()}
    # The order of the parameters is that of the coordinates of weight space; safetensors sorts as it likes.
    values = {"training": training, "step": found.step, "params": list(found.params), "buffers": list(found.buffers)}
    values |= {"stage": found.stage} if found.stage else {}
    store.put(solution_digest(training, at), Record(kind="solution", values=values, tensors=tensors))


def get_solution(store: Store, node: TrainNode, on: Ground, at: int | str = LAST) -> Solution:
    """The solution of a training at a step, or at its end.

    Raises:
        StoreError: it is not there, or damaged.
    """
    record = store.find(solution_digest(node.digest, at))
    if record is None:
        raise StoreError(f"the weights of {node.digest[:12]} were required, {store.url} has none: train it again")
    values, tensors = record.values, record.tensors
    return Solution(
        net=on.net,
        params={name: tensors[f"params/{name}"] for name in values["params"]},
        buffers={name: tensors[f"buffers/{name}"] for name in values["buffers"]},
        tasks=on.tasks,
        step=values["step"],
        stage=values.get("stage", ""),
        origin=origin(node),
    )


def get_trajectory(store: Store, node: TrainNode, on: Ground, snapshots: tuple[int, ...]) -> tuple[Solution, ...]:
    """The solutions at these steps, as far as the training went, and the last.

    Raises:
        StoreError: one is not there, or damaged.
    """
    record = store.find(node.digest)
    if record is None:
        raise StoreError(f"training {node.digest[:12]} was required, {store.url} does not hold it: train it")
    steps: list[int | str] = [step for step in snapshots if step < record.values["steps"]]
    return tuple(get_solution(store, node, on, at) for at in (*steps, LAST))


def load(digest: str, store: str | os.PathLike[str], step: int | None = None) -> Solution:
    """The network of a training in a store, ready to be measured.

    Args:
        digest: the name of the training, or the beginning of it.
        store: a path or an fsspec URL.
        step: of which snapshot; None for the end.

    Raises:
        StoreError: no such training, no such snapshot, or a damaged record.
    """
    shelf = Store(store)
    names = [name for name in shelf.digests() if name.startswith(digest)] if len(digest) < 64 else [digest]
    records = [shelf.find(name) for name in names]
    trainings = [record for record in records if record is not None and record.kind == "training"]
    if len(trainings) != 1:
        raise StoreError(f"the name of one training was required, {digest!r} fits {len(trainings)} in {store}")
    job = trainings[0].values["job"]
    parts = {kind: from_spec(job[kind]) for kind in ("problem", "model", "training")}
    node = train_node(Job(**parts, seed=job["seed"]))
    at: int | str = LAST
    if step is not None and step != trainings[0].values["steps"]:
        at = step
    try:
        return get_solution(shelf, node, ground(node.problem, node.model, node.seed), at)
    except StoreError:
        with suppress(OutputError):
            # Out of the way: who runs again does not read weights that nobody is going to measure.
            shelf.sound(solution_digest(node.digest, at))
        raise
