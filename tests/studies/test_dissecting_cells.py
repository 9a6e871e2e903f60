from __future__ import annotations

import pytest

from vallis.core import spec
from vallis.problems.corrupted import Corrupted
from vallis.studies._dissecting_cells import DATA_SETS, PARTNER, Setting, cell, laptop, paper, smoke

ALL = [setting for scale in (smoke, laptop, paper) for setting in scale()]


@pytest.mark.parametrize("setting", ALL)
def test_labels_and_normalisation_are_as_the_tags_say(setting: Setting) -> None:
    for job in setting.jobs(3):
        assert isinstance(job.problem, Corrupted)
        assert job.problem.labels == float(job.tags["labels"] == "random")
        assert job.problem.pixels == "none"
        if job.tags["network"] != "bound":
            assert job.model.batch_norm == (job.tags["norm"] == "batch")  # type: ignore[attr-defined]
        if not job.tags["trained"]:
            assert job.training.max_steps == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("setting", ALL)
def test_a_pair_differs_in_nothing_but_the_seed(setting: Setting) -> None:
    pairs = [job for job in setting.jobs(3) if job.partner is not None]
    assert {(job.tags["norm"], job.tags["labels"]) for job in pairs} == {
        (norm, labels) for norm in ("none", "batch") for labels in ("true", "random")
    }
    for job in pairs:
        assert job.partner is not None
        assert job.partner.seed == 3 + PARTNER
        one, other = ((each.problem, each.model, each.training) for each in (job, job.partner))
        assert spec.digest(one) == spec.digest(other)
        assert [type(part).takes for part in job.measurements] == ["pair"]


@pytest.mark.parametrize("setting", ALL)
def test_the_prior_of_a_bound_is_where_training_began(setting: Setting) -> None:
    found = [job for job in setting.jobs(0) if job.tags["network"] == "bound"]
    assert {job.snapshots for job in found} == {(0,)}
    assert {job.measurements[1].axes for job in found} == {("standard", "curvature", "refreshed")}  # type: ignore[union-attr]


def test_the_laptop_has_every_data_set_in_the_same_way() -> None:
    settings = laptop()
    assert [setting.data for setting in settings] == list(DATA_SETS)
    assert len({spec.digest((each.training, each.structure, each.overlap, each.bounds)) for each in settings}) == 1
    for setting in settings:
        jobs = list(setting.jobs(0))
        assert len(jobs) == 4 * 2 + 5 + 2 + 4 * setting.convnet


def test_a_cell_is_on_true_labels_without_normalisation_unless_said() -> None:
    assert cell("digits") == {"data": "digits", "network": "mlp", "norm": "none", "labels": "true", "trained": True}
