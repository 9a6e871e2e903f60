"""Class maps: lengths and regions of boundaries that are known, scores as the network gives them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.numerics.solutions import AWKWARD
from vallis.core.objective import Objective
from vallis.numerics.class_maps import class_map, scores_around
from vallis.numerics.surface import in_eval_mode

AXIS = np.linspace(-1, 1, 401)
GRID = torch.stack(torch.meshgrid(torch.tensor(AXIS), torch.tensor(AXIS), indexing="xy"), dim=-1).reshape(-1, 2)


def test_a_circle() -> None:
    found = class_map(lambda p: torch.stack([(p**2).sum(1), 0 * p[:, 0] + 0.49], dim=1), GRID, AXIS, AXIS)
    assert found.boundary_length() == pytest.approx(2 * math.pi * 0.7, rel=0.01)
    assert found.num_regions() == 2
    assert found.classes[200, 200] == 1.0 and found.classes[0, 0] == 0.0
    assert float((found.classes == 1).mean()) == pytest.approx(math.pi * 0.49 / 4, rel=0.01)


def test_rows_are_along_y_and_margins_are_of_probabilities() -> None:
    found = class_map(lambda p: torch.stack([p[:, 1], -p[:, 1], 0 * p[:, 0] - 9], dim=1), GRID, AXIS, AXIS)
    assert found.classes[0].tolist() == [1.0] * 401
    assert found.classes[-1].tolist() == [0.0] * 401
    share = torch.tensor([1.0, -1.0, -9.0], dtype=torch.float64).softmax(0)
    assert found.margins[-1, 7] == pytest.approx(float(share[0] - share[1]))
    # Along the grid the rule of the average is pi / 4 of the truth.
    assert found.boundary_length() == pytest.approx(2 * math.pi / 4, rel=0.01)


def test_stripes_are_regions() -> None:
    found = class_map(lambda p: torch.stack([torch.sin(10 * p[:, 0]), 0 * p[:, 0]], dim=1), GRID, AXIS, AXIS)
    assert found.num_regions() == 1 + sum(1 for k in range(-3, 4) if abs(k * math.pi / 10) < 1)


@pytest.mark.parametrize("name", AWKWARD)
def test_scores_are_those_of_the_network(name: str) -> None:
    objective = Objective(in_eval_mode(AWKWARD[name]()))
    scores = scores_around(objective)
    if name in ("tokens", "regression", "one_parameter"):
        assert scores is None
        return
    assert scores is not None
    batch = next(objective.batches())
    with torch.no_grad():
        own = objective.outputs_at(objective.origin, batch)
    found = scores(batch.x)
    if name == "binary":
        torch.testing.assert_close(found[:, 1] - found[:, 0], own[:, 0])
    else:
        torch.testing.assert_close(found, own)
