import json
import os
import stat
import sys
from pathlib import Path

import pytest

from vallis.core import files
from vallis.core.errors import OutputError


def test_text_and_bytes_arrive_as_they_were(tmp_path: Path) -> None:
    assert files.write_bytes(tmp_path / "a.bin", b"\x00\r\n\xff").read_bytes() == b"\x00\r\n\xff"
    assert files.write_text(tmp_path / "a.txt", "λ\nμ\n").read_bytes() == "λ\nμ\n".encode()


def test_half_a_surrogate_pair_becomes_its_escape_and_the_json_stays_valid(tmp_path: Path) -> None:
    path = files.write_json(tmp_path / "a.json", {"name": "bad\udc80"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "bad\udc80"}


def test_json_keeps_the_order_of_keys_and_is_the_same_bytes_twice(tmp_path: Path) -> None:
    value = {"b": 1, "a": [1.5, None, "é"]}
    first = files.write_json(tmp_path / "a.json", value).read_bytes()
    assert first == files.write_json(tmp_path / "b.json", value).read_bytes()
    assert list(json.loads(first)) == ["b", "a"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_json_and_leaves_the_old_file(tmp_path: Path, bad: float) -> None:
    path = files.write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"x": bad})
    assert json.loads(path.read_text()) == {"x": 1}


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = files.write_text(tmp_path / "a.txt", "old")

    def crash(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os if where == "fsync" else Path, where, crash)
    with pytest.raises(KeyboardInterrupt):
        files.write_text(path, "new" * 1000)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write_text(tmp_path / "a.txt", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        files.write_text(path, "new")
    assert path.read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    path = files.write_text(tmp_path / "ours", "x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_ensure_folder_makes_parents_and_leaves_nothing_in_them(tmp_path: Path) -> None:
    folder = files.ensure_folder(tmp_path / "a" / "b")
    assert files.ensure_folder(folder) == folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match=r"required, but .*out is a file, not a folder: remove it"):
        files.ensure_folder(tmp_path / "out" / below)
    with pytest.raises(OutputError, match="out is a file, not a folder"):
        files.write_text(tmp_path / "out" / "a.txt", "x")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        files.write_text(tmp_path / "report.html", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_name_that_is_too_long_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        files.write_text(tmp_path / ("x" * 300), "x")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # chmod would not stop root, as whom CI runs
    with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\): choose another folder") as caught:
        files.ensure_folder(tmp_path / "out")
    assert "\n" not in str(caught.value)
