"""The Hessian of a weight made from second derivatives in the layer's outputs, against the one by autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.numerics.layer_solutions import LAYERED, rectified
from tests.numerics.solutions import AWKWARD, built, classes, held, mlp, random, regression
from vallis.core.objective import Objective
from vallis.core.own_loss import adapt
from vallis.core.rng import Rng
from vallis.numerics.affine import affine_layers
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.layer_hessian import LayerHessian, weight_hessian
from vallis.numerics.surface import in_eval_mode

ALL = AWKWARD | LAYERED | {"mlp": mlp, "regression": regression}


def made(objective: Objective, **how: Any) -> dict[str, Any]:
    return {layer.name: weight_hessian(objective, layer, **how) for layer in affine_layers(objective)[0]}


@pytest.mark.parametrize("name", ALL)
def test_it_is_the_hessian_of_the_weight(name: str) -> None:
    objective = Objective(in_eval_mode(ALL[name]()), dtype=torch.float64)
    for layer, found in made(objective).items():
        truth = Hessian(objective, only=(f"{layer}.weight" if layer else "weight",)).dense()
        torch.testing.assert_close(found.dense(), truth, rtol=1e-9, atol=1e-12)
        vector = random(found.size).double()
        torch.testing.assert_close(found @ vector, truth @ vector, rtol=1e-9, atol=1e-11)


def test_where_each_example_passes_once_no_network_is_run() -> None:
    found = made(Objective(rectified(), dtype=torch.float64))
    assert {name: type(each) for name, each in found.items()} == dict.fromkeys(["0", "2", "4"], LayerHessian)
    several = made(Objective(in_eval_mode(LAYERED["convolutions"]()), dtype=torch.float64))
    assert {name: type(each) for name, each in several.items()} == {
        "first": Hessian,
        "second": Hessian,
        "head": LayerHessian,
    }
    twice = made(Objective(LAYERED["called_twice"](), dtype=torch.float64))
    assert (type(twice["middle"]), type(twice["head"])) == (Hessian, LayerHessian)


def test_a_loss_that_mixes_examples_is_found_out() -> None:
    """It is a mean of each batch, but the curvature in one example's outputs is not all there is."""

    def spread(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((outputs - outputs.mean(0)) ** 2).mean() + nn.functional.cross_entropy(outputs, y)

    module = built(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)))
    objective = Objective(held(module, random(9, 3), classes(9), loss=adapt(spread)), dtype=torch.float64)
    assert all(isinstance(found, Hessian) for found in made(objective).values())


def test_without_room_it_is_the_plain_hessian() -> None:
    objective = Objective(rectified(), dtype=torch.float64)
    assert all(isinstance(found, Hessian) for found in made(objective, budget=100).values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_batches_and_dtypes(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = made(Objective(rectified(batch_size=17), dtype=torch.float64))["2"].dense()
    monkeypatch.setattr("vallis.numerics.layer_hessian._CHUNK_BYTES", 300)
    found = made(Objective(rectified(batch_size=4), dtype=dtype))["2"]
    assert (found.dtype, type(found)) == (dtype, LayerHessian)
    close = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-13}
    torch.testing.assert_close(found.dense().double(), truth, **close)
    values = eigenpairs(found, largest=3, rng=Rng(0)).largest.values
    torch.testing.assert_close(torch.tensor(values), torch.linalg.eigvalsh(truth).flip(0)[:3], **close)
