from __future__ import annotations

import pytest
import torch

import vallis
from vallis.core.data import Arrays
from vallis.core.errors import DataError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss
from vallis.core.rng import Rng
from vallis.core.types import Job, Note, Result, Task
from vallis.measurements.fit.label_noise import LabelNoise
from vallis.measurements.memorization.memorization_gap import MemorizationGap
from vallis.numerics.noisy_labels import fates, noisy_examples, noisy_marks, true_targets
from vallis.problems.corrupted import Corrupted
from vallis.problems.noisy_labels import NoisyLabels
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training.gradient_descent import GradientDescent


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
    assert noisy_marks(given, true, CrossEntropy()).tolist() == [False, True, False, True]


def test_a_smoothed_label_is_no_noisy_one() -> None:
    given, true = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert noisy_marks(given, true, CrossEntropy()).tolist() == [False, True]
    assert noisy_marks(given[:, 0], true[:, 0], BinaryCrossEntropy()).tolist() == [False, True]


def test_nobody_knows() -> None:
    assert noisy_examples(task(train=torch.tensor([0, 1]))) is None
    found = true_targets(task(train=torch.tensor([0, 1])))
    assert isinstance(found, Note) and found.code == "no_true_labels"
    objects = Arrays(x=torch.zeros(2, 1), y=["a", "b"], index=torch.arange(2))
    texts = Task(name="own", splits={"train": objects, "true_labels": objects}, loss=CrossEntropy())
    found = true_targets(texts)
    assert isinstance(found, Note) and found.code == "not_classification"


def test_binary_labels_are_told_apart_at_one_half() -> None:
    given, true = torch.tensor([[0.9], [0.9], [0.0]]), torch.tensor([[1.0], [0.0], [0.0]])
    assert noisy_marks(given, true, BinaryCrossEntropy()).tolist() == [False, True, False]


def test_a_true_label_that_nobody_knows_makes_no_noise() -> None:
    given, true = torch.tensor([[0, 1], [0, 1]]), torch.tensor([[0, -100], [1, -100]])
    assert noisy_marks(given, true, CrossEntropy()).tolist() == [False, True]


def test_what_became_of_them_adds_up() -> None:
    noisy = torch.tensor([True] * 7 + [False] * 3)
    given = torch.tensor([True] * 3 + [False] * 4 + [True, True, False])
    true = torch.tensor([False] * 3 + [True, True, False, False] + [True, True, False])
    found = fates(noisy, given, true).estimates()
    values = {name: (one.value, one.n) for name, one in found.items()}
    assert values == {
        "noisy_fraction": (0.7, 10),
        "memorized_fraction": (3 / 7, 7),
        "recovered_fraction": (2 / 7, 7),
        "neither_fraction": (2 / 7, 7),
    }
    assert list(fates(torch.zeros(4, dtype=torch.bool), given[:4], true[:4]).estimates()) == ["noisy_fraction"]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_same_examples_in_another_order_are_refused(batch_size: int) -> None:
    x, y = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3

    def made(x: torch.Tensor) -> Task:
        splits = {
            "train": Arrays(x={"a": whole, "b": whole.double()}, y=y, index=torch.arange(8), batch_size=3),
            "true_labels": Arrays(x={"a": x, "b": x.double()}, y=y, index=torch.arange(8) + 8, batch_size=batch_size),
        }
        return Task(name="own", splits=splits, loss=CrossEntropy())

    whole = x
    assert isinstance(true_targets(made(x.clone())), torch.Tensor)
    assert isinstance(true_targets(made(x + 1)), torch.Tensor), "other inputs may be meant"
    with pytest.raises(DataError, match="do not shuffle"):
        true_targets(made(x.flip(0)))


@pytest.mark.parametrize("noise", ["drawn from all classes", "drawn by a matrix"])
def test_the_two_measurements_agree(noise: str) -> None:
    """Drawn from all classes, a label may come out as the true one: it is not noisy then."""
    problem = (
        Corrupted(base=Blobs(num_train=300, num_classes=3), labels=0.6)
        if noise == "drawn from all classes"
        else NoisyLabels(base=Blobs(num_train=300, num_classes=3), rate=0.4)
    )
    training = GradientDescent(optimizer="Adam", learning_rate=0.02, batch_size=30, max_steps=200)
    solution = vallis.train(Job(problem=problem, model=TinyMlp(widths=(32,)), training=training))[-1]
    one, other = (part.measure(solution, Rng(0)) for part in (MemorizationGap(), LabelNoise(num_resamples=1)))
    assert isinstance(one, Result) and isinstance(other, Result)
    names = ("noisy_fraction", "memorized_fraction", "recovered_fraction", "neither_fraction")
    assert [one.estimate(name) for name in names] == [other.estimate(name) for name in names]
    (train,), (true,) = solution.task.splits["train"], solution.task.splits["true_labels"]
    with torch.no_grad():
        answers = torch.func.functional_call(solution.net.module, dict(solution.params), (train.x,)).argmax(1)
    bad = train.y != true.y
    assert one.estimate("noisy_fraction").value == pytest.approx(float(bad.double().mean()))
    assert one.estimate("memorized_fraction").value == pytest.approx(float((answers == train.y)[bad].double().mean()))
    assert 0 < one.estimate("memorized_fraction").value < 1
