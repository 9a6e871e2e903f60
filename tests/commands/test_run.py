from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.calls import Vallis
from vallis.commands.run import load
from vallis.core.types import Job
from vallis.models.mlp import Mlp
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.subset import Subset
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent
from vallis.training.loss_correction import LossCorrection

TOY: dict[str, Any] = {"problem": "clouds", "model": "linear", "training": "descent", "measurements": ["norm", "count"]}


def write(held: Any) -> Path:
    file = Path("jobs.json")
    file.write_text(held if isinstance(held, str) else json.dumps(held))
    return file


@pytest.mark.usefixtures("toys")
def test_one_job_has_one_report(vallis: Vallis) -> None:
    file = write({**TOY, "seed": 3, "training": {"name": "descent", "settings": {"max_steps": 2}}})
    printed = vallis.good("run", file, "--out", "there")
    assert "report: there/report.html" in printed
    found = json.loads(Path("there/report.json").read_text())
    assert (found["solution"]["seed"], found["solution"]["steps"]) == (3, 2)
    assert list(found["results"]) == ["norm", "count"]


@pytest.mark.usefixtures("toys")
def test_several_jobs_have_a_report_each_and_a_table(vallis: Vallis) -> None:
    file = write({"schema": 1, "jobs": [{**TOY, "tags": {"which": "a"}}, {**TOY, "seed": 1, "tags": {"which": "b"}}]})
    vallis.good("run", file)
    assert [json.loads(Path(f"out/{n}/report.json").read_text())["solution"]["seed"] for n in (0, 1)] == [0, 1]
    lines = Path("out/table.csv").read_text().splitlines()
    assert lines[0].startswith("which,seed,measurement,key,value")
    assert {line.split(",")[0] for line in lines[1:]} == {"a", "b"}


@pytest.mark.usefixtures("toys")
def test_what_a_report_was_made_of_makes_it_again(vallis: Vallis) -> None:
    vallis.good("examine", "clouds", "--model", "linear", "--training", "descent", "--seed", "5", "--out", "first")
    vallis.good("run", "first/jobs.json", "--out", "second")
    for name in ("report.json", "report.html", "jobs.json"):
        assert Path("first", name).read_bytes() == Path("second", name).read_bytes()


@pytest.mark.usefixtures("toys")
def test_what_fails_does_not_stop_the_rest(vallis: Vallis) -> None:
    bad = {**TOY, "training": {"name": "descent", "settings": {"fail_at": 1}}}
    done = vallis("run", write([bad, {**TOY, "measurements": ["broken"]}, TOY]))
    assert done.code == 1
    assert "job 0: the training failed, RuntimeError: this step fails on purpose" in done.out
    assert "ZeroDivisionError" in done.out
    assert Path("out/2/report.html").is_file()


def test_a_job_is_read_from_names_and_specs(vallis: Vallis) -> None:
    file = write(
        {
            "problem": {"kind": "problems", "name": "digits", "version": 1, "settings": {"test_fraction": 0.5}},
            "model": {"name": "mlp", "settings": {"widths": [8, 8]}},
            "training": "gradient_descent",
            "measurements": ["margins"],
            "partner": {"problem": "digits", "model": "mlp", "training": "gradient_descent"},
            "others": [{"problem": "digits", "model": "mlp", "training": "gradient_descent", "seed": 4}],
            "snapshots": [0, 5],
        }
    )
    (found,) = load(file)
    assert isinstance(found, Job)
    assert (found.problem, found.model) == (Digits(test_fraction=0.5), Mlp(widths=(8, 8)))
    assert found.snapshots == (0, 5)
    assert found.partner is not None
    assert [other.seed for other in found.others] == [4]


