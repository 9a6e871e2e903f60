from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.numerics.solutions import classes, held, random, tokens
from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Solution
from vallis.measurements.interpolation._examples import read

BOTH = {"train": "train", "test": "test"}


def solution() -> Solution:
    return held(nn.Linear(2, 3), random(30, 2), classes(30), test=(random(10, 2, seed=3), classes(10, seed=4)))


def test_splits_and_parts() -> None:
    found = read(solution(), BOTH, None, Rng(0))
    assert not isinstance(found, NotApplicable)
    assert found["train"].x.equal(random(30, 2)) and found["train"].values.argmax(1).equal(classes(30))
    assert found["test"].x.shape == (10, 2)
    assert found["train"].notes == ()

    part = read(solution(), BOTH, 7, Rng(0))
    assert not isinstance(part, NotApplicable)
    assert len(part["train"].x) == len(part["train"].values) == 7 and len(part["test"].x) == 10
    assert [note.code for note in part["train"].notes] == ["part_of_the_data"]
    rows = [random(30, 2).tolist().index(row) for row in part["train"].x.tolist()]
    assert part["train"].values.argmax(1).tolist() == classes(30)[rows].tolist()

    assert list(read(solution(), {"train": "test", "test": "nowhere"}, None, Rng(0))) == ["train"]  # type: ignore[arg-type]


def test_errors_have_their_count_and_spread() -> None:
    found = read(solution(), BOTH, None, Rng(0))
    assert not isinstance(found, NotApplicable)
    error = found["train"].error(torch.eye(3)[torch.zeros(30, dtype=torch.long)])
    wrong = float((classes(30) != 0).double().mean())
    assert (error.value, error.n) == (pytest.approx(wrong), 30)
    assert error.stderr == pytest.approx((wrong * (1 - wrong) / 29) ** 0.5)


def test_what_is_no_regression() -> None:
    assert isinstance(read(tokens(), BOTH, None, Rng(0)), NotApplicable)
    flat = held(nn.Linear(2, 3), torch.arange(8), classes(8))
    assert isinstance(read(flat, BOTH, None, Rng(0)), NotApplicable)
    with pytest.raises(SettingsError, match="at least one example"):
        read(solution(), BOTH, 0, Rng(0))
    with pytest.raises(SettingsError, match="a split 'elsewhere'"):
        read(solution(), {"train": "elsewhere"}, None, Rng(0))
