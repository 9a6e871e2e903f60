"""The page of the studies is made of what is kept, and that is whole: every claim of the study, as it is now."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.house.source import ROOT
from vallis.core import catalog


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("studies_page", ROOT / "docs" / "_ext" / "studies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STUDIES = tool()
KEPT = STUDIES.read()


def test_the_page_is_what_was_kept() -> None:
    text = STUDIES.PAGE.read_text(encoding="utf-8")
    assert STUDIES.page(text, KEPT) == text, "python docs/_ext/studies.py write"
    for name in KEPT:
        assert f"<!-- verdicts: {name} -->" in text


@pytest.mark.parametrize("name", KEPT)
def test_what_was_kept_is_whole(name: str) -> None:
    record = KEPT[name]
    claims = catalog.load("studies", name)().claims()
    assert [(claim["id"], claim["says"]) for claim in record["claims"]] == [(claim.id, claim.says) for claim in claims]
    assert all(record[fact] for fact in ("scale", "date", "commit", "machine", "cost"))
    for claim in record["claims"]:
        assert claim["verdict"] in STUDIES.WORDS
        assert (claim["n"] == 0) == (claim["verdict"] == "not_run")
        assert claim["n"] == 0 or claim["n"] >= 5
    assert all(cell[key][2] >= 5 for cell in record["cells"] for key in STUDIES.KEYS if key in cell)


def test_cells_are_means_with_intervals() -> None:
    head = {"data": "d", "pixels": "", "measurement": "generalization_gap", "key": "steps", "stderr": "9"}
    other = {**head, "key": "train_loss", "value": "7", "seed": "0"}
    lines = [{**head, "seed": str(seed), "value": str(value)} for seed, value in enumerate((1.0, 2.0, 6.0))]
    (cell,) = STUDIES.means([*lines, other])
    assert cell["tags"] == {"data": "d"}
    # By hand: mean 3, standard error sqrt(7 / 3), t(0.975, 2) = 4.302653.
    assert cell["steps"] == [3.0, pytest.approx(4.302653 * (7 / 3) ** 0.5, abs=1e-5), 3]


def test_a_run_is_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"where": "table 1", "shows": "accuracy", "statistic": 0.5, "p": 0.03125, "n": 5}
    claims = [
        {**said, "id": "a_x", "says": "On x: it works.", "about": "x", "verdict": "holds"},
        {**said, "id": "a_y", "says": "On y: it works.", "about": "y", "verdict": "fails", "p": 1e-9},
        {**said, "id": "a_z", "says": "On z: it works.", "about": "z", "verdict": "not_run", "n": 0},
    ]
    (tmp_path / "claims.json").write_text(json.dumps({"study": "some", "scale": "laptop", "claims": claims}))
    (tmp_path / "table.csv").write_text("data,seed,measurement,key,value\n")
    monkeypatch.setattr(STUDIES, "KEPT", tmp_path / "kept")
    path = STUDIES.take(tmp_path, commit="c2a4a40", machine="2 cores", cost="9 s.")
    text = "before\n<!-- verdicts: some -->\nstale\n<!-- end -->\nafter\n"
    written = STUDIES.page(text, {"some": json.loads(path.read_text())})
    assert "Of 3 claims: 1 holds, 1 fails, 0 undecided, 1 not run." in written
    assert "commit c2a4a40, 2 cores. 9 s." in written
    assert "| It works (accuracy) | holds: 0.5, n=5, p=0.031 | **fails**: 0.5, n=5, p<0.0001 |" in written
    assert "stale" not in written
    assert STUDIES.page(written, {"some": json.loads(path.read_text())}) == written


def test_a_claim_about_no_thing_keeps_its_first_words() -> None:
    said = {"where": "", "shows": "", "statistic": None, "p": 0.03, "n": 5, "verdict": "holds", "about": ""}
    record = {"scale": "s", "date": "d", "commit": "c", "machine": "m", "cost": "c",
              "claims": [{**said, "id": "a", "says": "On two spirals it works."}]}  # fmt: skip
    assert "| On two spirals it works | holds" in STUDIES.verdicts(record)


def test_what_was_never_run_says_so() -> None:
    assert "Not run yet." in STUDIES.page("<!-- regularizers: some -->\n<!-- end -->", {})
