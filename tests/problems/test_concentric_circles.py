from __future__ import annotations

import math

import pytest
import torch

from tests.problems.expect import arrays, build
from vallis.core.errors import SettingsError
from vallis.numerics.input_margins import input_margins
from vallis.problems.concentric_circles import ConcentricCircles, circle


def test_the_counter_example_of_the_paper() -> None:
    split = arrays(build(ConcentricCircles()), "train")
    radii = split.x.norm(dim=1)
    assert len(split) == 130
    assert split.y.tolist() == [1] * 40 + [0] * 90
    torch.testing.assert_close(radii[:40], torch.full((40,), 0.4))
    torch.testing.assert_close(radii[40:120], torch.full((80,), 0.95))
    torch.testing.assert_close(radii[120:], torch.full((10,), 0.401))
    angles = torch.atan2(split.x[120:, 1], split.x[120:, 0])
    expected = torch.tensor([2 * math.pi * k / 10 + math.pi / 40 for k in range(10)])
    torch.testing.assert_close(angles.remainder(2 * math.pi), expected)


@pytest.mark.parametrize("gap", [0.3, 0.01, 0.001])
@pytest.mark.parametrize("num_close", [10, 7])
def test_the_closest_pair_is_that_of_all_pairs(gap: float, num_close: int) -> None:
    problem = ConcentricCircles(gap=gap, num_close=num_close)
    split = arrays(build(problem), "train")
    x = split.x.double()
    apart = torch.cdist(x[split.y == 1], x[split.y == 0]).min()
    assert problem.closest == pytest.approx(float(apart), rel=1e-5)


@pytest.mark.parametrize("gap", [0.3, 0.01, 0.001])
def test_the_widest_margin_is_half_the_closest_pair(gap: float) -> None:
    """Whoever is right everywhere: the nearest neighbour, whose boundary is as far away as any can be, reaches it."""
    problem = ConcentricCircles(gap=gap)
    split = arrays(build(problem), "train")
    x, y = split.x.double(), split.y

    def scores(points: torch.Tensor) -> torch.Tensor:
        apart = (points[:, None] - x).square().sum(2)
        return torch.stack([-apart[:, y == label].amin(1) for label in (0, 1)], dim=1)

    found = input_margins(scores, x)
    assert torch.equal(found.answers, y)
    assert float(found.distances.min()) == pytest.approx(problem.closest / 2, rel=1e-4)


def test_losses_and_circles() -> None:
    assert build(ConcentricCircles(loss="binary_cross_entropy")).loss.kind == "binary"
    torch.testing.assert_close(circle(2.0, 4)[1], torch.tensor([0.0, 2.0], dtype=torch.float64))
    assert len(arrays(build(ConcentricCircles(num_close=0)), "train")) == 120


@pytest.mark.parametrize("settings", [{"gap": 0.0}, {"gap": 0.7}, {"num_close": 41}, {"num_inner": 0}, {"loss": "x"}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"concentric_circles.{next(iter(settings))}"):
        build(ConcentricCircles(**settings))  # type: ignore[arg-type]
