"""The recorder against one object an example, in loops as people write them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.numerics.histories import History
from vallis.core.errors import DataError, SettingsError
from vallis.numerics.dynamics import DynamicsRecorder
from vallis.numerics.example_scores import within
from vallis.numerics.presentations import QUANTITIES, presentations

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def stream(seed: int = 0, names: tuple[int, ...] = tuple(range(30)), num_batches: int = 40) -> list[Batch]:
    """Batches of random sizes and members, with replacement, some targets ignored."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(num_batches):
        size = int(torch.randint(1, 12, (), generator=generator))
        index = torch.tensor(names)[torch.randint(0, len(names), (size,), generator=generator)]
        y = torch.randint(0, 4, (size,), generator=generator)
        y[torch.rand(size, generator=generator) < 0.1] = -100
        batches.append((index, torch.randn(size, 4, generator=generator), y))
    return batches


def one_by_one(batches: list[Batch]) -> dict[int, History]:
    histories: dict[int, History] = {}
    for index, logits, y in batches:
        for name, row, target in zip(index.tolist(), logits, y.tolist(), strict=True):
            if target == -100:
                continue
            chances = row.double().softmax(0)
            rivals = [float(row[place]) for place in range(4) if place != target]
            history = histories.setdefault(name, History())
            history.margins.append(float(row[target]) - max(rivals))
            history.correct.append(history.margins[-1] > 0)
            history.probabilities.append(float(chances[target]))
            history.error_norms.append(float((chances - torch.eye(4)[target]).norm()))
    return histories


def must_agree(recorder: DynamicsRecorder, histories: dict[int, History]) -> None:
    held = [histories.get(name, History()) for name in recorder.identities.tolist()]
    assert set(histories) <= set(recorder.identities.tolist())
    assert recorder.seen.tolist() == [len(one.correct) for one in held]
    assert recorder.forgetting_events().tolist() == [one.forgetting_events for one in held]
    assert recorder.never_learned().tolist() == [one.never_learned for one in held]
    assert recorder.first_right().tolist() == [one.first_right for one in held]
    assert recorder.first_learned().tolist() == [one.first_learned for one in held]
    near(recorder.area_under_margin(), [one.area_under_margin for one in held])
    near(recorder.error_norm(stop=2), [one.error_norm(0, 2) for one in held])
    found = recorder.cartography()
    near(found.confidence, [one.confidence for one in held])
    near(found.variability, [one.variability for one in held])
    near(found.correctness, [one.correctness for one in held])


def near(found: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    "how",
    [
        {"num_examples": 30},
        {"num_examples": 30, "num_presentations": 1},
        {"identities": list(range(29, -1, -1))},
        {"identities": torch.arange(-5, 60, 1)},
        {},
    ],
)
def test_it_agrees_with_one_object_an_example(how: dict[str, Any]) -> None:
    recorder = DynamicsRecorder(**how)
    for index, logits, y in stream():
        recorder.update(index, logits, y)
    must_agree(recorder, one_by_one(stream()))


@pytest.mark.parametrize("how", [{"identities": [10**15, -3, 7, 0]}, {}])
def test_identities_may_be_any_integers(how: dict[str, Any]) -> None:
    batches = stream(names=(10**15, -3, 7))
    recorder = DynamicsRecorder(**how)
    for index, logits, y in batches:
        recorder.update(index.tolist(), logits, y)
    must_agree(recorder, one_by_one(batches))


def test_a_loop_with_gradients_inference_and_half_precision() -> None:
    model, recorder = torch.nn.Linear(3, 4), DynamicsRecorder(num_examples=5)
    x, y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    logits = model(x)
    recorder.update(torch.arange(5), logits, y)
    torch.nn.functional.cross_entropy(logits, y).backward()
    with torch.inference_mode():
        recorder.update(torch.arange(5), model(x), y)
        inside = DynamicsRecorder(num_examples=5, num_presentations=1)
        inside.update([0], model(x[:1]), y[:1])
    inside.update([0], model(x[:1]).bfloat16(), y[:1])
    assert recorder.seen.tolist() == [2] * 5 and inside.seen.tolist() == [2, 0, 0, 0, 0]
    assert torch.equal(recorder.recorded["losses"][0], recorder.recorded["losses"][1])
    assert not recorder.recorded["losses"].requires_grad


