"""The cells: what a check needs is there at every scale, and pairs share nobody."""

from __future__ import annotations

import pytest

from vallis.core.types import Job
from vallis.studies._global_landscape_cells import PARTNER, SCALES, STARTS, construction, lottery, modes
from vallis.training.iterative_pruning import IterativePruning


def jobs_of(scale: str) -> list[Job]:
    return list(SCALES[scale].jobs())


@pytest.mark.parametrize("scale", SCALES)
def test_every_check_has_its_cells_at_each_seed(scale: str) -> None:
    jobs = jobs_of(scale)
    seeds = {job.seed for job in jobs}
    checks = {"construction", "exit", "neuron", "separable", "modes", "lottery"}
    for seed in seeds:
        assert {job.tags["check"] for job in jobs if job.seed == seed} == checks
    assert len(jobs) % len(seeds) == 0


def test_pairs_share_nobody_and_one_training() -> None:
    pairs = [job for job in jobs_of("laptop") if job.partner is not None]
    assert {job.tags["data"] for job in pairs} == {"digits", "fashion_mnist"}
    for job in pairs:
        assert job.partner is not None and job.partner.seed == job.seed + PARTNER
        assert (job.partner.model, job.partner.training) == (job.model, job.training)
    assert modes("digits") in [dict(job.tags) for job in pairs]


def test_tickets_are_pruned_to_a_fifth() -> None:
    found = [job for job in jobs_of("laptop") if job.tags["check"] == "lottery" and job.seed == 0]
    assert [dict(job.tags) for job in found] == [lottery(start) for start in STARTS]
    for job, start in zip(found, STARTS, strict=True):
        assert isinstance(job.training, IterativePruning)
        assert job.training.start == start
        assert (1 - job.training.prune_fraction) ** job.training.num_rounds == pytest.approx(0.21, abs=0.005)
    assert construction(50) == {"check": "construction", "width": 50}
