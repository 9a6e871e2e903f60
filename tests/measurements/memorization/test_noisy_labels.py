from __future__ import annotations

import torch

from vallis.core.data import Arrays
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss
from vallis.core.rng import Rng
from vallis.core.types import Note, Task
from vallis.measurements.memorization._noisy_labels import noisy, noisy_examples, true_targets
from vallis.problems.corrupted import Corrupted
from vallis.testing.toys.problems import Blobs


def task(loss: Loss | None = None, **targets: torch.Tensor) -> Task:
    splits = {
        name: Arrays(x=torch.zeros(len(y), 1), y=y, index=torch.arange(len(y)) + 50, batch_size=2)
        for name, y in targets.items()
    }
    return Task(name="own", splits=splits, loss=loss or CrossEntropy())


def test_what_corrupted_changed_is_found() -> None:
    (made,) = Corrupted(base=Blobs(), labels=0.5).build(Rng(0))
    found = noisy_examples(made)
    assert found is not None
    index, marks = found
    (train,), (true,) = made.splits["train"], made.splits["true_labels"]
    assert torch.equal(index, train.index) and torch.equal(marks, train.y != true.y)
    assert 0 < int(marks.sum()) < len(marks)


def test_batches_need_not_be_of_one_size() -> None:
    found = noisy_examples(task(train=torch.tensor([0, 1, 2]), true_labels=torch.tensor([0, 1, 1])))
    assert found is not None and found[0].tolist() == [50, 51, 52] and found[1].tolist() == [False, False, True]


def test_one_token_makes_an_example_noisy_unless_it_is_ignored() -> None:
    given = torch.tensor([[0, 1], [0, 1], [0, -100], [2, 2]])
    true = torch.tensor([[0, 1], [1, 1], [0, 1], [2, 0]])
    assert noisy(given, true, CrossEntropy()).tolist() == [False, True, False, True]


def test_a_smoothed_label_is_no_noisy_one() -> None:
    given, true = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert noisy(given, true, CrossEntropy()).tolist() == [False, True]
    assert noisy(given[:, 0], true[:, 0], BinaryCrossEntropy()).tolist() == [True, True]


def test_nobody_knows() -> None:
    assert noisy_examples(task(train=torch.tensor([0, 1]))) is None
    found = true_targets(task(train=torch.tensor([0, 1])))
    assert isinstance(found, Note) and found.code == "no_true_labels"
    objects = Arrays(x=torch.zeros(2, 1), y=["a", "b"], index=torch.arange(2))
    texts = Task(name="own", splits={"train": objects, "true_labels": objects}, loss=CrossEntropy())
    found = true_targets(texts)
    assert isinstance(found, Note) and found.code == "not_classification"
