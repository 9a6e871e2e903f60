from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.caller import is_sentence
from vallis.core.data import Arrays, Batches, Stream, Tally, summarise
from vallis.core.errors import DataChanged, DataError
from vallis.core.types import Batch

X, Y = torch.arange(14.0).view(7, 2), torch.arange(7) % 3


class Graph:
    def __init__(self, nodes: int, name: str = "") -> None:
        self.nodes, self.name = torch.arange(nodes), name


def arrays(size: int = 3, first: int = 0) -> Arrays:
    return Arrays(x=X, y=Y, index=torch.arange(first, first + 7), batch_size=size)


def batches(*sizes: int) -> Batches:
    index = torch.arange(7)
    parts = zip(X.split(list(sizes)), Y.split(list(sizes)), index.split(list(sizes)), strict=True)
    return Batches(kept=tuple(Batch(x=x, y=y, index=i) for x, y, i in parts))


def stream(*sizes: int, first: int = 0) -> Stream:
    return Stream(lambda: zip(X.split(list(sizes)), Y.split(list(sizes)), strict=True), first)


SPLITS = {
    "arrays": arrays(),
    "one batch": arrays(100),
    "batches": batches(4, 1, 2),
    "stream": stream(4, 1, 2),
    "trees": Arrays(x={"a": X, "b": (X, [Y])}, y={"y": Y}, index=torch.arange(7), batch_size=3),
    "objects": Arrays(x=[Graph(n) for n in range(7)], y=Y, index=torch.arange(7), batch_size=3),
    "texts": Arrays(x=list("abcdefg"), y=Y, index=torch.arange(7), batch_size=3),
    "objects as targets": Arrays(x=X, y=list("abcdefg"), index=torch.arange(7), batch_size=3),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_pass_sees_every_example_once_in_one_order(name: str) -> None:
    data = SPLITS[name]
    for _ in range(2):
        seen = list(data)
        assert torch.cat([batch.index for batch in seen]).tolist() == list(range(7))
        assert sum(map(len, seen)) == len(data) == 7
        assert all(len(batch) > 0 for batch in seen)


@pytest.mark.parametrize("name", [name for name in SPLITS if name != "stream"])
def test_random_access_agrees_with_a_pass(name: str) -> None:
    data = SPLITS[name]
    positions = torch.tensor([6, 0, 3, 3, 4, 5])
    taken = data.take(positions)
    assert taken.index.tolist() == positions.tolist()
    one_by_one = [data.take(positions[i : i + 1]) for i in range(6)]
    for i, single in enumerate(one_by_one):
        assert _row(taken, i) == _row(single, 0)
    flat = [(batch, i) for batch in data for i in range(len(batch))]
    for i, position in enumerate(positions.tolist()):
        assert _row(taken, i) == _row(*flat[position])


def _row(batch: Batch, i: int) -> Any:
    def row(held: Any) -> Any:
        if isinstance(held, torch.Tensor):
            return held[i].tolist()
        if isinstance(held, dict):
            return {key: row(value) for key, value in held.items()}
        if isinstance(held[0], (str, Graph)):
            return held[i]
        return [row(value) for value in held]

    return row(batch.x), row(batch.y), int(batch.index[i])


def test_batches_have_their_size_and_the_last_the_rest() -> None:
    assert [len(batch) for batch in arrays(3)] == [3, 3, 1]
    assert [len(batch) for batch in arrays(3).in_batches_of(4)] == [4, 3]
    assert [len(batch) for batch in batches(4, 1, 2)] == [4, 1, 2]


def test_a_pass_over_tensors_copies_nothing() -> None:
    assert next(iter(arrays())).x.data_ptr() == X.data_ptr()


def test_ragged_sequences_keep_their_batches() -> None:
    parts = (torch.zeros(2, 5), torch.ones(3, 4))
    kept = tuple(Batch(x=x, y=x[:, 0], index=torch.arange(len(x))) for x in parts)
    assert [batch.x.shape for batch in Batches(kept=kept)] == [part.shape for part in parts]
    assert Batches(kept=kept).take(torch.tensor([1, 0])).x.shape == (2, 5)


@pytest.mark.parametrize(
    ("x", "y", "came"),
    [
        (X, Y[:3], "7 targets were required, 3 came"),
        (X[:3], Y, "7 inputs were required, 3 came"),
        ({"a": X, "b": X[:2]}, Y, "7 inputs were required, None came"),
        (["a"] * 3, Y, "7 inputs were required, 3 came"),
        (X, torch.tensor(3), "7 targets were required, None came"),
    ],
)
def test_as_many_inputs_as_targets_as_identities(x: Any, y: Any, came: str) -> None:
    with pytest.raises(DataError, match=came) as caught:
        Arrays(x=x, y=y, index=torch.arange(7))
    assert is_sentence(str(caught.value))


# ------------------------------------------------------------------------------------------------ fingerprints


def test_fingerprints_tell_contents_apart() -> None:
    made = [
        arrays(),
        arrays(first=1),
        Arrays(x=X + 1, y=Y, index=torch.arange(7)),
        Arrays(x=X, y=Y + 1, index=torch.arange(7)),
        Arrays(x=X.flip(0), y=Y, index=torch.arange(7)),
        SPLITS["objects"],
        Arrays(x=[Graph(n + 1) for n in range(7)], y=Y, index=torch.arange(7)),
        Arrays(x=[Graph(n, "other") for n in range(7)], y=Y, index=torch.arange(7)),
        SPLITS["texts"],
        Arrays(x=list("abcdefh"), y=Y, index=torch.arange(7)),
        SPLITS["objects as targets"],
        Arrays(x=X, y=list("abcdefh"), index=torch.arange(7)),
        batches(4, 1, 2),
        Batches(kept=(Batch(x=list("ab"), y=Y[:2], index=torch.arange(2)),)),
        Batches(kept=(Batch(x=list("ac"), y=Y[:2], index=torch.arange(2)),)),
        stream(7),
        Stream(lambda: [(X + 1, Y)]),
        Stream(lambda: [(X[:5], Y[:5])]),
        Stream(lambda: [(list("ab"), Y[:2])]),
        Stream(lambda: [(list("ac"), Y[:2])]),
    ]
    prints = [data.fingerprint() for data in made]
    assert len(set(prints)) == len(prints)
    assert all(len(found) == 64 for found in prints)


def test_the_batch_size_is_no_content() -> None:
    assert arrays(3).fingerprint() == arrays(5).fingerprint()


@settings(deadline=None, max_examples=50)
@given(st.permutations(range(7)), st.lists(st.integers(1, 3), min_size=3, max_size=3), st.integers(0, 2**40))
def test_the_fingerprint_of_a_stream_ignores_order_and_batches(order: list[int], sizes: list[int], shift: int) -> None:
    cut = [*sizes, 7 - sum(sizes)] if sum(sizes) < 7 else [7]
    cut = [size for size in cut if size > 0]
    cut = cut if sum(cut) == 7 else [7]
    x, y, places = X + shift, Y, torch.tensor(order)
    other = Stream(lambda: zip(x[places].split(cut), y[places].split(cut), strict=True))
    assert other.fingerprint() == Stream(lambda: [(x, y)]).fingerprint()


# ------------------------------------------------------------------------------------------------------ streams


class Changing:
    """Other content at one of its passes."""

    def __init__(self, at: int, how: str) -> None:
        self.passes, self.at, self.how = 0, at, how

    def __call__(self) -> Any:
        self.passes += 1
        x, y = X.clone(), Y.clone()
        if self.passes == self.at and self.how == "value":
            x[5, 1] += 1e-3
        if self.passes == self.at and self.how == "target":
            y[0] += 1
        if self.passes == self.at and self.how == "swap":
            x = x[torch.tensor([1, 0, 2, 3, 4, 5, 6])]
        if self.passes == self.at and self.how == "fewer":
            x, y = x[:-1], y[:-1]
        if self.passes == self.at and self.how == "twice":
            x[1], y[1] = x[0], y[0]
        return zip(x.split(3), y.split(3), strict=True)


@pytest.mark.parametrize("how", ["value", "target", "swap", "fewer", "twice"])
@pytest.mark.parametrize("at", [2, 3, 5])
def test_a_stream_checks_every_pass_against_the_first(at: int, how: str) -> None:
    found = Stream(Changing(at, how))
    for done in range(2, 7):
        if done == at:
            with pytest.raises(DataChanged, match=r"two passes over the data differ") as caught:
                list(found)
            assert is_sentence(str(caught.value))
        else:
            assert sum(len(batch) for batch in found) == 7


def test_a_stream_takes_over_what_a_pass_before_it_saw() -> None:
    changing = Changing(2, "value")
    seen = summarise(changing())
    with pytest.raises(DataChanged):
        list(Stream(changing, 0, seen))
    assert changing.passes == 2, "no pass was spent on looking once more"


def test_a_pass_that_is_left_early_is_no_change() -> None:
    found = stream(3, 4)
    next(iter(found))
    assert len(list(found)) == 2


def test_two_passes_may_run_side_by_side() -> None:
    found = stream(3, 4)
    assert all(torch.equal(one.index, two.index) for one, two in zip(found, found, strict=True))


def test_a_stream_has_no_random_access_and_no_emptiness() -> None:
    with pytest.raises(DataError, match="random access was required, a stream came") as caught:
        stream(7).take(torch.tensor([0]))
    assert is_sentence(str(caught.value))
    with pytest.raises(DataError, match="at least one example was required, an empty one came") as caught:
        Stream(lambda: [])
    assert is_sentence(str(caught.value))


def test_identities_start_where_they_are_told_to() -> None:
    assert torch.cat([batch.index for batch in stream(3, 4, first=20)]).tolist() == list(range(20, 27))


# ------------------------------------------------------------------------------------------------------- tallies


@pytest.mark.parametrize(
    ("x", "y", "size"),
    [
        (X, Y, 7),
        (X.t(), Y, 7),
        (["a", "b"], Y[:2], 2),
        ([Graph(1), Graph(2)], ["a", "b"], 2),
        (Graph(3), torch.tensor(1), 1),
        ((X, torch.zeros(3, 3)), Y, 7),
        ({}, Y, 7),
        (X, None, 7),
        (X[:0], Y[:0], 0),
    ],
    ids=["rows", "time first", "texts", "objects", "one graph", "mask", "nothing", "no targets", "empty"],
)
def test_a_tally_counts_examples_of_every_form(x: Any, y: Any, size: int) -> None:
    tally = Tally()
    assert tally.add(x, y) == size
    assert tally.add(x, y) == size
    assert tally.num_examples == 2 * size


def test_two_changes_do_not_cancel() -> None:
    first, second = summarise([(X, Y)]), summarise([(X + torch.tensor([1.0, -1.0]), Y)])
    with pytest.raises(DataChanged):
        second.must_equal(first)


def test_targets_that_trade_places_are_a_change() -> None:
    with pytest.raises(DataChanged):
        summarise([(X, Y.roll(1))]).must_equal(summarise([(X, Y)]))


def test_on_another_default_device() -> None:
    whole, cut, read = SPLITS["objects"], batches(3, 4), stream(3, 4)
    places = torch.tensor([6, 0])
    with torch.device("meta"):
        for data in (whole, cut, read):
            assert all(batch.index.device.type == "cpu" for batch in data)
        assert cut.take(places).index.tolist() == whole.take(places).index.tolist() == [6, 0]
