from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.runs import bits, follow, ground, saw
from vallis.core import spec
from vallis.core.errors import DataError, SettingsError
from vallis.core.own import coordinates
from vallis.core.protocols import Problem, Training
from vallis.core.rng import Rng
from vallis.core.types import Job, Solution, StepInfo
from vallis.problems.poisoned import Poisoned
from vallis.run.train import train
from vallis.testing.conformance.trainings import CHECKS
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training.fine_tuning import FineTuning
from vallis.training.gradient_descent import GradientDescent

BASE = GradientDescent(learning_rate=0.2, momentum=0.9, batch_size=8, max_steps=12)
TUNING = GradientDescent(optimizer="Adam", learning_rate=0.01, batch_size=None, max_steps=9)
PROBLEM, MODEL, STREAM = Blobs(num_classes=3, num_train=60), TinyMlp(dropout=0.1), Rng(0).child("training")


def run(part: Training, problem: Problem = PROBLEM) -> tuple[Solution, list[StepInfo]]:
    net, tasks = ground(problem, MODEL)
    state = part.init(net, *coordinates(net.module), tasks, STREAM)
    infos = follow(part, state)  # type: ignore[arg-type]
    return part.solution(state), infos


def test_it_walks_the_path_and_goes_on_from_there() -> None:
    """By hand: the first for some steps, its weights handed to the second, which begins afresh."""
    net, tasks = ground(PROBLEM, MODEL)
    first = BASE.init(net, *coordinates(net.module), tasks, STREAM)
    before = follow(BASE, first, 7)
    left = BASE.solution(first)
    second = TUNING.init(net, left.params, left.buffers, tasks, STREAM)
    after = follow(TUNING, second)
    found, infos = run(FineTuning(base=BASE, tuning=TUNING, num_steps=7))
    assert bits(found) == bits(TUNING.solution(second))
    assert [info.loss for info in infos] == [info.loss for info in (*before, *after)]
    assert [info.step for info in infos] == list(range(1, 17))
    assert [info.done for info in infos] == [False] * 15 + [True]
    assert (found.step, infos[-1].reason, infos[6].reason) == (16, "max_steps", "")


def test_where_it_leaves_the_path_is_a_snapshot_of_the_path() -> None:
    """So the pictures of both may be laid on one another."""
    job = Job(problem=PROBLEM, model=MODEL, training=BASE, snapshots=(5,))
    still = GradientDescent(learning_rate=1e-30, batch_size=None, max_steps=1)
    apart = Job(problem=PROBLEM, model=MODEL, training=FineTuning(base=BASE, tuning=still, num_steps=5))
    assert bits(train(job)[0]) == bits(train(apart)[-1])


def test_from_no_steps_it_is_the_second_alone_and_from_the_end_all_of_the_first() -> None:
    alone = run(FineTuning(base=BASE, tuning=TUNING, num_steps=0))
    assert bits(alone[0]) == bits(run(TUNING)[0]) and saw(alone[1]) == saw(run(TUNING)[1])
    whole, more = (run(FineTuning(base=BASE, tuning=TUNING, num_steps=steps)) for steps in (None, 99))
    assert bits(whole[0]) == bits(more[0])
    assert whole[0].step == more[0].step == 21
    none = run(FineTuning(base=GradientDescent(max_steps=0), tuning=TUNING))
    assert saw(none[1]) == saw(run(TUNING)[1])


def test_what_diverges_is_the_end() -> None:
    wild = GradientDescent(learning_rate=1e38, momentum=0.9, batch_size=None, max_steps=50)
    found, infos = run(FineTuning(base=wild, tuning=TUNING))
    assert infos[-1].reason == "diverged" and infos[-1].done
    assert found.step == infos[-1].step < 50


def test_it_finds_bad_minima_from_a_good_one() -> None:
    problem = Poisoned(base=Blobs(num_classes=3, num_train=60), num_poison=30)
    good = GradientDescent(optimizer="Adam", learning_rate=0.02, batch_size=None, max_steps=60)
    bad = GradientDescent(optimizer="Adam", learning_rate=0.02, batch_size=None, max_steps=60, poison_factor=0.9)
    found, _ = run(FineTuning(base=good, tuning=bad), problem)
    ends = run(good, problem)[0]

    def share(solution: Solution) -> float:
        (test,) = solution.task.splits["test"]
        with torch.no_grad():
            said = torch.func.functional_call(solution.net.module, dict(solution.params), (test.x,)).argmax(1)
        return float((said == test.y).double().mean())

    assert share(ends) > share(found) + 0.2


@pytest.mark.parametrize("num_steps", [3, None])
def test_it_conforms_around_gradient_descent(num_steps: int | None) -> None:
    part = FineTuning(base=GradientDescent.tiny(), tuning=GradientDescent.tiny(), num_steps=num_steps)
    for check in CHECKS.values():
        check(part)


def test_it_resumes_in_the_middle_of_both() -> None:
    part = FineTuning(base=BASE, tuning=TUNING, num_steps=7)
    net, tasks = ground(PROBLEM, MODEL)
    wanted = bits(run(part)[0])
    for stop in (0, 4, 7, 11):
        state = part.init(net, *coordinates(net.module), tasks, STREAM)
        follow(part, state, stop)  # type: ignore[arg-type]
        again = part.unpack(part.pack(state), net, tasks, STREAM)
        assert (again.before is None) == (stop < 7)
        follow(part, again)  # type: ignore[arg-type]
        assert bits(part.solution(again)) == wanted
    assert spec.from_spec(spec.to_spec(part)) == part


def test_what_cannot_be_tuned_is_refused_before_a_step() -> None:
    with pytest.raises(SettingsError, match=r"fine_tuning\.num_steps"):
        FineTuning(base=BASE, tuning=TUNING, num_steps=-1)
    for settings in ({"base": "sgd", "tuning": TUNING}, {"base": BASE, "tuning": 3}):
        wrong: Any = settings
        with pytest.raises(SettingsError, match="fine_tuning"):
            FineTuning(**wrong)
    with pytest.raises(SettingsError, match="one task"):
        run(FineTuning(base=BASE, tuning=TUNING), Blobs(angles=(0.0, 1.0)))
    poison = GradientDescent(poison_factor=0.5)
    with pytest.raises(DataError, match="poison"):
        run(FineTuning(base=BASE, tuning=poison))
