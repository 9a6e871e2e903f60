"""Each rule on numbers that meet it, on numbers that do not, and on too few."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.studies.visualizations import rows_of
from vallis.core.types import Array, Estimate, Result, Row, Verdict
from vallis.studies import _visualizations_rules as rules
from vallis.studies._minefield_cells import TAGS
from vallis.studies._visualizations_rules import (
    DATA_SETS,
    GAP,
    LINEAR,
    MINEFIELD,
    OPTIMIZERS,
    VOLUME,
    compared,
    swept,
)

SEEDS = range(5)
BETAS = DATA_SETS["digits"].betas
RISING = (0.1, 0.3, 0.5, 0.7, 0.95)


def sweep(
    train: float = 1.0,
    gaps: Sequence[float] = RISING,
    radii: Sequence[float] = (0.4, 0.3, 0.2, 0.15, 0.1),
    shares: Sequence[float] = (-800, -2000, -4000, -6000, -8000),
    seeds: Sequence[int] = SEEDS,
) -> list[Row]:
    found = []
    for seed in seeds:
        for beta, gap, radius, share in zip(BETAS, gaps, radii, shares, strict=True):
            accuracies = {"train_accuracy": train, "test_accuracy": train - gap, "accuracy_gap": gap}
            found.append(rows_of(GAP, accuracies, swept("digits", beta), seed))
            basin = {"mean_radius": radius, "log10_ball_share": share}
            found.append(rows_of(VOLUME, basin, swept("digits", beta), seed))
    return found


def optimizers(test: float = 0.9, worst: float = 0.85, linear: float = 0.8, train: float = 1.0) -> list[Row]:
    cells = dict.fromkeys(OPTIMIZERS, test) | {OPTIMIZERS[-1]: worst, LINEAR: linear}
    return [
        rows_of(GAP, {"train_accuracy": train, "test_accuracy": value + 0.001 * seed}, compared("digits", name), seed)
        for seed in SEEDS
        for name, value in cells.items()
    ]


CASES: list[tuple[Callable[..., Verdict], list[Row], str]] = [
    (rules.bad_minima_exist, sweep(), "holds"),
    (rules.bad_minima_exist, sweep(train=0.99), "fails"),
    (rules.bad_minima_exist, sweep(gaps=(0.1, 0.2, 0.3, 0.4, 0.5)), "fails"),
    (rules.bad_minima_exist, sweep(seeds=range(3)), "undecided"),
    (rules.training_avoids_them, sweep(), "holds"),
    (rules.training_avoids_them, sweep(gaps=(0.1, 0.2, 0.3, 0.35, 0.39)), "fails"),
    (rules.radius_is_larger, sweep(), "holds"),
    (rules.radius_is_larger, sweep(radii=(0.2, 0.2, 0.2, 0.1, 0.1)), "fails"),
    (rules.volume_is_larger, sweep(), "holds"),
    (rules.volume_is_larger, sweep(shares=(-800, -900, -1000, -1100, -1200)), "fails"),
    (rules.accuracy_follows_volume, sweep(), "holds"),
    (rules.accuracy_follows_volume, sweep(shares=(-8, -4, -2, -6, -1)), "fails"),
    (rules.accuracy_follows_radius, sweep(), "holds"),
    (rules.accuracy_follows_radius, sweep(radii=(0.1, 0.2, 0.3, 0.4, 0.5)), "fails"),
    (rules.gap_falls_with_volume, sweep(), "holds"),
    (rules.gap_falls_with_volume, sweep(gaps=(0.1, 0.5, 0.3, 0.7, 0.95)), "fails"),
    (rules.optimizers_agree, optimizers(), "holds"),
    (rules.optimizers_agree, optimizers(worst=0.7), "fails"),
    (rules.optimizers_agree, optimizers(train=0.98), "fails"),
    (rules.network_beats_linear, optimizers(), "holds"),
    (rules.network_beats_linear, optimizers(linear=0.95), "fails"),
]


@pytest.mark.parametrize(("rule", "rows", "expected"), CASES, ids=[f"{c[0].__name__}-{i}" for i, c in enumerate(CASES)])
def test_rules(rule: Callable[..., Verdict], rows: list[Row], expected: str) -> None:
    assert rule(rows, "digits").verdict == expected


def minefields(
    train: float = 0.97, test: float = 0.5, end: float = 0.95, near: float = 1.0, others: int = 10, num_seeds: int = 5
) -> list[Row]:
    """A path of two networks, whose ends are 2 apart, and others, of which one is as good as is said."""
    found = []
    for seed in range(num_seeds):
        values: dict[str, Estimate | Array] = {
            "is_path": Array(data=np.array([1.0, 1.0] + [0.0] * others), dims=("network",)),
            "train_accuracies": Array(data=np.array([0.5, 1.0] + [0.99] * (others - 1) + [train]), dims=("network",)),
            "test_accuracies": Array(data=np.array([0.5, end] + [0.45] * (others - 1) + [test]), dims=("network",)),
            "path_end_test_accuracy": Estimate(value=end),
            "nearest_distance": Estimate(value=near),
            "path_distance": Estimate(value=2.0),
        }
        found.append(Row(tags=TAGS, seed=seed, measurement=MINEFIELD, outcome=Result(values=values)))
    return found


@pytest.mark.parametrize(
    ("rule", "rows", "expected"),
    [
        (rules.path_is_mined, minefields(), "holds"),
        (rules.path_is_mined, minefields(train=0.94), "fails"),
        (rules.path_is_mined, minefields(test=0.61), "fails"),
        (rules.path_is_mined, minefields(end=0.89), "fails"),
        (rules.path_is_mined, minefields(others=9), "fails"),
        (rules.path_is_mined, minefields(num_seeds=3), "undecided"),
        (rules.path_is_mined, [], "not_run"),
        (rules.mines_are_near, minefields(), "holds"),
        (rules.mines_are_near, minefields(near=2.5), "fails"),
        (rules.mines_are_near, [], "not_run"),
    ],
)
def test_rules_of_the_minefield(rule: Callable[..., Verdict], rows: list[Row], expected: str) -> None:
    assert rule(rows).verdict == expected


def test_what_the_minefield_shows() -> None:
    assert rules.path_is_mined(minefields(test=0.55)).statistic == 0.55
    assert rules.mines_are_near(minefields()).statistic == 0.5


@pytest.mark.parametrize("rule", list(dict.fromkeys(case[0] for case in CASES)), ids=lambda rule: rule.__name__)
def test_without_rows_nothing_was_run(rule: Callable[..., Verdict]) -> None:
    assert rule([], "digits").verdict == "not_run"
    assert rule(sweep() + optimizers(), "cifar10").verdict == "not_run"


def test_factors_rise_from_none() -> None:
    for held in DATA_SETS.values():
        assert held.betas[0] == 0
        assert list(held.betas) == sorted(held.betas)
        assert len(held.betas) >= 5
