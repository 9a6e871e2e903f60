"""The factor on disk against scipy's dense one, for panels that fit and that do not."""

from __future__ import annotations

import errno
import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg

from tests.numerics.solutions import random
from vallis.core.errors import OutputError
from vallis.numerics import gram_on_disk
from vallis.numerics.gram_on_disk import GramOnDisk, panel_width, room_on_disk
from vallis.numerics.kernel_functions import Gaussian, Linear


class Full(io.BytesIO):
    """A disk without room."""

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("size", "width"), [(1, 1), (20, 1), (20, 6), (21, 7), (20, 19), (20, 20)])
@pytest.mark.parametrize("rows", [3, 1000])
def test_solves_are_those_of_the_dense_factor(
    size: int, width: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gram_on_disk, "ROWS", rows)
    points, y = random(size, 3).double(), random(size, 2, seed=1).double()
    kernel = Gaussian(gamma=0.7)
    dense = kernel.block(points, points).numpy()
    lower = np.linalg.cholesky(dense + 0.01 * np.eye(size))
    with room_on_disk(size, width) as file:
        gram = GramOnDisk(kernel, points, file, width)
        assert gram.factorise(0.01)
        exact = scipy.linalg.solve_triangular(lower, y.numpy(), lower=True)
        np.testing.assert_allclose(gram.forward(y).numpy(), exact, rtol=1e-10, atol=1e-12)
        exact = scipy.linalg.solve_triangular(lower.T, y.numpy())
        np.testing.assert_allclose(gram.backward(y).numpy(), exact, rtol=1e-10, atol=1e-12)
        product, norm = gram.times(y)
        np.testing.assert_allclose(product.numpy(), dense @ y.numpy(), rtol=1e-12, atol=1e-13)
        assert norm == pytest.approx(np.linalg.norm(dense, 1))
        found = gram.reciprocal_condition(norm + 0.01)
        assert 1 / found == pytest.approx(np.linalg.cond(dense + 0.01 * np.eye(size), 1), rel=0.5)
        np.testing.assert_allclose(gram.diagonal().numpy(), dense.diagonal())


def test_what_has_no_factor_is_said_and_a_full_disk_too() -> None:
    with room_on_disk(9, 4) as file:
        assert not GramOnDisk(Linear(), random(9, 2).double(), file, 4).factorise(0.0)
    with pytest.raises(OutputError, match="No space left on device: make room, or let TMPDIR"):
        GramOnDisk(Gaussian(gamma=1.0), random(9, 2).double(), Full(), 4).factorise(0.0)


def test_too_little_room_is_said_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4 * 2000 * 2256 - 1))
    with pytest.raises(OutputError, match=r"Gram matrix of 2,000 examples.* let TMPDIR"), room_on_disk(2000, 256):
        pass
    with room_on_disk(2000, 255) as file:
        assert file.read() == b""


@pytest.mark.parametrize(
    ("size", "spare", "width"),
    [(60_000, 2**40, 4096), (60_000, 2**30, 279), (60_000, 1, 256), (5, 1, 5), (5, 2**30, 5)],
)
def test_a_panel_takes_an_eighth_of_the_memory(size: int, spare: int, width: int) -> None:
    assert panel_width(size, spare) == width
