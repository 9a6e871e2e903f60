"""What every study must do: name its jobs, fix its rules before the run, and say "not run" where there is nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vallis.core.protocols import Measurement, Model, Problem, Study, Training, Watcher
from vallis.core.spec import digest, name_of
from vallis.core.types import Job, Source, Verdict
from vallis.testing.conformance.parts import Check, is_quick, require, survives_json, untouched_surroundings

SCALES = ("smoke", "laptop", "paper")


def is_a_study(part: Any) -> None:
    """It offers what the protocol asks for."""
    require(isinstance(part, Study), f"{name_of(part)} must have what the protocol Study lists")
    require(isinstance(part.source, Source), "source must be of type Source")


def jobs_are_sound(part: Any) -> None:
    """At every scale there are jobs of real parts, each with tags that are plain, and the same jobs at every call."""
    for scale in SCALES:
        with untouched_surroundings(f"{name_of(part)}.jobs"):
            jobs = part.jobs(scale)
        require(len(jobs) > 0, f"{name_of(part)} must have jobs at the scale {scale}")
        for job in jobs:
            require(isinstance(job.problem, Problem) and isinstance(job.model, Model), "a job needs problem and model")
            require(isinstance(job.training, Training), "a job needs a training")
            for asked in job.measurements:
                require(isinstance(asked, (Measurement, Watcher)), f"{asked} must be a measurement or a watcher")
            plain = json.loads(json.dumps(dict(job.tags), allow_nan=False))
            require(plain == dict(job.tags), f"tags must be plain values, {dict(job.tags)} came")
        names = [_name(job) for job in jobs]
        require(
            names == [_name(job) for job in part.jobs(scale)], f"the jobs at {scale} must be the same at every call"
        )
        require(len(set(names)) == len(names), f"no two jobs at the scale {scale} may be the same, tags included")


def parts_of_jobs_survive_json(part: Any) -> None:
    """Every part in the smallest jobs has a name that survives JSON."""
    seen: set[str] = set()
    for job in part.jobs(SCALES[0]):
        for held in (job.problem, job.model, job.training, *job.measurements):
            if digest(held) not in seen:
                seen.add(digest(held))
                survives_json(held)


def claims_are_written_before_the_run(part: Any) -> None:
    """Each claim has a name of its own, a sentence and a place, and without evidence its verdict is "not_run"."""
    claims = part.claims()
    require(len(claims) > 0, f"{name_of(part)} must claim something")
    require(len({claim.id for claim in claims}) == len(claims), "claims must have names of their own")
    for claim in claims:
        require(claim.says.endswith("."), f"claim {claim.id} must be a sentence")
        require(claim.where != "", f"claim {claim.id} must say where it stands in the paper")
        verdict = claim.test(())
        require(isinstance(verdict, Verdict), f"the rule of {claim.id} must give a Verdict")
        require(verdict.verdict == "not_run", f'claim {claim.id} must be "not_run" without rows, {verdict} came')


def figures_are_drawn_from_nothing(part: Any) -> None:
    """Before any row has come there are figures, or none, but no exception."""
    for figure in part.figures(()):
        require(figure.name != "", "a figure must have a name")


def plans_quickly(part: Any) -> None:
    """The smallest jobs are listed in under a second."""
    is_quick(f"{name_of(part)}.jobs", lambda: part.jobs(SCALES[0]))


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        is_a_study,
        jobs_are_sound,
        parts_of_jobs_survive_json,
        claims_are_written_before_the_run,
        figures_are_drawn_from_nothing,
        plans_quickly,
    )
}


def _name(job: Job) -> str:
    parts = {"problem": job.problem, "model": job.model, "training": job.training, "seed": job.seed}
    asked = {"measurements": job.measurements, "snapshots": job.snapshots, "tags": dict(job.tags)}
    return digest({**parts, **asked})