def test_buffers_hold_what_one_presentation_says() -> None:
    (index, logits, y), recorder = stream(3)[0], DynamicsRecorder(num_examples=30)
    recorder.update(index, logits, y.clamp(0))
    seen = presentations(logits, y.clamp(0))
    once = torch.tensor([index.tolist().count(name) == 1 for name in index.tolist()])
    assert bool(once.any())
    for name in QUANTITIES:
        assert torch.equal(recorder.recorded[name][0, index[once]], getattr(seen, name)[once])
    assert recorder.recorded["correct"].dtype == torch.bool and recorder.recorded["losses"].dtype == torch.float32


def test_losses_of_ones_own() -> None:
    recorder = DynamicsRecorder(num_examples=2)
    recorder.update([1, 0], torch.zeros(2, 3), torch.tensor([0, -100]), losses=torch.tensor([7.0, 9.0]))
    assert recorder.mean_loss()[1] == 7.0 and bool(recorder.mean_loss()[0].isnan())


def test_the_forgotten_and_the_hard_by_name() -> None:
    recorder = DynamicsRecorder(identities=[50, 60, 70, 80])
    right = {50: [1, 1, 1, 1], 60: [1, 0, 1, 0], 70: [0, 0, 0, 0], 80: [1, 0, 0, 0]}
    for turn in range(4):
        margins = torch.tensor([3.0 if right[name][turn] else -1.0 for name in right])
        recorder.update(list(right), margins, torch.ones(4))
    assert recorder.most_forgotten(9).tolist() == [60, 80], "what was never learned was never forgotten"
    assert recorder.hardest(2).tolist() == [70, 80]
    assert recorder.never_learned().tolist() == [False, False, True, False]


def test_a_file_goes_on_where_it_stopped(tmp_path: Path) -> None:
    batches = stream(5)
    for how in ({"num_examples": 30}, {}):
        whole, begun = DynamicsRecorder(**how), DynamicsRecorder(**how)  # type: ignore[arg-type]
        for batch in batches:
            whole.update(*batch)
        for batch in batches[:17]:
            begun.update(*batch)
        again = DynamicsRecorder.load(begun.save(tmp_path / "dynamics.safetensors"))
        for batch in batches[17:]:
            again.update(*batch)
        assert torch.equal(again.identities, whole.identities)
        assert again.num_updates == whole.num_updates
        counts = within(whole.recorded["correct"], whole.seen)
        for name, held in whole.recorded.items():
            assert torch.equal(again.recorded[name][counts], held[counts]), name


def test_an_empty_record_is_a_file_too(tmp_path: Path) -> None:
    for made in (DynamicsRecorder(num_examples=3, keep=()), DynamicsRecorder()):
        again = DynamicsRecorder.load(made.save(tmp_path / "empty.safetensors"))
        again.update([1], torch.zeros(1, 2), torch.tensor([0]))
        assert int(again.seen.sum()) == 1
    assert DynamicsRecorder().forgetting_events().tolist() == []


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    with pytest.raises(DataError, match="required"):
        DynamicsRecorder.load(other)
    other.write_bytes(b"nothing")
    with pytest.raises(DataError, match="required"):
        DynamicsRecorder.load(other)


def test_two_processes_make_one_record() -> None:
    """Each process sees a part of each step's batch, and other parts in other steps."""
    batches = stream(8)
    whole = DynamicsRecorder(num_examples=30)
    halves = (DynamicsRecorder(num_examples=30), DynamicsRecorder(num_presentations=1))
    for step, (index, logits, y) in enumerate(batches):
        order = index % 2 if step % 3 else 1 - index % 2
        # An example goes to one process within a step, so that its order there is that of the batch.
        for process in (0, 1):
            part = order == process
            halves[process].update(index[part], logits[part], y[part], step=step)
        whole.update(index, logits, y)
    for merged in (halves[0].merged(halves[1]), halves[1].merged(halves[0])):
        must_agree(merged, one_by_one(batches))
    closed = halves[0].merged(whole)
    assert torch.equal(closed.seen, halves[0].seen + whole.seen)
    with pytest.raises(DataError):
        closed.update([99], torch.zeros(1, 4), torch.tensor([0]))
    halves[1].merged(halves[0]).update([99], torch.zeros(1, 4), torch.tensor([0]))


