from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.studies.loss_correction import rows_of
from vallis.core import spec
from vallis.core.protocols import Study
from vallis.core.types import Failed, Job
from vallis.problems.noisy_labels import NoisyLabels
from vallis.run.store import Store
from vallis.run.study import run_study
from vallis.studies._loss_correction_rules import COMPARED, CONDITIONS, ESTIMATED, true_transition
from vallis.studies.patrini2017_loss_correction import RULES, Patrini2017LossCorrection
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent
from vallis.training.loss_correction import LossCorrection

STUDY = Patrini2017LossCorrection()
SCALES = ("smoke", "laptop", "paper")


def descent(job: Job) -> GradientDescent:
    training = job.training if isinstance(job.training, GradientDescent) else job.training.base  # type: ignore[attr-defined]
    assert isinstance(training, GradientDescent)
    return training


@pytest.mark.parametrize("scale", SCALES)
def test_a_cell_is_a_network_and_a_seed_of_its_own(scale: str) -> None:
    jobs = STUDY.jobs(scale)
    assert isinstance(STUDY, Study)
    assert set(Counter((tuple(sorted(job.tags.items())), job.seed) for job in jobs).values()) == {1}
    names = {spec.digest((job.problem, job.model, job.training, job.seed)) for job in jobs}
    assert len(names) == len(jobs)


@pytest.mark.parametrize("scale", SCALES)
def test_the_noise_and_the_correction_are_those_of_the_tags(scale: str) -> None:
    for job in STUDY.jobs(scale):
        problem, tags = job.problem, job.tags
        assert isinstance(problem, NoisyLabels)
        condition = (str(tags["noise"]), float(tags["rate"]))
        true = true_transition(str(tags["data"]), condition)
        assert problem.transition(10).equal(true)
        if tags["loss"] in ("forward", "backward"):
            training = job.training
            assert isinstance(training, LossCorrection)
            assert training.correction == tags["loss"]
            given = training.transition
            assert (given is None) == (tags["transition"] == "estimated")
            assert isinstance(training.first, EarlyStopping) == (given is None)
            if tags["transition"] == "true":
                np.testing.assert_array_equal(np.array(given), true.numpy())
            if tags["transition"] == "identity":
                np.testing.assert_array_equal(np.array(given), np.eye(10))
                assert training.least_probability == 0
        else:
            assert isinstance(job.training, EarlyStopping) == (tags["loss"] == "early_stopping")


@pytest.mark.parametrize("scale", SCALES)
def test_nothing_but_labels_and_loss_differs_on_a_data_set(scale: str) -> None:
    groups: dict[object, set[str]] = {}
    for job in STUDY.jobs(scale):
        assert isinstance(job.problem, NoisyLabels)
        shared = (job.problem.base, job.model, descent(job))
        groups.setdefault(job.tags["data"], set()).add(spec.digest(shared))
    assert all(len(found) == 1 for found in groups.values())


def test_scales() -> None:
    seeds = {scale: {job.seed for job in STUDY.jobs(scale)} for scale in SCALES}
    assert [len(seeds[scale]) for scale in SCALES] == [2, 8, 5]
    per_seed = len(CONDITIONS) * (len(COMPARED) + 1) + len(ESTIMATED) + 1
    assert len(STUDY.jobs("laptop")) == 8 * 2 * per_seed
    assert {job.tags["data"] for job in STUDY.jobs("paper")} == {"digits", "fashion_mnist", "cifar10"}


def test_claims_are_said_and_ruled_one_by_one() -> None:
    claims, rows = STUDY.claims(), rows_of("fashion_mnist", 5)
    assert len({claim.id for claim in claims}) == len(claims) == 3 * len(RULES)
    for claim in claims:
        expected = "holds" if claim.id.endswith("fashion_mnist") else "not_run"
        assert claim.test(rows).verdict == expected, claim.id
        assert claim.says.startswith("On ")


def test_figures_show_what_there_is() -> None:
    assert STUDY.figures([]) == []
    figures = {figure.name: figure for figure in STUDY.figures(rows_of("digits", 3))}
    heatmaps = [f"transition_{noise}_digits" for noise, _ in ESTIMATED]
    assert list(figures) == ["test_accuracy_digits", "memorized_fraction_digits", *heatmaps]
    accuracy = figures["test_accuracy_digits"]
    assert len(accuracy.marks) == len(COMPARED)
    first = accuracy.marks[0]
    assert first.label == "cross-entropy (n=3)"
    assert list(first.x) == ["symmetric 0.2", "symmetric 0.5", "asymmetric 0.2", "asymmetric 0.6"]
    np.testing.assert_allclose(first.y, [0.8, 0.65, 0.8, 0.6])
    true, estimated = figures["transition_symmetric_digits"].marks  # in one figure, so on one scale of colours
    np.testing.assert_allclose(estimated.z[0, 0], 0.7 - 0.051)
    assert (true.label, estimated.label) == ("true", "estimated (n=3)")
    np.testing.assert_allclose(true.z, true_transition("digits", ("symmetric", 0.3)).numpy())


def test_the_smoke_run_works_from_end_to_end(tmp_path: Path) -> None:
    """One seed: nothing may be decided, but every claim on the digits is looked at."""
    done = run_study(STUDY, "smoke", store=Store(tmp_path), seeds=(0,))
    assert not [row for row in done.rows if isinstance(row.outcome, Failed)]
    assert all(judged.trouble == "" for judged in done.judged)
    assert done.figures_failed == ""
    judged = {one.claim.id: one.verdict for one in done.judged}
    said = {name: verdict.verdict for name, verdict in judged.items()}
    assert {word for claim, word in said.items() if claim.endswith("digits")} == {"undecided"}
    assert {word for claim, word in said.items() if not claim.endswith("digits")} == {"not_run"}
    # The identities need no statistics.
    assert judged["identity_changes_nothing_digits"].statistic == 0
    assert (judged["backward_is_unbiased_digits"].statistic or 1) < 1e-10
