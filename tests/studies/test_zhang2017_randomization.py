from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import BatchNorm2d

from tests.studies.randomization import rows_of
from vallis.core import spec
from vallis.core.data import Arrays
from vallis.core.errors import SettingsError
from vallis.core.losses import CrossEntropy
from vallis.core.protocols import Study
from vallis.core.rng import Rng
from vallis.core.types import Failed, Job, Task
from vallis.problems.corrupted import Corrupted
from vallis.run.store import Store
from vallis.run.study import run_study
from vallis.studies._randomization_cells import PAPER
from vallis.studies.zhang2017_randomization import RULES, Zhang2017Randomization
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent

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
        if job.tags["regularizer"] in ("crop", "crop_flip"):
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
    networks = Counter((job.tags["data"], job.tags["network"]) for job in laptop)
    assert networks["digits", "mlp"] == networks["fashion_mnist", "mlp"] == 8 * 11
    assert networks["digits", "convnet"] == networks["fashion_mnist", "convnet"] == 8 * 2
    assert networks["few_digits", "convnet"] == 5 * (2 + 5 + 4)
    assert networks["few_clothes", "convnet"] == 5 * (2 + 4 + 4)
    assert networks["few_digits", "convnet_with_norm"] == 5 * 2


def test_every_cell_has_five_seeds_or_more() -> None:
    for scale in ("laptop", "paper"):
        assert min(Counter(tag(job) for job in STUDY.jobs(scale)).values()) >= 5


def test_the_networks_of_the_paper() -> None:
    """Weights as counted from the paper's description, batch normalisation apart; nothing is trained here."""
    counts = {
        "inception": 1_649_402,
        "inception_without_norm": 1_649_402,
        "alexnet": 1_387_786,
        "mlp_3x512": 1_735_178,
        "mlp_1x512": 1_209_866,
    }
    assert list(PAPER) == list(counts)
    x, y = torch.zeros(2, 3, 28, 28), torch.tensor([0, 9])
    split = Arrays(x=x, y=y, index=torch.arange(2))
    task = Task(name="pictures", splits={"train": split}, loss=CrossEntropy())
    for name, (model, rate) in PAPER.items():
        net = model.build((task,), Rng(0))
        norms = {
            id(weight) for part in net.module.modules() if isinstance(part, BatchNorm2d) for weight in part.parameters()
        }
        assert sum(w.numel() for w in net.module.parameters() if id(w) not in norms) == counts[name]
        assert rate == (0.1 if name.startswith("inception") else 0.01)


def test_the_jobs_of_the_paper_are_tables_1_and_4() -> None:
    jobs = [job for job in STUDY.jobs("paper") if job.seed == 0]
    for job in jobs:
        assert spec.from_spec(spec.to_spec(job.training)) == job.training
        assert spec.from_spec(spec.to_spec(job.problem)) == job.problem
        assert spec.from_spec(spec.to_spec(job.model)) == job.model
    asked = {
        (job.tags["network"], job.tags["labels"], job.tags["regularizer"], job.tags["weight_decay"] > 0) for job in jobs
    }
    for network in PAPER:
        assert {(network, labels, "none", decay) for labels in (0.0, 1.0) for decay in (False, True)} <= asked
    for network in ("inception", "alexnet"):
        assert {(network, 0.0, "crop", False), (network, 0.0, "crop", True), (network, 1.0, "crop", False)} <= asked
        assert (network, 1.0, "crop_flip", False) in asked
    (noisy,) = [
        j for j in jobs if (j.tags["network"], j.tags["labels"], j.tags["regularizer"]) == ("alexnet", 1.0, "crop")
    ]
    assert isinstance(noisy.training, GradientDescent)
    assert (noisy.training.augmentation, noisy.training.decay, noisy.training.max_steps) == ("shift", 0.999, 78_200)


def test_a_regularizer_is_what_its_tag_says() -> None:
    for job in STUDY.jobs("laptop"):
        name, training = job.tags["regularizer"], job.training
        assert isinstance(training, EarlyStopping) == (name == "early_stopping")
        inner = training.base if isinstance(training, EarlyStopping) else training
        assert isinstance(inner, GradientDescent)
        assert inner.weight_decay == job.tags["weight_decay"]
        assert inner.augmentation == {"crop": "shift", "crop_flip": "crop_flip"}.get(str(name), "none")
        assert getattr(job.model, "dropout", 0.0) == (0.5 if name == "dropout" else 0.0)
        assert getattr(job.model, "batch_norm", False) == (job.tags["network"] == "convnet_with_norm")


def test_claims_are_said_and_ruled_one_by_one() -> None:
    claims = STUDY.claims()
    assert len({claim.id for claim in claims}) == len(claims)
    rows = rows_of("fashion_mnist", 8)
    held = {claim.id for claim in claims if claim.test(rows).verdict == "holds"}
    assert held == {f"{name}_fashion_mnist" for name in RULES}
    for claim in claims:
        assert claim.id in held or claim.test(rows).verdict == "not_run", claim.id
        assert claim.says.startswith("On ")
        assert claim.says.endswith(".")
        assert claim.where.startswith("section")


def test_figures_show_what_there_is() -> None:
    assert STUDY.figures([]) == []
    rows = [row for row in rows_of("digits", 5) if row.tags["pixels"] == "none"]
    assert [figure.name for figure in STUDY.figures(rows)] == ["time_to_fit", "test_accuracy"]
    figures = {figure.name: figure for figure in STUDY.figures([*rows_of("digits", 5), *rows_of("cifar10", 3)])}
    assert list(figures)[:3] == ["time_to_fit", "test_accuracy", "time_by_kind"]
    assert list(figures)[3:] == ["learned_with_cifar10", "fitted_with_cifar10"]
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
    assert done.figures_failed == ""
    said = {judged.claim.id: judged.verdict.verdict for judged in done.judged}
    assert {word for claim, word in said.items() if claim.endswith("digits")} == {"undecided"}
    assert {word for claim, word in said.items() if not claim.endswith("digits")} == {"not_run"}
    drawn = {figure.name for figure in done.figures}
    assert {"learned_with_few_digits", "fitted_with_few_digits", "norms_of_interpolants"} <= drawn
    assert {"norms_of_linear_models", "kernel_norm_by_features", "kernel_test_error_by_features"} <= drawn