def test_a_memory_is_plain_and_shares_its_buffers() -> None:
    recorder = DynamicsRecorder(num_examples=30, keep=("margins",), kind="categorical", ignore_index=3)
    first, second = [(index, logits, y.clamp(min=0)) for index, logits, y in stream()[:2]]
    recorder.update(*first)
    memory = recorder.memory()
    assert all(isinstance(value, (torch.Tensor, int, str, bool)) for value in memory.values())
    again = DynamicsRecorder.of_memory(memory)
    assert (again.kind, again.ignore_index, again.timelines.kept) == ("categorical", 3, ("margins",))
    again.update(*second)
    recorder.update(*second)
    assert int(recorder.seen.sum()) > int(memory["num_updates"])


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"num_examples": 3, "identities": [1]}, SettingsError),
        ({"num_examples": 0}, SettingsError),
        ({"num_examples": 3, "num_presentations": 0}, SettingsError),
        ({"num_examples": 3.0}, SettingsError),
        ({"num_examples": torch.zeros(3, 2)}, SettingsError),
        ({"kind": "multiclass"}, SettingsError),
        ({"keep": ("margin",)}, SettingsError),
        ({"identities": [0.5]}, DataError),
        ({"identities": []}, DataError),
    ],
)
def test_settings_that_make_no_sense(how: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"required|must be"):
        DynamicsRecorder(**how)


def test_what_does_not_fit_leaves_the_record_as_it_was() -> None:
    recorder = DynamicsRecorder(num_examples=3, keep=("losses",))
    for index in ([0, 1], [0, 1, 2, 3], [0, 1, 9]):
        with pytest.raises(DataError):
            recorder.update(index, torch.zeros(3, 2), torch.zeros(3, dtype=torch.long))
    assert recorder.seen.tolist() == [0, 0, 0]
    with pytest.raises(SettingsError, match="margins"):
        recorder.area_under_margin()
    with pytest.raises(SettingsError, match="same quantities"):
        recorder.merged(DynamicsRecorder(num_examples=3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_logits_and_buffers_on_any_device(device: str) -> None:
    recorder = DynamicsRecorder(num_examples=30, device=device)
    for index, logits, y in stream():
        recorder.update(index.cuda() if device == "cpu" else index, logits.cuda(), y)
    must_agree_on_cpu = DynamicsRecorder.of_memory(
        {key: value.cpu() if isinstance(value, torch.Tensor) else value for key, value in recorder.memory().items()}
    )
    must_agree(must_agree_on_cpu, one_by_one(stream()))


def test_what_a_loop_has_at_hand_will_do() -> None:
    """Arrays, lists and ranges, a number of examples that NumPy counted, and one name to keep."""
    logits, y = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 1])
    wanted = DynamicsRecorder(num_examples=5)
    wanted.update(torch.arange(3), logits, y)
    for index, targets in ((range(3), y.numpy()), ([0, 1, 2], y.tolist()), (np.arange(3), y)):
        found = DynamicsRecorder(num_examples=np.int64(5), keep="margins")
        found.update(index, logits, targets)  # type: ignore[arg-type]
        assert list(found.recorded) == ["correct", "updates", "margins"]
        assert torch.equal(found.recorded["margins"], wanted.recorded["margins"])
    assert repr(wanted) == "DynamicsRecorder(5 examples, presentations of each: 0 to 1)"
    assert repr(DynamicsRecorder()) == "DynamicsRecorder(0 examples, presentations of each: 0)"


