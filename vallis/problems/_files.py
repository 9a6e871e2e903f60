"""Finds data sets on this machine, fetches them from their homes, and checks that they are what they say."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vallis.core.errors import DataCorrupt, DataMissing

Content = dict[str, NDArray[np.uint8]]
# Looks into one folder: None when the data set does not lie there, DataCorrupt when it does but is damaged.
Reader = Callable[[Path], Content | None]

USUAL_PLACES = (Path("/usr/share/datasets"),)
KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a data set is called, where it may lie and where it comes from.

    Attributes:
        title: its name as people write it.
        folders: the names that its folder goes by below a root; the root itself is tried first.
        advice: how to get it by hand: the end of a sentence.
        checksums: the SHA-256 of each array's bytes; not of the archives, which every distributor compresses anew.
        urls: the files of its official home, each with the hash that pooch is to check, or None.
    """

    title: str
    folders: tuple[str, ...]
    advice: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, str | None] = field(default_factory=dict)


def load(origin: Origin, readers: Sequence[Reader], root: str | os.PathLike[str] | None = None) -> Content:
    """The arrays of a data set, from the first place that holds it, else from its official home.

    Args:
        origin: which data set.
        readers: the ways in which it may be stored.
        root: where to look first; then `VALLIS_DATA`, the usual places, and the user's cache.

    Raises:
        DataMissing: it is nowhere and cannot be fetched.
        DataCorrupt: a file is damaged, or holds other data than its name says.
    """
    name = tuple(origin.checksums.items())
    if name in _HELD:
        return _HELD[name]
    found = _load(origin, readers, root)
    if name and set(origin.checksums) >= set(found):  # then nothing else can be meant, wherever it was found
        while len(_HELD) >= _MOST_HELD:
            del _HELD[next(iter(_HELD))]
        _HELD[name] = found
        for array in found.values():
            array.setflags(write=False)
    return found


# A study builds one data set hundreds of times, and to unpack and check it takes half a second.
_HELD: dict[tuple[tuple[str, str], ...], Content] = {}
_MOST_HELD = 2


def _load(origin: Origin, readers: Sequence[Reader], root: str | os.PathLike[str] | None) -> Content:
    looked = roots(root)
    candidates = [place / name for place in looked for name in ("", *origin.folders)]
    found = _first(origin, readers, candidates)
    if found is None:
        found = _first(origin, readers, [fetch(origin, looked)])
    if found is None:
        raise _missing(origin, looked, "what was downloaded is incomplete")
    return found


def _first(origin: Origin, readers: Sequence[Reader], folders: Sequence[Path]) -> Content | None:
    refused = None
    for folder in folders:
        for read in readers:
            content = read(folder)
            if content is None:
                continue
            wrong = [key for key, sha in origin.checksums.items() if checksum(content[key]) != sha]
            if not wrong:
                return content
            # MNIST and Fashion-MNIST share their file names: another place may still hold the one that is meant.
            refused = refused or DataCorrupt(
                f"{origin.title} was required, the files in {folder} hold something else (checksum of "
                f"{', '.join(wrong)}): {origin.advice}"
            )
    if refused:
        raise refused
    return None


def roots(root: str | os.PathLike[str] | None) -> list[Path]:
    """Where data sets are looked for, in order."""
    named = [place for place in (root, os.environ.get("VALLIS_DATA")) if place]
    return [*(Path(place).expanduser() for place in named), *USUAL_PLACES, cache()]


def cache() -> Path:
    """The user's cache: where downloads go."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vallis"


def fetch(origin: Origin, looked: Sequence[Path]) -> Path:
    """Downloads a data set from its official home and returns the folder it went to.

    Raises:
        DataMissing: it has no home to download from, pooch is not installed, or the home cannot be reached.
    """
    if not origin.urls:
        raise _missing(origin, looked)
    try:
        import pooch
    except ImportError:
        raise _missing(origin, looked, "it cannot be downloaded without pooch (pip install 'vallis[data]')") from None
    folder = cache() / origin.folders[0]
    for url, known_hash in origin.urls.items():
        name = url.rpartition("/")[2]
        try:
            pooch.retrieve(url, known_hash, fname=name, path=folder, progressbar=sys.stderr.isatty())
        except (OSError, ValueError) as error:  # what requests raises is an OSError, a wrong hash a ValueError
            raise _missing(origin, looked, f"downloading {url} failed with {type(error).__name__}") from error
    return folder


def _missing(origin: Origin, looked: Sequence[Path], reason: str = "") -> DataMissing:
    places = ", ".join(str(place) for place in looked)
    return DataMissing(
        f"{origin.title} was required and is in none of {places}{f', and {reason}' if reason else ''}: {origin.advice}"
    )


def checksum(array: NDArray[np.uint8]) -> str:
    """The SHA-256, in hex, of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file makes a decoder raise into one sentence.

    Raises:
        DataCorrupt: the file is damaged, truncated or unreadable.
    """
    try:
        yield
    except DataCorrupt:
        raise  # it is a ValueError too, and has said it already
    except (OSError, EOFError, ValueError, TypeError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        said = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise DataCorrupt(
            f"a whole file was required, {path} is damaged or truncated ({said}): delete it and get it again"
        ) from error


def read_npz(path: Path, keys: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """The arrays under those of these keys that an npz file has.

    Raises:
        DataCorrupt: the file is damaged, or holds pickled objects.
    """
    # numpy leaves a file that it opened itself open when it is damaged.
    with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as held:
        return {key: held[key] for key in keys if key in held}


def npz_reader(name: str) -> Reader:
    """A reader of one npz file of this name, with images and labels of uint8 under `KEYS`."""

    def read(folder: Path) -> Content | None:
        path = folder / name
        if not path.is_file():
            return None
        with reading(path):
            held = read_npz(path, KEYS)
            return {key: held[key].astype(np.uint8, casting="safe") for key in KEYS}

    return read


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, gzipped or not.

    Raises:
        DataCorrupt: the file is damaged, truncated, or no IDX file.
    """
    with reading(path):
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if data[:3] != b"\x00\x00\x08" or len(data) < 4:
            raise ValueError("no IDX file of unsigned bytes")
        start = 4 + 4 * data[3]
        shape = tuple(int(size) for size in np.frombuffer(data[4:start], dtype=">u4"))
        if len(data) - start != int(np.prod(shape, dtype=np.int64)):
            raise ValueError(
                f"{int(np.prod(shape, dtype=np.int64))} bytes announced, {max(len(data) - start, 0)} there"
            )
        return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def idx_reader(folder: Path) -> Content | None:
    """A reader of the four IDX files in which MNIST and its kin come."""
    found = {}
    for key, stem, kind in zip(
        KEYS, ("train", "train", "t10k", "t10k"), ("images-idx3", "labels-idx1") * 2, strict=True
    ):
        spellings = (f"{stem}-{kind}-ubyte", f"{stem}-{kind.replace('-', '.')}-ubyte")
        paths = [folder / f"{name}{suffix}" for name in spellings for suffix in ("", ".gz")]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            return None
        found[key] = path
    return {key: read_idx(path) for key, path in found.items()}
