"""Runs a study: trains and measures what its jobs ask for, then puts its claims to the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vallis.core.catalog import unknown
from vallis.core.errors import UsageError
from vallis.core.figures import Figure
from vallis.core.protocols import Study
from vallis.core.spec import name_of
from vallis.core.types import Claim, Job, Row, Verdict
from vallis.run.execute import Execution, execute
from vallis.run.isolation import RAISED, failure, isolated
from vallis.run.store import Store

SCALES = ("smoke", "laptop", "paper")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim with what the evidence says of it; `trouble` is why its rule could not be applied, if so."""

    claim: Claim
    verdict: Verdict
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A finished study.

    Attributes:
        rows: in the order of its jobs.
        judged: its claims with their verdicts.
        figures: its pictures; none, and `figures_failed` says why, when they could not be made.
        execution: how it went.
    """

    study: Study
    scale: str
    rows: tuple[Row, ...]
    judged: tuple[Judged, ...]
    figures: tuple[Figure, ...]
    figures_failed: str
    execution: Execution


def run_study(
    study: Study, scale: str, *, store: Store, workers: int = 1, seeds: Sequence[int] | None = None, **how: Any
) -> StudyRun:
    """Runs a study at a scale; what the store already holds is not done again.

    Args:
        study: the study.
        scale: "smoke", "laptop" or "paper".
        store: where results are kept and looked for.
        workers: how many processes share the work.
        seeds: run every network of the study with each of these seeds instead of its own.
        how: further arguments of `vallis.run.execute.execute`.

    Raises:
        UsageError: there is no such scale, the study has nothing to run at it, or a seed comes twice.
        Interrupted: Ctrl-C; what was finished is kept.
        OutputError: the store cannot be written.
    """
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    jobs = list(study.jobs(scale))
    if not jobs:
        raise UsageError(f"a study with at least one job was required, {name_of(study)} has none at scale {scale}")
    done = execute(with_seeds(jobs, seeds) if seeds is not None else jobs, store, workers=workers, **how)
    judged = tuple(judge(claim, done.rows) for claim in study.claims())
    figures, trouble = _drawn(study, done.rows)
    return StudyRun(
        study=study,
        scale=scale,
        rows=done.rows,
        judged=judged,
        figures=figures,
        figures_failed=trouble,
        execution=done,
    )


def with_seeds(jobs: Sequence[Job], seeds: Sequence[int]) -> list[Job]:
    """Each distinct network of the jobs with each of the seeds.

    Raises:
        UsageError: there is no seed, or one comes twice, which would count a network twice as evidence.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"at least one seed, and each once, was required, {list(seeds)} came: write 0,1,2")
    groups: list[tuple[Job, list[Job]]] = []
    for job in jobs:
        fixed = _seeded(job, 0, 0)
        known = next((members for key, members in groups if key == fixed), None)
        if known is None:
            groups.append((fixed, [job]))
        else:
            known.append(job)
    return [_seeded(members[0], seed, _partner_of(members, seed)) for _, members in groups for seed in seeds]


def _seeded(job: Job, seed: int, partner: int) -> Job:
    """The job with these seeds; those beside its path stay as far from its own as they were."""
    beside = None if job.partner is None else replace(job.partner, seed=partner)
    others = tuple(replace(other, seed=other.seed - job.seed + seed) for other in job.others)
    return replace(job, seed=seed, partner=beside, others=others)


def _partner_of(jobs: Sequence[Job], seed: int) -> int:
    """The partner's seed: as far from the job's own as in the study, so that no two pairs share a network.

    Where all jobs have one partner, as networks that are compared with one of them have, it stays that.
    """
    own = [(job.seed, job.partner.seed) for job in jobs if job.partner is not None]
    if not own:
        return 0
    (first, partner), partners = own[0], {partner for _, partner in own}
    return partner if len(partners) == 1 < len(own) else partner - first + seed


def judge(claim: Claim, rows: Sequence[Row]) -> Judged:
    """What the rows say of a claim; a rule that breaks down leaves it "not run", and says why."""
    try:
        with isolated():
            verdict = claim.test(rows)
        if not isinstance(verdict, Verdict):
            raise TypeError(f"the rule of a claim must return a Verdict, it returned a {type(verdict).__name__}")
    except RAISED as error:
        why = failure(error)
        return Judged(claim=claim, verdict=Verdict(verdict="not_run"), trouble=f"{why.error}: {why.message}")
    return Judged(claim=claim, verdict=verdict)


def _drawn(study: Study, rows: Sequence[Row]) -> tuple[tuple[Figure, ...], str]:
    """The pictures of a study, or why there are none: they must not cost it its claims."""
    try:
        with isolated():
            return tuple(study.figures(rows)), ""
    except RAISED as error:
        why = failure(error)
        return (), f"{why.error}: {why.message}"
