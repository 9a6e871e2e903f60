"""The gap between noisy and clean labels, against examples judged one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import vallis
from tests.measurements.contract import RNG, measured
from tests.numerics.solutions import regression
from vallis.core.data import Arrays
from vallis.core.errors import DataError, SettingsError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy
from vallis.core.types import Job, Net, NotApplicable, Solution, Task
from vallis.measurements.memorization.memorization_gap import MemorizationGap
from vallis.numerics.proportions import difference, share
from vallis.problems.corrupted import Corrupted
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training.gradient_descent import GradientDescent

GAP = MemorizationGap(num_bins=4)


def says(scores: torch.Tensor, y: torch.Tensor, true: torch.Tensor, batch_size: int = 5, loss: Any = None) -> Solution:
    """A solution whose outputs are its inputs."""
    net = nn.Linear(1, 1) if scores.ndim == 1 else nn.Linear(scores.shape[1], scores.shape[1], bias=False)
    params = {"weight": torch.eye(scores.shape[1])}
    index = torch.arange(2 * len(y))
    splits = {
        "train": Arrays(x=scores, y=y, index=index[: len(y)], batch_size=batch_size),
        "true_labels": Arrays(x=scores, y=true, index=index[len(y) :], batch_size=len(y)),
    }
    task = Task(name="own", splits=splits, loss=loss or CrossEntropy())
    return Solution(net=Net(module=net), params=params, buffers={}, tasks=(task,))


def drawn(num_examples: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(0, 4, (num_examples,), generator=generator)
    y = torch.where(
        torch.rand(num_examples, generator=generator) < 0.4,
        torch.randint(0, 4, (num_examples,), generator=generator),
        true,
    )
    return 2 * torch.randn(num_examples, 4, generator=generator), y, true


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_every_number_by_hand(batch_size: int) -> None:
    scores, y, true = drawn()
    found = measured(GAP, says(scores, y, true, batch_size))
    guesses, bad, losses = scores.argmax(1), y != true, F.cross_entropy(scores, y, reduction="none").double().numpy()
    groups = {"noisy": bad.numpy(), "clean": (~bad).numpy()}
    counts = {name: int((guesses == y).numpy()[mark].sum()) for name, mark in groups.items()}
    for name, mark in groups.items():
        expected = share(counts[name], int(mark.sum()))
        key = {"noisy": "memorized_fraction", "clean": "clean_accuracy"}[name]
        accuracy = found.estimate(key)
        assert (accuracy.value, accuracy.stderr, accuracy.n) == (expected.value, expected.stderr, int(mark.sum()))
        assert found.array(f"{key}_interval").data.tolist() == [expected.low, expected.high]
        loss = found.estimate(f"{name}_loss")
        assert loss.value == pytest.approx(losses[mark].mean(), rel=1e-6)
        assert loss.stderr == pytest.approx(losses[mark].std(ddof=1) / np.sqrt(mark.sum()), rel=1e-6)
        chances = scores.softmax(1).gather(1, y[:, None])[:, 0].numpy()[mark]
        assert found.estimate(f"{name}_probability").value == pytest.approx(chances.mean(), rel=1e-6)
        histogram = np.histogram(chances, bins=4, range=(0, 1))[0] / mark.sum()
        np.testing.assert_allclose(found.array(f"{name}_histogram").data, histogram, atol=1e-12)
    assert found.estimate("noisy_fraction").value == pytest.approx(float(bad.float().mean()))
    kept = float((guesses == true)[bad].double().mean())
    assert found.estimate("recovered_fraction").value == pytest.approx(kept)
    other = ((guesses != true) & (guesses != y))[bad].double().mean()
    assert found.estimate("neither_fraction").value == pytest.approx(float(other))
    gap = difference(*(share(counts[name], int(groups[name].sum())) for name in ("clean", "noisy")))
    assert found.estimate("accuracy_gap").value == pytest.approx(gap.value)
    assert found.array("accuracy_gap_interval").data.tolist() == pytest.approx([gap.low, gap.high])
    loss_gap = losses[groups["noisy"]].mean() - losses[groups["clean"]].mean()
    assert found.estimate("loss_gap").value == pytest.approx(loss_gap, rel=1e-6)
    by_truth = F.cross_entropy(scores, true, reduction="none")[bad].mean()
    assert found.estimate("noisy_true_loss").value == pytest.approx(float(by_truth), rel=1e-6)
    assert found.notes == ()


@pytest.mark.parametrize(("strength", "memorised", "kept"), [(9.0, 1.0, 0.0), (-9.0, 0.0, 1.0)])
def test_one_that_memorised_all_and_one_that_resisted(strength: float, memorised: float, kept: float) -> None:
    _, y, true = drawn(200)
    answered = y if strength > 0 else true
    scores = abs(strength) * F.one_hot(answered, 4).float()
    found = measured(GAP, says(scores, y, true))
    assert found.estimate("memorized_fraction").value == memorised
    assert found.estimate("recovered_fraction").value == kept
    assert found.estimate("accuracy_gap").value == 1 - memorised
    low, high = found.array("memorized_fraction_interval").data
    assert high - low > 0, "a share of 0 or 1 of a sample is not exact"
    assert ("alike" in GAP.reading(found)) == (strength > 0)


def test_trained_on_random_labels_it_remembers_them() -> None:
    problem = Corrupted(base=Blobs(distance=4.0), labels=0.4)
    short, long = (
        GradientDescent(optimizer="Adam", learning_rate=0.02, batch_size=8, max_steps=steps) for steps in (40, 3000)
    )
    model = TinyMlp(widths=(32, 32))
    early, late = (vallis.train(Job(problem=problem, model=model, training=how))[-1] for how in (short, long))
    before, after = measured(GAP, early), measured(GAP, late)
    assert after.estimate("memorized_fraction").value > before.estimate("memorized_fraction").value
    assert before.estimate("accuracy_gap").value > 0.5
    assert before.estimate("recovered_fraction").value > after.estimate("recovered_fraction").value


def test_labels_of_two_classes() -> None:
    scores, y = torch.tensor([[2.0], [-1.0], [3.0], [-4.0]]), torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    found = measured(GAP, says(scores, y, torch.tensor([[1.0], [0.0], [1.0], [0.0]]), loss=BinaryCrossEntropy()))
    assert found.estimate("noisy_fraction").value == 0.5
    assert found.estimate("memorized_fraction").value == 0.0 and found.estimate("clean_accuracy").value == 1.0
    assert found.estimate("recovered_fraction").value == 1.0


def test_ignored_targets_are_neither_noisy_nor_clean() -> None:
    """Neither those of a batch in which nothing counts, nor those of one in which some do."""
    scores, y, true = drawn(30)
    y[3:13] = -100
    found = measured(GAP, says(scores, y, true, batch_size=5))
    assert found.estimate("noisy_fraction").n == 20
    counted = y != -100
    assert found.estimate("noisy_fraction").value == pytest.approx(float((y != true)[counted].float().mean()))
    losses = F.cross_entropy(scores, true, reduction="none")[counted & (y == true)]
    assert found.estimate("clean_loss").value == pytest.approx(float(losses.mean()), rel=1e-6)


def test_all_labels_noisy() -> None:
    scores, _, true = drawn(20)
    found = measured(GAP, says(scores, (true + 1) % 4, true))
    assert "accuracy_gap" not in found.values and [note.code for note in found.notes] == ["all_noisy"]


def test_where_it_makes_no_sense() -> None:
    scores, _, true = drawn(20)
    assert reason(GAP.measure(says(scores, true, true.clone()), RNG)) == "no_noisy_labels"
    whole = says(scores, true, true)
    (task,) = whole.tasks
    alone = replace(whole, tasks=(replace(task, splits={"train": task.splits["train"]}),))
    assert reason(GAP.measure(alone, RNG)) == "no_true_labels"
    squares = regression()
    (task,) = squares.tasks
    with_truth = replace(task, splits={**task.splits, "true_labels": task.splits["train"]})
    assert reason(GAP.measure(replace(squares, tasks=(with_truth,)), RNG)) == "not_classification"


def reason(outcome: Any) -> str:
    assert isinstance(outcome, NotApplicable), outcome
    return outcome.note.code


def test_true_labels_of_other_examples_are_refused() -> None:
    scores, y, true = drawn(20)
    whole = says(scores, y, true)
    (task,) = whole.tasks
    short = Arrays(x=scores[:9], y=true[:9], index=torch.arange(100, 109))
    with pytest.raises(DataError, match=r"\(9,\) came for \(20,\)"):
        GAP.measure(replace(whole, tasks=(replace(task, splits={**task.splits, "true_labels": short}),)), RNG)


def test_diverged() -> None:
    scores, y, true = drawn(20)
    scores[3] = torch.nan
    found = measured(GAP, says(scores, y, true))
    assert "not_finite" in [note.code for note in found.notes]


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(SettingsError, match="num_bins must be at least 1, 0 came"):
        MemorizationGap(num_bins=0)
