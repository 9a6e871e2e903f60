"""The Cholesky factor of a Gram matrix that does not fit into the memory, on disk.

Its lower triangle is cut into panels of columns. One panel is in the memory at a time: it is computed, what the panels
before it explain is subtracted, it is factorised and written. So the memory holds ``8 N w`` bytes for panels of w
columns, the disk ``4 N^2``, and the factor is the one that a solve in the memory would have, up to rounding.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, onenormest

from vallis.core.errors import OutputError
from vallis.core.progress import bar, track
from vallis.numerics.kernel_functions import ROWS, Kernel

_FEWEST, _MOST = 256, 4096


class GramOnDisk:
    """``K + jitter I = L L'`` for the Gram matrix K ``(N, N)`` of a kernel, once it is factorised.

    Args:
        kernel: k.
        points: ``(N, d)`` float64.
        file: open for reading and writing, empty; see `room_on_disk`.
        width: columns of a panel.
    """

    def __init__(self, kernel: Kernel, points: torch.Tensor, file: IO[bytes], width: int) -> None:
        self._kernel, self._points, self._file, self._width = kernel, points, file, width
        self._starts, self._weakest = range(0, len(points), width), 0

    def diagonal(self) -> torch.Tensor:
        """``(N,)`` of K."""
        blocks = self._points.split(64)
        return torch.cat([self._kernel.block(some, some).diagonal() for some in blocks])

    def factorise(self, jitter: float) -> bool:
        """Writes L; false where rounding leaves none with so much on the diagonal.

        Raises:
            OutputError: the disk is full.
        """
        number, least = len(self._starts), math.inf
        with bar("panels of the Gram matrix", number * (number + 1) // 2) as moving:
            for first in self._starts:
                panel = self._panel(first)
                panel.diagonal().add_(jitter)
                for before in self._starts[: first // self._width]:
                    self._subtract(panel, first, before)
                    moving.update(1)
                top, failed = torch.linalg.cholesky_ex(panel[: panel.shape[1]])
                if int(failed):
                    return False
                panel[: len(top)] = top
                pivots = top.diagonal()
                if float(pivots.min()) < least:
                    least, self._weakest = float(pivots.min()), first + int(pivots.argmin())
                for rows in panel[len(top) :].split(ROWS):
                    rows.copy_(torch.linalg.solve_triangular(top.mT, rows, upper=True, left=False))
                self._put(first, panel)
                moving.update(1)
        return True

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """``L^-1 y`` of ``(N, C)``."""
        found = y.clone()
        for first in track(self._starts, "solving with the Gram matrix", len(self._starts)):
            last = self._last(first)
            top = self._get(first, first, last)
            found[first:last] = torch.linalg.solve_triangular(top, found[first:last], upper=False)
            for start, rows in self._below(first):
                found[start : start + len(rows)] -= rows @ found[first:last]
        return found

    def backward(self, y: torch.Tensor) -> torch.Tensor:
        """``L'^-1 y`` of ``(N, C)``."""
        found = y.clone()
        for first in track(reversed(self._starts), "solving with the Gram matrix", len(self._starts)):
            last = self._last(first)
            for start, rows in self._below(first):
                found[first:last] -= rows.mT @ found[start : start + len(rows)]
            top = self._get(first, first, last)
            found[first:last] = torch.linalg.solve_triangular(top.mT, found[first:last], upper=True)
        return found

    def times(self, y: torch.Tensor) -> tuple[torch.Tensor, float]:
        """``K y`` with K computed anew, and the largest sum of absolute values of a column of K."""
        parts, largest = [], 0.0
        for some in track(self._points.split(ROWS), "Gram matrix", -(-len(self._points) // ROWS)):
            block = self._kernel.block(some, self._points)
            parts.append(block @ y)
            largest = max(largest, float(block.abs_().sum(1).max()))
        return torch.cat(parts), largest

    def reciprocal_condition(self, norm: float) -> float:
        """One over the condition number, from the 1-norm of what was factorised.

        The estimate that LAPACK makes, or the column of the inverse with the smallest pivot, where that says more.
        """

        def solve(y: Any) -> Any:
            column = torch.from_numpy(np.ascontiguousarray(y, dtype=np.float64)).reshape(len(self._points), -1)
            return self.backward(self.forward(column)).numpy().reshape(y.shape)

        size = (len(self._points),) * 2
        inverse = LinearOperator(size, matvec=solve, rmatvec=solve, matmat=solve, rmatmat=solve, dtype=np.float64)
        estimated = onenormest(inverse, t=1)  # one column draws no random numbers
        unit = np.zeros(len(self._points))
        unit[self._weakest] = 1
        return float(1 / (norm * max(estimated, np.abs(solve(unit)).sum())))

    def _last(self, first: int) -> int:
        return min(first + self._width, len(self._points))

    def _panel(self, first: int) -> torch.Tensor:
        """K from row `first` on, in the columns of its panel."""
        points, own = self._points[first:], self._points[first : self._last(first)]
        panel = torch.empty(len(points), len(own), dtype=torch.float64)
        for start in range(0, len(points), ROWS):
            panel[start : start + ROWS] = self._kernel.block(points[start : start + ROWS], own)
        return panel

    def _subtract(self, panel: torch.Tensor, first: int, before: int) -> None:
        own = self._get(before, first, first + panel.shape[1])
        for start in range(0, len(panel), ROWS):
            last = min(start + ROWS, len(panel))
            panel[start:last].addmm_(self._get(before, first + start, first + last), own.mT, alpha=-1)

    def _below(self, first: int) -> Iterator[tuple[int, torch.Tensor]]:
        """The rows of a panel below its square, a block at a time, each with the number of its first row."""
        for start in range(self._last(first), len(self._points), ROWS):
            yield start, self._get(first, start, min(start + ROWS, len(self._points)))

    def _place(self, first: int, row: int) -> int:
        """Where in the file a row of the panel that begins at column `first` is: all before it have the full width."""
        before = first * len(self._points) - self._width * first * (first // self._width - 1) // 2
        return 8 * (before + (row - first) * (self._last(first) - first))

    def _get(self, first: int, start: int, stop: int) -> torch.Tensor:
        held = np.empty((stop - start, self._last(first) - first))
        self._file.seek(self._place(first, start))
        self._file.readinto(held.data.cast("B"))  # type: ignore[attr-defined]
        return torch.from_numpy(held)

    def _put(self, first: int, panel: torch.Tensor) -> None:
        try:
            self._file.seek(self._place(first, first))
            self._file.write(panel.numpy().data.cast("B"))
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"room on disk was required for the factor of a Gram matrix, writing it raised {error}: make room, or "
                "let TMPDIR name a folder with more"
            ) from error


def panel_width(size: int, spare: int) -> int:
    """How many columns a panel has, of so many rows, so that it takes an eighth of the spare memory or less."""
    return max(min(_FEWEST, size), min(_MOST, size, spare // (64 * size)))


@contextmanager
def room_on_disk(size: int, width: int) -> Iterator[IO[bytes]]:
    """A file for the factor of ``(size, size)`` in the folder for temporary files; it goes when its user does.

    Args:
        size: N.
        width: columns of a panel.

    Raises:
        OutputError: the disk has too little room.
    """
    folder = tempfile.gettempdir()
    needed, free = 4 * size * (size + width), shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{needed / 2**30:.1f} GiB on disk were required for the Gram matrix of {size:,} examples, which the free "
            f"memory does not hold, {folder} has {free / 2**30:.1f}: take fewer examples, or let TMPDIR name a folder "
            "with more"
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        yield file
