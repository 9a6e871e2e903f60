"""Data sets for tests: real ones where they lie on this machine, never a download; small false ones on disk."""

from __future__ import annotations

import gzip
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vallis.core.errors import DataMissing
from vallis.problems import _files
from vallis.problems._files import Content

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pooch nothing is downloaded."""
    monkeypatch.setitem(sys.modules, "pooch", None)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Content]], Content]:
    """Loads a real data set, or skips and says how to get it."""
    if "VALLIS_DATA" not in os.environ and BESIDE.is_dir():
        monkeypatch.setenv("VALLIS_DATA", str(BESIDE))

    def load(loader: Callable[[], Content]) -> Content:
        try:
            return loader()
        except DataMissing as error:
            pytest.skip(str(error))

    return load


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any data set; returns an empty root."""
    monkeypatch.delenv("VALLIS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_files, "USUAL_PLACES", (tmp_path / "usual",))
    monkeypatch.setattr(_files, "_HELD", {})
    root = tmp_path / "root"
    root.mkdir()
    return root


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """An array of unsigned bytes as an IDX file holds it."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


@pytest.fixture
def write_idx() -> Callable[..., Content]:
    """Writes four small IDX files into a folder and returns what they hold."""

    def write(folder: Path, *, zipped: bool = True, dotted: bool = False, seed: int = 0) -> Content:
        generator = np.random.default_rng(seed)
        content, folder_ = {}, Path(folder)
        folder_.mkdir(parents=True, exist_ok=True)
        for split, stem, number in (("train", "train", 30), ("test", "t10k", 10)):
            content[f"x_{split}"] = generator.integers(0, 256, (number, 28, 28), dtype=np.uint8)
            content[f"y_{split}"] = np.arange(number, dtype=np.uint8) % 10
            for key, kind in (("x", "images-idx3"), ("y", "labels-idx1")):
                data = idx_bytes(content[f"{key}_{split}"])
                if zipped:
                    data = gzip.compress(data, mtime=0)
                name = f"{stem}-{kind.replace('-', '.') if dotted else kind}-ubyte"
                (folder_ / f"{name}{'.gz' if zipped else ''}").write_bytes(data)
        return content

    return write
