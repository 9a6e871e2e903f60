"""Trains networks together that can step as one computation; each ends as it would have ended alone, bit for bit."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch

from vallis.core import tree
from vallis.core.data import Arrays
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


def train_all(jobs: Sequence[Job]) -> list[tuple[Solution, ...]]:
    """Trains many networks, as one computation where their architectures allow, with neither store nor study.

    A network ends with the same bits as if it had been trained alone by `vallis.train`.

    Args:
        jobs: they may differ in everything; those of one model that are trained by gradient descent go together.

    Returns:
        For each job what `vallis.train` returns.

    Raises:
        Exception: what the first raises that fails. In a study, or `vallis.run.execute`, the others go on.
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
    shared = _Shared()
    for place in places:
        sharing = shared.place(place)
        if held and shared.num_bytes > MOST_BYTES:
            yield from _follow(held, quiet)
            held, shared = [], _Shared()
            sharing = shared.place(place)
        held.append(sharing)
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


class _Shared:
    """Tensors that several trainings hold copies of, each once: less memory, and one reading for all.

    Attributes:
        num_bytes: what all that were seen take.
    """

    def __init__(self) -> None:
        self.num_bytes = 0
        self._known: dict[Hashable, list[torch.Tensor]] = {}

    def place(self, place: Place[Kept]) -> Place[Kept]:
        """The same training on what is held already, as far as it is."""
        tasks = tuple(
            replace(task, splits={name: self._split(split) for name, split in task.splits.items()})
            for task in place.on.tasks
        )
        return replace(place, on=replace(place.on, tasks=tasks))

    def _split(self, split: Data) -> Data:
        if type(split) is Arrays and isinstance(split.x, torch.Tensor):
            split = replace(split, x=self._tensor(split.x))
            self.num_bytes += _num_bytes(split.y)
            return split
        self.num_bytes += sum(_num_bytes(batch.x) + _num_bytes(batch.y) for batch in split)
        return split

    def _tensor(self, x: torch.Tensor) -> torch.Tensor:
        known = self._known.setdefault((x.shape, x.stride(), x.dtype, x.device), [])
        for other in known:
            if other.data_ptr() == x.data_ptr() or _have_same_bytes(other, x):
                return other
        known.append(x)
        self.num_bytes += _num_bytes(x)
        return x


def _have_same_bytes(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.ndim > 0 and a.is_contiguous() and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def _num_bytes(held: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tree.tensors(held))
