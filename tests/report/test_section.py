from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from tests.report import toy
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Estimate, Failed, NotApplicable, Note, Result
from vallis.report.section import Examined, certainty, sections

RESULT = Result(values={"a": Estimate(value=2.0, stderr=0.1)})


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Breaks where it is told to."""

    where: str = "figures"
    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Any, ...]] = ()

    def figures(self, result: Result) -> Any:
        if self.where == "figures":
            raise RuntimeError("boom")
        axis, misfit = Axis(label=""), Mark(kind="line", x=[1.0], y=[1.0, 2.0])
        bad = Figure(name="bad", title="Bad", x=axis, y=axis, marks=(misfit,))
        return (toy.bars(), bad, "no figure") if self.where == "arrays" else ()

    def reading(self, result: Result) -> str:
        if self.where == "reading":
            raise RuntimeError("boom")
        return "Fine."


def test_every_part_has_a_section_in_its_place() -> None:
    found = sections(toy.measured())
    assert [section.title for section in found] == [
        "Generalization gap",
        "Hessian spectrum",
        "Hessian trace",
        "Loss slice",
        "Margins",
        "NTK alignment",
        "NTK alignment",
    ]
    assert [section.status for section in found] == ["ok"] * 5 + ["not_applicable", "failed"]
    assert len({section.name for section in found}) == 7
    assert found[1].doc.labelled["Cost"] == "about 80 gradients."
    assert found[1].settings == {"k": 10, "tolerance": 1e-6}
    assert found[5].notes[0].code == "needs_smooth"
    assert found[5].reading == ""


@pytest.mark.parametrize(
    ("where", "codes", "num_figures"),
    [("figures", ["figures_failed"], 0), ("reading", ["reading_failed"], 0), ("arrays", ["figure_failed"] * 2, 1)],
)
def test_a_crash_becomes_a_note(where: str, codes: list[str], num_figures: int) -> None:
    (section,) = sections([(Broken(where=where), RESULT)])
    assert [note.code for note in section.notes] == codes
    assert len(section.figures) == num_figures
    assert section.status == "ok"


def test_a_watcher_has_neither_figures_nor_reading() -> None:
    @dataclass(frozen=True)
    class Watches:
        version: ClassVar[int] = 1

    (section,) = sections([(Watches(), RESULT)])
    assert (section.figures, section.reading, section.notes) == ((), "", ())
    assert section.doc.summary == "", "what @dataclass writes is no docstring"


def test_figures_of_one_name_are_told_apart() -> None:
    found = sections([(toy.Margins(), RESULT), (toy.Margins(), RESULT)])
    names = [figure.name for section in found for figure in section.figures]
    assert names == ["hardest", "by_labels", "hardest-2", "by_labels-2"]


@pytest.mark.parametrize(
    ("estimates", "says"),
    [
        ([(1.0, 0.0)], "error bars of 0"),
        ([(1.0, None)], "no error bars"),
        ([(1.0, None), (1.0, 0.1)], "1 of 2 without error bar"),
        ([(1.0, 0.0), (2.0, 0.1)], "error bars up to 5.0 %"),
        ([(1.0, 0.9999)], "error bars up to 100 %"),
        ([(1.0, 1e-7)], "error bars below 0.01 %"),
        ([(1.0, 3.0)], "an error bar as large as its value"),
        ([(0.0, 3.0)], "an error bar as large as its value"),
        ([(0.0, 0.001), (2.0, 0.1)], "error bars up to 5.0 %"),
        ([], ""),
    ],
)
def test_how_sure(estimates: list[tuple[float, float | None]], says: str) -> None:
    values = {str(n): Estimate(value=value, stderr=stderr) for n, (value, stderr) in enumerate(estimates)}
    (section,) = sections([(Broken(where=""), Result(values=values))])
    assert certainty(section) == says


def test_exact_is_what_says_so_of_itself() -> None:
    values = {key: Estimate(value=1.0, stderr=0.0, method=key) for key in ("counted", "sum, exact")}
    (section,) = sections([(Broken(where=""), Result(values=values))])
    assert certainty(section) == "exact"


def test_what_gave_nothing_is_not_sure() -> None:
    outcomes = (Failed(error="E", message="m"), NotApplicable(note=Note(code="c", text="t")))
    assert [certainty(section) for section in sections([(Broken(), outcome) for outcome in outcomes])] == ["", ""]


def test_facts_are_taken_apart() -> None:
    examined = Examined.of({"device": "cpu", "model": {"name": "mlp", "settings": {"depth": 2}}, "parameters": 10})
    assert examined == Examined(problem="unnamed problem", model="mlp(depth=2)", parameters=10, facts={"device": "cpu"})
