"""Seeded choices among labelled examples that keep the proportions of the classes, and splits taken as a whole."""

from __future__ import annotations

import torch

from vallis.core.data import Arrays
from vallis.core.errors import DataError
from vallis.core.rng import Rng
from vallis.core.types import Batch, Data


def stratified_order(y: torch.Tensor, rng: Rng) -> torch.Tensor:
    """A random order of examples in which every prefix holds each class in proportion, as nearly as integers allow.

    Prefixes are nested: the first 100 are among the first 200.

    Args:
        y: ``(N,)`` classes.
        rng: the stream that orders them.
    """
    shuffled = torch.randperm(len(y), generator=rng.torch())
    classes = y[shuffled]
    place = torch.empty(len(y), dtype=torch.float64)
    for label in classes.unique():
        members = (classes == label).nonzero().squeeze(1)
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return shuffled[place.argsort(stable=True)]


def choose(y: torch.Tensor, number: int | None, rng: Rng, what: str) -> torch.Tensor:
    """The positions of a stratified random choice of this many examples, ascending; of all when it is None.

    Raises:
        DataError: there are not so many; `what` names the setting that asked for them.
    """
    if number is None:
        return torch.arange(len(y))
    if number > len(y):
        raise DataError(
            f"{what} must be at most {len(y)}, the number of examples there are, {number} came: ask for fewer"
        )
    return stratified_order(y, rng)[:number].sort().values


def whole(split: Data) -> Batch:
    """All examples of a split in one batch; of those held in memory nothing is copied.

    Raises:
        DataError: the split is a stream.
    """
    if isinstance(split, Arrays):
        return Batch(x=split.x, y=split.y, index=split.index)
    return split.take(torch.arange(len(split)))
