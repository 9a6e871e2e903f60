"""Which examples are there twice: where an input comes back, no network can tell its copies apart."""

from __future__ import annotations

import numpy as np
import torch

from vallis.core.errors import DataError


def first_copies(x: torch.Tensor) -> torch.Tensor:
    """``(N,)`` for each row the number of the first row that equals it; its own where it is the first.

    Args:
        x: ``(N, ...)`` real numbers; 0 and -0 are the same.
    """
    rows = np.ascontiguousarray((x.detach().cpu().flatten(1) + 0).numpy())
    # As strings of bytes, rows are sorted in one comparison each.
    packed = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    _, first, place = np.unique(packed, return_index=True, return_inverse=True)
    return torch.from_numpy(first[place.reshape(-1)])


def distinct(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``(M,)`` the numbers of the examples without the copies of earlier ones, ascending.

    Args:
        x: ``(N, ...)`` inputs.
        y: ``(N, ...)`` their targets.

    Raises:
        DataError: two copies of one input have different targets, which no function fits.
    """
    first = first_copies(x)
    torn = (y != y[first]).flatten(1).any(1) if y.ndim > 1 else y != y[first]
    if bool(torn.any()):
        row = int(torn.nonzero()[0])
        raise DataError(
            f"one target an input was required to fit all of them, examples {int(first[row])} and {row} (of "
            f"{int(torn.sum())} such pairs) are the same input with different targets: drop one of each pair"
        )
    return (first == torch.arange(len(first))).nonzero().squeeze(1)
