import dataclasses
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vallis.core import tree

Pair = namedtuple("Pair", "first second")


@dataclasses.dataclass(frozen=True)
class Held:
    tensor: torch.Tensor
    name: str = "held"
    made: int = dataclasses.field(default=0, init=False)
    secret: dataclasses.InitVar[int | None] = None

    def __post_init__(self, secret: int | None) -> None:
        if secret is None:
            raise ValueError("made twice")
        object.__setattr__(self, "made", self.made + 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    tensor: torch.Tensor


class Returned(OrderedDict[str, Any]):
    """A dict whose entries are attributes too, and that refuses update, as large libraries of models return it."""

    def update(self, *_: Any, **__: Any) -> None:
        raise TypeError("no updates")

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


ONE, TWO = torch.tensor([1.0, 2.0]), torch.tensor([[3], [4]])


def double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor * 2


@pytest.mark.parametrize(
    "held",
    [
        ONE,
        (ONE, TWO),
        [ONE, "text", None, 3],
        {"a": ONE, "b": {"c": (TWO, [ONE])}},
        Pair(ONE, {"x": TWO}),
        OrderedDict(a=ONE, b=TWO),
        defaultdict(list, a=ONE),
        UserDict(a=ONE, b=[TWO]),
        MappingProxyType({"a": ONE}),
        Held(ONE, secret=1),
        Slotted(TWO),
        [Held(ONE, secret=1), Pair(1, TWO)],
        torch.nn.utils.rnn.pack_sequence([ONE, ONE[:1]]),
        torch.max(TWO, 1),
        torch.Size([1, 2]),
        (),
        {},
        "text",
    ],
    ids=lambda held: type(held).__name__,
)
def test_mapping_keeps_the_form_and_reaches_every_tensor(held: Any) -> None:
    before = [tensor.clone() for tensor in tree.tensors(held)]
    mapped = tree.map_tensors(double, held)
    assert type(mapped) is type(held)
    assert [type(leaf) for leaf in tree.leaves(mapped)] == [type(leaf) for leaf in tree.leaves(held)]
    after = tree.tensors(mapped)
    assert len(after) == len(before)
    assert all(torch.equal(new, old * 2) for new, old in zip(after, before, strict=True))
    assert all(torch.equal(now, old) for now, old in zip(tree.tensors(held), before, strict=True))


def test_a_dataclass_is_not_made_a_second_time() -> None:
    held = Held(ONE, secret=1)
    mapped = tree.map_tensors(double, held)
    assert mapped.made == 1
    assert mapped.tensor is not held.tensor


def test_a_dict_with_attributes_keeps_them_in_step() -> None:
    held = Returned()
    held["logits"] = ONE
    mapped = tree.map_tensors(double, held)
    assert torch.equal(mapped.logits, mapped["logits"])
    assert torch.equal(held.logits, ONE)


def test_what_is_looked_at_is_not_rebuilt() -> None:
    class Fragile(dict[str, Any]):
        def __init__(self) -> None:
            super().__init__(a=ONE)

        def __copy__(self) -> Any:
            raise AssertionError("copied")

    assert tree.tensors([Fragile(), {"deep": Fragile()}]) == [ONE, ONE]


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (torch.zeros(3, 2), 3),
        ({"a": torch.zeros(3), "b": [torch.zeros(3, 4)]}, 3),
        ({"a": torch.zeros(3), "b": torch.zeros(4)}, None),
        ({"a": torch.zeros(3), "b": torch.tensor(1)}, None),
        (torch.tensor(1), None),
        (["cat", "dog"], 2),
        (("cat", "dog"), 2),
        ([], 0),
        ({}, None),
        ("cat", None),
        (None, None),
        (torch.zeros(0, 2), 0),
    ],
)
def test_length_is_the_common_first_size(held: Any, wanted: int | None) -> None:
    assert tree.length(held) == wanted


