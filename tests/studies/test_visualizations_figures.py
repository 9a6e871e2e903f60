"""Figures of what there is, and none of what there is not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies.test_visualizations_rules import optimizers, sweep
from vallis.core.types import Array, Estimate, Result, Row
from vallis.report.matplotlib_figure import render
from vallis.studies._minefield_cells import TAGS
from vallis.studies._visualizations_figures import figures, minefields
from vallis.studies._visualizations_rules import VOLUME, swept


def basins() -> list[Row]:
    drawn = np.random.default_rng(0)
    found = []
    for beta, scale in ((0.0, 0.4), (0.9, 0.05)):
        radii = Array(data=scale * np.exp(0.2 * drawn.standard_normal(50)), dims=("ray",))
        found.append(
            Row(tags=swept("digits", beta), seed=9, measurement=VOLUME, outcome=Result(values={"radii": radii}))
        )
    return found


def slices() -> list[Row]:
    steps = np.linspace(-1, 1, 5)
    found = []
    for beta, height in ((0.0, 1.0), (0.9, 50.0)):
        plane = Array(
            data=np.full((5, 5), height),
            dims=("second_step", "first_step"),
            coords={"second_step": steps, "first_step": steps},
        )
        lines = {
            f"losses_{which}": Array(data=np.full(5, height), dims=("step",), coords={"step": steps})
            for which in ("first", "second")
        }
        values = {**lines, "losses_plane": plane, "centre_loss": Estimate(value=height, unit="nats")}
        found.append(Row(tags=swept("digits", beta), seed=0, measurement="loss_slice", outcome=Result(values=values)))
    return found


def test_each_is_drawn_from_its_own_rows() -> None:
    plain = [row for row in sweep() if row.measurement != VOLUME]
    assert [figure.name for figure in figures(plain, "digits")] == ["accuracy_by_poison_digits"]
    assert not list(figures(sweep(), "spirals"))
    names = [figure.name for figure in figures([*plain, *basins(), *slices(), *optimizers()], "digits")]
    assert names == [
        "lines_digits",
        "planes_digits",
        "surfaces_digits",
        "radii_digits",
        "accuracy_by_poison_digits",
        "optimizers_digits",
    ]


def test_the_good_minimum_is_on_the_left_and_scales_are_shared() -> None:
    planes = next(figure for figure in figures(slices(), "digits") if figure.name == "planes_digits")
    assert [mark.label for mark in planes.marks] == ["good minimum", "bad minimum"]
    assert [set(mark.z.ravel().tolist()) for mark in planes.marks] == [{1.0}, {50.0}]
    assert all(np.allclose(np.diff(mark.x), 0.5) for mark in planes.marks)


def test_the_gap_is_drawn_against_the_volume() -> None:
    found = next(figure for figure in figures(sweep(), "digits") if figure.name == "gap_by_volume_digits")
    assert [mark.label for mark in found.marks][:2] == ["poison factor 0", "poison factor 0.03"]
    np.testing.assert_array_equal(found.marks[-1].x, -8000)


def test_the_minefield_of_the_first_seed_is_drawn() -> None:
    drawn = np.random.default_rng(0)
    rows = []
    for seed in (4, 2):
        values: dict[str, Estimate | Array] = {
            "is_path": Array(data=np.array([1.0, 1.0, 0.0, 0.0]), dims=("network",)),
            "components": Array(data=np.full((4, 2), seed) + drawn.random((4, 2)), dims=("network", "component")),
            "explained_fraction": Array(data=np.array([0.7, 0.2]), dims=("component",)),
            "tsne_5": Array(data=drawn.random((4, 2)), dims=("network", "component")),
            "test_accuracies": Array(data=np.array([0.5, 0.9, 0.4, 0.5]), dims=("network",)),
        }
        rows.append(Row(tags=TAGS, seed=seed, measurement="minefield", outcome=Result(values=values)))
    components, _ = minefields(rows)
    assert components.name == "minefield_components"
    assert "Seed 2." in components.caption and components.title.endswith("two noiseless spirals")
    assert all((mark.x >= 2).all() and (mark.x < 3).all() for mark in components.marks)
    assert not list(minefields(sweep()))


@pytest.mark.parametrize("place", range(3))
def test_they_can_be_drawn(place: int) -> None:
    pytest.importorskip("matplotlib")
    assert render(list(figures([*sweep(), *slices()], "digits"))[place], "png").startswith(b"\x89PNG")
