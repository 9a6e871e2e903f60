"""Answers that wait lose nothing: the record is that of a recorder which was told of every step at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vallis.core.types import Packed
from vallis.measurements.memorization import _pending_answers
from vallis.measurements.memorization._pending_answers import recorded, take
from vallis.numerics.dynamics import DynamicsRecorder
from vallis.run.memory import pack, unpack

NUM_EXAMPLES, IGNORED = 9, -100


def steps(sizes: list[int], seed: int = 0, num_classes: int = 3, num_tokens: int = 0) -> list[dict[str, torch.Tensor]]:
    """Batches of these sizes, with examples that come twice in one and targets that do not count."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for size in sizes:
        more = (num_tokens,) if num_tokens else ()
        targets = torch.randint(num_classes, (size, *more), generator=generator)
        targets[torch.rand(targets.shape, generator=generator) < 0.2] = IGNORED
        scores = torch.randn(size, num_classes, *more, generator=generator)
        index = torch.randint(NUM_EXAMPLES, (size,), generator=generator)
        made.append({"index": index, "scores": scores, "targets": targets})
    return made


def kept(parts: list[dict[str, torch.Tensor]], memory: dict[str, Any] | None = None, first: int = 0) -> dict[str, Any]:
    memory = DynamicsRecorder(num_examples=NUM_EXAMPLES).memory() if memory is None else memory
    for step, part in enumerate(parts, first):
        take(memory, part, step, "categorical", IGNORED)
    return memory


def must_be_the_record(memory: dict[str, Any], parts: list[dict[str, torch.Tensor]]) -> None:
    direct = DynamicsRecorder(num_examples=NUM_EXAMPLES)
    for step, part in enumerate(parts):
        direct.update(part["index"], part["scores"], part["targets"], step=step)
    found = DynamicsRecorder.of_memory(recorded(memory))
    assert torch.equal(found.seen, direct.seen) and int(direct.seen.sum()) > 0
    within = torch.arange(int(direct.seen.max()))[:, None] < direct.seen
    for name, column in direct.recorded.items():
        # Alone or among others, a row may differ in its last bit.
        torch.testing.assert_close(found.recorded[name][within], column[within], rtol=1e-6, atol=1e-6)


@pytest.fixture(params=[1, 4, 7, 1000])
def most_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(_pending_answers, "_MOST_ROWS", request.param)
    return int(request.param)


SIZES = [2, 3, 2, 1, 5, 2, 2, 3, 1, 1, 8, 2, 2]


@pytest.mark.usefixtures("most_rows")
@pytest.mark.parametrize("num_tokens", [0, 4])
def test_nothing_is_lost_however_much_waits(num_tokens: int) -> None:
    parts = steps(SIZES, num_tokens=num_tokens)
    must_be_the_record(kept(parts), parts)


@pytest.mark.usefixtures("most_rows")
def test_other_shapes_and_types_make_way_for_each_other() -> None:
    halves = [{**part, "scores": part["scores"].double()} for part in steps([2, 2], seed=2)]
    parts = [*steps([2, 2]), *steps([2, 2], seed=1, num_tokens=3), *halves, *steps([3], seed=3)]
    must_be_the_record(kept(parts), parts)


@pytest.mark.parametrize("stop", range(len(SIZES) + 1))
def test_a_checkpoint_holds_what_waits_and_changes_no_bit(stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pending_answers, "_MOST_ROWS", 7)
    parts = steps(SIZES)
    packed = pack(Packed(tensors={}, values={}), stop, {"it": kept(parts[:stop])}, {})
    _, _, memories, _ = unpack(packed)
    again = recorded(kept(parts[stop:], memories["it"], first=stop))
    whole = recorded(kept(parts))
    assert again.keys() == whole.keys()
    for name, value in whole.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(again[name], value), name
        else:
            assert again[name] == value, name


def test_looking_changes_nothing() -> None:
    parts = steps(SIZES)
    memory = kept(parts)
    assert memory["pending"] == sum(SIZES)
    for _ in range(2):
        must_be_the_record(memory, parts)
    assert memory["pending"] == sum(SIZES)
    must_be_the_record(kept(steps([2], seed=5), memory, first=len(parts)), [*parts, *steps([2], seed=5)])


def test_what_waits_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = steps([3, 3])
    lent = [{name: tensor.clone() for name, tensor in part.items()} for part in parts]
    memory = DynamicsRecorder(num_examples=NUM_EXAMPLES).memory()
    for step, part in enumerate(lent):
        take(memory, part, step, "categorical", IGNORED)
        for tensor in part.values():
            tensor.zero_()
    must_be_the_record(memory, parts)


def test_large_scores_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pending_answers, "_MOST_BYTES", 100)  # 8 rows of 3 scores
    parts = steps([5, 2, 2, 2, 2, 2, 5])
    memory = kept(parts)
    assert memory["pending"] == 0 and len(memory["pending_scores"]) == 8
    must_be_the_record(memory, parts)


def test_labels_of_two_classes_and_of_many_take_turns() -> None:
    memory = DynamicsRecorder(num_examples=NUM_EXAMPLES).memory()
    direct = DynamicsRecorder(num_examples=NUM_EXAMPLES)
    index, y = torch.tensor([0, 3]), torch.tensor([[1, 0], [1, 1]])
    scores = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
    for step, kind in enumerate(("binary", "binary", "categorical")):
        targets = y if kind == "binary" else y[:, 0]
        take(memory, {"index": index, "scores": scores, "targets": targets}, step, kind, IGNORED)  # type: ignore[arg-type]
        direct.kind = kind  # type: ignore[assignment]
        direct.update(index, scores, targets, step=step)
    found = DynamicsRecorder.of_memory(recorded(memory)).recorded
    for name, column in direct.recorded.items():
        torch.testing.assert_close(found[name], column, rtol=1e-6, atol=1e-6)
