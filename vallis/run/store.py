"""What was finished, for good: records of plain values and tensors, each under the digest of what determined it.

A record is a folder ``objects/ab/abcdef.../`` with ``record.json`` and, if it has tensors, ``tensors.safetensors``. It
is never changed. Trainings under way keep their state in ``partial/DIGEST``, which is replaced at every
checkpoint and removed at the end. Both appear in one instant, so a process may be killed at any; both carry checksums,
so what was damaged later is noticed, moved to ``damaged/`` and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from vallis import __version__
from vallis.core.errors import StoreError
from vallis.core.types import Packed
from vallis.run.codec import from_json, to_json
from vallis.run.folder import Folder

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """Plain JSON values and tensors by name; `kind` says what they are: "training", "solution" or "measurement"."""

    kind: str
    values: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Store:
    """Records by digest.

    Args:
        url: a path or an fsspec URL; it is made when the first record is.

    Raises:
        UsageError: no filesystem answers to that URL.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self._folder = Folder(url)
        self._folder.sweep()

    @property
    def url(self) -> str:
        """Where it is."""
        return self._folder.url

    @property
    def shared(self) -> bool:
        """Whether other processes see it."""
        return self._folder.shared

    def has(self, digest: str) -> bool:
        """Whether the record is there (`find` also looks whether it is sound)."""
        return self._folder.exists(f"{_place(digest)}/record.json")

    def find(self, digest: str) -> Record | None:
        """The record, None when there is none.

        Raises:
            StoreError: it is damaged.
        """
        text = self._folder.read(f"{_place(digest)}/record.json")
        if text is None:
            return None
        try:
            held = json.loads(text)
            seal, kind, values, names = held["checksum"], held["kind"], held["values"], held["tensors"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(self.url, digest, "its JSON is broken") from error
        data = self._folder.read(f"{_place(digest)}/tensors.safetensors") if names else b""
        if data is None or _seal(kind, values, names, data) != seal:
            raise _damaged(self.url, digest, "its checksum is wrong")
        tensors = _unpacked(data) if names else {}
        return Record(kind=kind, values=from_json(values), tensors={name: tensors[name] for name in names})

    def sound(self, digest: str) -> Record | None:
        """The record, None when there is none; a damaged one is moved to ``damaged/`` and so is none."""
        try:
            return self.find(digest)
        except StoreError:
            self._folder.move(_place(digest), f"damaged/{digest}-{len(self._folder.names('damaged'))}")
            return None

    def put(self, digest: str, record: Record) -> None:
        """Keeps a record for good; one that is there already stays as it is.

        Raises:
            OutputError: the store cannot be written.
            TypeError: a value in it is no plain JSON.
        """
        if self.has(digest):
            return
        values, names = to_json(record.values), list(record.tensors)
        data = _packed(record.tensors) if names else b""
        held = {
            "schema": SCHEMA,
            "vallis": __version__,
            "kind": record.kind,
            "digest": digest,
            "values": values,
            "tensors": names,
            "checksum": _seal(record.kind, values, names, data),
        }
        files = {"tensors.safetensors": data} if names else {}
        files["record.json"] = json.dumps(held, indent=1, allow_nan=False).encode()
        self._folder.publish(_place(digest), files)

    def digests(self) -> Iterator[str]:
        """The digests of all records, in order."""
        for group in self._folder.names("objects"):
            yield from self._folder.names(f"objects/{group}")

    def checkpoint(self, digest: str) -> Packed | None:
        """The last state kept of a training under way; None when there is none or it is damaged."""
        data = self._folder.read(f"partial/{digest}")
        if data is None or len(data) <= 64 or hashlib.sha256(data[64:]).hexdigest().encode() != data[:64]:
            return None
        tensors = _unpacked(data[64:])
        names, values = json.loads(tensors.pop("$values").numpy().tobytes())
        return Packed(tensors={name: tensors[name] for name in names}, values=from_json(values))

    def keep_checkpoint(self, digest: str, packed: Packed) -> None:
        """Keeps the state of a training under way in place of the one before.

        Raises:
            OutputError: the store cannot be written.
        """
        # In their order, which safetensors would lose: a training may go through its parameters in it.
        text = json.dumps([list(packed.tensors), to_json(packed.values)], allow_nan=False).encode()
        # Values ride along as bytes: two files could not be replaced in one instant.
        values = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        data = _packed({**packed.tensors, "$values": values})
        self._folder.replace(f"partial/{digest}", hashlib.sha256(data).hexdigest().encode() + data)

    def drop_checkpoint(self, digest: str) -> None:
        """Forgets the state of a training that is done."""
        self._folder.remove(f"partial/{digest}")


def _place(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"


def _seal(kind: str, values: Any, names: list[str], data: bytes) -> str:
    text = json.dumps([kind, values, names, hashlib.sha256(data).hexdigest()], allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _packed(tensors: Mapping[str, torch.Tensor]) -> bytes:
    # Copies, because safetensors refuses tensors that share memory.
    owned = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    data: bytes = save_tensors(owned)
    return data


def _unpacked(data: bytes) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = load_tensors(data)
    except (SafetensorError, ValueError) as error:
        raise StoreError(f"tensors were required, other bytes came ({error}): remove the record") from error
    return tensors


def _damaged(url: str, digest: str, why: str) -> StoreError:
    return StoreError(f"a whole record was required, {digest[:12]} in {url} is damaged ({why}): run again to remake it")
