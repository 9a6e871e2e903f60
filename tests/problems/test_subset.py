from __future__ import annotations

import pytest
import torch

from tests.problems.expect import arrays, build
from vallis.core import spec
from vallis.core.errors import DataError, SettingsError
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.spirals import Spirals
from vallis.problems.subset import Subset


def test_fewer_examples_keep_their_identity_and_their_proportions() -> None:
    whole, part = build(Digits()), build(Subset(base=Digits(), num_train=100, num_test=30))
    for split, number in (("train", 100), ("test", 30)):
        all_, some = arrays(whole, split), arrays(part, split)
        assert len(some) == number
        places = {int(index): place for place, index in enumerate(all_.index)}
        at = torch.tensor([places[int(index)] for index in some.index])
        assert some.x.equal(all_.x[at])
        assert some.y.equal(all_.y[at])
        assert (torch.bincount(some.y) - number / 10).abs().max() <= 1


def test_smaller_choices_are_nested() -> None:
    small, large = (arrays(build(Subset(base=Digits(), num_train=n)), "train").index for n in (50, 200))
    assert set(small.tolist()) < set(large.tolist())


def test_classes_are_renumbered_in_the_order_given() -> None:
    whole, part = build(Digits()), build(Subset(base=Digits(), classes=(7, 3)))
    for split in ("train", "test"):
        all_, some = arrays(whole, split), arrays(part, split)
        kept = (all_.y == 7) | (all_.y == 3)
        assert some.index.equal(all_.index[kept])
        assert some.y.equal((all_.y[kept] == 3).long())


def test_nothing_asked_changes_nothing() -> None:
    whole, part = build(Digits()), build(Subset(base=Digits()))
    assert all(part.splits[name].fingerprint() == split.fingerprint() for name, split in whole.splits.items())


def test_subsets_nest_and_round_trip() -> None:
    problem = Subset(base=Subset(base=Digits(), classes=(1, 2, 3)), num_train=10, classes=(0, 2))
    train = arrays(build(problem), "train")
    assert torch.bincount(train.y).tolist() == [5, 5]
    assert spec.from_spec(spec.to_spec(problem)) == problem


def test_too_much_is_asked() -> None:
    with pytest.raises(DataError, match=r"subset\.num_train must be at most 200"):
        build(Subset(base=Spirals(), num_train=201))
    with pytest.raises(DataError, match="some have none"):
        build(Subset(base=Spirals(), classes=(0, 5)))


def test_impossible_settings_are_refused() -> None:
    for classes in ((3,), (3, 3), ()):
        with pytest.raises(SettingsError, match=r"subset\.classes"):
            Subset(base=Digits(), classes=classes)
    with pytest.raises(SettingsError, match=r"subset\.num_test"):
        Subset(base=Digits(), num_test=0)


def test_a_corrupted_base_is_refused() -> None:
    """Its true labels lie beside the training labels, row by row."""
    with pytest.raises(SettingsError, match="corrupt the subset instead"):
        build(Subset(base=Corrupted(base=Digits(), labels=0.5)))
    build(Corrupted(base=Subset(base=Digits(), num_train=20), labels=0.5))
