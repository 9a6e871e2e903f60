from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.studies.randomization import rows_of
from vallis.core import spec
from vallis.core.errors import SettingsError
from vallis.core.protocols import Study
from vallis.core.types import Failed, Job
from vallis.problems.corrupted import Corrupted
from vallis.run.store import Store
from vallis.run.study import run_study
from vallis.studies.zhang2017_randomization import RULES, Zhang2017Randomization

STUDY = Zhang2017Randomization()
SCALES = ("smoke", "laptop", "paper")


def tag(job: Job) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(job.tags.items()))


@pytest.mark.parametrize("scale", SCALES)
def test_a_cell_is_a_network_and_a_seed_of_its_own(scale: str) -> None:
    jobs = STUDY.jobs(scale)
    assert isinstance(STUDY, Study)
    assert set(Counter((tag(job), job.seed) for job in jobs).values()) == {1}
    names = {spec.digest((job.problem, job.model, job.training, job.seed)) for job in jobs}
    assert len(names) == len(jobs)
    for job in jobs:
        assert isinstance(job.problem, Corrupted)
        assert (job.problem.labels, job.problem.pixels) == (job.tags["labels"], job.tags["pixels"])


@pytest.mark.parametrize("scale", SCALES)
def test_nothing_but_what_is_made_random_differs_within_a_network(scale: str) -> None:
    """The paper's point rests on unchanged hyper-parameters."""
    groups: dict[object, set[str]] = {}
    for job in STUDY.jobs(scale):
        assert isinstance(job.problem, Corrupted)
        shared = (job.problem.base, job.model, job.training)
        key = (job.tags["data"], job.tags["network"], job.tags["weight_decay"])
        groups.setdefault(key, set()).add(spec.digest(shared))
    assert all(len(found) == 1 for found in groups.values())


def test_scales() -> None:
    seeds = {scale: {job.seed for job in STUDY.jobs(scale)} for scale in SCALES}
    assert [len(seeds[scale]) for scale in SCALES] == [2, 8, 5]
    assert {job.tags["data"] for job in STUDY.jobs("laptop")} == {"digits", "fashion_mnist"}
    assert len({job.tags["network"] for job in STUDY.jobs("paper")}) == 5
    assert len(STUDY.jobs("laptop")) == 8 * 2 * (11 + 2)


def test_claims_are_said_and_ruled_one_by_one() -> None:
    claims = STUDY.claims()
    assert len({claim.id for claim in claims}) == len(claims) == 3 * len(RULES)
    rows = rows_of("fashion_mnist", 8)
    for claim in claims:
        expected = "holds" if claim.id.endswith("fashion_mnist") else "not_run"
        assert claim.test(rows).verdict == expected, claim.id
        assert claim.says.startswith("On ")
        assert claim.says.endswith(".")
        assert claim.where.startswith("section")


def test_figures_show_what_there_is() -> None:
    assert STUDY.figures([]) == []
    rows = [row for row in rows_of("digits", 5) if row.tags["pixels"] == "none"]
    assert [figure.name for figure in STUDY.figures(rows)] == ["time_to_fit", "test_accuracy"]
    figures = {figure.name: figure for figure in STUDY.figures([*rows_of("digits", 5), *rows_of("cifar10", 3)])}
    assert list(figures) == ["time_to_fit", "test_accuracy", "time_by_kind"]
    (digits, *others) = figures["time_to_fit"].marks
    assert digits.label == "the digits, mlp (n=5)"
    assert len(others) == 5
    assert digits.x == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    ratios = [[1000 * (1 + share) + 10 * seed for share in digits.x] for seed in range(5)]
    np.testing.assert_allclose(digits.y, np.mean([np.divide(line, line[0]) for line in ratios], axis=0))
    assert digits.error[0] == 0
    assert (digits.error[1:] > 0).all()
    assert figures["time_by_kind"].marks[0].kind == "bar"
    assert figures["time_by_kind"].x.scale == "category"


@pytest.mark.parametrize("fractions", [(0.0,), (1.0,), (0.5, 0.2), (0.5, 0.5)])
def test_impossible_settings_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="fractions must rise"):
        Zhang2017Randomization(fractions=fractions)
    assert spec.from_spec(spec.to_spec(STUDY)) == STUDY


def test_the_smoke_run_works_from_end_to_end(tmp_path: Path) -> None:
    """One seed: nothing may be decided, but every claim on the digits is looked at."""
    done = run_study(Zhang2017Randomization(fractions=(0.5,)), "smoke", store=Store(tmp_path), seeds=(0,))
    assert not [row for row in done.rows if isinstance(row.outcome, Failed)]
    assert all(judged.trouble == "" for judged in done.judged)
    said = {judged.claim.id: judged.verdict.verdict for judged in done.judged}
    assert {word for claim, word in said.items() if claim.endswith("digits")} == {"undecided"}
    assert {word for claim, word in said.items() if not claim.endswith("digits")} == {"not_run"}
    assert len(STUDY.figures(done.rows)) >= 1
