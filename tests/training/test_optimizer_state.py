from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from vallis.core.errors import SettingsError
from vallis.training import _optimizer_state as state
from vallis.training._optimizers import find

NAMES = sorted(
    name
    for name, value in vars(torch.optim).items()
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and name not in ("Optimizer", "SparseAdam")
)


def through_files(plain: Any, tensors: dict[str, torch.Tensor]) -> tuple[Any, dict[str, torch.Tensor]]:
    """As the store does: values through JSON without NaN, tensors through safetensors."""
    return json.loads(json.dumps(plain, allow_nan=False)), load(save(tensors))


def test_trees_come_back_as_they_were() -> None:
    tree = {
        "step": torch.tensor(3.0),
        "half": torch.arange(3, dtype=torch.float16),
        "list": [torch.ones(2, dtype=torch.float64), None, {"deep": (1, torch.zeros(0))}],
        "numbers": (1, 0.1, True, "word", -math.inf),
        "empty": {},
    }
    tensors: dict[str, torch.Tensor] = {}
    plain, held = through_files(state.flatten(tree, "root", tensors), tensors)
    back = state.unflatten(plain, held, torch.device("cpu"))
    assert repr(back) == repr(tree)
    assert back["half"].dtype == torch.float16
    assert isinstance(back["list"][2]["deep"], tuple)


def test_nan_survives() -> None:
    assert math.isnan(state.unflatten(state.flatten(math.nan, "x", {}), {}, torch.device("cpu")))


def test_what_is_at_rest_shares_nothing() -> None:
    held: dict[str, torch.Tensor] = {}
    live = torch.zeros(2)
    plain = state.flatten({"m": live}, "root", held)
    live += 1
    back = state.unflatten(plain, held, torch.device("cpu"))
    back["m"] += 5
    assert [value.tolist() for value in held.values()] == [[0.0, 0.0]]


def test_other_things_are_refused() -> None:
    with pytest.raises(SettingsError, match="object as root/odd"):
        state.flatten({"odd": object()}, "root", {})


def quadratic(parameters: list[torch.nn.Parameter]) -> torch.Tensor:
    return sum(((p - 1) ** 2 * torch.arange(1.0, p.numel() + 1).view(p.shape)).sum() for p in parameters)  # type: ignore[return-value]


def walk(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], steps: int) -> None:
    def closure() -> float:
        optimizer.zero_grad()
        loss = quadratic(parameters)
        loss.backward()
        return float(loss.detach())

    for _ in range(steps):
        optimizer.step(closure)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_of_torch_goes_on_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    options: dict[str, Any] = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}

    def fresh() -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        parameters = [torch.nn.Parameter(torch.full((2, 3), 0.3, dtype=dtype))]
        return parameters, find(name)(parameters, lr=0.01, **options)

    parameters, optimizer = fresh()
    walk(optimizer, parameters, 3)
    tensors: dict[str, torch.Tensor] = {}
    plain, held = through_files(state.pack(optimizer, tensors), tensors)
    others, other = fresh()
    others[0].data.copy_(parameters[0].data)
    state.unpack(other, plain, held)
    walk(optimizer, parameters, 3)
    walk(other, others, 3)
    assert torch.equal(parameters[0], others[0])
    # Without its memory it goes elsewhere, save where it has none.
    blank, forgetful = fresh()
    walk(forgetful, blank, 3)
    assert not torch.equal(parameters[0], blank[0])
