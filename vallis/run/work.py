"""Units of work: a training, or some measurements on one. Any process that sees the store can do any of them.

A unit leaves its results in the store and returns what the store must not hold: what failed. Units wait for those
they need; in which process they run is nobody's business here (see `vallis.run.execute`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vallis.core.errors import OutputError, UsageError
from vallis.core.spec import name_of, to_spec
from vallis.core.types import Failed, Outcome
from vallis.run.codec import encode
from vallis.run.isolation import failure, isolated
from vallis.run.measure import attempt
from vallis.run.plan import MeasureNode, Plan, TrainNode
from vallis.run.solutions import CHECKPOINT_SECONDS, InStore, get_solution, get_trajectory
from vallis.run.store import Record, Store
from vallis.run.train import Ground, follow, ground


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Work that is done in one place, one piece after the other.

    Attributes:
        name: the digest of what it trains, or of the first measurement it makes.
        train: the network to train; None for a unit that measures.
        measure: the measurements to make.
        on: the trainings that are looked at, which must be in the store.
    """

    name: str
    train: TrainNode | None = None
    measure: tuple[MeasureNode, ...] = ()
    on: tuple[TrainNode, ...] = ()

    @property
    def label(self) -> str:
        """What a person calls it."""
        if self.train is not None:
            return f"train {name_of(self.train.model)} on {name_of(self.train.problem)}, seed {self.train.seed}"
        return ", ".join(name_of(node.measurement) for node in self.measure)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a unit. It holds words instead of exceptions, because not all of those survive another process.

    Attributes:
        unit: its name.
        failed: the measurements that failed, by digest.
        trouble: why the training failed, if it did.
        refused: the trouble is a `UsageError`: somebody asked for what cannot be done.
    """

    unit: str
    failed: Mapping[str, Failed] = field(default_factory=dict)
    trouble: Failed | None = None
    refused: bool = False


def units(missing: Plan, wanted: Plan, workers: int = 1) -> tuple[Unit, ...]:
    """The units of what is missing, trainings first, in the order of the plan.

    Measurements of one training make one unit, so that its problem is built once; where that leaves workers without
    work, each measurement is a unit of its own.
    """
    made = [Unit(name=node.digest, train=node) for node in missing.trainings.values()]
    groups: dict[tuple[str, ...], list[MeasureNode]] = {}
    for node in missing.measurements.values():
        groups.setdefault(node.trainings, []).append(node)
    alone = len(groups) < workers
    for trainings, nodes in groups.items():
        on = tuple(wanted.trainings[name] for name in trainings)
        for part in [(node,) for node in nodes] if alone else [tuple(nodes)]:
            made.append(Unit(name=part[0].digest, measure=part, on=on))
    return tuple(made)


def perform(
    unit: Unit, store: Store, *, threads: int = 1, every: float = CHECKPOINT_SECONDS, quiet: bool = True
) -> Report:
    """Does one unit; only Ctrl-C and a store that cannot be written stop it half way.

    Args:
        unit: what to do.
        store: where results go, and where the weights to measure come from.
        threads: how many threads torch computes with; the last bits of the results depend on it.
        every: seconds between two checkpoints of a training.
        quiet: shows no progress bar.

    Raises:
        OutputError: the store cannot be written.
    """
    with isolated(threads):
        if unit.train is not None:
            return _train(unit, unit.train, store, every, quiet)
        return _measure(unit, store)


def _train(unit: Unit, node: TrainNode, store: Store, every: float, quiet: bool) -> Report:
    try:
        keeper = InStore(store, node, every)
        finished = follow(node, ground(node.problem, node.model, node.seed), keeper, quiet)
    except OutputError:
        raise
    except Exception as error:
        return Report(unit=unit.name, trouble=failure(error), refused=isinstance(error, UsageError))
    failed: dict[str, Failed] = {}
    for name, outcome in finished.watched.items():
        seen = MeasureNode(digest=name, measurement=node.watchers[name], trainings=(node.digest,))
        failed |= _keep(store, seen, outcome)
    keeper.finish(finished)
    return Report(unit=unit.name, failed=failed)


def _measure(unit: Unit, store: Store) -> Report:
    try:
        grounds = [ground(node.problem, node.model, node.seed) for node in unit.on]
    except Exception as error:
        return Report(unit=unit.name, failed={node.digest: failure(error) for node in unit.measure})
    failed: dict[str, Failed] = {}
    for node in unit.measure:
        failed |= _keep(store, node, _outcome(node, unit.on, grounds, store))
    return Report(unit=unit.name, failed=failed)


def _outcome(node: MeasureNode, on: tuple[TrainNode, ...], grounds: list[Ground], store: Store) -> Outcome:
    # Weights always come from the store, also right after they were trained: then their memory layout, and with it the
    # last bit of every result, is the same in a first run and in one that resumes.
    try:
        if node.measurement.takes == "trajectory":
            return attempt(node.measurement, get_trajectory(store, on[0], grounds[0], node.snapshots))
        found = tuple(get_solution(store, training, under) for training, under in zip(on, grounds, strict=True))
    except Exception as error:
        return failure(error)
    return attempt(node.measurement, found if node.measurement.takes == "pair" else found[0])


def _keep(store: Store, node: MeasureNode, outcome: Outcome) -> dict[str, Failed]:
    """Keeps an outcome for good; a failure is returned instead, so that the next run tries again."""
    if isinstance(outcome, Failed):
        return {node.digest: outcome}
    try:
        values, tensors = encode(outcome)
    except TypeError as error:
        return {node.digest: failure(error)}
    asked = {"measurement": to_spec(node.measurement), "trainings": node.trainings, "snapshots": node.snapshots}
    store.put(node.digest, Record(kind="measurement", values={**asked, **values}, tensors=tensors))
    return {}
