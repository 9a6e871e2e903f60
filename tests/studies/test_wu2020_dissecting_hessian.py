from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.studies.dissecting import rows_of
from vallis.core.protocols import Study
from vallis.core.types import Failed, Job
from vallis.run.store import Store
from vallis.run.study import run_study
from vallis.studies._dissecting_cells import DATA_SETS, LABELS
from vallis.studies.wu2020_dissecting_hessian import ALL_LABELS, STRUCTURE, Wu2020DissectingHessian

STUDY = Wu2020DissectingHessian()
SCALES = ("smoke", "laptop", "paper")


def name(job: Job) -> tuple[object, ...]:
    return (tuple(sorted(job.tags.items())), job.seed, job.partner is None)


@pytest.mark.parametrize("scale", SCALES)
def test_a_cell_is_a_network_and_a_seed_of_its_own(scale: str) -> None:
    assert isinstance(STUDY, Study)
    assert set(Counter(name(job) for job in STUDY.jobs(scale)).values()) == {1}


def test_scales() -> None:
    seeds = {scale: {job.seed for job in STUDY.jobs(scale)} for scale in SCALES}
    assert [len(seeds[scale]) for scale in SCALES] == [2, 8, 5]
    data = {scale: {job.tags["data"] for job in STUDY.jobs(scale)} for scale in SCALES}
    assert data == {"smoke": {"digits"}, "laptop": set(DATA_SETS), "paper": set(DATA_SETS)}


def test_claims_are_said_and_ruled_one_by_one() -> None:
    claims = STUDY.claims()
    number = len(DATA_SETS) * (len(ALL_LABELS) + len(LABELS) * len(STRUCTURE))
    assert len({claim.id for claim in claims}) == len(claims) == number
    assert {claim.id[:2] for claim in claims} == {f"d{number}" for number in range(1, 9)}
    rows = rows_of("fashion_mnist", 8)
    for claim in claims:
        expected = "holds" if claim.id.endswith("fashion_mnist") else "not_run"
        assert claim.test(rows).verdict == expected, claim.id
        assert claim.says.startswith("On ")
        assert claim.says.endswith(".")
        assert ("random_labels" in claim.id) <= ("random labels" in claim.says)


def test_figures_show_what_there_is() -> None:
    assert STUDY.figures([]) == []
    assert len(STUDY.figures(rows_of("digits", 3))) == 10


def test_the_smoke_run_works_from_end_to_end(tmp_path: Path) -> None:
    """One seed: nothing may be decided, but every claim on the digits is looked at."""
    done = run_study(STUDY, "smoke", store=Store(tmp_path), seeds=(0,))
    assert not [row for row in done.rows if isinstance(row.outcome, Failed)]
    assert all(judged.trouble == "" for judged in done.judged)
    assert done.figures_failed == ""
    said = {judged.claim.id: judged.verdict.verdict for judged in done.judged}
    assert {word for claim, word in said.items() if claim.endswith("digits")} == {"undecided"}
    assert {word for claim, word in said.items() if not claim.endswith("digits")} == {"not_run"}
    # Arithmetic does not wait for more seeds to come out right.
    facts = ("d1_block", "d6_overlap", "d7_axes", "d8_inverse")
    found = [judged.verdict for judged in done.judged if judged.claim.id.startswith(facts)]
    assert {verdict.p for verdict in found if verdict.n} == {0.5}
    assert len(STUDY.figures(done.rows)) >= 8
