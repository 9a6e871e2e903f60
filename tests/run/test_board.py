from __future__ import annotations

from tests.run.toy import Distance, Norm, job
from vallis.core.types import Failed
from vallis.run.board import Board
from vallis.run.plan import plan
from vallis.run.work import Report, units

JOBS = [job(), job(seed=1, measurements=(Norm(), Distance()), partner=job())]
PLAN = plan(JOBS)


def board() -> Board:
    return Board(list(units(PLAN, PLAN)))


def test_what_looks_at_a_training_waits_for_it() -> None:
    found = board()
    first, second = found.take(), found.take()
    assert first is not None and first.train[0].seed == 0
    assert second is not None and second.train[0].seed == 1
    assert found.take() is None
    found.settle(Report(unit=second.name))
    only = found.take()
    assert only is not None and [node.seed for node in only.on] == [1]
    assert found.take() is None, "the pair still waits"
    found.settle(Report(unit=first.name))
    assert len(list(iter(found.take, None))) == 2
    assert found.waiting == []
    assert found.num_done == 2


def test_what_looks_at_a_failed_training_is_never_begun() -> None:
    found = board()
    first, second = found.take(), found.take()
    assert first is not None and second is not None
    trouble = Failed(error="RuntimeError", message="no")
    found.settle(Report(unit=first.name, trouble=trouble))
    found.settle(Report(unit=second.name))
    rest = list(iter(found.take, None))
    assert [[node.seed for node in unit.on] for unit in rest] == [[1]]
    assert found.troubles[first.name].trouble == trouble
    assert found.num_done == 4


def test_failed_measurements_are_gathered() -> None:
    found = board()
    failure = Failed(error="E", message="m")
    found.settle(Report(unit="x", failed={"a": failure}))
    found.settle(Report(unit="y", failed={"b": failure}))
    assert found.failed == {"a": failure, "b": failure}
