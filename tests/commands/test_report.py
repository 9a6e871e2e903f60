from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.commands.calls import Vallis

pytestmark = pytest.mark.usefixtures("toys")
TOYS = ("clouds", "--model", "linear", "--training", "descent", "--seed", "2")


def test_a_report_is_written_anew_without_measuring(vallis: Vallis) -> None:
    vallis.good("examine", *TOYS)
    page = Path("out/report.html").read_bytes()
    Path("out/report.html").write_text("an old one")
    assert vallis.good("report", "out") == "out/report.html\n"
    assert Path("out/report.html").read_bytes() == page


def test_it_never_measures(vallis: Vallis) -> None:
    vallis.good("examine", *TOYS)
    shutil.rmtree("out/store")
    said = vallis.refused("report", "out")
    assert "1 trainings are missing: make them with vallis run out/jobs.json" in said
    assert not Path("out/store/objects").exists()


def test_figures_for_papers(vallis: Vallis) -> None:
    words = ("digits", "--model.widths", "4", "--training.max_steps", "3")
    vallis.good("examine", *words)
    printed = vallis.good("report", "out", "--figures", "csv,svg").split()
    assert len(printed) >= 4
    assert all(Path(path).stat().st_size > 100 for path in printed)
    assert {Path(path).suffix for path in printed} == {".csv", ".svg"}


def test_a_study_is_written_anew(vallis: Vallis) -> None:
    vallis("study", "toy_study")
    before = Path("out/toy_study/study.html").read_bytes()
    Path("out/toy_study/study.html").unlink()
    vallis("report", "out/toy_study")
    assert Path("out/toy_study/study.html").read_bytes() == before
    shutil.rmtree("out/toy_study/store")
    assert "make them with vallis study toy_study" in vallis.refused("report", "out/toy_study")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "the folder of a report or a study was required, nowhere is none"),
        (("nowhere", "--figures", "pdf"), "nowhere is none"),
        ((".",), "has neither jobs.json nor study.json"),
        ((".", "--figures", "docx"), "formats among"),
        ((".", "--figures", " ,"), "at least one of pdf, svg, png and csv was required"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(vallis: Vallis, words: tuple[str, ...], said: str) -> None:
    assert said in vallis.refused("report", *words)


def test_a_broken_study_file_is_one_sentence(vallis: Vallis) -> None:
    Path("there").mkdir()
    Path("there/study.json").write_text("{}")
    assert "a study was required in there/study.json" in vallis.refused("report", "there")
