"""A measurement that watches training, against histories written down one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.numerics.histories import History
from vallis.core.answers import Told
from vallis.core.data import Arrays
from vallis.core.errors import SettingsError
from vallis.core.losses import CrossEntropy
from vallis.core.protocols import Watcher
from vallis.core.rng import Rng
from vallis.core.types import Job, NotApplicable, Packed, Result, StepInfo, Task
from vallis.measurements.memorization.example_dynamics import ExampleDynamics
from vallis.problems.corrupted import Corrupted
from vallis.run.memory import pack, unpack
from vallis.run.plan import train_node
from vallis.run.train import follow, ground, watch
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.training.gradient_descent import GradientDescent

WATCHER = ExampleDynamics(num_early=2, num_named=3)
HISTORY = {10: (0, 1, 1, 0, 1, 0), 11: (1, 1, 1, 1, 1, 1), 12: (0, 0, 0, 0, 0, 0), 13: (0, 0, 1, 0, 0, 0)}


def tasks(**targets: torch.Tensor) -> tuple[Task, ...]:
    splits = {
        name: Arrays(x=torch.zeros(4, 1), y=y, index=torch.arange(4) + start)
        for (name, y), start in zip(targets.items(), (10, 20), strict=False)
    }
    return (Task(name="own", splits=splits, loss=CrossEntropy()),)


def infos() -> list[StepInfo]:
    """Six epochs over four examples in batches of two, in changing order; margins of 2 or -1."""
    found = []
    for epoch in range(6):
        for pair in ((10, 13), (12, 11)) if epoch % 2 else ((11, 10), (13, 12)):
            margins = torch.tensor([2.0 if HISTORY[name][epoch] else -1.0 for name in pair])
            answers = Told(scores=torch.stack([torch.zeros(2), margins], 1), targets=torch.ones(2, dtype=torch.long))
            found.append(StepInfo(step=len(found) + 1, loss=0.0, index=torch.tensor(pair), answers=answers, task="own"))
    return found


def result(memory: dict[str, Any]) -> Result:
    outcome = WATCHER.conclude(memory)
    assert isinstance(outcome, Result), outcome
    return outcome


def watched(memory: dict[str, Any], seen: list[StepInfo]) -> dict[str, Any]:
    for info in seen:
        WATCHER.watch(memory, info)
    return memory


def test_every_score_by_hand() -> None:
    found = result(watched(WATCHER.begin(tasks(train=torch.ones(4, dtype=torch.long))), infos()))
    held = []
    for turns in HISTORY.values():
        margins = [2.0 if right else -1.0 for right in turns]
        chances = [1 / (1 + np.exp(-margin)) for margin in margins]
        held.append(History([bool(right) for right in turns], margins, chances, [2**0.5 * (1 - p) for p in chances]))
    expected = {
        "presentations": [6.0] * 4,
        "forgetting_events": [one.forgetting_events for one in held],
        "first_right": [one.first_right for one in held],
        "first_learned": [one.first_learned for one in held],
        "area_under_margin": [one.area_under_margin for one in held],
        "error_norm": [one.error_norm(0, 2) for one in held],
        "confidence": [one.confidence for one in held],
        "variability": [one.variability for one in held],
        "correctness": [one.correctness for one in held],
    }
    for name, column in expected.items():
        np.testing.assert_allclose(found.array(name).data, column, rtol=1e-6, atol=1e-7, err_msg=name)
        assert found.array(name).coords["example"].tolist() == list(HISTORY)
    assert found.estimate("forgotten_fraction").value == 0.5
    assert found.estimate("never_learned_fraction").value == 0.25
    assert found.estimate("unforgettable_fraction").value == 0.25
    assert found.estimate("mean_forgetting_events").value == 1.0
    assert found.array("most_forgotten_examples").data.tolist() == [10, 13]
    assert found.array("hardest_examples").data.tolist() == [12, 13, 10]
    turns = np.array(list(HISTORY.values()))
    np.testing.assert_allclose(found.array("right_fraction").data, turns.mean(0))
    assert found.array("learned_fraction").data.tolist() == [0.25] * 6
    assert found.notes == ()
    reading = WATCHER.reading(found)
    assert "Of 4 training examples, each presented 6 times" in reading
    assert "(up to 2 times): examples 10 and 13." in reading and "margins: examples 12, 13 and 10." in reading


def test_figures_show_what_was_found() -> None:
    found = result(watched(WATCHER.begin(tasks(train=torch.ones(4, dtype=torch.long))), infos()))
    figures = {figure.name: figure for figure in WATCHER.figures(found)}
    assert set(figures) == {"data_map", "forgetting_events", "learning_order", "hardest_examples"}
    assert sum(len(mark.x) for mark in figures["data_map"].marks) == 4
    (bars,) = figures["forgetting_events"].marks
    assert bars.x == ["0", "1", "2", "never learned"] and bars.y.tolist() == [1, 1, 1, 1]
    (hardest,) = figures["hardest_examples"].marks
    assert hardest.x == ["12", "13", "10"] and hardest.y[0] == -1.0


def test_many_examples_are_thinned_out_and_counts_are_gathered() -> None:
    memory = WATCHER.begin(
        (
            Task(
                name="own",
                splits={"train": Arrays(x=torch.zeros(4001, 1), y=torch.ones(4001), index=torch.arange(4001))},
                loss=CrossEntropy(),
            ),
        )
    )
    for turn in range(90):
        scores = torch.zeros(4001, 2)
        scores[:, 1] = 1.0 if turn % 2 == 0 else -1.0
        answers = Told(scores=scores, targets=torch.ones(4001, dtype=torch.long))
        WATCHER.watch(memory, StepInfo(step=turn + 1, loss=0.0, index=torch.arange(4001), answers=answers))
    data_map, forgetting, *_ = WATCHER.figures(result(memory))
    assert sum(len(mark.x) for mark in data_map.marks) == 1334 and "One of 3" in data_map.caption
    (bars,) = forgetting.marks
    assert bars.x[-2:] == ["30 or more", "never learned"] and bars.y[-2:].tolist() == [4001, 0]


@pytest.mark.parametrize("stop", range(13))
def test_its_memory_goes_through_a_checkpoint(stop: int) -> None:
    truth = {"train": torch.ones(4, dtype=torch.long), "true_labels": torch.tensor([1, 1, 0, 1])}
    memory = watched(WATCHER.begin(tasks(**truth)), infos()[:stop])
    _, _, memories, _ = unpack(pack(Packed(tensors={}, values={}), stop, {"it": memory}, {}))
    found = result(watched(memories["it"], infos()[stop:]))
    assert found.array("forgetting_events").data.tolist() == [2, 0, 0, 1]
    assert found.array("noisy_right_fraction").data.tolist() == [0] * 6


def test_never_learned_counts_as_forgotten_most_when_labels_are_told_apart() -> None:
    """12 is noisy and never right, 10 is clean and forgotten twice: by the count alone, 12 would come last."""
    truth = {"train": torch.ones(4, dtype=torch.long), "true_labels": torch.tensor([1, 1, 0, 1])}
    found = result(watched(WATCHER.begin(tasks(**truth)), infos()))
    assert found.estimate("forgetting_events_auc").value == 1.0
    assert found.estimate("area_under_margin_auc").value == 1.0
    assert found.estimate("error_norm_auc").value == pytest.approx(2 / 3 + 1 / 3 / 2)


def test_noisy_labels_are_told_from_clean_ones() -> None:
    training = GradientDescent(optimizer="Adam", learning_rate=0.02, batch_size=10, max_steps=200)
    problem = Corrupted(base=Blobs(num_train=100, distance=4.0), labels=0.3)
    job = Job(problem=problem, model=TinyMlp(), training=training, measurements=(ExampleDynamics(),))
    _, (found,) = watch(job)
    assert isinstance(found, Result)
    (task,) = problem.build(Rng(0).child("problem"))
    (train,), (true,) = task.splits["train"], task.splits["true_labels"]
    bad = (train.y != true.y).numpy()
    assert found.array("area_under_margin").coords["example"].tolist() == train.index.tolist()
    margins = found.array("area_under_margin").data
    chance = found.estimate("area_under_margin_auc")
    tested = stats.mannwhitneyu(-margins[bad], -margins[~bad]).statistic / (bad.sum() * (~bad).sum())
    assert chance.value == pytest.approx(tested) and chance.value > 0.9 and chance.n == bad.sum()
    assert (found.array("clean_right_fraction").data[-1] - found.array("noisy_right_fraction").data[-1]) > 0.3
    assert "smaller margin than a clean one with a chance of" in ExampleDynamics().reading(found)


def test_it_watches_a_real_training_and_is_interrupted_by_nothing() -> None:
    assert isinstance(WATCHER, Watcher)
    training = GradientDescent(learning_rate=1.0, batch_size=12, max_steps=40)
    job = Job(problem=Blobs(distance=1.0), model=TinyMlp(), training=training, measurements=(WATCHER,))
    _, (found,) = watch(job)
    assert isinstance(found, Result)
    assert 0 < found.estimate("forgotten_fraction").value < 1
    assert found.array("forgetting_events").data.max() <= 5, "ten epochs forget an example five times at most"
    seen = right = 0
    on = ground(job.problem, job.model, job.seed)

    class Counts:
        def begin(self, tasks: tuple[Task, ...]) -> dict[str, Any]:
            return {}

        def watch(self, memory: dict[str, Any], info: StepInfo) -> None:
            nonlocal seen, right
            assert info.correct is not None
            seen, right = seen + len(info.correct), right + int(info.correct.sum())

        def conclude(self, memory: Any) -> Any:
            return None

    class Nowhere:
        def resume(self) -> None: ...
        def due(self) -> bool:
            return False

        def checkpoint(self, packed: Any) -> None: ...
        def solution(self, found: Any, last: bool) -> None: ...

    follow(replace(train_node(job), watchers={"it": Counts()}), on, Nowhere(), quiet=True)
    times = found.array("presentations").data
    assert times.sum() == seen
    assert float((found.array("correctness").data * times).sum()) == pytest.approx(right)


def test_what_it_notes() -> None:
    memory = WATCHER.begin(tasks(train=torch.ones(4, dtype=torch.long)))
    found = result(watched(memory, infos()[:1]))
    assert [note.code for note in found.notes] == ["one_presentation", "not_all_seen"]
    assert found.array("confidence").coords["example"].tolist() == [10, 11]
    bad = infos()[1]
    assert bad.answers is not None and bad.answers.scores is not None
    diverged = Told(scores=bad.answers.scores * torch.nan, targets=bad.answers.targets)
    found = result(watched(memory, [replace(bad, answers=diverged)]))
    assert "not_finite" in [note.code for note in found.notes]


def test_nothing_to_be_right_about() -> None:
    training = GradientDescent(max_steps=2)
    job = Job(problem=LinearRegression(), model=LinearModel(), training=training, measurements=(WATCHER,))
    _, (outcome,) = watch(job)
    assert isinstance(outcome, NotApplicable) and outcome.note.code == "nothing_classified"


def test_settings_that_make_no_sense() -> None:
    for how in ({"num_early": 0}, {"num_named": 0}):
        with pytest.raises(SettingsError, match="raise them"):
            ExampleDynamics(**how)


def test_the_words_for_little_and_for_nothing() -> None:
    begun = WATCHER.begin(tasks(train=torch.ones(4, dtype=torch.long)))
    once = WATCHER.reading(result(watched(begun, infos()[:2])))
    assert "each presented once, a share" in once and "Most often" not in once
    begun = WATCHER.begin(tasks(train=torch.ones(4, dtype=torch.long)))
    assert "Most often forgotten (once): examples 13 and 10." in WATCHER.reading(result(watched(begun, infos()[:8])))
    lost = [
        replace(info, answers=Told(scores=torch.full((2, 2), torch.nan), targets=torch.ones(2, dtype=torch.long)))
        for info in infos()
    ]
    begun = WATCHER.begin(tasks(train=torch.ones(4, dtype=torch.long)))
    diverged = WATCHER.reading(result(watched(begun, lost)))
    assert diverged.endswith("was never learned.") and "mean margins" not in diverged
