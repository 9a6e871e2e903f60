from __future__ import annotations

import pytest
import torch

from tests.problems.expect import arrays, build
from vallis.core.errors import DataError, SettingsError
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.poisoned import From, Poisoned
from vallis.problems.spirals import Spirals

SPLITS = ("train", "poison", "test")


@pytest.mark.parametrize("taken_from", ["train", "test"])
def test_the_three_splits_share_the_examples_there_were(taken_from: From) -> None:
    whole, found = build(Digits()), build(Poisoned(base=Digits(), taken_from=taken_from))
    index = [set(arrays(found, name).index.tolist()) for name in SPLITS]
    assert not (index[0] & index[1] or index[0] & index[2] or index[1] & index[2])
    before = set().union(*(arrays(whole, name).index.tolist() for name in ("train", "test")))
    assert set().union(*index) == before
    other = "test" if taken_from == "train" else "train"
    assert found.splits[other].fingerprint() == whole.splits[other].fingerprint()


def test_labels_stay_true_and_classes_in_proportion() -> None:
    found = build(Poisoned(base=Digits(), num_poison=400))
    poison, whole = arrays(found, "poison"), arrays(build(Digits()), "train")
    place = {int(index): row for row, index in enumerate(whole.index)}
    rows = torch.tensor([place[int(index)] for index in poison.index])
    assert poison.y.equal(whole.y[rows])
    assert poison.x.equal(whole.x[rows])
    counts = torch.bincount(poison.y, minlength=10)
    assert int(counts.min()) >= 38
    assert int(counts.max()) <= 42


def test_the_minefield_of_the_paper() -> None:
    """132 of 400 points train, the rest is halved (Huang et al., the minefield figure)."""
    base = Spirals(shape="noiseless", train_fraction=0.33)
    found = build(Poisoned(base=base, taken_from="test"))
    assert [len(found.splits[name]) for name in SPLITS] == [132, 134, 134]


def test_more_than_there_are_and_poison_twice_are_refused() -> None:
    with pytest.raises(DataError, match="take fewer"):
        build(Poisoned(base=Digits(), num_poison=5000))
    with pytest.raises(SettingsError, match="poison it once"):
        build(Poisoned(base=Poisoned(base=Digits())))
    with pytest.raises(SettingsError, match="labels are true"):
        build(Poisoned(base=Corrupted(base=Digits(), labels=0.5)))
    with pytest.raises(SettingsError, match="at least 1"):
        Poisoned(base=Digits(), num_poison=0)
