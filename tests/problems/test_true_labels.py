from __future__ import annotations

import pytest
import torch

from vallis.core.data import Arrays
from vallis.core.errors import DataError, SettingsError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy
from vallis.core.types import Batch, Task
from vallis.problems._true_labels import classes_of, first_free_index, must_be_true, num_classes_of, relabelled

TRAIN = Batch(x=torch.arange(3.0)[:, None], y=torch.tensor([0, 1, 2]), index=torch.tensor([4, 5, 9]))
TEST = Batch(x=torch.zeros(1, 1), y=torch.tensor([1]), index=torch.tensor([2]))


def task(*names: str) -> Task:
    splits = {name: Arrays(x=TRAIN.x, y=TRAIN.y, index=TRAIN.index) for name in names}
    return Task(name="toy", splits=splits, loss=CrossEntropy())


def test_the_old_labels_are_kept_row_for_row() -> None:
    found = relabelled({"train": TRAIN, "test": TEST}, torch.tensor([2, 1, 0]), 10)
    assert list(found) == ["train", "test", "true_labels"]
    assert found["train"].y.tolist() == [2, 1, 0]
    assert found["train"].index.equal(TRAIN.index)
    assert found["true_labels"].y.equal(TRAIN.y)
    assert found["true_labels"].x.equal(TRAIN.x)
    assert found["true_labels"].index.tolist() == [10, 11, 12]
    assert found["test"] is TEST


def test_the_first_identity_that_nobody_has() -> None:
    assert first_free_index([task("train"), task("train", "test")]) == 10


def test_only_classes_are_replaced() -> None:
    assert classes_of(TRAIN, "rest") is TRAIN.y
    for y in (torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64), ["a", "b", "c"]):
        with pytest.raises(DataError, match=r"one integer class an example was required, .* came: rest"):
            classes_of(Batch(x=TRAIN.x, y=y, index=TRAIN.index), "rest")


def test_labels_are_replaced_once() -> None:
    must_be_true(task("train", "test"), "this")
    with pytest.raises(SettingsError, match="labels are true was required by this"):
        must_be_true(task("train", "true_labels"), "this")


def test_how_many_classes_there_are() -> None:
    """The highest class may be on the test examples alone, and one score tells two classes apart whatever is there."""
    several = {"train": torch.tensor([0, 0]), "test": torch.tensor([4])}
    assert num_classes_of(task("train"), several) == 5
    binary = Task(name="toy", splits=task("train").splits, loss=BinaryCrossEntropy())
    assert num_classes_of(binary, {"train": torch.zeros(3, dtype=torch.int64)}) == 2
    with pytest.raises(DataError, match="at least 2 classes were required to make labels wrong, task toy has 1"):
        num_classes_of(task("train"), {"train": torch.zeros(3, dtype=torch.int64)})
