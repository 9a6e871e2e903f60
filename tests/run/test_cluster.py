from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from tests.run.processes import ROOT, alive, count, others, spawned, wait_for
from tests.run.toy import Broken, Count, Descent, Distance, Norm, Quiet, Way, job
from vallis.core.errors import UsageError, VallisError
from vallis.core.rng import Rng
from vallis.core.types import Estimate, Failed, Outcome, Result, Solution, Task
from vallis.models.mlp import Mlp
from vallis.run import cluster, scheduler, work
from vallis.run.board import Board
from vallis.run.execute import execute
from vallis.run.plan import plan, train_node
from vallis.run.store import Store
from vallis.run.work import Report, Unit
from vallis.testing.toys.problems import Blobs
from vallis.training.gradient_descent import GradientDescent

# Importing torch takes a worker about 400 MiB.
SHARE = 1200 * 2**20


@dataclass(frozen=True, kw_only=True)
class Suicide(Quiet):
    """Kills the process that measures, as often as `times`."""

    folder: str
    times: int = 1000

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        died = len(list(Path(self.folder).iterdir()))
        if died < self.times:
            (Path(self.folder) / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Result(values={"deaths": Estimate(value=died)})


@dataclass(frozen=True, kw_only=True)
class Glutton(Quiet):
    """Takes memory until somebody ends it, or `most` bytes."""

    most: int = 3 * SHARE

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        held = []
        for _ in range(self.most // 2**26):
            held.append(np.ones(2**23))
            time.sleep(0.05)
        return Result(values={"taken": Estimate(value=len(held))})


@dataclass(frozen=True, kw_only=True)
class Starving(Quiet):
    """Finds no memory, as often as `times`."""

    folder: str
    times: int

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        tries = len(list(Path(self.folder).iterdir()))
        (Path(self.folder) / str(tries)).touch()
        if tries < self.times:
            raise MemoryError("none is left")
        return Result(values={"tries": Estimate(value=tries)})


@dataclass(frozen=True, kw_only=True)
class Product(Quiet):
    """A product of numpy's, whose last bits depend on how many threads share its sums."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        matrix = np.random.default_rng(0).standard_normal((300, 300))
        digest = hashlib.sha256((matrix @ matrix.T).tobytes()).hexdigest()
        return Result(values={"bits": Estimate(value=int(digest[:8], 16))})


JOBS = [
    job(measurements=(Norm(), Way(), Count(), Product()), snapshots=(0, 2)),
    job(measurements=(Norm(), Distance()), seed=1, partner=job()),
    job(measurements=(Norm(), Broken()), seed=2),
    job(training=Descent(fail_at=1)),
]


def files(folder: Path) -> Mapping[str, bytes]:
    """What is in a store, without the name it is told from others by and what a killed process was just writing."""
    held = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in held.items() if name != "identity" and not name.endswith(".tmp")}


def counter(tmp_path: Path, name: str) -> str:
    folder = tmp_path / name
    folder.mkdir()
    return str(folder)


def test_two_workers_make_the_same_bits_as_one(tmp_path: Path) -> None:
    with threadpool_limits(2, user_api="blas"):  # as many as this process would use, unlike its workers
        found = [execute(JOBS, Store(tmp_path / str(workers)), workers=workers) for workers in (1, 2)]
    assert repr(found[0].rows) == repr(found[1].rows)
    assert [type(row.outcome) for row in found[0].rows].count(Failed) == 2
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_what_dies_or_starves_is_begun_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "memory_share", lambda workers: SHARE)
    kinds = {
        0: Suicide(folder=counter(tmp_path, "dies once"), times=1),
        1: Suicide(folder=counter(tmp_path, "dies"), times=1000),
        2: Starving(folder=counter(tmp_path, "starves once"), times=1),
        3: Starving(folder=counter(tmp_path, "starves"), times=1000),
        4: Glutton(),
        5: Norm(),
    }
    jobs = [job(seed=seed, measurements=(kind,)) for seed, kind in kinds.items()]
    found = {row.seed: row.outcome for row in execute(jobs, Store(tmp_path / "store"), workers=2).rows}
    for seed, tries in ((0, 1), (2, 1)):
        outcome = found[seed]
        assert isinstance(outcome, Result)
        assert next(iter(outcome.values.values())).value == tries  # type: ignore[union-attr]
    assert isinstance(found[5], Result)
    died, starved, fat = (found[seed] for seed in (1, 3, 4))
    assert isinstance(died, Failed) and isinstance(starved, Failed) and isinstance(fat, Failed)
    assert (died.error, starved.error, fat.error) == ("WorkerDied", "MemoryError", "WorkerDied")
    assert "died 2 times: it was killed by signal 9" in died.message
    assert starved.message == "none is left"
    assert "GiB of memory, and may use 95% of 1.17 GiB; use fewer workers" in fat.message
    assert [count(tmp_path / name) for name in ("dies once", "dies", "starves once", "starves")] == [1, 2, 2, 2]


class Killed:
    """A future of dask's whose worker died, as often as `deaths`."""

    status = "error"

    def __init__(self, deaths: int = 1) -> None:
        self.deaths = deaths

    def result(self) -> Report:
        from distributed import KilledWorker

        raise KilledWorker("task", None, self.deaths - 1)


@pytest.mark.parametrize("training", [True, False])
def test_a_unit_that_kills_is_cut_into_its_pieces(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler.Workplace, "why", lambda self, worker: "it was lost")
    wanted = plan([job(seed=seed, measurements=(Norm(), Way(), Product())) for seed in range(3)])
    trained = tuple(wanted.trainings.values())
    measured = tuple(node for node in wanted.measurements.values() if node.trainings == (trained[0].digest,))
    unit = Unit(name="0", train=trained) if training else Unit(name="0", measure=measured, on=trained[:1])
    place = scheduler.Workplace(None, "", True)
    (second,) = cluster._come_of(Killed(), cluster._Try(unit), place)  # type: ignore[misc]
    assert (second.unit, second.deaths, second.of) == (unit, 1, None)
    alone = cluster._come_of(Killed(), second, place)
    assert isinstance(alone, list) and len(alone) == 3
    assert all(len((*tried.unit.train, *tried.unit.measure)) == 1 and not tried.deaths for tried in alone)
    died = cluster._come_of(Killed(2), alone[1], place)
    assert isinstance(died, Report)
    reports = [Report(unit=alone[0].unit.name), died, Report(unit=alone[2].unit.name)]
    whole = [cluster._whole(tried, report) for tried, report in zip(reversed(alone), reversed(reports), strict=True)]
    assert whole[:2] == [None, None] and whole[2] is not None
    of, report = whole[2]
    assert of is unit
    failed = [part.unit for part in (report, *report.beside) if part.trouble] if training else list(report.failed)
    assert failed == [(trained if training else measured)[1].digest]
    assert [part.unit for part in (report, *report.beside)] == ([n.digest for n in trained] if training else ["0"])


@dataclass(frozen=True, kw_only=True)
class Deadly(Blobs):
    """Kills the process that builds it."""

    def build(self, rng: Rng) -> tuple[Task, ...]:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().build(rng)


@pytest.mark.slow
def test_what_kills_takes_nobody_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three measurements of one training, and of three trainings of one company."""
    monkeypatch.setattr(work, "_SHARES", 1)
    measurements = (Norm(), Suicide(folder=counter(tmp_path, "kills")), Way())
    descent = {"model": Mlp(widths=(5,)), "training": GradientDescent(batch_size=8, max_steps=9), "measurements": ()}
    company = [job(seed=seed, problem=Deadly() if seed == 1 else Blobs(), **descent) for seed in range(6)]
    jobs, store = [job(measurements=measurements), job(seed=1), *company], Store(tmp_path / "store")
    done = execute(jobs, store, workers=2)
    assert [type(row.outcome) for row in done.rows] == [Result, Failed, Result, Result]
    assert count(tmp_path / "kills") == 4, "twice beside others, twice alone"
    assert [name for name in done.plan.trainings if not store.has(name)] == list(done.troubles)
    assert list(done.troubles) == [train_node(company[1]).digest]
    monkeypatch.undo()
    alone = Store(tmp_path / "alone")
    execute([job(measurements=(Norm(), Way())), job(seed=1), *company[:1], *company[2:]], alone)
    assert files(tmp_path / "store") == files(tmp_path / "alone")


def test_a_store_that_a_worker_does_not_see_is_refused(tmp_path: Path) -> None:
    here = Store(tmp_path / "here")
    order = cluster._order(here, scheduler.Workplace(None, "", False), 1, 1.0)
    elsewhere = replace(order, url=str(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match=r"does not see .*elsewhere: give --store"):
        cluster._perform(Unit(name="0"), elsewhere)
    assert cluster._order(here, scheduler.Workplace(None, "", False), 1, 1.0) == order


def test_a_worker_with_other_versions_is_refused(tmp_path: Path) -> None:
    """It would find other numbers, and the store would not say so."""
    order = cluster._order(Store(tmp_path), scheduler.Workplace(None, "", False), 1, 1.0)
    assert f"torch {torch.__version__}" in order.build
    with pytest.raises(
        UsageError, match=r"versions of this process, torch 1\.0, were required, the one on .* has vallis"
    ):
        cluster._perform(Unit(name="0"), replace(order, build="torch 1.0"))


def test_workers_of_ours_that_never_come_back_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_RETURN_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(scheduler.Workplace, "num_workers", lambda self: 0)
    place, board, told = scheduler.Workplace(None, "", True), Board([Unit(name="0")]), []
    with pytest.raises(VallisError, match="all died and none came back"):
        list(cluster.clustered(board, Store(tmp_path), place, 1, 1.0, lambda text, _: told.append(text)))
    assert set(told) == {"waiting for a worker"}


SCRIPT = """
import signal, sys
from tests.run.toy import Descent, Norm, job
from vallis.run.execute import execute
from vallis.run.store import Store

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    jobs = [job(), *(job(seed=s, training=Descent(max_steps=4000, seconds=0.01)) for s in range(2))]
    execute(jobs, Store(sys.argv[1]), workers=2, every=0.0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGKILL])
def test_workers_die_with_their_parent(tmp_path: Path, word: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        # The short training is done, and both workers are in the middle of the long ones.
        objects, partial = tmp_path / "store" / "objects", tmp_path / "store" / "partial"
        wait_for(lambda: process.poll() is not None or (count(objects) >= 2 and count(partial) >= 2))
        assert process.poll() is None
        workers = spawned(process.pid)
        assert len(workers) == 2
        if word is signal.SIGINT:
            os.killpg(process.pid, word)  # as the terminal does it: to parent and workers alike
        else:
            process.kill()
        _, said = process.communicate(timeout=30)
        wait_for(lambda: not alive(workers), 10)
        if word is signal.SIGINT:
            assert "stopped: 1 of 6 pieces of work are finished" in said.strip().splitlines()[-1]
            assert said.count("Traceback") <= 2, "only the parent speaks"
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_a_scheduler_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two workers, one of which is killed during the run; afterwards, both are as they were."""
    monkeypatch.chdir(tmp_path)  # workers stand in other folders, and the store is a relative path
    long = [job(seed=s, training=Descent(max_steps=200, seconds=0.01)) for s in range(2)]
    jobs = [*long, *JOBS]
    alone = execute(jobs, Store("alone"), every=0.0)
    with others(tmp_path, 2) as (address, processes):
        killed: list[int] = []

        def kill() -> None:
            wait_for(lambda: count(tmp_path / "shared" / "partial") >= 2)
            (victim,) = spawned(processes[1].pid)
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

        killer = threading.Thread(target=kill)
        killer.start()
        done = execute(jobs, Store("shared"), scheduler=address, every=0.0)
        killer.join()
        assert len(killed) == 1
        assert repr(done.rows) == repr(alone.rows)
        assert files(tmp_path / "alone") == files(tmp_path / "shared")
        assert [process.poll() for process in processes] == [None] * 3, "they are not ours to end"
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "")


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_one_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with others(tmp_path, 1) as (address, processes):

        def kill() -> None:
            wait_for(lambda: count(tmp_path / "store" / "partial") >= 1)
            processes[0].kill()

        killer = threading.Thread(target=kill)
        killer.start()
        before = time.monotonic()
        with pytest.raises(VallisError, match="is gone: what was finished is kept") as error:
            execute([job(training=Descent(max_steps=6000, seconds=0.01))], store, scheduler=address, every=0.0)
        killer.join()
        assert not isinstance(error.value, UsageError)
        assert time.monotonic() - before < 60
