"""Units of work: a training, or some measurements on one. Any process that sees the store can do any of them.

A unit leaves its results in the store and returns what the store must not hold: what failed. Units wait for those
they need; in which process they run is nobody's business here (see `vallis.run.execute`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vallis.core.errors import OutputError, UsageError
from vallis.core.protocols import PATHS, Companionable
from vallis.core.spec import digest, name_of, to_spec
from vallis.core.types import Failed, Note, Outcome, Result, Solution
from vallis.run.codec import encode
from vallis.run.isolation import RAISED, failure, isolated
from vallis.run.measure import attempt
from vallis.run.plan import MeasureNode, Plan, TrainNode
from vallis.run.population import Place, follow_all
from vallis.run.solutions import CHECKPOINT_SECONDS, InStore, get_solution, get_trajectory
from vallis.run.store import Record, Store
from vallis.run.train import Finished, Ground, follow, ground

# So many trainings at most make one unit, and each worker gets so many units at least.
MOST_TOGETHER, _SHARES = 32, 2


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Work that is done in one place, one piece after the other.

    Attributes:
        name: the digest of what it trains first, or of the first measurement it makes.
        train: the networks to train, as one computation where they can; none in a unit that measures.
        measure: the measurements to make.
        on: the trainings that are looked at, which must be in the store.
    """

    name: str
    train: tuple[TrainNode, ...] = ()
    measure: tuple[MeasureNode, ...] = ()
    on: tuple[TrainNode, ...] = ()

    @property
    def label(self) -> str:
        """What a person calls it."""
        if self.train:
            first, others = self.train[0], len(self.train) - 1
            beside = f" and {others} more" if others else ""
            return f"train {name_of(first.model)} on {name_of(first.problem)}, seed {first.seed}{beside}"
        return ", ".join(name_of(node.measurement) for node in self.measure)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a unit. It holds words instead of exceptions, because not all of those survive another process.

    Attributes:
        unit: its name; in `beside`, the digest of the training.
        failed: the measurements that failed, by digest.
        trouble: why the training failed, if it did.
        refused: the trouble is a `UsageError`: somebody asked for what cannot be done.
        beside: the reports of the other trainings of the unit.
    """

    unit: str
    failed: Mapping[str, Failed] = field(default_factory=dict)
    trouble: Failed | None = None
    refused: bool = False
    beside: tuple[Report, ...] = ()


def died(unit: Unit, message: str, error: str = "WorkerDied") -> Report:
    """The report of a unit whose process is gone, because of this."""
    failure = Failed(error=error, message=message)
    first, *others = [Report(unit=node.digest, trouble=failure) for node in unit.train] or [Report(unit=unit.name)]
    failed = {node.digest: failure for node in unit.measure}
    return replace(first, failed=failed, beside=tuple(others))


def pieces(unit: Unit) -> tuple[Unit, ...]:
    """A unit for each thing that is done in it, in its order."""
    trained = [Unit(name=node.digest, train=(node,)) for node in unit.train]
    return (*trained, *(Unit(name=node.digest, measure=(node,), on=unit.on) for node in unit.measure))


def together(unit: Unit, reports: Mapping[str, Report]) -> Report:
    """The report of a unit from those of its pieces, by their names."""
    if unit.train:
        first, *others = [reports[node.digest] for node in unit.train]
        return replace(first, beside=tuple(others))
    failed = {name: failure for report in reports.values() for name, failure in report.failed.items()}
    return Report(unit=unit.name, failed=failed)


def units(missing: Plan, wanted: Plan, workers: int = 1) -> tuple[Unit, ...]:
    """The units of what is missing, trainings first, in the order of the plan.

    Trainings of one model that can step together make one unit, as long as every worker has some. Measurements of one
    training make one unit, so that its problem is built once; where that leaves workers without work, each measurement
    is a unit of its own.
    """
    companies = _companies(list(missing.trainings.values()), workers)
    made = [Unit(name=nodes[0].digest, train=tuple(nodes)) for nodes in companies]
    groups: dict[tuple[str, ...], list[MeasureNode]] = {}
    for node in missing.measurements.values():
        groups.setdefault(node.trainings, []).append(node)
    alone = len(groups) < workers
    for trainings, nodes in groups.items():
        on = tuple(wanted.trainings[name] for name in trainings)
        for part in [(node,) for node in nodes] if alone else [tuple(nodes)]:
            made.append(Unit(name=part[0].digest, measure=part, on=on))
    return tuple(made)


def _companies(nodes: Sequence[TrainNode], workers: int) -> list[list[TrainNode]]:
    """The trainings in groups that may go together, in the order in which they were asked for."""
    groups: dict[str, list[TrainNode]] = {}
    for node in nodes:
        friends = isinstance(node.training, Companionable)
        groups.setdefault(digest([node.model, name_of(node.training)]) if friends else node.digest, []).append(node)
    most = max(1, min(MOST_TOGETHER, len(nodes) // (_SHARES * workers)))
    parts = [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]
    place = {node.digest: number for number, node in enumerate(nodes)}
    return sorted(parts, key=lambda part: place[part[0].digest])


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
        return _train_all(unit.train, store, every, quiet) if unit.train else _measure(unit, store)


def _train_all(nodes: Sequence[TrainNode], store: Store, every: float, quiet: bool) -> Report:
    reports: dict[str, Report] = {}
    try:
        places = (_place(node, store, every) for node in nodes)
        for place, finished in follow_all(places, quiet) if len(nodes) > 1 else ():
            reports[place.node.digest] = _ended(place.node, finished, store, place.keeper)
    except OutputError:
        raise
    except RAISED:
        pass  # whoever it was says so below
    # Those that were not reached, because another one failed, go alone; and then each says why it fails, if it does.
    for node in nodes:
        if node.digest not in reports:
            reports[node.digest] = _train(node, store, every, quiet)
    first, *others = [reports[node.digest] for node in nodes]
    return replace(first, beside=tuple(others))


def _place(node: TrainNode, store: Store, every: float) -> Place[InStore]:
    return Place(node=node, on=ground(node.problem, node.model, node.seed), keeper=InStore(store, node, every))


def _train(node: TrainNode, store: Store, every: float, quiet: bool) -> Report:
    try:
        keeper = InStore(store, node, every)
        finished = follow(node, ground(node.problem, node.model, node.seed), keeper, quiet)
        return _ended(node, finished, store, keeper)
    except OutputError:
        raise
    except RAISED as error:
        return Report(unit=node.digest, trouble=failure(error), refused=isinstance(error, UsageError))


def _ended(node: TrainNode, finished: Finished, store: Store, keeper: InStore) -> Report:
    failed: dict[str, Failed] = {}
    for name, outcome in finished.watched.items():
        seen = MeasureNode(digest=name, measurement=node.watchers[name], trainings=(node.digest,))
        failed |= _keep(store, seen, outcome)
    keeper.finish(finished)
    return Report(unit=node.digest, failed=failed)


def _measure(unit: Unit, store: Store) -> Report:
    try:
        grounds = _grounds(unit.on)
    except RAISED as error:
        return Report(unit=unit.name, failed={node.digest: failure(error) for node in unit.measure})
    failed: dict[str, Failed] = {}
    for node in unit.measure:
        failed |= _keep(store, node, _outcome(node, unit.on, grounds, store))
    return Report(unit=unit.name, failed=failed)


def _grounds(nodes: Sequence[TrainNode]) -> list[Ground]:
    """What each training stands on; what several stand on is built once."""
    built: dict[str, Ground] = {}
    names = [digest([node.problem, node.model, node.seed]) for node in nodes]
    for name, node in zip(names, nodes, strict=True):
        if name not in built:
            built[name] = ground(node.problem, node.model, node.seed)
    return [built[name] for name in names]


def _outcome(node: MeasureNode, on: tuple[TrainNode, ...], grounds: list[Ground], store: Store) -> Outcome:
    # Weights always come from the store, also right after they were trained: then their memory layout, and with it the
    # last bit of every result, is the same in a first run and in one that resumes.
    try:
        if node.measurement.takes in PATHS:
            path = get_trajectory(store, on[0], grounds[0], node.snapshots)
            others = _ends(store, on[1:], grounds[1:])
            beyond = [step for step in node.snapshots if step > path[-1].step]
            return _noted(attempt(node.measurement, (*path, *others)), beyond)
        found = _ends(store, on, grounds)
    except RAISED as error:
        return failure(error)
    return attempt(node.measurement, found if node.measurement.takes == "pair" else found[0])


def _ends(store: Store, on: Sequence[TrainNode], grounds: Sequence[Ground]) -> tuple[Solution, ...]:
    return tuple(get_solution(store, training, under) for training, under in zip(on, grounds, strict=True))


def _noted(outcome: Outcome, beyond: list[int]) -> Outcome:
    """The outcome, with a note when the training ended before some of the snapshots that were asked for."""
    if not beyond or not isinstance(outcome, Result):
        return outcome
    text = f"The training ended before step {', '.join(map(str, beyond))}, where snapshots were asked for."
    return replace(outcome, notes=(*outcome.notes, Note(code="snapshots_not_reached", text=text)))


def _keep(store: Store, node: MeasureNode, outcome: Outcome) -> dict[str, Failed]:
    """Keeps an outcome for good; a failure is returned instead, so that the next run tries again."""
    if isinstance(outcome, Failed):
        return {node.digest: outcome}
    asked = {"measurement": to_spec(node.measurement), "trainings": node.trainings, "snapshots": node.snapshots}
    try:
        values, tensors = encode(outcome)
        store.put(node.digest, Record(kind="measurement", values={**asked, **values}, tensors=tensors))
    except TypeError as error:
        return {node.digest: failure(error)}
    return {}
