from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.problems.conftest import idx_bytes
from vallis.core.errors import DataCorrupt, DataMissing, UsageError
from vallis.problems import _files
from vallis.problems._files import Content, Origin, checksum, idx_reader, load, npz_reader, read_idx, roots

WriteIdx = Callable[..., Content]
ORIGIN = Origin(
    title="Toys", folders=("toys", "Toys/raw"), advice="buy some", urls={"https://toys.example/toys.npz": None}
)


def with_checksums(content: Content) -> Origin:
    return replace(ORIGIN, checksums={key: checksum(array) for key, array in content.items()})


def one_sentence(error: UsageError) -> str:
    """Required, came, do: one line, with a colon before what to do."""
    said = str(error)
    assert "\n" not in said
    assert ": " in said
    return said


@pytest.mark.parametrize("folder", ["", "toys", "Toys/raw"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dotted", [True, False])
def test_idx_files_are_found_wherever_people_keep_them(
    nowhere: Path, write_idx: WriteIdx, folder: str, zipped: bool, dotted: bool
) -> None:
    written = write_idx(nowhere / folder, zipped=zipped, dotted=dotted)
    found = load(with_checksums(written), (idx_reader,), nowhere)
    assert list(found) == list(_files.KEYS)
    for key, array in written.items():
        np.testing.assert_array_equal(found[key], array)


def test_the_order_of_places(nowhere: Path, monkeypatch: pytest.MonkeyPatch, write_idx: WriteIdx) -> None:
    named, cache = nowhere / "named", Path(_files.cache())
    monkeypatch.setenv("VALLIS_DATA", str(named))
    places = roots(nowhere / "given")
    assert places == [nowhere / "given", named, *_files.USUAL_PLACES, cache]
    # Each place holds data of its own: the one found is that of the first place that has any.
    for seed, place in reversed(list(enumerate(places))):
        written = write_idx(place / "toys", seed=seed)
        np.testing.assert_array_equal(load(ORIGIN, (idx_reader,), nowhere / "given")["x_train"], written["x_train"])
    assert roots(None)[0] == named


def test_npz_files_are_read(nowhere: Path, write_idx: WriteIdx) -> None:
    written = write_idx(nowhere / "elsewhere")
    np.savez(nowhere / "toys.npz", **written)
    found = load(with_checksums(written), (idx_reader, npz_reader("toys.npz")), nowhere)
    np.testing.assert_array_equal(found["x_test"], written["x_test"])


def test_what_was_checked_is_read_once(nowhere: Path, write_idx: WriteIdx) -> None:
    origins = [with_checksums(write_idx(nowhere / str(seed), seed=seed)) for seed in range(3)]
    first = load(origins[0], (idx_reader,), nowhere / "0")
    (nowhere / "0" / "train-labels-idx1-ubyte.gz").unlink()
    assert load(origins[0], (idx_reader,), nowhere / "0") is first
    with pytest.raises(ValueError, match="read-only"):
        first["x_train"][0] = 0
    for seed in (1, 2):
        load(origins[seed], (idx_reader,), nowhere / str(seed))
    with pytest.raises(DataMissing):  # only so many are held
        load(replace(origins[0], urls={}), (idx_reader,), nowhere / "0")


def test_what_cannot_be_checked_is_read_anew(nowhere: Path, write_idx: WriteIdx) -> None:
    write_idx(nowhere)
    assert load(ORIGIN, (idx_reader,), nowhere) is not load(ORIGIN, (idx_reader,), nowhere)


def test_missing_says_where_it_was_looked_for_and_how_to_get_it(nowhere: Path) -> None:
    with pytest.raises(DataMissing) as raised:
        load(replace(ORIGIN, urls={}), (idx_reader,), nowhere)
    said = one_sentence(raised.value)
    assert all(str(place) in said for place in roots(nowhere))
    assert said.startswith("Toys was required")
    assert said.endswith("buy some")


def test_three_files_of_four_are_not_a_data_set(nowhere: Path, write_idx: WriteIdx) -> None:
    write_idx(nowhere)
    (nowhere / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataMissing):
        load(ORIGIN, (idx_reader,), nowhere)


def test_other_content_is_refused(nowhere: Path, write_idx: WriteIdx) -> None:
    origin = with_checksums(write_idx(nowhere / "toys", seed=0))
    write_idx(nowhere / "toys", seed=1)
    with pytest.raises(DataCorrupt) as raised:
        load(origin, (idx_reader,), nowhere)
    said = one_sentence(raised.value)
    assert str(nowhere / "toys") in said
    assert "x_train, x_test" in said


def test_another_set_under_the_same_names_does_not_hide_the_right_one(nowhere: Path, write_idx: WriteIdx) -> None:
    write_idx(nowhere, seed=1)
    written = write_idx(nowhere / "toys", seed=0)
    np.testing.assert_array_equal(load(with_checksums(written), (idx_reader,), nowhere)["x_train"], written["x_train"])


GOOD = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


# mtime: gzip writes the second of compression into its header, and no two test processes would collect the same data.
ZIPPED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(GOOD[:3], id="part of the magic number"),
        pytest.param(GOOD[:-1], id="a byte short"),
        pytest.param(GOOD[:10], id="part of the header"),
        pytest.param(GOOD + b"\0", id="a byte over"),
        pytest.param(b"\0\0\x0d" + GOOD[3:], id="floats"),
        pytest.param(ZIPPED[:-9], id="zipped, no end"),
        pytest.param(ZIPPED[:20], id="zipped, a beginning"),
        pytest.param(b"\x1f\x8b" + b"rubbish" * 9, id="zipped rubbish"),
        pytest.param(ZIPPED[:-8] + b"\0" * 8, id="zipped, wrong checksum"),
        pytest.param(b"<html>404 Not Found</html>", id="a page"),
    ],
)
def test_a_damaged_idx_file_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(data)
    with pytest.raises(DataCorrupt) as raised:
        read_idx(path)
    assert str(path) in one_sentence(raised.value)