def test_parts_within_settings_need_a_name_only(vallis: Vallis) -> None:
    noisy = {
        "name": "corrupted",
        "settings": {"base": {"name": "subset", "settings": {"base": "digits"}}, "labels": 0.5},
    }
    stopped = {
        "name": "early_stopping",
        "settings": {"base": {"name": "gradient_descent", "settings": {"max_steps": 9}}},
    }
    corrected = {"name": "loss_correction", "settings": {"base": stopped, "first": None}}
    (found,) = load(write({"problem": noisy, "model": "mlp", "training": corrected}))
    assert found.problem == Corrupted(base=Subset(base=Digits()), labels=0.5)
    inner = EarlyStopping(base=GradientDescent(max_steps=9))
    assert found.training == LossCorrection(base=inner)


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({"settings": {}}, "corrupted.base of job 0 of jobs.json must say which of problems by a name"),
        (3, "corrupted.base of job 0 of jobs.json must say which of problems by a name, 3 came"),
        ({"name": "digts"}, "no problem is named 'digts'; did you mean digits"),
        ({"name": "digits", "settings": {"fraction": 0.5}}, "digits: no setting is named 'fraction'"),
    ],
)
def test_a_part_within_settings_that_is_none_is_one_sentence(vallis: Vallis, base: Any, said: str) -> None:
    problem = {"name": "corrupted", "settings": {"base": base}}
    assert said in vallis.refused("run", write({"problem": problem, "model": "mlp", "training": "gradient_descent"}))


def test_a_job_that_is_refused_costs_the_others_nothing(vallis: Vallis) -> None:
    """Their pages and the table were not written, and the message did not say which job it was."""
    job = {"problem": "digits", "model": "mlp", "measurements": ["margins"]}
    settings: list[dict[str, float]] = [{"max_steps": 2}, {"max_steps": 2, "poison_factor": 0.5}]
    descents = [{"name": "gradient_descent", "settings": held} for held in settings]
    held = [{**job, "training": training} for training in descents]
    done = vallis("run", write({"jobs": held}), "--out", "out")
    assert (done.code, done.err) == (1, "")
    assert 'job 1: the training failed, DataError: a split "poison" was required' in done.out
    assert Path("out/0/report.html").is_file() and Path("out/table.csv").is_file()
    assert "was required by poison_factor=0.5" in vallis.refused("run", write(held[1]))


GOOD = {"problem": "digits", "model": "mlp", "training": "gradient_descent"}


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("{", "cannot be read"),
        ("3", "holds neither"),
        ({"jobs": []}, "holds neither"),
        ({**GOOD, "modle": "mlp"}, "did you mean model"),
        ({"problem": "digits", "model": "mlp"}, "must name a training"),
        ({**GOOD, "model": 3}, "3 came: write its name"),
        ({**GOOD, "model": "mpl"}, "did you mean mlp"),
        ({**GOOD, "model": {"name": "mlp", "settings": {"width": 3}}}, "did you mean widths"),
        ({**GOOD, "problem": {"name": "digits", "version": 99}}, "version 99"),
        ({**GOOD, "seed": "one"}, "a whole number as seed"),
        ({**GOOD, "seed": True}, "a whole number as seed, True came"),
        ({**GOOD, "snapshots": [0.5]}, "a list of whole numbers from 0 on as snapshots, [0.5] came"),
        ({**GOOD, "snapshots": [3, -1]}, "a list of whole numbers from 0 on as snapshots, [3, -1] came"),
        ({**GOOD, "measurements": "margins"}, "a list as measurements, 'margins' came"),
        ({**GOOD, "measurements": 5}, "a list as measurements, 5 came"),
        ({**GOOD, "partner": 3}, "a job as partner, 3 came"),
        ({**GOOD, "others": 3}, "a list of jobs as others, 3 came"),
        ({**GOOD, "others": [{**GOOD, "model": "mpl"}]}, "did you mean mlp"),
        ({**GOOD, "others": ["mlp"]}, "a list of jobs as others"),
        ({**GOOD, "tags": 3}, "an object of texts, numbers, true and false as tags, 3 came"),
        ({**GOOD, "tags": {"a": [1]}}, "an object of texts, numbers, true and false as tags"),
        ({**GOOD, "model": {"name": "mlp", "settings": 3}}, "needs an object as settings of mlp, 3 came"),
        ({**GOOD, "measurements": [{"settings": {}}]}, "which of measurements"),
    ],
)
def test_what_is_no_job_is_one_sentence(vallis: Vallis, held: Any, said: str) -> None:
    assert said in vallis.refused("run", write(held))


def test_a_file_that_is_not_there_is_one_sentence(vallis: Vallis) -> None:
    assert "nowhere.json cannot be read" in vallis.refused("run", "nowhere.json")


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("words", "said"), [((), "none answers at nowhere within"), (("--workers", "2"), "leave one out")]
)
def test_a_scheduler_that_does_not_answer_is_one_sentence(vallis: Vallis, words: tuple[str, ...], said: str) -> None:
    assert said in vallis.refused("run", write(TOY), "--scheduler", "nowhere", *words)