def test_take_picks_rows_of_every_tensor_or_the_objects_of_a_list() -> None:
    positions = torch.tensor([2, 0, 2])
    taken = tree.take({"a": torch.arange(3), "b": (torch.arange(6).view(3, 2),)}, positions)
    assert taken["a"].tolist() == [2, 0, 2]
    assert taken["b"][0].tolist() == [[4, 5], [0, 1], [4, 5]]
    assert tree.take(["x", "y", "z"], positions) == ["z", "x", "z"]


def test_to_casts_floats_only_and_asks_objects() -> None:
    class Graph:
        device: Any = None

        def to(self, device: Any) -> "Graph":
            moved = Graph()
            moved.device = device
            return moved

    cast = tree.to([torch.zeros(1), torch.zeros(1, dtype=torch.int32), torch.zeros(1) > 0], dtype=torch.float64)
    assert [tensor.dtype for tensor in cast] == [torch.float64, torch.int32, torch.bool]
    assert tree.to([Graph(), Graph()], torch.device("meta"))[1].device == torch.device("meta")
    assert tree.to(["text"], torch.device("meta")) == ["text"]
    assert tree.to((torch.zeros(2),), torch.device("meta"))[0].is_meta


# ---------------------------------------------------------------------------------------------------- hashes

DTYPES = st.sampled_from(
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.int64, torch.bool, torch.complex64]
)


def drawn(dtype: torch.dtype, *shape: int, seed: int) -> torch.Tensor:
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 20
    return (numbers > 0) if dtype is torch.bool else numbers.to(dtype)


@settings(deadline=None, max_examples=60)
@given(DTYPES, st.integers(1, 6), st.integers(1, 4), st.integers(0, 9), st.permutations(range(6)))
def test_hashes_belong_to_examples_not_to_places(
    dtype: torch.dtype, size: int, width: int, seed: int, order: list[int]
) -> None:
    held = {"x": drawn(dtype, size, width, seed=seed), "y": torch.arange(size)}
    hashes = tree.example_hashes(held, size)
    assert hashes is not None and hashes.shape == (size,) and len(hashes.unique()) == size
    places = torch.tensor([place for place in order if place < size])
    moved = tree.example_hashes(tree.take(held, places), size)
    assert torch.equal(moved, hashes[places])


@settings(deadline=None, max_examples=60)
@given(DTYPES, st.integers(1, 5), st.integers(1, 4), st.integers(0, 9), st.data())
def test_one_changed_element_changes_one_hash(
    dtype: torch.dtype, size: int, width: int, seed: int, data: st.DataObject
) -> None:
    held = drawn(dtype, size, width, seed=seed)
    row, column = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, width - 1))
    other = held.clone()
    other[row, column] = ~other[row, column] if dtype is torch.bool else other[row, column] + 1
    before, after = tree.example_hashes(held, size), tree.example_hashes(other, size)
    assert (before != after).nonzero().flatten().tolist() == [row]
    assert tree.fingerprint(held) != tree.fingerprint(other)


def test_time_first_tensors_are_hashed_along_their_second_axis() -> None:
    held = torch.randn(4, 3, 2)
    assert torch.equal(tree.example_hashes(held, 3), tree.example_hashes(held.transpose(0, 1), 3))


def test_columns_do_not_trade_places() -> None:
    assert tree.example_hashes((ONE, ONE * 2), 2).tolist() != tree.example_hashes((ONE * 2, ONE), 2).tolist()


@pytest.mark.parametrize("held", [torch.tensor(1.0), torch.zeros(4, 5), {"a": torch.zeros(3), "b": torch.zeros(2)}, {}])
def test_without_an_axis_of_that_size_there_are_no_hashes(held: Any) -> None:
    assert tree.example_hashes(held, 3) is None


