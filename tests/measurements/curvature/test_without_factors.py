"""What is said of layers without Kronecker factors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.numerics.solutions import built, classes, held, random
from vallis.core.rng import Rng
from vallis.core.types import Result
from vallis.measurements.curvature._without_factors import without_factors
from vallis.measurements.curvature.kronecker_structure import KroneckerStructure


@pytest.mark.parametrize(
    ("reasons", "num_layers", "says"),
    [
        ({"a": "it is odd"}, 1, "No layer has Kronecker factors, because it is odd."),
        ({"a": "it is odd"}, 2, "1 of 2 layers has no Kronecker factors: a (it is odd)."),
        (
            {"a": "it is odd", "": "it is old", "c": "it is odd"},
            5,
            "3 of 5 layers have no Kronecker factors: a and c (it is odd); the network (it is old).",
        ),
    ],
)
def test_layers_are_gathered_by_their_reason(reasons: dict[str, str], num_layers: int, says: str) -> None:
    (note,) = without_factors(reasons, num_layers)
    assert (note.code, note.text) == ("no_kronecker_form", says)


def test_where_all_have_some_there_is_nothing_to_say() -> None:
    assert without_factors({}, 3) == ()


def test_the_structure_names_what_it_leaves_out() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 3)))
    solution = held(module, random(9, 3), classes(9))
    found = KroneckerStructure.tiny().measure(solution, Rng(0))
    assert isinstance(found, Result)
    assert found.array("eigenvalues").coords["layer"].tolist() == ["0", "2"]
    (said,) = [note.text for note in found.notes if note.code == "no_kronecker_form"]
    assert said.startswith("1 of 3 layers has no Kronecker factors: 1 (it is a LayerNorm")
    assert torch.equal(module[0].weight, solution.params["0.weight"])
