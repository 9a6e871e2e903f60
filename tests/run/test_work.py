from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.run.toy import Broken, Count, Curved, Descent, Norm, Threads, Way, job
from vallis.core.errors import OutputError
from vallis.core.types import Job, NotApplicable, Result
from vallis.run.codec import decode
from vallis.run.plan import plan
from vallis.run.store import Store
from vallis.run.work import perform, units


def do(store: Store, *jobs: Job, threads: int = 1) -> list[str]:
    """Performs everything in order; what failed, in words."""
    wanted, said = plan(jobs), []
    for unit in units(wanted, wanted):
        report = perform(unit, store, threads=threads)
        said += [failure.message for failure in report.failed.values()]
        said += [report.trouble.message] if report.trouble else []
    return said


def test_measurements_of_one_training_are_one_unit_while_there_is_enough_to_do() -> None:
    wanted = plan([job(measurements=(Norm(), Way())), job(seed=1, measurements=(Norm(), Way()))])
    assert [len(unit.measure) for unit in units(wanted, wanted, workers=2)] == [0, 0, 2, 2]
    assert [len(unit.measure) for unit in units(wanted, wanted, workers=3)] == [0, 0, 1, 1, 1, 1]


def test_results_are_left_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    wanted = plan([job(measurements=(Norm(), Curved(), Count(), Way()), snapshots=(1,))])
    assert do(store, job(measurements=(Norm(), Curved(), Count(), Way()), snapshots=(1,))) == []
    outcomes = []
    for asked in wanted.asked:
        assert asked.node is not None
        record = store.find(asked.node)
        assert record is not None
        assert record.values["measurement"]["name"] == asked.measurement
        assert record.values["trainings"] == list(wanted.trainings)
        outcomes.append(decode(record.values, record.tensors))
    assert [type(outcome) for outcome in outcomes] == [Result, NotApplicable, Result, Result]


def test_failures_are_returned_and_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert do(store, job(measurements=(Broken(), Norm(), Count(fail_at=1)))) == [
        "blinked",
        "nothing can be divided by this",
    ]
    assert len(list(store.digests())) == 3, "the training, its weights, one measurement"


def test_a_training_that_fails_keeps_nothing_but_its_snapshots(tmp_path: Path) -> None:
    store = Store(tmp_path)
    said = do(store, job(training=Descent(fail_at=3), snapshots=(1,), measurements=()))
    assert said == ["this step fails on purpose"]
    assert len(list(store.digests())) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_each_unit_computes_with_the_threads_it_is_given(tmp_path: Path, threads: int) -> None:
    store, before = Store(tmp_path), torch.get_num_threads()
    wanted = plan([job(measurements=(Threads(),))])
    do(store, job(measurements=(Threads(),)), threads=threads)
    record = store.find(next(iter(wanted.measurements)))
    assert record is not None
    assert record.values["values"]["threads"]["value"] == threads
    assert torch.get_num_threads() == before


def test_a_store_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(OutputError):
        do(Store(tmp_path / "store"), job())
