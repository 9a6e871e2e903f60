"""The plane through the ends and the middle of a way holds all three; a straight way has none."""

from __future__ import annotations

import pytest
import torch

from tests.numerics.solutions import mlp, random
from vallis.core.objective import Objective
from vallis.core.types import Array
from vallis.measurements.landscape._mode_connectivity_values import Found, plane_values
from vallis.numerics.paths import bezier, straight
from vallis.numerics.routes import Ends


def test_the_plane_holds_the_way() -> None:
    start = Objective(mlp(double=True))
    vector = start.vector(start.origin)
    end = Objective(mlp(double=True))
    end.origin = start.point(vector + random(61, seed=2).double())
    ends = Ends(start, end)
    path = bezier([vector, vector + random(61, seed=3).double(), ends.vectors[1]])
    values = plane_values(Found("curve", ends, path, (), (), 1), 3, "nats")
    ground, way = values["plane_losses"], values["plane_path"]
    assert isinstance(ground, Array) and isinstance(way, Array)
    length = float((ends.vectors[1] - vector).norm())
    assert way.data[0].tolist() == [0.0, 0.0]
    assert way.data[-1] == pytest.approx([length, 0.0], abs=1e-9)
    middle = path.write(0.5, torch.empty_like(vector)).clone()
    assert float(torch.tensor(way.data[20]).norm()) == pytest.approx(float((middle - vector).norm()))
    assert plane_values(Found("straight", ends, straight(*ends.vectors), (), (), 0), 3, "nats") == {}
