"""What both measurements of basins show: notes, histograms that keep their widths, fans with gaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.measurements.contract import RNG
from tests.numerics.bowls import bowl
from tests.numerics.solutions import mlp
from vallis.core.types import Array, Estimate, Result
from vallis.measurements.landscape import _basin
from vallis.numerics.basin_radii import basin_radii
from vallis.numerics.rays import Rays


def ground(solution: object) -> _basin.Ground:
    found = _basin.ground_of(solution, "train", None, RNG)  # type: ignore[arg-type]
    assert isinstance(found, _basin.Ground)
    return found


def result_of(radii: np.ndarray, losses: np.ndarray) -> Result:
    steps = np.geomspace(0.01, 1, losses.shape[1])
    values: dict[str, Estimate | Array] = {
        "radii": Array(data=radii, dims=("ray",)),
        "losses": Array(data=losses, dims=("ray", "step"), unit="nats", coords={"step": steps}),
        "cutoff_loss": Estimate(value=0.1, unit="nats", method="set"),
    }
    for name, value in (("mean", radii.mean()), ("median", np.median(radii)), ("max", radii.max())):
        values[f"{name}_radius"] = Estimate(value=float(value), method="of rays")
    return Result(values=values)


def test_every_ray_is_in_the_histogram_also_when_all_are_alike() -> None:
    for radii in (np.geomspace(0.01, 1, 77), np.full(5, 0.3)):
        (figure,) = _basin.radius_figure(result_of(radii, np.ones((1, 3))))
        bars, *lines = figure.marks
        assert bars.high[::2].sum() == len(radii)
        np.testing.assert_array_equal(bars.high[::2], bars.high[1::2])
        assert bars.x[0] <= radii.min() * (1 + 1e-9) and bars.x[-1] >= radii.max() * (1 - 1e-9)
        assert [line.label.split()[0] for line in lines] == ["mean", "median", "max"]
        assert figure.x.scale == "log"


def test_the_fan_has_gaps_where_the_loss_is_no_number() -> None:
    losses = np.array([[0.01, 0.2, np.inf], [0.02, 0.3, np.nan]])
    (figure,) = _basin.fan_figure(result_of(np.ones(2), losses))
    band, middle, cutoff = figure.marks
    np.testing.assert_allclose(middle.y[:2], [0.015, 0.25])
    assert np.isnan(middle.y[2]) and np.isnan(band.high[2])
    assert cutoff.y.tolist() == [0.1, 0.1] and figure.y.scale == "log"
    lower, = _basin.fan_figure(result_of(np.ones(2), losses - 0.05))  # fmt: skip
    assert lower.y.scale == "linear"


def test_the_fan_is_the_loss_along_the_first_rays() -> None:
    here = ground(mlp(double=True))
    objective, rays = here.surface.objective, Rays(here.frame, RNG)
    found = basin_radii(objective, rays, 3, level="rise")
    drawn, notes = _basin.fan(here, rays, found, 2)
    held = drawn["losses"]
    assert held.data.shape == (2, 25) and notes == ()
    for place in range(2):
        direction = rays.draw(place, 1).directions
        step = float(held.coords["step"][7])
        point = [v if d is None else v + step * d[0] for v, d in zip(objective.origin, direction, strict=True)]
        assert held.data[place, 7] == pytest.approx(objective.value(point), rel=1e-9)
    assert held.coords["step"][0] < found.radii.min() and held.coords["step"][-1] >= found.radii.max()
    assert _basin.fan(here, rays, found, 0) == ({}, ())


def test_earlier_crossings_are_said() -> None:
    here = ground(bowl([1.0, 2.0]))
    found = basin_radii(here.surface.objective, Rays(here.frame, RNG), 3)
    assert _basin.radius_notes(found, 3) == ()
    found.crossings.is_earlier[1] = True
    (note,) = _basin.radius_notes(found, 3)
    assert note.code == "earlier_crossings" and "1 of 3 rays" in note.text


def test_a_rise_that_is_lost_in_the_rounding_of_the_loss_is_said() -> None:
    here = ground(mlp())
    found = basin_radii(here.surface.objective, Rays(here.frame, RNG), 2, level="rise")
    assert "lost_in_rounding" not in {note.code for note in _basin.radius_notes(found, 0)}
    notes = _basin.radius_notes(replace(found, rounding=0.01), 0)
    (note,) = (note for note in notes if note.code == "lost_in_rounding")
    assert "The rise of 0.1 to the cutoff" in note.text and "float64" in note.text


def test_values_say_how_they_were_got() -> None:
    here = ground(bowl([1.0, 2.0]))
    found = basin_radii(here.surface.objective, Rays(here.frame, RNG), 4)
    values = _basin.radius_values(found, here, "rays of some kind")
    mean = values["mean_radius"]
    assert isinstance(mean, Estimate)
    assert mean.value == found.radii.mean() and mean.n == 4 and "rays of some kind" in mean.method
    assert mean.stderr == pytest.approx(found.radii.std(ddof=1) / 2)
    alone = _basin.radius_values(basin_radii(here.surface.objective, Rays(here.frame, RNG), 1), here, "one ray")
    assert isinstance(alone["mean_radius"], Estimate) and alone["mean_radius"].stderr is None
