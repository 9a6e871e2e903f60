from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from vallis.core.errors import StoreError
from vallis.core.types import Packed
from vallis.run.store import Record, Store

NAME = "ab" + 62 * "0"
TENSORS = {
    "layer.0/weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "double": torch.tensor([math.pi, -0.0, 5e-324], dtype=torch.float64),
    "odd": torch.tensor([float("nan"), float("-inf")]),
    "bool": torch.tensor([True, False]),
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 3),
}
RECORD = Record(kind="solution", values={"step": 3, "loss": math.inf, "words": ["a", "ü\ud800"]}, tensors=TENSORS)


@pytest.fixture(params=["path", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path / "store" if request.param == "path" else f"memory://{tmp_path.name}/store")


def bits(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.dtype, tensor.shape, bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def test_a_record_comes_back_bit_for_bit(store: Store) -> None:
    assert store.find(NAME) is None
    assert not store.has(NAME)
    store.put(NAME, RECORD)
    found = store.find(NAME)
    assert store.has(NAME)
    assert found is not None
    assert (found.kind, found.values) == (RECORD.kind, RECORD.values)
    assert [(name, bits(value)) for name, value in found.tensors.items()] == [(n, bits(v)) for n, v in TENSORS.items()]
    assert list(store.digests()) == [NAME]


def test_a_record_is_never_changed(store: Store) -> None:
    store.put(NAME, RECORD)
    store.put(NAME, Record(kind="solution", values={"step": 4}))
    found = store.find(NAME)
    assert found is not None
    assert found.values["step"] == 3


def test_tensors_that_share_memory_are_kept(store: Store) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    store.put(NAME, Record(kind="x", values={}, tensors={"whole": whole, "row": whole[0], "turned": whole.T}))
    found = store.find(NAME)
    assert found is not None
    assert torch.equal(found.tensors["turned"], whole.T)
    assert torch.equal(found.tensors["row"], whole[0])


def test_the_same_record_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Store(tmp_path / name).put(NAME, RECORD)
    files = [sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("one", "two")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert [path.name for path in files[0]] == ["record.json", "tensors.safetensors"]


def test_the_json_is_strict(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(NAME, RECORD)
    text = (tmp_path / "objects" / "ab" / NAME / "record.json").read_text()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert json.loads(text, parse_constant=refuse)["values"]["loss"] == {"$float": "inf"}


def damage_json(folder: Path) -> None:
    file = folder / "record.json"
    file.write_text(file.read_text().replace('"step": 3', '"step": 5'))


def truncate_json(folder: Path) -> None:
    file = folder / "record.json"
    file.write_bytes(file.read_bytes()[:40])


def flip_a_bit(folder: Path) -> None:
    file = folder / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def lose_tensors(folder: Path) -> None:
    (folder / "tensors.safetensors").unlink()


def write_rubbish(folder: Path) -> None:
    (folder / "record.json").write_bytes(b"\xff\x00[1]")


def write_a_list(folder: Path) -> None:
    (folder / "record.json").write_bytes(b"[1]")


@pytest.mark.parametrize("damage", [damage_json, truncate_json, flip_a_bit, lose_tensors, write_rubbish, write_a_list])
def test_damage_is_noticed_and_moved_aside(tmp_path: Path, damage: object) -> None:
    store = Store(tmp_path)
    store.put(NAME, RECORD)
    damage(tmp_path / "objects" / "ab" / NAME)  # type: ignore[operator]
    with pytest.raises(StoreError, match=r"damaged .* run again to remake it"):
        store.find(NAME)
    assert store.sound(NAME) is None
    assert not store.has(NAME)
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == [f"{NAME}-0"]
    store.put(NAME, RECORD)
    assert store.sound(NAME) is not None


def test_a_record_that_was_damaged_twice_is_moved_aside_twice(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(2):
        store.put(NAME, RECORD)
        damage_json(tmp_path / "objects" / "ab" / NAME)
        assert store.sound(NAME) is None
    assert len(list((tmp_path / "damaged").iterdir())) == 2


def test_a_checkpoint_is_replaced_and_dropped(store: Store) -> None:
    assert store.checkpoint(NAME) is None
    for step in (1, 2):
        tensors = {"w": torch.full((2,), step), "b": torch.zeros(1)}
        packed = Packed(tensors=tensors, values={"step": step, "best": math.inf})
        store.keep_checkpoint(NAME, packed)
    found = store.checkpoint(NAME)
    assert found is not None
    assert found.values == {"step": 2, "best": math.inf}
    assert [(name, value.tolist()) for name, value in found.tensors.items()] == [("w", [2, 2]), ("b", [0])]
    store.drop_checkpoint(NAME)
    store.drop_checkpoint(NAME)
    assert store.checkpoint(NAME) is None
    assert list(store.digests()) == []


@pytest.mark.parametrize("kept", [0, 10, 64, 100])
def test_a_damaged_checkpoint_is_none(tmp_path: Path, kept: int) -> None:
    store = Store(tmp_path)
    store.keep_checkpoint(NAME, Packed(tensors={"w": torch.ones(9)}, values={}))
    file = tmp_path / "partial" / NAME
    file.write_bytes(file.read_bytes()[:kept])
    assert store.checkpoint(NAME) is None


def test_values_that_json_cannot_hold_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="plain value"):
        Store(tmp_path).put(NAME, Record(kind="x", values={"bad": {1, 2}}))
    assert list(tmp_path.rglob("*")) == []
