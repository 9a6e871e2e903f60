from __future__ import annotations

import numpy as np
import pytest

from tests.studies.dissecting import COUNTS, Numbers, Tags, rows_of
from vallis.studies._dissecting_figures import figures

NAMES = {
    "overlap_digits",
    "rank_one_digits",
    "spectrum_digits_none",
    "spectrum_digits_batch",
    "input_shares_digits_none",
    "input_shares_digits_batch",
    "output_shares_digits_none",
    "output_shares_digits_batch",
    "bounds_true",
    "bounds_random",
}


def test_nothing_is_drawn_of_nothing() -> None:
    assert figures([]) == []
    assert figures(rows_of("digits", 3, missing=lambda tags, seed: True)) == []


def test_all_are_drawn_of_one_data_set_and_of_three() -> None:
    assert {figure.name for figure in figures(rows_of("digits", 3))} == NAMES
    both = figures([*rows_of("digits", 3), *rows_of("cifar10", 2)])
    assert len(both) == len({figure.name for figure in both}) == 2 * len(NAMES) - 2
    bounds = next(figure for figure in both if figure.name == "bounds_true")
    assert [mark.label for mark in bounds.marks] == [
        f"{title}, {word} (n={n})" for title, n in (("digits", 3), ("CIFAR-10", 2)) for word in ("bound", "test error")
    ]
    assert bounds.x.scale == "category"


def test_overlaps_are_means_with_a_band_and_chance() -> None:
    figure = next(each for each in figures(rows_of("digits", 3)) if each.name == "overlap_digits")
    assert [mark.kind for mark in figure.marks] == ["band", "line"] * 4 + ["line"]
    band, first, chance = figure.marks[0], figure.marks[1], figure.marks[-1]
    assert first.label == "no norm, true labels (n=3)"
    counts = np.arange(1.0, COUNTS + 1)
    np.testing.assert_allclose(first.y, 0.5 * np.exp(-((np.log(counts / 10)) ** 2)) + 0.0001)
    np.testing.assert_allclose(band.high - band.low, 0.0002, rtol=1e-6)
    np.testing.assert_allclose(chance.y, counts / 200)
    assert "10 outputs" in figure.caption


def test_spectra_are_geometric_means() -> None:
    def change(numbers: Numbers, tags: Tags, name: str, seed: int) -> None:
        if name == "kronecker_structure":
            numbers["eigenvalues"] = numbers["eigenvalues"] * 4.0**seed

    figure = next(each for each in figures(rows_of("digits", 3, change)) if each.name == "spectrum_digits_none")
    np.testing.assert_allclose(figure.marks[0].y, 4 * 2.0 ** -np.arange(12.0))
    assert figure.y.scale == "log"


def test_gaps_are_left_out() -> None:
    def change(numbers: Numbers, tags: Tags, name: str, seed: int) -> None:
        if name == "kronecker_structure" and seed == 1:
            numbers["rank_one_energies"][5:] = np.nan
            numbers["input_shares"][0, 0] = np.nan

    drawn = {figure.name: figure for figure in figures(rows_of("digits", 3, change))}
    assert len(drawn["rank_one_digits"].marks[0].y) == 5
    assert "mean over 2 seeds" in drawn["input_shares_digits_none"].caption
    assert "mean over 3 seeds" in drawn["output_shares_digits_none"].caption


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_few_seeds_are_drawn_too(num_seeds: int) -> None:
    assert {figure.name for figure in figures(rows_of("digits", num_seeds))} == NAMES
