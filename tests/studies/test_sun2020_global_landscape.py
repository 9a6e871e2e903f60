"""The study of the global landscape: claims A to J, and a smoke run from end to end."""

from __future__ import annotations

from pathlib import Path

from tests.studies.landscape import rows_of
from vallis.core.protocols import Study
from vallis.core.types import Failed, NotApplicable
from vallis.run.store import Store
from vallis.run.study import run_study
from vallis.studies.sun2020_global_landscape import PROVED, SEEN, Sun2020GlobalLandscape

STUDY = Sun2020GlobalLandscape()


def test_claims_a_to_j() -> None:
    assert isinstance(STUDY, Study)
    claims = STUDY.claims()
    assert {claim.id[:2] for claim in claims} == {f"{letter}_" for letter in "abcdefghij"}
    assert len({claim.id for claim in claims}) == len(claims) == len(PROVED) + 2 * len(SEEN) + 2
    assert len(STUDY.figures(rows_of(5))) == 7


def test_the_smoke_run_works_from_end_to_end(tmp_path: Path) -> None:
    """One seed: nothing may be decided, but every claim on the digits is looked at."""
    done = run_study(STUDY, "smoke", store=Store(tmp_path), seeds=(0,))
    assert not [row for row in done.rows if isinstance(row.outcome, (Failed, NotApplicable))]
    assert all(judged.trouble == "" for judged in done.judged)
    undecided = {judged.claim.id for judged in done.judged if judged.verdict.verdict == "undecided"}
    assert {judged.claim.id for judged in done.judged} - undecided == {f"{id_}_fashion_mnist" for id_ in SEEN}
