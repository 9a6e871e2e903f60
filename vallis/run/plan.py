"""From jobs to nodes: what is to be trained, what is to be measured on it, and what of both is missing.

A node is named by the digest of everything that determines its result. A training is its problem, model, training and
seed; which snapshots are kept and who watches change no weight, so they do not enter. A measurement is its settings and
the training it looks at. Nodes that several jobs share are done once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vallis.core.errors import SettingsError
from vallis.core.protocols import PATHS, Measurement, Model, Problem, Training
from vallis.core.spec import digest, name_of, to_spec
from vallis.core.types import Job
from vallis.run.store import Store

LAST = "last"
Tags = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, kw_only=True)
class TrainNode:
    """A network to train.

    Attributes:
        snapshots: steps at which a solution is kept beside the last.
        watchers: measurements that watch it, by the digest of their node.
    """

    digest: str
    problem: Problem
    model: Model
    training: Training
    seed: int
    snapshots: tuple[int, ...] = ()
    watchers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MeasureNode:
    """A measurement to make.

    Attributes:
        trainings: the digests of the trainings it looks at: one, two for a pair, or one and those beside its path.
        snapshots: the steps of the path, before the last.
    """

    digest: str
    measurement: Measurement
    trainings: tuple[str, ...]
    snapshots: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row to come: what a job asked for, and the node that answers; None when nothing can."""

    tags: Tags
    seed: int
    measurement: str
    node: str | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All nodes of some jobs by digest, and the rows that they fill, in the order of the jobs."""

    trainings: Mapping[str, TrainNode]
    measurements: Mapping[str, MeasureNode]
    asked: tuple[Asked, ...]

    @property
    def watched(self) -> dict[str, TrainNode]:
        """The trainings by the digests of the measurements that watch them."""
        return {name: node for node in self.trainings.values() for name in node.watchers}


def plan(jobs: Iterable[Job]) -> Plan:
    """The nodes of the jobs.

    Raises:
        SettingsError: a snapshot is asked for at a negative step, or a setting has no name in JSON.
    """
    trainings: dict[str, TrainNode] = {}
    measurements: dict[str, MeasureNode] = {}
    asked: list[Asked] = []
    for job in jobs:
        nodes = [_add(trainings, train_node(job))]
        if job.partner is not None:
            nodes.append(_add(trainings, train_node(job.partner)))
        others = [_add(trainings, train_node(other)) for other in job.others]
        for part in job.measurements:
            node = measure_node(part, nodes, job.snapshots, others)
            if node is not None and part.takes == "training":
                watched = trainings[nodes[0]]
                trainings[nodes[0]] = replace(watched, watchers={**watched.watchers, node.digest: part})
            elif node is not None:
                measurements[node.digest] = node
            name = None if node is None else node.digest
            asked.append(Asked(tags=job.tags, seed=job.seed, measurement=name_of(part), node=name))
    return Plan(trainings=trainings, measurements=measurements, asked=tuple(asked))


def train_node(job: Job) -> TrainNode:
    """The training of a job, with the snapshots that it asks for.

    Raises:
        SettingsError: a snapshot is asked for at a negative step.
    """
    if any(step < 0 for step in job.snapshots):
        raise SettingsError(f"snapshots must be at steps from 0 on, {min(job.snapshots)} came: count from the start")
    parts = {"problem": job.problem, "model": job.model, "training": job.training, "seed": job.seed}
    return TrainNode(
        digest=digest(parts),
        problem=job.problem,
        model=job.model,
        training=job.training,
        seed=job.seed,
        snapshots=tuple(sorted(set(job.snapshots))),
    )


def measure_node(
    part: Any, trainings: Sequence[str], snapshots: Sequence[int] = (), others: Sequence[str] = ()
) -> MeasureNode | None:
    """The node of a measurement on a training (and its partner's, or the others beside it).

    None for a pair without a partner.
    """
    if part.takes == "pair" and len(trainings) < 2:
        return None
    beside = {"pair": trainings[1:], "path_and_others": others}.get(part.takes, ())
    seen = (trainings[0], *beside)
    path = tuple(sorted(set(snapshots))) if part.takes in PATHS else ()
    identity = {"measurement": part, "trainings": list(seen)}
    name = digest({**identity, "snapshots": list(path)} if path else identity)
    return MeasureNode(digest=name, measurement=part, trainings=seen, snapshots=path)


def origin(node: TrainNode) -> dict[str, Any]:
    """The plain JSON that a solution carries: which job made it."""
    parts = {"problem": to_spec(node.problem), "model": to_spec(node.model), "training": to_spec(node.training)}
    return {**parts, "seed": node.seed}


def solution_digest(training: str, step: int | str) -> str:
    """The name of the record that holds the weights of a training at a step, or at its end."""
    return digest({"training": training, "step": step})


def missing(wanted: Plan, store: Store) -> Plan:
    """What is not in the store: damaged records count as missing, and are moved aside.

    A measurement that is missing needs its weights, so then they are read and checked too.
    """
    measurements = {name: node for name, node in wanted.measurements.items() if store.sound(name) is None}
    needed = {name for node in measurements.values() for name in node.trainings}
    trainings = {}
    for name, node in wanted.trainings.items():
        watchers = {key: part for key, part in node.watchers.items() if store.sound(key) is None}
        # Asked in any case: weights that are damaged must make room for those of a training that is done again.
        whole = trained(node, store, check=name in needed)
        if watchers or not whole:
            trainings[name] = replace(node, watchers=watchers)
    return Plan(trainings=trainings, measurements=measurements, asked=wanted.asked)


def trained(node: TrainNode, store: Store, check: bool) -> bool:
    """Whether the training is done and all its snapshots are kept.

    `check` reads them to see that they are sound, each of them: those that are not are moved aside.
    """
    record = store.sound(node.digest)
    steps: list[int | str] = [step for step in node.snapshots if record is None or step < record.values["steps"]]
    names = [solution_digest(node.digest, step) for step in [*steps, LAST]]
    kept = [store.sound(name) is not None if check or record is None else store.has(name) for name in names]
    return record is not None and all(kept)


def _add(trainings: dict[str, TrainNode], node: TrainNode) -> str:
    known = trainings.get(node.digest, node)
    snapshots = tuple(sorted({*known.snapshots, *node.snapshots}))
    trainings[node.digest] = replace(known, snapshots=snapshots)
    return node.digest
