"""Margins against sorting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.numerics.solutions import binary, built, classes, held, random, regression, tokens
from vallis.core.errors import SettingsError
from vallis.core.types import NotApplicable, Solution
from vallis.measurements.fit.margins import Margins

MARGINS = Margins(num_bins=8)


def classifier(batch_size: int = 5) -> Solution:
    test = random(40, 2, seed=7), classes(40, seed=8)
    return held(built(lambda: nn.Linear(2, 3)), random(60, 2), classes(60), batch_size=batch_size, test=test)


def by_hand(solution: Solution, split: str) -> np.ndarray:
    data = solution.task.splits[split]
    with torch.no_grad():
        scores = solution.net.module(data.x).double()  # type: ignore[attr-defined]
    margins = []
    for row, y in zip(scores, data.y, strict=True):  # type: ignore[attr-defined]
        true = float(row[y])
        margins.append(true - max(float(s) for c, s in enumerate(row) if c != int(y)))
    return np.array(margins)


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_histograms_quantiles_and_errors(batch_size: int) -> None:
    solution = classifier(batch_size)
    found = measured(MARGINS, solution)
    both = np.concatenate([by_hand(solution, "train"), by_hand(solution, "test")])
    edges = np.histogram_bin_edges(both, bins=8)
    for split in ("train", "test"):
        margins = by_hand(solution, split)
        histogram = found.array(f"{split}_histogram")
        np.testing.assert_allclose(histogram.data, np.histogram(margins, bins=edges)[0] / len(margins), atol=1e-12)
        np.testing.assert_allclose(histogram.coords["margin"], (edges[1:] + edges[:-1]) / 2, atol=1e-6)
        assert histogram.data.sum() == pytest.approx(1.0)
        quantiles = found.array(f"{split}_quantiles")
        np.testing.assert_allclose(quantiles.data[[0, -1]], [margins.min(), margins.max()], rtol=1e-6)
        error = found.estimate(f"{split}_error")
        assert error.value == pytest.approx((margins <= 0).mean())
        assert error.stderr == pytest.approx(np.sqrt(error.value * (1 - error.value) / (len(margins) - 1)))
        assert found.estimate(f"{split}_mean_margin").value == pytest.approx(margins.mean(), rel=1e-6)
        assert found.estimate(f"{split}_median_margin").value == pytest.approx(np.median(margins), abs=0.2)
    assert found.notes == ()
    assert found.estimate("train_mean_margin").unit == "nats"


def test_the_error_bar_of_the_median_is_its_spread() -> None:
    """300 repeats of 101 examples with normal margins: the standard error is 1.2533 / sqrt(101)."""
    found = []
    for repeat in range(300):
        scores = torch.zeros(101, 2)
        scores[:, 0] = random(101, seed=1000 + repeat)
        solution = held(nn.Linear(2, 2), scores, torch.zeros(101, dtype=torch.long), batch_size=101)
        with torch.no_grad():
            solution.params["weight"].copy_(torch.eye(2))
            solution.params["bias"].zero_()
        result = MARGINS.measure(solution, RNG)
        found.append(result.estimate("train_median_margin"))  # type: ignore[union-attr]
    spread = np.std([estimate.value for estimate in found])
    assert spread == pytest.approx(1.2533 / np.sqrt(101), rel=0.15)
    assert np.mean([estimate.stderr for estimate in found]) == pytest.approx(spread, rel=0.15)


def test_without_a_test_split_the_training_alone() -> None:
    found = measured(MARGINS, binary())
    assert not [key for key in found.values if key.startswith("test")]
    assert len(MARGINS.figures(found)[0].marks) == 1


def test_sequences_have_a_margin_a_token() -> None:
    solution = tokens()
    found = measured(MARGINS, solution)
    num_tokens = sum(int((batch.y != -100).sum()) for batch in solution.task.splits["train"])
    shares = found.array("train_histogram").data * num_tokens
    np.testing.assert_allclose(shares, np.round(shares), atol=1e-9)
    assert found.estimate("train_error").n < 17


def test_regressions_have_no_margins() -> None:
    found = MARGINS.measure(regression(), RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "not_classification"


def test_infinite_and_undefined_margins_are_said() -> None:
    solution = classifier()
    solution.task.splits["train"].x[0] = torch.nan  # type: ignore[attr-defined]
    solution.task.splits["train"].x[1] = torch.inf  # type: ignore[attr-defined]
    found = measured(MARGINS, solution)
    assert [note.code for note in found.notes] == ["not_finite"]
    assert np.isfinite(found.array("train_histogram").data).all()
    for value in solution.params.values():
        value.fill_(torch.nan)
    dead = MARGINS.measure(solution, RNG)
    assert isinstance(dead, NotApplicable)
    assert dead.note.code == "not_finite"


def test_all_margins_equal() -> None:
    solution = classifier()
    for value in solution.params.values():
        value.zero_()
    found = measured(MARGINS, solution)
    assert found.estimate("train_error").value == 1.0  # a tie is an error
    assert found.estimate("train_median_margin").value == 0.0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="num_bins must be at least 1, 0 came"):
        Margins(num_bins=0)
    assert Margins.tiny().num_bins == 5