def test_a_whole_idx_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(GOOD)
    np.testing.assert_array_equal(read_idx(path), np.arange(24).reshape(2, 3, 4))


def damaged_npz(path: Path) -> dict[str, Callable[[], Any]]:
    ok = {key: np.zeros(3, dtype=np.uint8) for key in _files.KEYS}

    def cut() -> None:
        np.savez(path, **{**ok, "x_train": np.random.default_rng(0).integers(0, 255, 5000, dtype=np.uint8)})
        path.write_bytes(path.read_bytes()[:3000])

    def flipped() -> None:
        np.savez(path, **ok)
        data = bytearray(path.read_bytes())
        data[160] ^= 0xFF
        path.write_bytes(bytes(data))

    def one_array() -> None:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))

    return {
        "cut": cut,
        "flipped": flipped,
        "empty": lambda: path.write_bytes(b""),
        "text": lambda: path.write_text("not found"),
        "one array": one_array,
        "lacks a key": lambda: np.savez(path, **{key: ok[key] for key in _files.KEYS[:3]}),
        "objects": lambda: np.savez(path, **{**ok, "x_train": np.array([{"a": 1}], dtype=object)}),
        "wrong type": lambda: np.savez(path, **{**ok, "x_train": np.zeros(3)}),
    }


@pytest.mark.parametrize("how", list(damaged_npz(Path())))
def test_a_damaged_npz_file_is_one_sentence(tmp_path: Path, how: str) -> None:
    path = tmp_path / "toys.npz"
    damaged_npz(path)[how]()
    with pytest.raises(DataCorrupt) as raised:
        npz_reader("toys.npz")(tmp_path)
    assert str(path) in one_sentence(raised.value)


class Pooch:
    """Stands in for the real one: writes what it was told to, or fails as it would."""

    def __init__(self, write: Callable[[Path], object]) -> None:
        self.write = write
        self.asked: list[tuple[str, str | None]] = []

    def retrieve(self, url: str, known_hash: str | None, fname: str, path: Path, progressbar: bool) -> str:
        self.asked.append((url, known_hash))
        Path(path).mkdir(parents=True, exist_ok=True)
        self.write(Path(path) / fname)
        return fname


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], object]], Pooch]:
    def install(write: Callable[[Path], object]) -> Pooch:
        pooch = Pooch(write)
        monkeypatch.setitem(sys.modules, "pooch", pooch)  # type: ignore[arg-type]
        return pooch

    return install


def test_what_is_nowhere_is_fetched_into_the_cache_once(nowhere: Path, write_idx: WriteIdx, online: Any) -> None:
    written = write_idx(nowhere / "elsewhere")
    pooch = online(lambda path: np.savez(path, **written))
    for _ in range(2):
        found = load(with_checksums(written), (npz_reader("toys.npz"),), nowhere)
        np.testing.assert_array_equal(found["x_train"], written["x_train"])
    assert pooch.asked == [("https://toys.example/toys.npz", None)]
    assert (_files.cache() / "toys" / "toys.npz").is_file()


def test_a_download_is_checked_by_its_content(nowhere: Path, write_idx: WriteIdx, online: Any) -> None:
    origin = with_checksums(write_idx(nowhere / "a", seed=0))
    other = write_idx(nowhere / "b", seed=1)
    online(lambda path: np.savez(path, **other))
    with pytest.raises(DataCorrupt):
        load(origin, (npz_reader("toys.npz"),), nowhere)


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("the hash differs")])
def test_a_failed_download_is_one_sentence(nowhere: Path, online: Any, error: Exception) -> None:
    def fail(path: Path) -> None:
        raise error

    online(fail)
    with pytest.raises(DataMissing) as raised:
        load(ORIGIN, (npz_reader("toys.npz"),), nowhere)
    said = one_sentence(raised.value)
    assert "https://toys.example/toys.npz" in said
    assert type(error).__name__ in said
    assert said.endswith("buy some")


def test_without_pooch_it_says_what_to_install(nowhere: Path) -> None:
    with pytest.raises(DataMissing) as raised:
        load(ORIGIN, (npz_reader("toys.npz"),), nowhere)
    assert "pip install 'vallis[data]'" in one_sentence(raised.value)


def test_an_incomplete_download_is_one_sentence(nowhere: Path, online: Any) -> None:
    online(lambda path: None)
    with pytest.raises(DataMissing) as raised:
        load(ORIGIN, (npz_reader("toys.npz"),), nowhere)
    assert "incomplete" in one_sentence(raised.value)