def test_steps_losses_and_presentations_that_numpy_counted() -> None:
    recorder = DynamicsRecorder(num_examples=2)
    recorder.update([0, 1], torch.zeros(2, 3), torch.tensor([0, 1]), losses=np.ones(2), step=np.int64(7))  # type: ignore[arg-type]
    assert recorder.recorded["updates"].tolist() == [[7, 7]]
    assert recorder.mean_loss().tolist() == [1.0, 1.0]
    assert torch.equal(recorder.error_norm(stop=np.int64(3)), recorder.error_norm())  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [1.5, 2**31, "3"])
def test_a_step_that_is_none_is_refused(step: Any) -> None:
    recorder = DynamicsRecorder(num_examples=2)
    with pytest.raises(DataError, match="a whole number of at most 32 bits was required as step"):
        recorder.update([0, 1], torch.zeros(2, 3), torch.tensor([0, 1]), step=step)
    assert recorder.num_updates == 0


@pytest.mark.parametrize(
    ("index", "logits", "said"),
    [
        (None, torch.zeros(2, 3), "a NoneType of other things came: let the data set return"),
        (["a", "b"], torch.zeros(2, 3), "a list of other things came"),
        ([0, 1], {"logits": torch.zeros(2, 3)}, "a dict came: take it out of what the model returned"),
        ([0], torch.zeros(2, 3), r"one entry a row of logits, and tokens as logits \(B, C, T\)"),
    ],
    ids=["none", "texts", "dict", "flat"],
)
def test_what_a_loop_gets_wrong_is_said_in_a_sentence(index: Any, logits: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        DynamicsRecorder(num_examples=5).update(index, logits, torch.tensor([0, 1]))


def test_presentations_of_several_steps_at_once() -> None:
    """The step of each example goes where that of the batch would go, and counts for those that count."""
    logits, y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, -100, 2, 0, 1])
    index, steps = torch.tensor([0, 1, 2, 0, 2, 1]), torch.tensor([4, 4, 4, 5, 5, 6], dtype=torch.int32)
    found, wanted = DynamicsRecorder(num_examples=3), DynamicsRecorder(num_examples=3)
    found.record(index, presentations(logits, y), step=steps)
    for step in (4, 5, 6):
        chosen = steps == step
        wanted.update(index[chosen], logits[chosen], y[chosen], step=step)
    assert torch.equal(found.seen, wanted.seen) and found.seen.tolist() == [2, 2, 1]
    for name, column in wanted.recorded.items():
        torch.testing.assert_close(found.recorded[name], column, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [-1, 2.0, True, None, "3"])
def test_a_count_that_is_none_is_refused(count: Any) -> None:
    recorder = DynamicsRecorder(num_examples=3)
    recorder.update([0, 1, 2, 0, 1], torch.eye(3)[[0, 1, 0, 1, 0]], torch.tensor([0, 1, 2, 0, 1]))
    assert recorder.hardest(0).tolist() == recorder.most_forgotten(0).tolist() == []
    assert len(recorder.hardest(np.int64(9))) == 3 and sorted(recorder.most_forgotten(9).tolist()) == [0, 1]
    for ask in (recorder.hardest, recorder.most_forgotten):
        with pytest.raises(SettingsError, match="a number of examples from 0 on was required"):
            ask(count)


def test_only_recorders_are_merged() -> None:
    with pytest.raises(DataError, match="another recorder was required to merge with, a int came"):
        DynamicsRecorder(num_examples=3).merged(3)  # type: ignore[arg-type]


