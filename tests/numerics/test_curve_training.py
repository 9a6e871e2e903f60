"""Curves: on a ring with a hill in its middle the trained bend is that of a direct minimisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.numerics.curve_training import train_bezier
from vallis.numerics.path_slopes import Slope

START, END = (torch.tensor(p, dtype=torch.float64) for p in ((-1.0, 0.05), (1.0, 0.05)))


def ring(point: torch.Tensor) -> tuple[float, torch.Tensor]:
    """``(|x|^2 - 1)^2``."""
    above = point @ point - 1
    return float(above**2), 4 * above * point


def slopes() -> Slope:
    return ring


def mean_loss(height: float) -> float:
    t = np.linspace(0, 1, 4001)
    x, y = 2 * t - 1, 0.05 * ((1 - t) ** 2 + t**2) + 2 * t * (1 - t) * height
    return float(np.trapezoid((x**2 + y**2 - 1) ** 2, t))


def test_the_bend_is_where_the_mean_loss_is_least() -> None:
    path = train_bezier(slopes, START, END, rng=Rng(0), num_steps=3000, learning_rate=0.02)
    best = minimize_scalar(mean_loss, bounds=(0, 3), method="bounded")
    x, y = path.controls[1].tolist()
    assert mean_loss(y) == pytest.approx(best.fun, rel=1e-2)
    assert y == pytest.approx(best.x, abs=0.05)
    assert abs(x) < 0.05
    assert path.controls[0].equal(START) and path.controls[2].equal(END)


def test_more_bends_go_lower_and_no_step_is_the_straight_line() -> None:
    def mean(path: object) -> float:
        out = torch.empty(2, dtype=torch.float64)
        return float(np.mean([ring(path.write(t, out))[0] for t in np.linspace(0, 1, 301).tolist()]))  # type: ignore[attr-defined]

    one, three = (
        train_bezier(slopes, START, END, rng=Rng(0), num_bends=bends, num_steps=1500, learning_rate=0.02)
        for bends in (1, 3)
    )
    still = train_bezier(slopes, START, END, rng=Rng(0), num_steps=0)
    out = torch.empty(2, dtype=torch.float64)
    torch.testing.assert_close(still.write(0.3, out), START + 0.3 * (END - START))
    assert mean(three) < mean(one) < mean(still)


def test_decay_acts_on_the_point_of_the_curve() -> None:
    """Without a loss the bend shrinks the mean square of the curve: that has its least at a bend of closed form."""

    def nothing() -> Slope:
        return lambda point: (0.0, torch.zeros_like(point))

    start, end = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    path = train_bezier(nothing, start, end, rng=Rng(1), num_steps=3000, learning_rate=0.02, weight_decay=1.0)
    # d/dc of the integral of ((1-t)^2 + t^2 + 2 t (1-t) c)^2 is 0: 2/15 c = -1/10 - 1/10.
    assert float(path.controls[1]) == pytest.approx(-1.5, abs=0.1)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="a bend"):
        train_bezier(slopes, START, END, rng=Rng(0), num_bends=0)
