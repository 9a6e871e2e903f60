"""Class maps: lengths and regions of boundaries that are known, scores as the network gives them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.numerics.solutions import AWKWARD
from vallis.core.objective import Objective
from vallis.numerics.class_maps import ClassMap, class_map, scores_around
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
    # Along the grid the rule of the average is (1 + sqrt 2) pi / 8 of the truth.
    assert found.boundary_length() == pytest.approx(2 * (1 + math.sqrt(2)) * math.pi / 8, rel=0.01)


@pytest.mark.parametrize("degrees", [0, 10, 22.5, 35, 45, 80, 100])
@pytest.mark.parametrize("rows", [401, 201])
def test_a_straight_boundary_has_its_length_in_every_direction(degrees: float, rows: int) -> None:
    """In a disc of another answer, so that each line is as long as any other; with cells that are no squares, too."""
    angle, y = math.radians(degrees), np.linspace(-1, 1, rows)
    across, up = np.meshgrid(AXIS, y)
    half = (across * math.cos(angle) + up * math.sin(angle) > 0).astype(float)
    disc = across**2 + up**2 < 0.81
    with_line, without = (np.where(disc, inside, 2.0) for inside in (half, np.zeros_like(half)))
    lengths = [ClassMap(AXIS, y, held, held).boundary_length() for held in (with_line, without)]
    assert lengths[0] - lengths[1] == pytest.approx(1.8, rel=0.15 if rows < 401 else 0.06)


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
