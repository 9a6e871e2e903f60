from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.toy import ToyStudy, absurd, job, longer
from vallis.core.errors import UnknownPart, UsageError
from vallis.core.types import Claim, Verdict
from vallis.run.store import Store
from vallis.run.study import judge, run_study, with_seeds

ROOT = Path(__file__).resolve().parents[2]


def test_a_study_is_run_and_judged(tmp_path: Path) -> None:
    done = run_study(ToyStudy(), "smoke", store=Store(tmp_path))
    assert len(done.rows) == 2 * 3 * 4
    holds, absurd_one = done.judged
    assert holds.verdict.verdict == "holds"
    assert holds.verdict.n == 3
    assert absurd_one.verdict == Verdict(verdict="not_run")
    assert absurd_one.trouble == "KeyError: 'a row that is not there'"


def test_other_seeds(tmp_path: Path) -> None:
    done = run_study(ToyStudy(), "smoke", store=Store(tmp_path), seeds=[5, 6])
    assert [row.seed for row in done.rows if row.measurement.endswith("Norm")] == [5, 6, 5, 6]


def test_each_network_gets_each_seed_once() -> None:
    found = with_seeds([job(seed=0), job(seed=1), job(seed=2, snapshots=(1,))], [7, 8])
    assert [(made.seed, made.snapshots) for made in found] == [(7, ()), (8, ()), (7, (1,)), (8, (1,))]


def test_a_pair_stays_a_pair() -> None:
    """The partner keeps its distance, so that no network is in two pairs; the one partner of all jobs stays."""
    pairs = [job(seed=seed, partner=job(seed=seed + 1000)) for seed in range(8)]
    assert with_seeds(pairs, [0, 1, 2]) == pairs[:3]
    beside = [job(seed=seed, partner=job(seed=99)) for seed in range(3)]
    assert with_seeds(beside, [0, 2]) == [beside[0], beside[2]]
    (alone,) = with_seeds(pairs[:1], [5])
    assert alone.partner is not None
    assert alone.partner.seed == 1005


def test_others_keep_their_distance() -> None:
    jobs = [job(seed=seed, others=(job(seed=seed), job(seed=seed + 10))) for seed in range(4)]
    assert with_seeds(jobs, [0, 2]) == [jobs[0], jobs[2]]
    assert with_seeds(jobs[:1], [3]) == [jobs[3]]


def test_an_unknown_scale_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnknownPart, match="did you mean smoke"):
        run_study(ToyStudy(), "smok", store=Store(tmp_path))
    with pytest.raises(UsageError, match="none at scale paper"):
        run_study(ToyStudy(), "paper", store=Store(tmp_path))


@pytest.mark.parametrize(("rule", "trouble"), [(absurd, "KeyError"), (lambda rows: None, "TypeError: the rule")])
def test_a_rule_that_breaks_down_leaves_the_claim_not_run(rule: object, trouble: str) -> None:
    found = judge(Claim(id="x", says="", where="", test=rule), [])  # type: ignore[arg-type]
    assert found.verdict.verdict == "not_run"
    assert found.trouble.startswith(trouble)


def test_a_rule_sees_all_rows(tmp_path: Path) -> None:
    rows = run_study(ToyStudy(num_seeds=1), "laptop", store=Store(tmp_path)).rows
    assert judge(Claim(id="x", says="", where="", test=longer), rows).verdict.n == 1


def killed(folder: Path, num_kills: int, seed: int) -> tuple[list[int], dict[str, bytes]]:
    """How many records each killed run left, and every file of the store and of the results in the end."""
    command = [sys.executable, "-m", "tests.run.kill_loop", folder / "store", folder / "out", str(num_kills), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a child must not inherit threads that are not there
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours = [path for path in sorted(folder.rglob("*")) if path.is_file() and "tmp" not in path.parts[-3:]]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in ours if path.suffix != ".tmp"}
    return json.loads(done.stdout), files


def check(tmp_path: Path, num_kills: int, seed: int) -> None:
    _, expected = killed(tmp_path / "calm", 0, 0)
    seen, found = killed(tmp_path / "wild", num_kills, seed)
    assert seen[-1] > 0, "every child died before it had done anything, so this test proves nothing"
    assert seen[0] < 36 - 1, "the first child had finished, so this test proves nothing"
    assert len(expected) > 36
    assert sorted(found) == sorted(expected), "no more and no fewer files, above all no checkpoint left over"
    assert found == expected


def test_a_study_killed_three_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    check(tmp_path, 3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_a_study_killed_twenty_times_ends_with_the_same_bits(tmp_path: Path, seed: int) -> None:
    check(tmp_path, 20, seed)
