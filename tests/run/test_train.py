from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from tests.run.toy import Clouds, Count, Descent, Linear, job, same
from vallis.core.rng import Rng
from vallis.core.types import Failed, Packed, Result, Solution
from vallis.run.plan import plan, train_node
from vallis.run.train import InMemory, follow, ground, train, watch


def test_it_steps_until_done() -> None:
    (last,) = train(job())
    assert last.step == 5
    assert last.buffers["calls"] == 5
    assert last.tasks[0].name == "clouds"


def test_a_solution_says_which_job_made_it() -> None:
    (last,) = train(job(seed=7))
    assert last.origin is not None
    assert (last.origin["seed"], last.origin["model"]["name"]) == (7, "tests.run.toy:Linear")


def test_snapshots_are_kept_in_order_and_once() -> None:
    found = train(job(snapshots=(5, 2, 0, 9)))
    assert [solution.step for solution in found] == [0, 2, 5]
    start = Linear().build((), Rng(0).child("model"))
    assert torch.equal(found[0].params["weight"], start.module.weight)
    assert same(found[-1], train(job())[-1]), "a snapshot must not move what follows"


def test_the_same_seed_gives_the_same_bits_and_another_others() -> None:
    assert same(train(job())[0], train(job())[0])
    assert not same(train(job())[0], train(job(seed=1))[0])


def test_global_state_is_untouched() -> None:
    before = torch.get_rng_state()
    train(job())
    assert torch.equal(torch.get_rng_state(), before)


@dataclass
class Tape(InMemory):
    """Keeps every checkpoint, and resumes from one of them."""

    begin: Packed | None = None
    packed: list[Packed] = field(default_factory=list)

    def resume(self) -> Packed | None:
        return self.begin

    def due(self) -> bool:
        return True

    def checkpoint(self, packed: Packed) -> None:
        self.packed.append(packed)


@pytest.mark.parametrize("values", [{}, {"state": {}, "step": 2, "watch": {}, "failed": {}}])
def test_a_checkpoint_that_cannot_be_read_costs_its_steps_alone(values: dict[str, Any]) -> None:
    """An older version may have left it; the training failed in every run until somebody removed the file."""
    node, on = train_node(job()), ground(Clouds(), Linear(), 0)
    tape = Tape(begin=Packed(tensors={}, values=values))
    follow(node, on, tape, quiet=True)
    assert same(tape.solutions[-1], train(job())[-1])


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_training_resumes_bit_for_bit_from_any_checkpoint(place: int) -> None:
    (node,) = plan([job(measurements=(Count(),), snapshots=(1, 4))]).trainings.values()
    on = ground(Clouds(), Linear(), 0)
    whole, rest = Tape(), Tape()
    finished = follow(node, on, whole, quiet=True)
    assert [packed.values["step"] for packed in whole.packed] == [1, 2, 3, 4]
    rest.begin = whole.packed[place]
    resumed = follow(node, on, rest, quiet=True)
    assert same(whole.solutions[-1], rest.solutions[-1])
    assert repr(resumed) == repr(finished)
    assert [solution.step for solution in rest.solutions] == [step for step in (4, 5) if step > place + 1]


def test_a_watcher_that_was_not_there_from_the_start_sees_the_whole_training() -> None:
    bare = train_node(job())
    (node,) = plan([job(measurements=(Count(),))]).trainings.values()
    tape = Tape()
    follow(bare, ground(Clouds(), Linear(), 0), tape, quiet=True)
    finished = follow(node, ground(Clouds(), Linear(), 0), Tape(begin=tape.packed[-1]), quiet=True)
    (outcome,) = finished.watched.values()
    assert isinstance(outcome, Result)
    assert outcome.estimate("steps").value == 5


def test_watchers_see_every_step_and_change_none() -> None:
    solutions, (outcome,) = watch(job(measurements=(Count(),)))
    assert isinstance(outcome, Result)
    assert outcome.estimate("steps").value == 5
    assert 0 < outcome.array("right").data.sum() <= 5 * 40
    assert same(solutions[-1], train(job())[-1])


def test_a_watcher_that_raises_fails_alone() -> None:
    solutions, outcomes = watch(job(measurements=(Count(fail_at=3), Count())))
    assert outcomes[0] == Failed(error="RuntimeError", message="blinked")
    assert isinstance(outcomes[1], Result)
    assert same(solutions[-1], train(job())[-1])


def test_a_step_that_raises_raises() -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        train(job(training=Descent(fail_at=2)))


def test_solutions_own_their_tensors() -> None:
    first, last = train(job(snapshots=(2,)))
    assert isinstance(first, Solution)
    first.params["weight"].zero_()
    assert last.params["weight"].abs().sum() > 0
