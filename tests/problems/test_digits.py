from __future__ import annotations

import pytest
import torch

from tests.problems.expect import arrays, build
from vallis.core.errors import SettingsError
from vallis.problems.digits import Digits, load_digits


def test_the_data_are_all_there_and_in_range() -> None:
    x, y = load_digits()
    assert x.shape == (1797, 1, 8, 8)
    assert (float(x.min()), float(x.max())) == (0.0, 1.0)
    assert torch.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.001, 0.999])
def test_the_split_is_a_partition_in_proportion(fraction: float) -> None:
    task = build(Digits(test_fraction=fraction))
    train, test = arrays(task, "train"), arrays(task, "test")
    assert len(test) == max(round(fraction * 1797), 1)
    assert torch.cat([train.index, test.index]).sort().values.equal(torch.arange(1797))
    x, y = load_digits()
    for split in (train, test):
        assert split.x.equal(x[split.index])
        assert split.y.equal(y[split.index])
    if fraction == 0.25:
        assert (torch.bincount(test.y) - torch.bincount(y) / 4).abs().max() <= 1


def test_the_seed_decides_the_split() -> None:
    one, other = (arrays(build(Digits(), seed), "test").index for seed in (0, 1))
    assert not one.equal(other)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 2.0, float("nan")])
def test_impossible_fractions_are_refused(fraction: float) -> None:
    with pytest.raises(SettingsError, match=r"digits\.test_fraction"):
        Digits(test_fraction=fraction)
