from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vallis.core import spec
from vallis.core.errors import SettingsError
from vallis.core.protocols import Study
from vallis.core.rng import Rng
from vallis.core.types import Failed, Job
from vallis.problems.poisoned import Poisoned
from vallis.run.store import Store
from vallis.run.study import run_study
from vallis.studies._minefield_cells import TAGS
from vallis.studies._visualizations_rules import DATA_SETS, LINEAR, OPTIMIZERS
from vallis.studies.huang2019_visualizations import Huang2019Visualizations
from vallis.training.gradient_descent import GradientDescent

STUDY = Huang2019Visualizations()
SCALES = ("smoke", "laptop", "paper")


def training(job: Job) -> GradientDescent:
    assert isinstance(job.training, GradientDescent)
    return job.training


@pytest.mark.parametrize("scale", SCALES)
def test_a_cell_is_a_network_and_a_seed_of_its_own(scale: str) -> None:
    jobs = STUDY.jobs(scale)
    assert isinstance(STUDY, Study)
    assert set(Counter((tuple(sorted(job.tags.items())), job.seed) for job in jobs).values()) == {1}
    names = {spec.digest((job.problem, job.model, job.training, job.seed)) for job in jobs}
    assert len(names) == len(jobs)


@pytest.mark.parametrize("scale", SCALES)
def test_the_poison_is_that_of_the_tags_and_all_else_is_shared(scale: str) -> None:
    shared: dict[object, set[str]] = {}
    for job in STUDY.jobs(scale):
        if job.tags["part"] != "sweep":
            assert training(job).poison_factor == 0
            continue
        assert isinstance(job.problem, Poisoned)
        plain = spec.to_spec(training(job))["settings"]
        assert plain.pop("poison_factor") == job.tags["poison_factor"]
        assert (plain.pop("poison_batch_size") is None) == (job.tags["poison_factor"] == 0)
        shared.setdefault(job.tags["data"], set()).add(repr((spec.digest((job.problem, job.model)), plain)))
    assert all(len(found) == 1 for found in shared.values())


def test_scales() -> None:
    seeds = {scale: {job.seed for job in STUDY.jobs(scale)} for scale in SCALES}
    assert [len(seeds[scale]) for scale in SCALES] == [2, 7, 5]
    assert all(min(held) == 2 for held in seeds.values()), "seeds 0 and 1 chose the settings"
    laptop = [job for job in STUDY.jobs("laptop") if job.seed == 2]
    for data, held in DATA_SETS.items():
        found = [job.tags for job in laptop if job.tags["data"] == data]
        if data in ("cifar10", "photographs"):
            assert not found
            continue
        assert [tags["poison_factor"] for tags in found if tags["part"] == "sweep"] == list(held.betas)
        names = [tags["optimizer"] for tags in found if tags["part"] == "optimizers"]
        assert names == ([*OPTIMIZERS, LINEAR] if held.compared else [])
    assert {job.tags["data"] for job in STUDY.jobs("paper")} == {*DATA_SETS, TAGS["data"], "circles"} - {"photographs"}


def test_photographs_are_taken_in_when_asked_for() -> None:
    plain, more = STUDY.jobs("laptop"), Huang2019Visualizations(cifar10="mini").jobs("laptop")
    names = {spec.digest((job.problem, job.model, job.training, job.seed)) for job in plain}
    added = [job for job in more if spec.digest((job.problem, job.model, job.training, job.seed)) not in names]
    assert len(added) == len(more) - len(plain) == 5 * len(DATA_SETS["photographs"].betas)
    assert {job.tags["data"] for job in added} == {"photographs"}
    assert {job.seed for job in added} == {2, 3, 4, 5, 6}, "five seeds are the fewest that decide anything"
    assert len(Huang2019Visualizations(cifar10="mini").jobs("smoke")) == len(STUDY.jobs("smoke"))
    with pytest.raises(SettingsError, match="cifar10"):
        Huang2019Visualizations(cifar10="some")  # type: ignore[arg-type]


def test_the_network_of_the_papers_swiss_roll() -> None:
    """3,614 weights (derived from the widths of the paper's code)."""
    job = next(job for job in STUDY.jobs("paper") if job.tags["data"] == "spirals")
    assert training(job).clip_norm == 8.0
    tasks = job.problem.build(Rng(0))
    net = job.model.build(tasks, Rng(0))
    assert sum(value.numel() for value in net.module.parameters()) == 3614
    assert [len(tasks[0].splits[name]) for name in ("train", "poison", "test")] == [200, 100_000, 2000]


def test_the_smoke_run_works_from_end_to_end(tmp_path: Path) -> None:
    """One seed: nothing may be decided."""
    done = run_study(STUDY, "smoke", store=Store(tmp_path), seeds=(2,))
    assert not [row for row in done.rows if isinstance(row.outcome, Failed)]
    assert all(judged.trouble == "" for judged in done.judged)
    assert done.figures_failed == ""
    said = {one.claim.id: one.verdict.verdict for one in done.judged}
    assert said["bad_minima_exist_digits"] == said["radius_is_larger_digits"] == "undecided"
    assert said["bad_minima_exist_spirals"] == "not_run"
    names = {figure.name for figure in STUDY.figures(done.rows)}
    assert {"lines_digits", "planes_digits", "radii_digits", "minefield_components", "minefield_tsne_3"} <= names
    assert {"boundaries_circles", "accuracy_by_gap", "distance_by_gap"} <= names
    assert said["mines_are_near"] == said["path_is_mined"] == said["margin_within_gap"] == "undecided"
    assert said["accuracy_falls_with_gap"] == "not_run", "of the gaps only the ends are tried"
