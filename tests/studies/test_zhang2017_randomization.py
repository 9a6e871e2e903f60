from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import pytest

from tests.studies.randomization import rows_of
from vallis.core import spec
from vallis.core.errors import SettingsError
from vallis.core.protocols import Study
from vallis.core.types import Failed, Job
from vallis.problems.cifar10 import Cifar10
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
def test_the_inputs_are_made_random_as_in_section_2_1(scale: str) -> None:
    """Gaussian pixels have the mean and the variance of the data, one of each, and not those of their place."""
    assert {job.tags["pixels"] for job in STUDY.jobs(scale)} == {"none", "shuffled", "random", "gaussian_iid"}


@pytest.mark.parametrize("scale", SCALES)
def test_nothing_but_what_is_made_random_differs_within_a_network(scale: str) -> None:
    """The paper's point rests on unchanged hyper-parameters."""
    groups: dict[object, set[str]] = {}
    for job in STUDY.jobs(scale):
        assert isinstance(job.problem, Corrupted)
        if job.tags["regularizer"] in ("crop", "crop_flip", "flip_rotate"):
            continue  # at the scale of the paper, these train for longer on random labels, as its authors did
        shared = (job.problem.base, job.model, job.training)
        key = tuple(job.tags[name] for name in ("data", "network", "weight_decay", "regularizer"))
        groups.setdefault(key, set()).add(spec.digest(shared))
    assert all(len(found) == 1 for found in groups.values())


def test_scales() -> None:
    seeds = {scale: {job.seed for job in STUDY.jobs(scale)} for scale in SCALES}
    assert [len(seeds[scale]) for scale in SCALES] == [2, 8, 5]
    laptop = STUDY.jobs("laptop")
    data = {"digits", "fashion_mnist", "two_digits", "few_digits", "few_clothes"}
    assert {job.tags["data"] for job in laptop} == data
    everything, place = 6 + 3 + 2, 2
    networks = Counter((job.tags["data"], job.tags["network"]) for job in laptop)
    assert networks["digits", "mlp"] == 8 * everything
    assert networks["fashion_mnist", "mlp"] == 5 * everything
    assert networks["digits", "convnet"] == 8 * place
    assert networks["fashion_mnist", "convnet"] == 5 * place
    assert networks["few_digits", "convnet"] == 5 * (everything + 4 + 3)
    assert networks["few_clothes", "convnet"] == 5 * (everything + 3 + 3)
    assert networks["few_digits", "convnet_with_norm"] == 5 * 2
    assert networks["few_clothes", "convnet_with_norm"] == 5 * 2


@pytest.mark.parametrize("variant", ["mini", "full"])
def test_cifar10_is_there_when_asked_for(variant: Literal["mini", "full"]) -> None:
    """Out of whichever data set one has; the jobs without it stay as they are, and so do the other scales."""
    study = Zhang2017Randomization(cifar10=variant)
    more = study.jobs("laptop")[len(STUDY.jobs("laptop")) :]
    assert Counter(job.tags["network"] for job in more) == {"mlp": 5 * 11, "convnet": 5 * 2}
    for job in more:
        assert isinstance(job.problem, Corrupted)
        assert isinstance(job.problem.base, Cifar10)
        assert job.problem.base.variant == variant
    for scale in ("smoke", "paper"):
        assert study.jobs(scale) == STUDY.jobs(scale)
    assert spec.digest(Zhang2017Randomization()) != spec.digest(study)
    with pytest.raises(SettingsError, match=r"zhang2017_randomization\.cifar10"):
        Zhang2017Randomization(cifar10="some")  # type: ignore[arg-type]


def test_every_cell_has_five_seeds_or_more() -> None:
    for scale in ("laptop", "paper"):
        assert min(Counter(tag(job) for job in STUDY.jobs(scale)).values()) >= 5


def test_claims_are_said_and_ruled_one_by_one() -> None:
    claims = STUDY.claims()
    assert len({claim.id for claim in claims}) == len(claims)
    rows = rows_of("fashion_mnist", 8)
    held = {claim.id for claim in claims if claim.test(rows).verdict == "holds"}
    assert held == {f"{name}_fashion_mnist" for name in RULES if name != "noise_is_fitted_in_this_order"}
    for claim in claims:
        assert claim.id in held or claim.test(rows).verdict == "not_run", claim.id
        assert claim.says.startswith("On ")
        assert claim.says.endswith(".")
        assert claim.where.startswith("section")


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
    assert done.figures_failed == ""
    said = {judged.claim.id: judged.verdict.verdict for judged in done.judged}
    assert {word for claim, word in said.items() if claim.endswith("digits")} == {"undecided"}
    assert {word for claim, word in said.items() if not claim.endswith("digits")} == {"not_run"}
    drawn = {figure.name for figure in done.figures}
    assert {"learned_with_few_digits", "fitted_with_few_digits", "norms_of_interpolants"} <= drawn
    assert {"learning_curves_digits_mlp", "learning_curves_few_digits_convnet", "test_error"} <= drawn
    assert {"accuracy_on_the_way_few_digits", "norms_of_linear_models"} <= drawn
    assert {"kernel_norm_by_features", "kernel_test_error_by_features"} <= drawn
