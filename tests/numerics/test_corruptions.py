"""Corruptions of tensors: shares, uniformity, what stays together, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng
from vallis.numerics.corruptions import gaussian, relabel, shuffle, shuffle_each


@pytest.mark.parametrize("fraction", [0.2, 0.6, 1.0])
def test_the_share_of_wrong_labels(fraction: float) -> None:
    """A label drawn uniformly is the old one by chance: fraction * (1 - 1/C) of them become wrong."""
    y = torch.arange(10).repeat(4000)
    wrong = int((relabel(y, fraction, 10, Rng(1)) != y).sum())
    assert stats.binomtest(wrong, len(y), fraction * 0.9).pvalue > 1e-3
    drawn = relabel(torch.zeros(40000, dtype=torch.int64), fraction, 10, Rng(2))
    counts = torch.bincount(drawn, minlength=10)[1:].numpy()
    assert stats.chisquare(counts).pvalue > 1e-3


def test_every_place_is_equally_likely() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3).expand(9000, 1, 3, 3)
    first = shuffle_each(x, Rng(0))[:, 0, 0, 0].long()
    assert stats.chisquare(torch.bincount(first, minlength=9).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("move", [shuffle, shuffle_each])
def test_the_channels_of_a_place_stay_together(move: Any) -> None:
    base = torch.rand(5000, 1, 4, 4)
    colours = torch.cat([base, 2 * base, 3 * base], dim=1)
    moved = move(colours, Rng(0))
    assert moved.shape == colours.shape
    torch.testing.assert_close(moved[:, 1], 2 * moved[:, 0])
    torch.testing.assert_close(moved[:, 2], 3 * moved[:, 0])
    assert not moved.equal(colours)
    assert move(torch.rand(10, 6), Rng(0)).shape == (10, 6)


def test_gaussian_statistics_come_from_the_training_set() -> None:
    train, test = torch.full((50, 4), 3.0), torch.zeros(20, 4)
    assert gaussian(test, train, Rng(0)).equal(torch.full((20, 4), 3.0))


def test_a_stream_draws_the_same_whatever_the_type_and_more_noise_keeps_the_noise_there_was() -> None:
    y = torch.arange(10).repeat(50)
    small, large = relabel(y, 0.3, 10, Rng(0)), relabel(y, 0.7, 10, Rng(0))
    assert small[small != y].equal(large[small != y])
    assert relabel(y.to(torch.uint8), 0.3, 10, Rng(0)).long().equal(small)
    assert relabel(y, 0.0, 10, Rng(0)).equal(y) and y.equal(torch.arange(10).repeat(50))
    x = torch.rand(30, 2, 4, 4)
    for move in (shuffle, shuffle_each):
        assert move(x, Rng(1)).equal(move(x, Rng(1))) and not move(x, Rng(1)).equal(move(x, Rng(2)))
    # One permutation for whatever comes in this shape.
    assert torch.cat([shuffle(x[:9], Rng(1)), shuffle(x[9:], Rng(1))]).equal(shuffle(x, Rng(1)))


def test_gaussians_of_all_pixels_alike() -> None:
    train = torch.rand(200, 1, 3, 3) * torch.arange(9.0).reshape(1, 1, 3, 3)
    drawn = gaussian(torch.zeros(5000, 1, 3, 3), train.flatten(), Rng(0)).flatten(1)
    std = float(train.std(correction=0))
    z = ((drawn.mean(0) - train.mean()) / (std / 5000**0.5)).numpy()
    assert abs(z).max() < 5
    assert stats.kstest(((drawn - train.mean()) / std).flatten().numpy(), "norm").pvalue > 1e-3


def test_what_cannot_be_corrupted_is_refused() -> None:
    y = torch.tensor([0, 1, 2])
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(SettingsError, match=r"a fraction in \[0, 1\]"):
            relabel(y, fraction, 3, Rng(0))
    with pytest.raises(SettingsError, match="at least 2 classes was"):
        relabel(torch.zeros(3, dtype=torch.int64), 0.5, 1, Rng(0))
    soft: list[Any] = [torch.rand(3), torch.eye(3), torch.eye(3, dtype=torch.int64), y > 0, [0, 1, 2]]
    for wrong in soft:
        with pytest.raises(DataError, match="one integer class an example was required"):
            relabel(wrong, 0.5, 3, Rng(0))
    with pytest.raises(DataError, match=r"classes in 0\.\.1 were required, 0\.\.2 came"):
        relabel(y, 0.5, 2, Rng(0))
    for move in (shuffle, shuffle_each):
        for flat in (torch.rand(5), torch.rand(0, 4), [[1.0, 2.0]]):
            with pytest.raises(DataError, match="images"):
                move(flat, Rng(0))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="convert them to float32"):
        gaussian(torch.zeros(3, 4, dtype=torch.uint8), torch.rand(3, 4), Rng(0))
    with pytest.raises(DataError, match=r"training inputs of shape \(4,\) each were required, \(5,\) came"):
        gaussian(torch.zeros(3, 4), torch.rand(3, 5), Rng(0))


def test_numbers_too_short_for_so_many_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"hold 300 classes were required, torch.uint8 came"):
        relabel(torch.zeros(5, dtype=torch.uint8), 1.0, 300, Rng(0))
    with pytest.raises(SettingsError, match="at least 2 classes was"):
        relabel(torch.zeros(5, dtype=torch.int64), 1.0, 2.5, Rng(0))  # type: ignore[arg-type]
    assert relabel(torch.zeros(5, dtype=torch.int64), 1.0, np.int64(3), Rng(0)).shape == (5,)  # type: ignore[arg-type]


def test_a_whole_number_of_classes_may_be_written_with_a_point() -> None:
    y = torch.arange(10) % 3
    assert torch.equal(relabel(y, 0.5, 3.0, Rng(0)), relabel(y, 0.5, 3, Rng(0)))  # type: ignore[arg-type]
