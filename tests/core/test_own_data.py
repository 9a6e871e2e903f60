"""A user's data, in every shape it comes: read twice and kept for ever, or refused in a sentence."""

import random
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from tests.core.caller import is_sentence, untouched
from tests.core.networks import draw, mlp
from vallis.core import own_data
from vallis.core.data import Arrays, Batches, Stream
from vallis.core.errors import DataChanged, DataError, SettingsError
from vallis.core.objective import Objective
from vallis.core.own_data import Reader
from vallis.core.types import Data, Solution

X, Y = draw(10, 3).float(), torch.arange(10) % 4
Named = namedtuple("Named", "x y")
Triple = namedtuple("Triple", "x y weight")


def read(data: Any, **how: Any) -> Data:
    return Reader(**how).read(data, "train", 0)


def rows(data: Data) -> list[tuple[Any, ...]]:
    """All examples of a split, in a fixed order."""
    return sorted((*batch.x[i].tolist(), batch.y[i].item()) for batch in data for i in range(len(batch)))


EXPECTED = sorted((*x.tolist(), y.item()) for x, y in zip(X, Y, strict=True))


class Items(Dataset[Any]):
    """A dataset by a function of the place."""

    def __init__(self, item: Callable[[int], Any], size: int = 10) -> None:
        self.item, self.size = item, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: int) -> Any:
        return self.item(place)


