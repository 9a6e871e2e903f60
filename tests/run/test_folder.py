from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vallis.core.errors import OutputError, StoreError, UsageError
from vallis.run.folder import Folder


@pytest.fixture(params=["path", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(tmp_path / "store" if request.param == "path" else f"memory://{tmp_path.name}/store")


def test_a_file_is_replaced(folder: Folder) -> None:
    assert folder.read("a/b") is None
    folder.replace("a/b", b"one")
    folder.replace("a/b", b"two")
    assert folder.read("a/b") == b"two"
    assert folder.names("a") == ["b"]
    folder.remove("a/b")
    folder.remove("a/b")
    assert folder.read("a/b") is None


def test_a_folder_is_published_once(folder: Folder) -> None:
    folder.publish("x/y", {"data": b"1", "last": b"2"})
    assert folder.exists("x/y/last")
    assert folder.names("x/y") == ["data", "last"]
    assert folder.read("x/y/data") == b"1"
    assert folder.names("tmp") == []


def test_what_is_moved_is_elsewhere(folder: Folder) -> None:
    folder.publish("x/y", {"last": b"2"})
    folder.move("x/y", "z/y-0")
    assert not folder.exists("x/y")
    assert folder.read("z/y-0/last") == b"2"


def test_names_of_nothing_are_none(folder: Folder) -> None:
    assert folder.names("nowhere") == []


def test_the_first_to_publish_wins_on_a_local_disk(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.publish("x", {"last": b"first"})
    folder.publish("x", {"last": b"second"})
    assert folder.read("x/last") == b"first"
    assert folder.names("tmp") == []


def test_a_folder_that_lost_its_last_file_is_published_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.publish("x", {"data": b"1", "last": b"2"})
    (tmp_path / "x" / "last").unlink()
    folder.publish("x", {"data": b"1", "last": b"2"})
    assert folder.read("x/last") == b"2"


def test_nothing_is_seen_before_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up between the two files."""
    folder = Folder(tmp_path)
    written: list[str] = []

    def full(path: Path, data: bytes) -> None:
        if written:
            raise OutputError("full")
        written.append(str(path))
        path.write_bytes(data)

    monkeypatch.setattr("vallis.run.folder.write_bytes", full)
    with pytest.raises(OutputError, match="full"):
        folder.publish("x", {"data": b"1", "last": b"2"})
    assert not folder.exists("x")
    assert folder.names("tmp") == []


def test_what_a_killed_process_left_behind_is_swept_a_day_later(tmp_path: Path) -> None:
    for name, age in (("old", 2 * 86400), ("new", 60)):
        (tmp_path / "tmp" / name).mkdir(parents=True)
        os.utime(tmp_path / "tmp" / name, (time.time() - age,) * 2)
    Folder(tmp_path).sweep()
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["new"]


def test_only_memory_is_not_shared(tmp_path: Path) -> None:
    assert Folder(tmp_path).shared
    assert not Folder("memory://x").shared


@pytest.mark.parametrize("url", ["nosuch://bucket/x"])
def test_an_unknown_filesystem_is_a_sentence(url: str) -> None:
    with pytest.raises(UsageError, match="fsspec URL"):
        Folder(url)


def test_a_file_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("I am a file")
    with pytest.raises(OutputError):
        Folder(tmp_path / "store").publish("x", {"last": b""})
    with pytest.raises(OutputError):
        Folder(tmp_path / "store").replace("x/y", b"")


def test_a_folder_where_a_file_should_be_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(StoreError, match="readable"):
        Folder(tmp_path).read("x")
