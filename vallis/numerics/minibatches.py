"""Random batches of the examples under an objective: shuffled passes, and samples with replacement."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vallis.core import tree
from vallis.core.data import Arrays
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Batch


class Minibatches:
    """The examples of an objective's split, on its device and in its dtype.

    Examples in memory are mixed freely. What came in batches is read once, kept, and shuffled batch by batch.

    Args:
        objective: whose split.
        batch_size: how many examples a batch holds; the last of a pass holds the rest.
    """

    def __init__(self, objective: Objective, batch_size: int) -> None:
        self.batch_size = batch_size
        self._device, self._dtype = objective.device, objective.dtype
        self._data = objective.data if isinstance(objective.data, Arrays) else None
        self._kept = () if self._data is not None else tuple(objective.batches())
        sizes = torch.tensor([len(batch) for batch in self._kept], dtype=torch.float64)
        self._shares = sizes / sizes.sum()
        self.num_examples = len(objective.data)

    def epoch(self, rng: Rng) -> Iterator[Batch]:
        """Every example once, in random order."""
        generator = rng.torch()
        if self._data is None:
            for place in torch.randperm(len(self._kept), generator=generator).tolist():
                yield self._kept[place]
            return
        for positions in torch.randperm(self.num_examples, generator=generator).split(self.batch_size):
            yield self._taken(self._data, positions)

    def sample(self, generator: torch.Generator) -> Batch:
        """Examples drawn so that the mean of anything over them is, on average, its mean over all."""
        if self._data is None:
            return self._kept[int(torch.multinomial(self._shares, 1, generator=generator))]
        positions = torch.randint(self.num_examples, (self.batch_size,), generator=generator)
        return self._taken(self._data, positions)

    def _taken(self, data: Arrays, positions: torch.Tensor) -> Batch:
        batch = data.take(positions)
        x, y = (tree.to(part, self._device, self._dtype) for part in (batch.x, batch.y))
        return Batch(x=x, y=y, index=batch.index)