class Walk(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return ((X[i], int(Y[i])) for i in range(10))


class Duck:
    """A dataset by behaviour alone, as half of all repositories write it."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, place: int) -> Any:
        return X[place], int(Y[place])


class DuckThatIterates(Duck):
    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(10))


@dataclass
class Held:
    x: Any
    y: Any


@dataclass
class Table:
    """What pandas gives: something that numpy can read."""

    held: Any

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.held, dtype=dtype)


PAIRS = DataLoader(TensorDataset(X, Y), batch_size=4)
SHUFFLED = torch.Generator()
TAKE_APART = {"inputs": lambda b: b.x, "targets": lambda b: b.y}
WAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tensors": ((X, Y), {}),
    "list of tensors": ([X, Y], {}),
    "arrays": ((X.numpy(), Y.numpy()), {}),
    "float64 arrays": ((X.double().numpy(), Y.to(torch.int32).numpy()), {}),
    "big-endian arrays": ((X.numpy().astype(">f4"), Y.numpy().astype(">i2")), {}),
    "long doubles": ((X.numpy().astype(np.longdouble), Y.numpy().astype(np.uint8)), {}),
    "arrays backwards": ((X.flip(0).numpy()[::-1], Y.flip(0).numpy()[::-1]), {}),
    "python lists": ((X.tolist(), Y.tolist()), {}),
    "tables": ((Table(X.tolist()), Table(Y.tolist())), {}),
    "object arrays": ((X.numpy().astype(object), Y.numpy().astype(object)), {}),
    "dict": (
        {"pixels": X, "label": Y},
        {"inputs": lambda d: d["pixels"], "targets": lambda d: d["label"]},
    ),
    "dataclass": (Held(X, Y), TAKE_APART),
    "named tuple": (Named(X, Y), {}),
    "one tensor": (
        torch.cat([X, Y[:, None]], 1),
        {"inputs": lambda t: t[:, :3], "targets": lambda t: t[:, 3].long()},
    ),
    "tensors of batches": (
        list(torch.cat([X, Y[:, None]], 1).split([4, 6])),
        {"inputs": lambda t: t[:, :3], "targets": lambda t: t[:, 3].long()},
    ),
    "dataset": (TensorDataset(X, Y), {}),
    "dataset of python numbers": (Items(lambda i: (X[i], int(Y[i]))), {}),
    "dataset of arrays": (Items(lambda i: (X[i].numpy(), Y[i].numpy())), {}),
    "dataset of dicts": (
        Items(lambda i: {"pixels": X[i], "label": int(Y[i])}),
        {"inputs": lambda d: d["pixels"], "targets": lambda d: d["label"]},
    ),
    "iterable dataset": (Walk(), {}),
    "loader of an iterable dataset": (DataLoader(Walk(), batch_size=3), {}),
    "by behaviour": (Duck(), {}),
    "by behaviour, iterable": (DuckThatIterates(), {}),
    "loader": (PAIRS, {}),
    "loader of triples": (
        DataLoader(TensorDataset(X, torch.zeros(10), Y), batch_size=4),
        {"inputs": lambda b: b[0], "targets": lambda b: b[2]},
    ),
    "shuffled loader": (DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True), {}),
    "loader with its own generator": (
        DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, generator=SHUFFLED),
        {},
    ),
    "loader with a generator in its sampler": (
        DataLoader(TensorDataset(X, Y), batch_size=4, sampler=RandomSampler(X, generator=SHUFFLED)),
        {},
    ),
    "loader with a generator in its batch sampler": (
        DataLoader(TensorDataset(X, Y), batch_sampler=BatchSampler(RandomSampler(X, generator=SHUFFLED), 4, False)),
        {},
    ),
    "loader that drops nothing": (DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True, drop_last=True), {}),
    "loader with its own collate": (
        DataLoader(
            TensorDataset(X, Y),
            batch_size=4,
            collate_fn=lambda items: Triple(torch.stack([i[0] for i in items]), torch.stack([i[1] for i in items]), 1),
        ),
        TAKE_APART,
    ),
    "batches": ([(X[:4], Y[:4]), (X[4:], Y[4:])], {}),
    "batches of arrays": ([(X[:4].numpy(), Y[:4].numpy()), (X[4:].numpy(), Y[4:].numpy())], {}),
    "batches of named tuples": ([Named(X[:4], Y[:4]), Named(X[4:], Y[4:])], {}),
    "batches of longer named tuples": ([Triple(X[:4], Y[:4], 1), Triple(X[4:], Y[4:], 1)], TAKE_APART),
    "batches of dataclasses": ([Held(X[:4], Y[:4]), Held(X[4:], Y[4:])], TAKE_APART),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_holds_the_examples_they_are_the_same_examples(way: str) -> None:
    data, how = WAYS[way]
    state = SHUFFLED.get_state()
    with untouched(None, X, Y):
        found = read(data, batch_size=4, **how)
    assert rows(found) == EXPECTED
    assert len(found) == 10
    assert torch.cat([batch.index for batch in found]).tolist() == list(range(10))
    assert all(batch.x.dtype == torch.float32 and batch.y.dtype == torch.int64 for batch in found)
    assert torch.equal(SHUFFLED.get_state(), state)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_too_large_to_keep_is_read_anew_in_one_order(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "KEEP_BYTES", 0)
    data, how = WAYS[way]
    state = SHUFFLED.get_state()
    found = read(data, batch_size=4, **how)
    kept_whole = isinstance(found, Arrays)
    assert kept_whole or isinstance(found, Stream)
    with untouched(None, X, Y):
        first, second = [[batch.y.tolist() for batch in found] for _ in range(2)]
        next(iter(found))  # a pass that somebody leaves early
    assert first == second
    assert rows(found) == EXPECTED
    assert torch.equal(SHUFFLED.get_state(), state)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, num_workers=1)
    with untouched(None, X, Y):
        found = read(loader)
    assert rows(found) == EXPECTED
    monkeypatch.setattr(own_data, "KEEP_BYTES", 0)
    with untouched(None, X, Y):
        stream = read(loader)
        assert rows(stream) == EXPECTED
    assert [batch.y.tolist() for batch in stream] == [batch.y.tolist() for batch in found]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(1, 30), st.booleans())
def test_no_number_depends_on_how_the_examples_are_batched(sizes: list[int], batch_size: int, stream: bool) -> None:
    module, total = mlp_double(), sum(sizes)
    x, y = draw(total, 3, seed=9), torch.arange(total) % 4
    y = torch.where(torch.arange(total) % 5 == 3, -100, y)  # some do not count
    loss = nn.CrossEntropyLoss()
    whole = Objective(Solution.of(module, loss, train=(x, y), batch_size=total))
    cut: Any = list(zip(x.split(sizes), y.split(sizes), strict=True))
    keep, own_data.KEEP_BYTES = own_data.KEEP_BYTES, -1 if stream else own_data.KEEP_BYTES
    try:
        others = [Solution.of(module, loss, train=cut), Solution.of(module, loss, train=(x, y), batch_size=batch_size)]
        for other in map(Objective, others):
            assert other.value() == pytest.approx(whole.value(), rel=1e-12)
            torch.testing.assert_close(other.gradient(), whole.gradient(), rtol=1e-10, atol=1e-14)
    finally:
        own_data.KEEP_BYTES = keep


def mlp_double() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mlp().double()


# --------------------------------------------------------------------------------------- data that do not hold still


def _numpy_noise(i: int) -> Any:
    return X[i] + np.random.randn(), Y[i]  # noqa: NPY002


own_numpy = np.random.default_rng(0)
RESTLESS: dict[str, Callable[[int], Any]] = {
    "torch": lambda i: (X[i] + torch.randn(3), Y[i]),
    "numpy": _numpy_noise,
    "python": lambda i: (X[i] + random.random(), Y[i]),
    "a generator of its own": lambda i: (X[i] + own_numpy.normal(), Y[i]),
    "targets": lambda i: (X[i], random.choice(range(4))),
    "one bit in a while": lambda i: (X[i] + 1e-6 * (random.random() < 0.5), Y[i]),
    "texts": lambda i: (random.choice(["cat", "dog", "cow"]), Y[i]),
    "seldom": lambda i: (X[i].roll(random.randrange(3)) if i == 7 else X[i], Y[i]),
}


@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("source", RESTLESS)
def test_random_augmentation_is_noticed_whatever_it_draws_from(source: str, shuffle: bool) -> None:
    loader = DataLoader(Items(RESTLESS[source]), batch_size=4, shuffle=shuffle)
    random.seed(3)
    with untouched(None, X, Y), pytest.raises(DataChanged, match=r"switch off random augmentation") as caught:
        read(loader)
    assert is_sentence(str(caught.value))


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TensorDataset(X, Y), batch_size=4, sampler=RandomSampler(X, replacement=True)),
        DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(X, Y), sampler=torch.utils.data.WeightedRandomSampler([1.0] * 10, 10)),
    ],
    ids=["replacement", "drop_last", "weighted"],
)
def test_random_samples_are_noticed(loader: Any) -> None:
    with untouched(None, X, Y), pytest.raises(DataChanged, match=r"sampling and drop_last"):
        read(loader)


def test_random_inputs_are_noticed() -> None:
    with pytest.raises(DataChanged):
        read(PAIRS, inputs=lambda b: b[0] + torch.randn(3))


def test_a_source_that_is_spent_is_noticed() -> None:
    class Spent(IterableDataset[Any]):
        held = iter([(X[i], Y[i]) for i in range(10)])

        def __iter__(self) -> Iterator[Any]:
            return self.held

    with pytest.raises(DataChanged, match=r"\(10 and 0 examples"):
        read(Spent())


@pytest.mark.parametrize("third", [0.0, 1.0], ids=["still", "moving"])
def test_a_change_after_the_first_two_passes_is_noticed_while_measuring(
    third: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_data, "KEEP_BYTES", 0)
    noise = 0.0
    found = read(DataLoader(Items(lambda i: (X[i] + (noise if i == 9 else 0.0), Y[i])), batch_size=4))
    assert rows(found) == EXPECTED
    noise = third
    if third:
        with pytest.raises(DataChanged, match=r"\(10 and 10 examples, other content\)"):
            rows(found)
    else:
        assert rows(found) == EXPECTED


def test_data_that_are_others_from_the_third_pass_on_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "KEEP_BYTES", 0)
    passes = []

    class Drifting(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            passes.append(None)
            return ((X[i] + (len(passes) > 2), int(Y[i])) for i in range(10))

    found = read(Drifting())
    assert len(passes) == 2
    with pytest.raises(DataChanged):
        rows(found)


def test_what_is_kept_cannot_change_any_more() -> None:
    mine = [(X.clone(), Y.clone())]
    found = read(mine)
    mine[0][0].zero_()
    mine[0][1].zero_()
    assert rows(found) == EXPECTED


def test_order_is_no_change_and_neither_are_other_batches() -> None:
    for size in (1, 3, 10):
        assert rows(read(DataLoader(TensorDataset(X, Y), batch_size=size, shuffle=True))) == EXPECTED


def test_time_first_batches_may_be_shuffled() -> None:
    def collate(items: list[Any]) -> Any:
        return torch.stack([x for x, _ in items], 1), torch.stack([y for _, y in items])

    x = draw(10, 5, 3)
    found = read(DataLoader(TensorDataset(x, Y), batch_size=4, shuffle=True, collate_fn=collate))
    assert [tuple(batch.x.shape) for batch in found] == [(5, 4, 3), (5, 4, 3), (5, 2, 3)]
    assert len(found) == 10


# ------------------------------------------------------------------------------------------------- other contents


@pytest.mark.parametrize("keep", [0, 2**20], ids=["stream", "kept"])
def test_what_is_read_in_inference_mode_can_be_differentiated(keep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "KEEP_BYTES", keep)
    with torch.inference_mode():
        found = read(Items(lambda i: (X[i] * 1.0, Y[i])))
        assert not any(batch.x.is_inference() for batch in found)


def test_a_pass_draws_like_a_program_with_that_seed() -> None:
    generator = torch.Generator().manual_seed(99)

    def items() -> Iterator[Any]:
        for _ in range(3):
            draws = torch.rand(()).item(), random.random(), np.random.rand()  # noqa: NPY002
            yield *draws, torch.rand((), generator=generator).item()

    with untouched():
        drawn = list(own_data._with_own_randomness(items(), [generator], 5))
    assert generator.initial_seed() == 99
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    generator.manual_seed(5)
    assert drawn == list(items())


def test_texts_stay_a_list_of_texts() -> None:
    texts = ["a cat", "a dog", "a cow"]
    for data in ((texts, [0, 1, 2]), (np.array(texts), [0, 1, 2]), DataLoader(Items(lambda i: (texts[i], i), 3), 2)):
        found = read(data)
        assert [text for batch in found for text in batch.x] == texts
        assert all(isinstance(batch.x, list) for batch in found)


def test_rows_of_several_lengths_stay_a_list_of_objects() -> None:
    ragged = [[1, 2, 3], [4], [5, 6]]
    found = read((ragged, [0, 1, 0]), batch_size=2)
    assert [batch.x for batch in found] == [[[1, 2, 3], [4]], [[5, 6]]]


def test_trees_keep_their_form_and_arrays_in_them_become_tensors() -> None:
    x = {"pair": (X.numpy(), [X, X.double().numpy()]), "named": Named(X.numpy(), X)}
    batch = next(iter(read((x, Y), batch_size=4)))
    assert isinstance(batch.x["pair"], tuple) and isinstance(batch.x["pair"][1], list)
    assert isinstance(batch.x["named"], Named)
    assert batch.x["named"].x.shape == batch.x["pair"][1][1].shape == (4, 3)


def test_floating_arrays_take_the_models_type_and_tensors_keep_theirs() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        batch = next(iter(read((X.numpy(), X.double().numpy()), dtype=dtype)))
        assert batch.x.dtype == batch.y.dtype == dtype
    assert next(iter(read((X.double(), Y)))).x.dtype == torch.float64


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_arrays_keep_their_imaginary_part(dtype: Any) -> None:
    batch = next(iter(read((X.numpy().astype(dtype) * 1j, Y))))
    assert batch.x.is_complex()
    assert torch.equal(batch.x.imag.float(), X)


def test_booleans_stay_booleans() -> None:
    batch = next(iter(read((X.numpy(), (Y > 1).numpy()))))
    assert batch.y.dtype == torch.bool


def test_a_split_of_ours_is_taken_as_it_is() -> None:
    ours = Arrays(x=X, y=Y, index=torch.arange(10))
    assert read(ours) is ours


def test_identities_go_on_where_the_other_split_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(batch_size=4)
    splits = [reader.read(data, "test", 100) for data in ((X, Y), PAIRS)]
    monkeypatch.setattr(own_data, "KEEP_BYTES", 0)
    splits.append(reader.read(PAIRS, "test", 100))
    assert [type(split) for split in splits] == [Arrays, Batches, Stream]
    for found in splits:
        assert torch.cat([batch.index for batch in found]).tolist() == list(range(100, 110))


def test_masks_for_all_examples_do_not_decide_how_many_there_are() -> None:
    mask = torch.zeros(3, 3)
    found = read([((X[:4], mask), Y[:4]), ((X[4:], mask), Y[4:])])
    assert len(found) == 10


# ------------------------------------------------------------------------------------------------------- refused


def _raises(i: int) -> Any:
    raise KeyError("no such image")


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, "None came"),
    "text": ("train.csv", "a str came"),
    "a number": (3, "an int came"),
    "inputs alone": (X, "a Tensor came"),
    "an array alone": (X.numpy(), "a ndarray came"),
    "a spent iterator": (((X, Y) for _ in range(2)), "a generator came, which is spent"),
    "a module": (nn.Identity(), "an Identity came"),
    "an empty list": ([], "none came"),
    "an empty tuple": ((), "a tuple of 0 came"),
    "an empty dict": ({}, "a dict of 0 came"),
    "an empty dataset": (TensorDataset(X[:0], Y[:0]), "the dataset is empty"),
    "an empty loader": (DataLoader(Items(lambda i: i, 0)), "none came"),
    "no rows": ((X[:0], Y[:0]), "an empty batch came"),
    "a batch without rows": ([(X, Y), (X[:0], Y[:0])], "an empty batch came"),
    "a dict": ({"x": X, "y": Y}, "a dict with x, y came"),
    "three": ((X, Y, Y), "a tuple of 3 came"),
    "batches of three": (DataLoader(TensorDataset(X, Y, Y)), "a list of 3 came"),
    "batches of numbers": ([1, 2, 3], "an int came"),
    "a longer named tuple": ([Triple(X, Y, 1)], "a Triple of 3 came"),
    "fewer targets": ((X, Y[:5]), "10 inputs and 5 targets"),
    "fewer targets in a batch": ([(X[:4], Y[:2])], "4 inputs and 2 targets"),
    "one target": ((X, torch.tensor(1)), "None came"),
    "one target a batch": ([(X, torch.tensor(1))], "one example at a time"),
    "no batches": (DataLoader(TensorDataset(X, Y), batch_size=None), "one example at a time"),
    "NaN inputs": ((X.index_fill(0, torch.tensor([2]), float("nan")), Y), "3 NaN came"),
    "NaN targets": ((X, torch.full((10,), float("nan"))), "train targets must be numbers, 10 NaN came"),
    "NaN in a list": (([[1.0, float("nan")]], [0]), "1 NaN came"),
    "complex NaN": ((X * complex(float("nan")), Y), "NaN came"),
    "NaN in a loader": (DataLoader(TensorDataset(X / 0 * 0, Y)), "NaN came"),
    "a dataset that raises": (Items(_raises), "raised KeyError: 'no such image'"),
    "a dataset of nothing": (Items(lambda i: None), "raised TypeError: default_collate"),
    "images of several sizes": (Items(lambda i: (torch.zeros(i + 1), 0)), "raised RuntimeError"),
    "numbers beyond 64 bits": ((X, [2**70] * 10), "holds larger ones"),
    "numbers beyond 63 bits": ((X, [2**63] * 10), "holds larger ones"),
    "large unsigned numbers": ((np.full((10, 3), 2**63, dtype=np.uint64), Y), "holds larger ones"),
    "dates": ((X, np.array(["2026-11-21"] * 10, dtype="datetime64[D]")), "holds datetime64[D]"),
    "records": ((X, np.zeros(10, dtype=[("a", "f4"), ("b", "i4")])), "turn it into numbers"),
    "sparse": ((X.to_sparse(), Y), "a nested or sparse one"),
    "no values": ((X.to("meta"), Y), "one without values"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_data_that_cannot_be_read_are_refused_in_a_sentence(what: str) -> None:
    data, came = REFUSED[what]
    with untouched(None, X, Y), pytest.raises(DataError) as caught:
        read(data)
    assert came in str(caught.value)
    assert "train" in str(caught.value) or "targets" in str(caught.value)
    assert is_sentence(str(caught.value)), str(caught.value)


def test_nested_tensors_are_refused() -> None:
    nested = torch.nested.nested_tensor([X[:2], X[2:5]], layout=torch.jagged)
    with pytest.raises(DataError, match="a nested or sparse one"):
        read((nested, Y[:2]))


@pytest.mark.parametrize("size", [0, -3, 2.5, "many", None])
def test_a_batch_size_is_a_positive_integer(size: Any) -> None:
    with pytest.raises(SettingsError, match=f"at least 1 was required, {size!r} came") as caught:
        Reader(batch_size=size)
    assert is_sentence(str(caught.value))


@pytest.mark.parametrize("at", [3, 13])
def test_an_interrupt_while_reading_leaves_everything_as_it_was(at: int) -> None:
    asked = []

    def item(i: int) -> Any:
        asked.append(torch.rand(()) + random.random() + np.random.rand())  # noqa: NPY002
        if len(asked) == at:
            raise KeyboardInterrupt
        return X[i], Y[i]

    loader = DataLoader(Items(item), batch_size=2, shuffle=True, generator=SHUFFLED)
    state = SHUFFLED.get_state()
    with untouched(None, X, Y), pytest.raises(KeyboardInterrupt):
        read(loader)
    assert torch.equal(SHUFFLED.get_state(), state)


def test_pickers_that_raise_are_told_apart_from_the_loader() -> None:
    with pytest.raises(DataError, match=r"inputs= and targets= must take a train batch apart") as caught:
        read(PAIRS, inputs=lambda b: b["pixels"])
    assert is_sentence(str(caught.value))
    assert isinstance(caught.value.__cause__, TypeError)


def test_bytes_as_targets_become_int64() -> None:
    """Torch's own loss takes bytes, and class weights, corrections and one-hot rows would take them for masks."""
    for data in ((X, Y.byte()), [(X, Y.byte())], TensorDataset(X, Y.byte())):
        found = read(data)
        assert all(batch.y.dtype == torch.int64 for batch in found)
        assert rows(found) == EXPECTED
    kept = next(iter(read((X.byte(), Y > 1))))
    assert (kept.x.dtype, kept.y.dtype) == (torch.uint8, torch.bool)  # inputs, and what is no number, stay
