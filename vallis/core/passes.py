"""One pass over batches that may have no end: how many may come before that is said.

Data that say how long they are may be longer (a length can count something else), but not by this much; data that do
not say may be large, and from some number of batches on must say so.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from vallis.core.errors import DataError

_TIMES_PROMISED, _BEYOND_PROMISED = 10, 1000
_MOST_UNPROMISED = 1_000_000
_PATIENCE_SECONDS = 30.0


def bounded(batches: Iterable[Any], split: str) -> Iterator[Any]:
    """The batches, as long as they are not far more than were promised.

    Raises:
        DataError: (while iterating) more than 10 times the promised number and 1000 came, or without a promise more
            than a million.
    """
    promised = _promised(batches)
    most = _MOST_UNPROMISED if promised is None else _TIMES_PROMISED * promised + _BEYOND_PROMISED
    hint_at = time.monotonic() + _PATIENCE_SECONDS if promised is None else float("inf")
    for place, batch in enumerate(batches):
        if place >= most:
            what = "which says no length" if promised is None else f"which promised {promised} of them"
            raise DataError(
                f"data that end were required, {split}, {what}, gave more than {most} batches: cut an endless loader "
                "with list(itertools.islice(loader, n)), or give a large one a __len__ that is true"
            )
        yield batch
        if time.monotonic() > hint_at:  # a number would hang on the speed of the machine, words may
            hint_at = float("inf")
            warnings.warn(
                f"{split} says no length and goes on after {place + 1} batches; if it never ends, stop and cut it with "
                "list(itertools.islice(loader, n))",
                stacklevel=2,
            )


def _promised(batches: Iterable[Any]) -> int | None:
    """How many batches there are to be, by whoever makes them; None where nobody says."""
    held: Any = batches
    per_batch = 1
    if isinstance(batches, DataLoader) and isinstance(batches.dataset, IterableDataset):
        # Asked for its own length, torch's loader would remember, and warn its owner of every batch beyond it.
        held, per_batch = batches.dataset, batches.batch_size or 1
    try:
        return -(-len(held) // per_batch)
    except (TypeError, NotImplementedError):
        return None
