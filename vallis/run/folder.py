"""A folder on any filesystem that fsspec knows, in which whole files and whole folders appear at once or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from vallis.core.errors import OutputError, StoreError, UsageError
from vallis.core.files import ensure_folder, write_bytes

_ABANDONED_SECONDS = 24 * 3600


class Folder:
    """Files by relative path under one root.

    Args:
        url: a path, or any fsspec URL: ``memory://name``, ``s3://bucket/prefix`` ...

    Raises:
        UsageError: no filesystem answers to that URL.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise UsageError(f"a store must be a path or an fsspec URL, {self.url!r} came: {error}") from error
        self._root = self._root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    @property
    def shared(self) -> bool:
        """Whether other processes see it."""
        return "memory" not in ([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of this path."""
        return bool(self._fs.exists(self._at(path)))

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None when there is none.

        Raises:
            StoreError: it is there and cannot be read.
        """
        try:
            data: bytes = self._fs.cat_file(self._at(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{self._at(path)} must be readable, and is not ({error}): mend or remove it") from error
        return data

    def replace(self, path: str, data: bytes) -> None:
        """Writes a file over any of that name, in one instant.

        Raises:
            OutputError: it cannot be written.
        """
        if self._local:
            target = Path(self._at(path))
            ensure_folder(target.parent)
            write_bytes(target, data)
            return
        temporary = self._at(f"tmp/{secrets.token_hex(8)}")
        try:
            self._fs.pipe_file(temporary, data)
            self._fs.makedirs(self._at(path).rpartition("/")[0], exist_ok=True)
            self._fs.mv(temporary, self._at(path))
        except OSError as error:
            raise _refused(self._at(path), error) from error

    def publish(self, path: str, files: Mapping[str, bytes]) -> None:
        """Writes a folder of files that nobody sees before it is whole: the last file is the one that makes it so.

        A local folder is renamed into place. Elsewhere, where folders cannot be renamed, the files come one by one, in
        their order, so that a reader must look for the last.

        Raises:
            OutputError: it cannot be written.
        """
        if not self._local:
            for name, data in files.items():
                self.replace(f"{path}/{name}", data)
            return
        target = Path(self._at(path))
        temporary = ensure_folder(self._at(f"tmp/{secrets.token_hex(8)}"))
        try:
            for name, data in files.items():
                write_bytes(temporary / name, data)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() and not (target / list(files)[-1]).exists():
                shutil.rmtree(target)  # damaged later: it came here whole
            temporary.rename(target)
        except OSError as error:
            if not target.is_dir():  # otherwise another process has just published the same
                raise _refused(str(target), error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def move(self, path: str, to: str) -> None:
        """Moves a file or folder to another path of the folder.

        Raises:
            OutputError: it cannot be moved.
        """
        try:
            self._fs.makedirs(self._at(to).rpartition("/")[0], exist_ok=True)
            if self._local:
                Path(self._at(path)).rename(self._at(to))
            else:
                self._fs.mv(self._at(path), self._at(to), recursive=True)
        except OSError as error:
            raise _refused(self._at(path), error) from error

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(path))

    def names(self, path: str) -> list[str]:
        """The names of the files and folders in a folder, sorted; none when there is no such folder."""
        try:
            found = self._fs.ls(self._at(path), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)

    def sweep(self) -> None:
        """Removes temporary files that a killed process left behind more than a day ago."""
        for old in self._abandoned():
            shutil.rmtree(old, ignore_errors=True)

    def _abandoned(self) -> Iterator[Path]:
        place = Path(self._at("tmp"))
        if self._local and place.is_dir():
            for folder in place.iterdir():
                with contextlib.suppress(OSError):
                    if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                        yield folder

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


def _refused(path: str, error: OSError) -> OutputError:
    return OutputError(f"a store that can be written was required, {path} refuses ({error}): choose another or mend it")
