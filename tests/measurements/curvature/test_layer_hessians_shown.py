"""Pictures and words of results that are written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vallis.core.types import Array, Estimate, Result
from vallis.measurements.curvature._layer_hessians_shown import figures, reading


def result(num_layers: int = 2, kronecker: bool = True, shares: bool = True, energy: float = 0.95) -> Result:
    names = np.array([f"part.{place}" for place in range(num_layers)])
    ranks = np.array([1.0, 2.0, 3.0])
    falling = np.array([4.0, 2.0, np.nan])

    def table(dim: str, scale: float = 1.0) -> Array:
        rows = np.stack([scale * falling / (place + 1) for place in range(num_layers)])
        return Array(data=rows, dims=(dim, "rank"), unit="nats/weight^2", coords={dim: names, "rank": ranks})

    def column(dim: str, data: np.ndarray) -> Array:
        return Array(data=data, dims=(dim,), coords={dim: names})

    values: dict[str, Estimate | Array] = {"eigenvalues": table("layer")}
    if shares:
        parts = np.linspace(0.2, 0.8, num_layers) if num_layers > 1 else np.ones(1)
        values |= {"shares_of_top": column("layer", parts), "own_shares_of_top": column("layer", parts / 2)}
    if kronecker:
        values["kronecker_ratios"] = column("kronecker_layer", np.linspace(0.5, 0.9, num_layers))
        values["kronecker_eigenvalues"] = table("kronecker_layer", 0.9)
        values["rank_one_energies"] = table("kronecker_layer", 0.1)
        values["kronecker_overlaps"] = table("kronecker_layer", 0.2)
        values["median_rank_one_energy"] = Estimate(value=energy, method="by hand")
    return Result(values=values)


def test_the_reading_says_which_layer_and_how_simple() -> None:
    assert reading(result()) == (
        "By itself, layer part.0 is the sharpest, with a curvature of 4 nats/weight^2 against 2 in layer part.1; "
        "0.80 of the network's sharpest direction lies in layer part.1. "
        "Kronecker factors give 0.50 to 0.90 times the largest eigenvalue of a layer; "
        "as matrices, eigenvectors of layers are nearly of rank one (median rank-one energy 0.95)."
    )


@pytest.mark.parametrize(
    ("energy", "words"), [(0.9, "nearly of rank one"), (0.7, "simple in part"), (0.3, "of no simple shape")]
)
def test_the_rank_is_judged_by_its_energy(energy: float, words: str) -> None:
    assert words in reading(result(energy=energy))


def test_the_distance_from_the_block_is_said() -> None:
    found = result()
    far = Array(data=np.array([0.25, 0.75]), dims=("kronecker_layer",))
    words = reading(Result(values={**found.values, "kronecker_distances": far}))
    assert "off by 0.50 of the norm of its block in the median" in words
    nothing = Array(data=np.full(2, np.nan), dims=("kronecker_layer",))
    assert "off by" not in reading(Result(values={**found.values, "kronecker_distances": nothing}))


def test_what_is_not_there_is_not_said() -> None:
    words = reading(result(kronecker=False, shares=False))
    assert words.endswith("the network has no direction in which the loss bends up.")
    assert "Kronecker" not in words
    assert reading(result(num_layers=1, kronecker=False)) == (
        "The only layer that was measured, layer part.0, has a largest curvature of 4 nats/weight^2."
    )
    assert "give 0.50 times" in reading(result(num_layers=1))


def with_tops(*tops: float) -> Result:
    """Layers whose largest eigenvalues these are."""
    found = result(num_layers=len(tops), kronecker=False)
    table = found.array("eigenvalues")
    data = np.stack([table.data[0]] * len(tops))
    data[:, 0] = tops
    return Result(values={**found.values, "eigenvalues": replace(table, data=data)})


def test_flat_layers_are_not_compared() -> None:
    flat = with_tops(0.0, -1.0)
    assert reading(flat) == (
        "No layer has, by itself, a direction in which the loss bends up; 0.80 of the network's sharpest direction "
        "lies in layer part.1."
    )
    nothing = Result(values={key: flat.values[key] for key in flat.values if "shares" not in key})
    assert reading(nothing) == "Neither a layer by itself nor the network has a direction in which the loss bends up."


@pytest.mark.parametrize(("share", "said"), [(1.0, "all of"), (0.998, "almost all of"), (0.99, "0.99 of")])
def test_a_share_of_all_is_called_all(share: float, said: str) -> None:
    found = result(kronecker=False)
    shares = replace(found.array("shares_of_top"), data=np.array([share, 1 - share]))
    words = reading(Result(values={**found.values, "shares_of_top": shares}))
    assert f"; {said} the network's sharpest direction lies in layer part.0." in words


def test_the_figures_hold_the_numbers() -> None:
    found = {figure.name: figure for figure in figures(result())}
    (heatmap,) = found["layer_eigenvalues"].marks
    assert heatmap.kind == "heatmap"
    np.testing.assert_array_equal(heatmap.z, result().array("eigenvalues").data)
    assert found["layer_eigenvalues"].z is not None
    assert found["layer_eigenvalues"].z.scale == "log"
    bars = found["layer_shares"].marks
    assert [mark.kind for mark in bars] == ["bar", "bar"]
    np.testing.assert_array_equal(bars[0].x, [0.2, 0.8])
    *dots, line = found["kronecker_eigenvalues"].marks
    assert [mark.label for mark in dots] == ["part.0", "part.1"]
    np.testing.assert_array_equal(line.x, [1.0, 4.0])
    np.testing.assert_array_equal(line.x, line.y)
    assert [mark.kind for mark in found["rank_one_energies"].marks] == ["line", "line"]


def test_many_layers_are_a_heatmap() -> None:
    found = {figure.name: figure for figure in figures(result(num_layers=7))}
    for key in ("rank_one_energies", "kronecker_overlaps"):
        (grid,) = found[key].marks
        assert grid.kind == "heatmap"
        assert found[key].y.scale == "category"


def test_without_factors_and_shares_there_is_one_figure() -> None:
    assert [figure.name for figure in figures(result(kronecker=False, shares=False))] == ["layer_eigenvalues"]


def test_an_empty_figure_is_left_out() -> None:
    full = result(shares=False)
    nothing = {key: replace(full.array(key), data=np.full((2, 3), np.nan)) for key in ("kronecker_overlaps",)}
    flat = {key: replace(full.array(key), data=np.zeros((2, 3))) for key in ("eigenvalues", "kronecker_eigenvalues")}
    found = Result(values={**full.values, **nothing, **flat})
    assert [figure.name for figure in figures(found)] == ["rank_one_energies"]
