from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.run.toy import Count, Descent, Linear, Norm, job
from vallis.commands import pages
from vallis.commands.run import load
from vallis.core.errors import StoreError
from vallis.core.types import Array, Estimate, Failed, NotApplicable, Note, Outcome, Result
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.run.execute import execute
from vallis.run.store import Store

JOB = job(training=Descent(max_steps=3), measurements=(Norm(order=1.0), Count()), seed=4)


def test_the_report_knows_what_was_trained(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    done = execute([JOB], store)
    page = pages.write_report(JOB, done.rows, store, tmp_path / "out")
    assert page.name == "report.html"
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    facts = found["solution"]
    assert facts["digest"] == pages.name_of_training(JOB)
    assert (facts["parameters"], facts["steps"], facts["num_train"], facts["seed"]) == (6, 3, 40, 4)
    assert facts["stopped_by"] == "max_steps"
    assert facts["settings"] == "training.max_steps=3"
    assert [entry["status"] for entry in found["results"].values()] == ["ok", "ok"]


def test_the_jobs_beside_a_report_are_the_jobs(tmp_path: Path) -> None:
    whole = job(snapshots=(1, 2), partner=job(seed=1), tags={"a": 0.5, "b": "x"}, model=Linear(traits=()))
    whole = replace(whole, others=(job(seed=2), job(seed=3)))
    pages.write_jobs(tmp_path, [whole, JOB])
    assert load(tmp_path / pages.JOBS) == [whole, JOB]


def test_facts_of_what_was_not_trained_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="train it"):
        pages.facts(JOB, Store(tmp_path))


def test_a_title_names_what_is_inside() -> None:
    assert pages.title(Corrupted(base=Digits())) == "corrupted(digits)"


class Mute(Norm):
    def reading(self, result: Result) -> str:
        raise ValueError("no words")


RESULT = Result(values={"norm": Estimate(value=1.5, stderr=0.25, unit="nats")})


@pytest.mark.parametrize(
    ("part", "outcome", "words"),
    [
        (Norm(), RESULT, "A toy says nothing."),
        (Count(), RESULT, "norm 1.5 +- 0.25 nats"),
        (Mute(), RESULT, "norm 1.5 +- 0.25 nats (its reading failed: ValueError)"),
        (Norm(), NotApplicable(note=Note(code="needs_trait", text="So.")), "needs_trait: So."),
        (Norm(), Failed(error="KeyError", message="'x'"), "KeyError: 'x'"),
    ],
)
def test_each_outcome_in_words(part: object, outcome: Outcome, words: str) -> None:
    assert pages.said(part, outcome) == words
    assert words in " ".join(pages.summary([(part, outcome)]).split())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Estimate(value=0.1234567), "0.123457"),
        (Estimate(value=2.0, stderr=0.0, unit="steps", method="counted"), "2 steps (exact)"),
        (Estimate(value=1.0, stderr=0.0, n=5, method="fraction of examples"), "1 +- 0"),
        (Array(data=np.zeros((2, 3)), dims=("a", "b")), "array 2x3 over a, b"),
    ],
)
def test_values_in_words(value: Estimate | Array, words: str) -> None:
    assert pages.value_text(value) == words
