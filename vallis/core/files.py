"""Writes files whole or not at all: to a temporary file beside, fsync, rename. Kill the process at any instant.

A reader never sees half a file, and what cannot be written is said in one sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from vallis.core.errors import OutputError


def ensure_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, made with its parents if it was not there, and proved writable.

    Raises:
        OutputError: a file stands in the way, or the folder cannot be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = _temporary(folder)
        os.close(_create(probe))
        probe.unlink()
    except OSError as error:
        raise _refused(folder, error) from error
    return folder


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Writes the file whole or not at all, over any file of that name; its folder must exist.

    Raises:
        OutputError: it cannot be written; what stood there before is untouched.
    """
    target = Path(path)
    temporary = _temporary(target.parent)
    try:
        with os.fdopen(_create(temporary), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _refused(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    r"""Writes UTF-8 with ``\n`` for a line end; half a surrogate pair is written as its escape, not refused.

    Raises:
        OutputError: it cannot be written.
    """
    return write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Writes strict JSON, indented, with the keys in their order: the same value gives the same bytes.

    Raises:
        OutputError: it cannot be written.
        ValueError: the value holds NaN or an infinity, for which JSON has no word.
        TypeError: the value holds something that is not plain.
    """
    return write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _temporary(folder: Path) -> Path:
    # A short name of its own: the target's may already be as long as the file system allows.
    return folder / f".{secrets.token_hex(8)}.tmp"


def _create(path: Path) -> int:
    # Not tempfile: its files are private (0600) and would stay so after the rename.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _sync_folder(folder: Path) -> None:
    # The rename itself must survive a power cut; where a folder cannot be opened (Windows) there is nothing to sync.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _refused(path: Path, error: OSError) -> OutputError:
    in_the_way = next((p for p in (path, *path.parents) if _exists(p) and not p.is_dir()), None)
    if isinstance(error, IsADirectoryError):
        came, advice = f"{path} is a folder", "remove it or choose another name"
    elif in_the_way is not None and isinstance(error, FileExistsError | NotADirectoryError):
        came, advice = f"{in_the_way} is a file, not a folder", "remove it or choose another folder"
    else:
        came, advice = f"{path} cannot be written ({error.strerror or error})", "choose another folder or mend this one"
    return OutputError(f"a place to write results was required, but {came}: {advice}")


def _exists(path: Path) -> bool:
    with contextlib.suppress(OSError):  # a name may be too long even to be asked for
        return path.exists()
    return False
