import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report import toy
from vallis.core.errors import OutputError
from vallis.core.types import Estimate, Note, Result
from vallis.report.page import tally, write_examination


class Outline(HTMLParser):
    """Collects what a test asks of a page: headings in order, ids, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.ids += [held["id"]] if held.get("id") else []
        href = held.get("href") or ""
        self.targets += [href[1:]] if href.startswith("#") else []
        self.open.append(tag)
        if tag in ("dt", "dd", "td", "th", "li", "p", "div") or tag[0] == "h":
            self.text += " "  # a new block is a new word

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data

    @property
    def words(self) -> str:
        return re.sub(r"[ \n]+", " ", self.text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    assert write_examination(out, toy.FACTS, toy.measured(), vallis_version="0.1.0") == out / "report.html"
    return out


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(html: str) -> Outline:
    return Outline(html)


def test_all_files_are_there_and_no_others(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.html", "report.json", "figures.json", "arrays"}


def test_the_first_screen_says_what_was_examined(outline: Outline) -> None:
    text = outline.words
    start = text[: text.index("The reading")]
    for words in ("mlp on digits", "Parameters 4,810", "Test accuracy 0.9722", "1,437 train examples", "3f9a1c2b7d5e"):
        assert words in start
    assert "Vallis 0.1.0" in start
    assert "gradient_descent(learning_rate=0.1, batch_size=64, steps=1200)" in start


def test_losses_that_only_a_measurement_knows_are_on_it_too(tmp_path: Path) -> None:
    facts = {"problem": "p", "model": "m", "parameters": 10, "test_loss": 0.5}
    text = Outline(write_examination(tmp_path, facts, toy.measured(), vallis_version="0").read_text()).words
    start = text[: text.index("The reading")]
    assert "Train loss 0.02170 ± 0.00080" in start
    assert "Test accuracy 0.9722 ± 0.0087" in start
    assert "Test loss 0.5000" in start
    assert start.count("Test loss") == 1


def test_then_it_reads_the_result_with_how_sure_it_is(outline: Outline) -> None:
    text = outline.words
    reading = text[text.index("The reading") : text.index("Contents")]
    assert "5 of 7 measurements came through; 1 does not apply, 1 failed." in reading
    for part, outcome in toy.measured()[:5]:
        assert isinstance(outcome, Result)
        assert part.reading(outcome).replace("(-", "(\u2212") in reading
    assert "error bars up to 15 %" in reading
    assert "not converged" in reading


def test_sections_hold_everything(outline: Outline) -> None:
    text = outline.words
    for words in (
        "Definition The largest and smallest eigenvalues of the Hessian H of the mean training loss",
        "22.413870 ± 3.0 × 10−7",
        "(1.481 ± 0.029) × 10−5",
        "0.4100 ± unknown",
        "0.02170 exact",
        "nats\u202f/\u202fweight2",
        "Lanczos, 62 steps",
        "1 array behind it, as files",
        "The smallest eigenvalue had not converged after 200 steps. not_converged",
        "Says little when The network is rescaled",
        "B. Ghorbani, S. Krishnan, Y. Xiao (2019).",
        "k=10 tolerance=1e-06",
        "Not applicable The network has no second derivative",
        "This measurement failed The kernel of 1437 examples needs 16 GiB. OutOfMemoryError",
        "The figures could not be made (ZeroDivisionError: no probes <b>at all</b>). figures_failed",
    ):
        assert words in text, words


def test_headings_descend_step_by_step_and_links_arrive(outline: Outline) -> None:
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert len(set(outline.ids)) == len(outline.ids)
    assert set(outline.targets) <= set(outline.ids)


def test_every_figure_can_be_heard(html: str) -> None:
    figures = re.findall(r'<div class="plot"[^>]*role="img" aria-label="([^"]+)"', html)
    assert len(figures) == 7
    assert all(len(said) > 30 for said in figures)


def test_the_same_run_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_examination(tmp_path, toy.FACTS, toy.measured(), vallis_version="0.1.0")
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_the_twin_names_the_same_results(folder: Path) -> None:
    held = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [result["status"] for result in held["results"].values()] == ["ok"] * 5 + ["not_applicable", "failed"]
    for result in held["results"].values():
        for value in result["values"].values():
            assert "file" not in value or (folder / value["file"]).is_file()


def test_arrays_are_linked_where_they_lie(folder: Path, html: str) -> None:
    files = re.findall(r'<a href="(arrays/[^"]+)" download>', html)
    assert len(files) == 2
    assert all((folder / file).is_file() for file in files)


def test_nothing_measured_is_a_page_too(tmp_path: Path) -> None:
    path = write_examination(tmp_path, {"problem": "p", "model": "m"}, [], vallis_version="0.1.0")
    assert "Nothing was measured." in path.read_text(encoding="utf-8")


def test_a_number_that_is_none_is_said(tmp_path: Path) -> None:
    note = Note(code="diverged", text="The loss is not finite.")
    result = Result(values={"loss": Estimate(value=float("nan"), stderr=float("nan"))}, notes=(note,))
    path = write_examination(tmp_path, {"train_loss": float("nan")}, [(toy.LossSlice(), result)], vallis_version="0")
    assert path.read_text(encoding="utf-8").count("not finite") >= 3


def test_a_file_in_the_way_is_one_sentence_and_stays(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        write_examination(tmp_path / "out", toy.FACTS, toy.measured(), vallis_version="0")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_kill_while_writing_leaves_the_old_page_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_examination(tmp_path, toy.FACTS, toy.measured(), vallis_version="0").read_bytes()

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_examination(tmp_path, toy.FACTS, [], vallis_version="0")
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.rglob("*.tmp")] == []


@pytest.mark.parametrize(
    ("statuses", "says"),
    [
        ([], "Nothing was measured."),
        (["ok"], "One measurement, and it came through."),
        (["ok", "ok"], "All 2 measurements came through."),
        (["failed", "ok", "failed"], "1 of 3 measurements came through; 2 failed."),
        (["not_applicable", "not_applicable"], "0 of 2 measurements came through; 2 do not apply."),
    ],
)
def test_the_tally(statuses: list[str], says: str) -> None:
    assert tally(statuses) == says