def test_objects_are_hashed_by_what_they_hold() -> None:
    class Graph:
        def __init__(self, edges: int) -> None:
            self.edges, self.name = torch.arange(edges), "graph"

    hashes = tree.example_hashes([Graph(2), Graph(3), Graph(2)], 3).tolist()
    assert hashes[0] == hashes[2] != hashes[1]
    texts = tree.example_hashes(["cat", "dog", "cat"], 3).tolist()
    assert texts[0] == texts[2] != texts[1]


def test_rows_without_elements_have_hashes() -> None:
    assert tree.example_hashes(torch.zeros(3, 0), 3).tolist() == [0, 0, 0]
    assert tree.example_hashes(torch.zeros(0, 3), 0).tolist() == []


def test_hashing_leaves_the_generators_alone() -> None:
    before = torch.get_rng_state()
    tree.example_hashes(torch.zeros(3, 2), 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (ONE, ONE.double()),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (ONE, ONE.flip(0)),
        ((ONE, TWO), (TWO, ONE)),
        ("cat", "dog"),
        ([1, 23], [12, 3]),
        (1, 1.0),
        (torch.tensor(0.0), torch.tensor(-0.0)),
        (b"a", "a"),
    ],
)
def test_fingerprints_differ(one: Any, two: Any) -> None:
    assert tree.fingerprint(one) != tree.fingerprint(two)


def test_fingerprints_are_of_content_not_of_layout() -> None:
    held = torch.randn(4, 3)
    wanted = tree.fingerprint(held)
    waves = torch.complex(held, -held)
    assert tree.fingerprint(waves.conj()) == tree.fingerprint(torch.complex(held, held))
    assert tree.fingerprint(waves.conj().imag) == wanted
    assert torch.equal(tree.example_hashes(waves.conj().imag, 4), tree.example_hashes(held, 4))
    assert wanted == tree.fingerprint(held.t().contiguous().t()) == tree.fingerprint(held.clone().requires_grad_())
    assert len(wanted) == 64
    assert tree.fingerprint(["\udc80"]) != tree.fingerprint(["\udc81"])
    assert tree.fingerprint(torch.zeros(0)) == tree.fingerprint(torch.zeros(0))


def test_on_another_default_device() -> None:
    wanted = tree.example_hashes(ONE, 2)
    with torch.device("meta"):
        assert torch.equal(tree.example_hashes(ONE, 2), wanted)
        assert tree.example_hashes(["a", "b"], 2).device.type == "cpu"


def test_a_list_of_dataclasses_is_one_of_objects() -> None:
    """Graphs: their tensors may be of any first size, and even of the same one."""
    graphs = [Slotted(torch.ones(2, 2)), Slotted(torch.ones(2, 2)), Slotted(torch.zeros(2, 2))]
    assert tree.are_objects(graphs)
    assert tree.length(graphs) == 3
    assert tree.take(graphs, torch.tensor([2])) == [graphs[2]]
    assert [graph.tensor.dtype for graph in tree.to(graphs, dtype=torch.float64)] == [torch.float64] * 3
    hashes = tree.example_hashes(graphs, 3)
    assert hashes is not None
    assert hashes[0] == hashes[1] != hashes[2]


def test_tensors_and_pairs_of_tensors_are_no_objects() -> None:
    assert not tree.are_objects([ONE, TWO])
    assert not tree.are_objects([(ONE, TWO), (ONE, TWO)])
    assert not tree.are_objects((Slotted(ONE), Slotted(ONE)))
    assert not tree.are_objects(ONE)


def test_an_object_without_a_device_of_its_own_is_copied_before_its_tensors_change() -> None:
    class Graph:
        def __init__(self) -> None:
            self.features, self.edges = torch.ones(3), torch.ones(2, dtype=torch.int64)

    graph = Graph()
    (moved,) = tree.to([graph], dtype=torch.float64)
    assert (moved.features.dtype, moved.edges.dtype) == (torch.float64, torch.int64)
    assert graph.features.dtype is torch.float32
