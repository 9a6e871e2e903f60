"""Which layers are affine, and which only look like it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.laws.adversarial_networks import NETWORKS, cut
from tests.numerics.layer_solutions import LAYERED, convolutions, odd
from tests.numerics.solutions import AWKWARD, built, classes, held, one_parameter, random
from vallis.core.errors import UnknownPart
from vallis.core.objective import Objective
from vallis.numerics.affine import _named, affine_layers
from vallis.numerics.flows import run
from vallis.numerics.surface import in_eval_mode

EXPECTED = {
    "tied": ["there"],
    "batch_norm": ["0", "4"],
    "lstm": ["head"],
    "transformer": ["encoder.layers.0.linear1", "encoder.layers.0.linear2", "head"],
    "frozen": ["2"],
    "unused": ["one", "other", "idle"],
    "tokens": ["head"],
    "one_parameter": [""],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_affine_layers_of_awkward_networks(name: str) -> None:
    found, refused = affine_layers(Objective(in_eval_mode(AWKWARD[name]())))
    assert [layer.name for layer in found] == EXPECTED[name]
    assert not set(refused) & set(EXPECTED[name])


@pytest.mark.parametrize("name", LAYERED)
def test_all_ways_to_use_a_layer_are_understood(name: str) -> None:
    _, refused = affine_layers(Objective(in_eval_mode(LAYERED[name]())))
    assert list(refused) == (["norm", "grouped"] if name == "convolutions" else [])


def test_what_only_looks_affine_is_told_with_the_reason() -> None:
    found, refused = affine_layers(Objective(odd()))
    assert [layer.name for layer in found] == ["after", "idle"]
    assert {name: " ".join(why.split()[-5:]) for name, why in refused.items()} == {
        "embedding": "layers are read as matrices",
        "tied": "or computed from other parameters",
        "hooked": "that it is called with",
        "elsewhere": "that it is called with",
        "mixed": "no axis of 5 examples",
        "before": "be told apart by example",
        "normed": "or computed from other parameters",
        "normed.parametrizations.weight": "layers are read as matrices",
    }


def test_names_and_shapes() -> None:
    found, refused = affine_layers(Objective(convolutions()), ["second", "first"])
    assert [(layer.names, layer.shape) for layer in found] == [
        (("first.weight",), (2, 9)),
        (("second.weight", "second.bias"), (2, 12)),
    ]
    assert refused == {}
    (only,), _ = affine_layers(Objective(one_parameter()))
    assert (only.name, only.weight, only.bias, only.modules) == ("", "weight", None, ("",))
    (tied,), _ = affine_layers(Objective(AWKWARD["tied"]()))
    assert (tied.modules, tied.bias) == (("there", "back"), None)
    with pytest.raises(UnknownPart, match=r"no layer is named 'secnd'; did you mean second"):
        affine_layers(Objective(convolutions()), ["secnd"])


def test_a_tie_across_kinds_is_refused() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.there, self.words = nn.Linear(3, 3), nn.Embedding(3, 3)
            self.words.weight = self.there.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.there(self.words(x))

    found, refused = affine_layers(Objective(held(built(Shared), classes(9), classes(9))))
    assert found == ()
    assert refused["there"] == "its weight is also that of words, an Embedding"


def test_a_network_that_mixes_examples_is_refused() -> None:
    class Mixing(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = super().forward(x)
            return z - z.mean(0)

    solution = held(built(lambda: nn.Sequential(nn.Linear(2, 3), Mixing(3, 3))), random(9, 2), classes(9))
    assert "apart by example" in affine_layers(Objective(solution))[1]["0"]


def test_a_layer_that_returns_something_else_is_refused() -> None:
    class Both(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
            return super().forward(x), x

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both, self.head = Both(2, 3), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.tanh(self.both(x)[0]))

    found, refused = affine_layers(Objective(held(built(Split), random(9, 2), classes(9))))
    assert [layer.name for layer in found] == ["head"]
    assert refused == {"both": "it returns a tuple"}


def test_articles_are_those_of_the_spoken_name() -> None:
    class One(nn.Module):
        pass

    found = [_named(module) for module in (One(), nn.Embedding(2, 2), nn.LSTM(1, 1), nn.Linear(1, 1))]
    assert found == ["a One", "an Embedding", "an LSTM", "a Linear"]


def test_a_single_name_is_one_name() -> None:
    layers, refused = affine_layers(Objective(AWKWARD["transformer"]()), "head")
    assert [layer.name for layer in layers] == ["head"]
    assert not refused


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", NETWORKS)
def test_rounding_refuses_no_layer(name: str) -> None:
    """What is found in float64 is found in the network's own precision, and on every batch."""
    exact, own = Objective(NETWORKS[name](), dtype=torch.float64), Objective(NETWORKS[name]())
    layers, refused = affine_layers(own)
    assert (layers, refused) == affine_layers(exact)
    if name not in ("chosen_rows", "chosen_rows_early"):
        for term in own.terms():
            run(term, layers)


def test_a_deep_network_in_float32_is_read_in_full() -> None:
    """Gradients that differ by many orders of magnitude between layers and examples are no reason to refuse."""
    layers = [part for _ in range(12) for part in (nn.Linear(16, 16), nn.LayerNorm(16), nn.Sigmoid())]
    solution = held(built(lambda: nn.Sequential(*layers, nn.Linear(16, 3))), random(64, 16) * 30, classes(64), None, 64)
    found, refused = affine_layers(Objective(solution))
    assert len(found) == 13
    assert len(refused) == 12  # the normalisations


def test_a_layer_is_judged_where_it_is_first_used_on_several_examples() -> None:
    """In batches of one, nothing can be taken for another's; the second layer is reached late."""

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.late = nn.Linear(2, 3), nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) < 4:
                return self.head(x)
            mixed = self.late(x)
            return self.head(x) + mixed + mixed.flip(0)

    solution = held(built(Late), random(9, 2), classes(9))
    assert affine_layers(Objective(cut(solution, (1, 3, 2, 3))))[1] == {}
    refused = affine_layers(Objective(cut(solution, (1, 3, 5))))[1]
    assert refused == {"late": "its rows cannot be told apart by example"}