def test_several_labels_an_example_are_not_taken_for_a_distribution() -> None:
    """As `BCEWithLogitsLoss` has them: without their kind they would have been one class each, silently."""
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    recorder = DynamicsRecorder(num_examples=2)
    with pytest.raises(DataError, match='one adds up to 2: say kind="binary" for several labels'):
        recorder.update([0, 1], torch.zeros(2, 3), labels)
    recorder.update([0, 1], torch.zeros(2, 3), torch.full((2, 3), 1 / 3))
    binary = DynamicsRecorder(num_examples=2, kind="binary")
    binary.update([0, 1], torch.tensor([[1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]), labels)
    assert binary.recorded["correct"].tolist() == [[True, False]]


@pytest.mark.parametrize("is_open", [False, True])
def test_an_interrupted_batch_leaves_no_trace(is_open: bool) -> None:
    batches = stream(num_batches=6)
    recorder = DynamicsRecorder() if is_open else DynamicsRecorder(num_examples=30)
    for batch in batches[:3]:
        recorder.update(*batch)

    class Interrupted(dict[str, torch.Tensor]):
        def __getitem__(self, name: str) -> torch.Tensor:
            if name == "margins":
                raise KeyboardInterrupt
            return super().__getitem__(name)

    index, logits, y = batches[3]
    seen = presentations(logits, y)
    values = Interrupted({name: getattr(seen, name) for name in (*QUANTITIES, "correct")})
    with pytest.raises(KeyboardInterrupt):
        recorder.timelines.append(index, values, 3)
    assert len(recorder.seen) == len(recorder.identities)
    for batch in batches[3:]:
        recorder.update(*batch)
    must_agree(recorder, one_by_one(batches))


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (0, -1), (0, 0), (3, 2), (0, 2.5), ("a", None), (True, None)])
def test_presentations_that_are_none_are_refused(start: Any, stop: Any) -> None:
    recorder = DynamicsRecorder(num_examples=1)
    recorder.update([0], torch.zeros(1, 2), torch.tensor([0]))
    with pytest.raises(SettingsError, match="presentations from start to before stop"):
        recorder.error_norm(start, stop)
    with pytest.raises(SettingsError, match="a NoneType came"):
        DynamicsRecorder(num_presentations=None)  # type: ignore[arg-type]


def test_threads_lose_no_presentation() -> None:
    recorder, index = DynamicsRecorder(num_examples=100, num_presentations=1), torch.arange(100)

    def record() -> None:
        for _ in range(100):
            recorder.update(index, torch.zeros(100, 3), index % 3)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            for waiting in [pool.submit(record) for _ in range(4)]:
                waiting.result()
    finally:
        sys.setswitchinterval(before)
    assert recorder.seen.tolist() == [400] * 100 and recorder.num_updates == 400
    assert sorted(recorder.recorded["updates"][:, 0].tolist()) == list(range(400))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_classes_are_counted_from_0(dtype: torch.dtype) -> None:
    """Counted from 1, the last class had no logit, and its examples were silently never presented."""
    recorder, index = DynamicsRecorder(num_examples=3), torch.arange(3)
    with pytest.raises(DataError, match="classes from 0 to 2 were required, as many as there are logits, 3 came"):
        recorder.update(index, torch.zeros(3, 3), torch.tensor([1, 2, 3], dtype=dtype))
    with pytest.raises(DataError, match="say ignore_index=-1 where that does not count"):
        recorder.update(index, torch.zeros(3, 3, 2), torch.tensor([[0, 1], [2, -1], [0, 0]]))
    assert recorder.seen.tolist() == [0, 0, 0] and recorder.num_updates == 0
    DynamicsRecorder(num_examples=3, ignore_index=3).update(index, torch.zeros(3, 3), torch.tensor([1, 2, 3]))
    DynamicsRecorder(num_examples=3).update(index, torch.zeros(3, 1), torch.tensor([[0], [1], [1]]))
    DynamicsRecorder(num_examples=3, kind="binary").update(index, torch.zeros(3, 2), torch.ones(3, 2).long())


def test_losses_of_another_shape_are_refused_as_losses() -> None:
    recorder = DynamicsRecorder(2)
    for losses in (torch.zeros(3), torch.tensor(1.0)):
        with pytest.raises(DataError, match="one loss an example was required, losses of shape"):
            recorder.update([0, 1], torch.randn(2, 3), torch.tensor([0, 1]), losses=losses)
    with pytest.raises(DataError, match="one identity an example was required, 1 identities came for 2"):
        recorder.update([0], torch.randn(2, 3), torch.tensor([0, 1]))
