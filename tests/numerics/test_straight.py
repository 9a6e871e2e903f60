"""The straight line of a network says what the network says in eval mode, also with the first answers kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.numerics.solutions import batch_norm, built, classes, held, random
from vallis.core.objective import Objective
from vallis.core.types import Solution
from vallis.numerics import straight
from vallis.numerics.straight import Straight
from vallis.numerics.surface import in_eval_mode


def images(make: Callable[[], nn.Module]) -> Solution:
    solution = held(built(make), random(9, 2, 8, 8), classes(9))
    return in_eval_mode(solution)


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(3, 4, 3),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def normalised_first() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(128, 3))


NETWORKS = {
    "convnet": lambda: images(convnet),
    "mlp": lambda: images(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 5, bias=False), nn.Tanh(), nn.Linear(5, 3))
    ),
    "normalised_first": lambda: images(normalised_first),
    "batch_norm": lambda: in_eval_mode(batch_norm()),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("columns", [False, True])
def test_it_says_what_the_network_says(name: str, columns: bool) -> None:
    objective = Objective(NETWORKS[name]())
    line = Straight.of(objective)
    assert line is not None
    moved = [value + 0.1 * random(*value.shape, seed=place) for place, value in enumerate(objective.origin)]
    params = dict(zip(objective.names, moved, strict=True))
    for batch in objective.batches():
        expected, room = objective.outputs_at(moved, batch), dict[int, torch.Tensor]()
        with torch.no_grad():
            for _ in range(2):  # also into the tensors of the call before
                torch.testing.assert_close(line.outputs(params, batch, None, room, columns), expected)
            if line.first is not None:
                answer = line.answer(params, batch)
                rest = {key: value for key, value in params.items() if key not in line.first_names}
                torch.testing.assert_close(line.outputs(rest, batch, answer, room, columns), expected)
    assert (line.first is None) == (name == "normalised_first")


def test_what_is_no_line_or_too_large_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(x))

    assert Straight.of(Objective(held(built(Twice), random(5, 2), classes(5, num_classes=2)))) is None
    objective = Objective(NETWORKS["mlp"]())
    line = Straight.of(objective)
    assert line is not None
    named, batches = dict(zip(objective.names, objective.origin, strict=True)), list(objective.batches())
    assert line.keeps_first(batches, named)
    assert not line.keeps_first(batches, {})
    monkeypatch.setattr(straight, "MOST_BYTES", 100)
    assert not line.keeps_first(batches, named)
