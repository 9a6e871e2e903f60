import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.report import toy
from tests.report.test_claims_board import on_board
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Verdict
from vallis.report.export import load_figures
from vallis.report.study_page import cell_tables, write_study


def write(tmp_path: Path, **changed: Any) -> str:
    given = {
        "study": toy.ToyStudy(),
        "scale": "laptop",
        "claims_with_verdicts": toy.claims(),
        "rows": toy.rows(),
        "figures": [toy.bars(), toy.lines()],
        "facts": {"networks": 9},
        **changed,
    }
    path = write_study(tmp_path, **given)
    assert path == tmp_path / "study.html"
    return path.read_text(encoding="utf-8")


def test_all_files_are_there(tmp_path: Path) -> None:
    write(tmp_path)
    names = {path.name for path in tmp_path.iterdir()} - {"table.parquet"}
    assert names == {"study.html", "claims.json", "table.csv", "figures.json"}
    assert [figure.name for figure in load_figures(tmp_path)] == ["accuracy", "training_curves"]
    assert json.loads((tmp_path / "claims.json").read_text())["study"] == "tests.report.toy:ToyStudy"


def test_the_page_shows_the_paper_the_scale_and_every_verdict(tmp_path: Path) -> None:
    html = write(tmp_path)
    for words in (
        "Understanding deep learning requires rethinking generalization",
        "C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals (2017)",
        "run at <strong>laptop</strong> scale",
        "This was run at laptop scale, smaller than in the paper.",
        "Of 4 claims, 1 holds, 1 fails, 1 is undecided, 1 was not run.",
        '<span class="chip holds">holds (n=10, p=0.003)</span>',
        '<span class="chip undecided">undecided (n=3, p=0.21)</span>',
        '<span class="chip fails">fails (n=10, p&lt;0.0001)</span>',
        '<span class="chip not_run">not run</span>',
        "(1 lost)",
        "networks 9",
    ):
        assert words in html, words


def test_what_was_not_run_is_folded_away_unless_it_is_all(tmp_path: Path) -> None:
    html = write(tmp_path / "some")
    assert "<summary>1 claim not run</summary>" in html
    assert html.index("chip fails") < html.index("<details") < html.index("chip not_run")
    idle = [(claim, Verdict(verdict="not_run")) for claim, _ in toy.claims()]
    assert "<details" not in write(tmp_path / "none", claims_with_verdicts=idle)


def test_claims_about_several_things_are_a_board(tmp_path: Path) -> None:
    html = write(tmp_path, claims_with_verdicts=[*toy.claims(), *on_board()])
    assert "Of 7 claims, 2 hold, 2 fail, 1 is undecided, 2 were not run." in html
    assert '<th scope="col">digits</th><th scope="col">clothes</th></tr>' in html
    assert html.count("Random labels are fitted.") == 1
    assert '<span class="chip holds" title="fits_digits">holds</span> <span class="number">0.998</span>' in html
    assert html.index('class="board"') < html.index("chip undecided") < html.index("<details")
    assert "<summary>2 claims not run</summary>" in html
    assert "On photographs: random labels are fitted." in html[html.index("<details") :]
    held = {claim["id"]: claim for claim in json.loads((tmp_path / "claims.json").read_text())["claims"]}
    assert (held["fits_digits"]["about"], held["fits_digits"]["shows"]) == ("the digits", "training accuracy")


def test_the_same_study_gives_the_same_page(tmp_path: Path) -> None:
    assert write(tmp_path / "a") == write(tmp_path / "b")


def test_nothing_run_is_a_page_too(tmp_path: Path) -> None:
    html = write(tmp_path, claims_with_verdicts=[], rows=[], figures=[], facts={}, scale="tiny")
    assert "This study makes no claims." in html
    assert "Nothing has been measured yet." in html
    assert "at the scale tiny" in html


def test_a_broken_figure_is_a_note(tmp_path: Path) -> None:
    axis = Axis(label="")
    bad = Figure(name="bad", title="Bad", x=axis, y=axis, marks=(Mark(kind="line", x=[1], y=[1, 2]),))
    html = write(tmp_path, figures=[bad, toy.bars()])
    assert "The figure bad could not be drawn" in html
    assert len(load_figures(tmp_path)) == 1


def test_a_cell_is_the_mean_over_its_seeds() -> None:
    gap, spectrum = cell_tables(toy.rows())
    assert gap["title"] == "Generalization gap"
    assert [column["key"] for column in gap["columns"]] == ["train_accuracy", "test_accuracy", "test_loss"]
    true = gap["rows"][0]
    assert true["tags"] == (("labels", "true"), ("width", "64"))
    values = [0.97, 0.974, 0.978]
    np.testing.assert_allclose(true["cells"][1], (np.mean(values), np.std(values, ddof=1) / np.sqrt(3)))
    assert (spectrum["rows"][2]["num_ok"], spectrum["rows"][2]["lost"]) == (2, "(1 lost)")


def test_a_cell_is_named_by_what_it_has() -> None:
    tags = {"labels": 0.0, "share": 0.25, "pixels": "none", "norm": False, "noise": ""}
    (table,) = cell_tables([replace(toy.rows()[0], tags=tags)])
    assert table["rows"][0]["tags"] == (("labels", "0"), ("share", "0.25"), ("norm", "False"))


def test_one_seed_keeps_the_measurements_own_error_bar() -> None:
    (table,) = cell_tables([replace(toy.rows()[0], tags={})])
    assert table["rows"][0]["cells"][1] == (0.97, 0.009)
