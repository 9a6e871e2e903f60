"""Trains networks together that can step as one computation; each ends as it would have ended alone, bit for bit."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vallis.core import tree
from vallis.core.progress import bar
from vallis.core.protocols import Companionable
from vallis.core.spec import name_of
from vallis.core.types import Data, Job, Solution
from vallis.run.isolation import isolated
from vallis.run.plan import TrainNode, train_node
from vallis.run.train import Finished, Followed, Ground, InMemory, Keeper, ground

Kept = TypeVar("Kept", bound=Keeper)
# What a company's data may take; a training that would bring more waits for the next one.
MOST_BYTES = 2**30


@dataclass(frozen=True, kw_only=True)
class Place(Generic[Kept]):
    """One training of a population: what to train, where it stands, where its results go."""

    node: TrainNode
    on: Ground
    keeper: Kept

    @property
    def num_bytes(self) -> int:
        """How much its data take."""
        return sum(_num_bytes(split) for task in self.on.tasks for split in task.splits.values())


def train_all(jobs: Sequence[Job]) -> list[tuple[Solution, ...]]:
    """Trains many networks, as one computation where their architectures allow, with neither store nor study.

    A network ends with the same bits as if it had been trained alone by `vallis.train`.

    Args:
        jobs: they may differ in everything; those of one model that are trained by gradient descent go together.

    Returns:
        For each job what `vallis.train` returns.
    """
    with isolated():
        places = [_in_memory(job) for job in jobs]
        for _ in follow_all(places):
            pass
    return [place.keeper.distinct for place in places]


def _in_memory(job: Job) -> Place[InMemory]:
    return Place(node=train_node(job), on=ground(job.problem, job.model, job.seed), keeper=InMemory())


def follow_all(places: Iterable[Place[Kept]], quiet: bool = False) -> Iterator[tuple[Place[Kept], Finished]]:
    """Trains all to the end, and yields each when it is done.

    Args:
        places: read one after the other, as memory allows.
        quiet: shows no progress bar.

    Raises:
        Exception: what the first training raises that fails; what was yielded before is done.
    """
    held: list[Place[Kept]] = []
    for place in places:
        if held and sum(one.num_bytes for one in (*held, place)) > MOST_BYTES:
            yield from _follow(held, quiet)
            held = []
        held.append(place)
    yield from _follow(held, quiet)


def _follow(places: Sequence[Place[Kept]], quiet: bool) -> Iterator[tuple[Place[Kept], Finished]]:
    companies: dict[Hashable, list[tuple[Place[Kept], Followed]]] = {}
    for number, place in enumerate(places):
        training = place.node.training
        followed = Followed(place.node, place.on, place.keeper)
        key = training.company(followed.state) if isinstance(training, Companionable) else None
        companies.setdefault(number if key is None else (type(training), key), []).append((place, followed))
    for company in companies.values():
        yield from _together(company, quiet)


def _together(company: Sequence[tuple[Place[Kept], Followed]], quiet: bool) -> Iterator[tuple[Place[Kept], Finished]]:
    place, followed = company[0]
    first = place.node
    if len(company) == 1:
        yield place, followed.to_the_end(quiet)
        return
    members = [(place.node.training, followed.state) for place, followed in company]
    going = first.training.together(members)  # type: ignore[attr-defined]
    label = f"training {len(company)} x {name_of(first.model)} on {name_of(first.problem)}"
    with bar(label, len(company), quiet) as moving:
        while steps := going.step():
            for number, info in steps:
                place, followed = company[number]
                followed.see(info)
                if followed.done:
                    moving.update(1)
                    yield place, followed.finished()


def _num_bytes(split: Data) -> int:
    held = [part for batch in split for part in (*tree.tensors(batch.x), *tree.tensors(batch.y))]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)
