import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report import toy
from vallis.core.errors import OutputError, UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.report.figure import describe, from_plain, save, to_plain

BEGINS = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG", "csv": b"mark,label"}


@pytest.mark.parametrize("suffix", BEGINS)
def test_the_suffix_says_what_is_written(tmp_path: Path, suffix: str) -> None:
    path = save(toy.bars(), tmp_path / f"bars.{suffix}")
    assert path.read_bytes().startswith(BEGINS[suffix])


@pytest.mark.parametrize("name", ["bars.jpeg", "bars"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"can be saved as \.pdf, \.svg, \.png, \.csv"):
        save(toy.bars(), tmp_path / name)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save(toy.bars(), tmp_path / "nowhere" / "bars.csv")


@pytest.mark.parametrize("figure", [*toy.figures(), toy.hostile_figure()], ids=lambda figure: figure.name[:20])
def test_json_there_and_back_is_the_same_figure(figure: Figure) -> None:
    plain = to_plain(figure)
    text = json.dumps(plain, allow_nan=False)
    back = from_plain(json.loads(text))
    assert json.dumps(to_plain(back), allow_nan=False) == text
    assert (back.x, back.y, back.z, back.caption) == (figure.x, figure.y, figure.z, figure.caption)
    assert [mark.kind for mark in back.marks] == [mark.kind for mark in figure.marks]


def test_json_keeps_one_scale_and_that_of_old_has_none() -> None:
    plain = to_plain(replace(toy.heatmap(), same_scale=True))
    assert from_plain(plain).same_scale
    del plain["same_scale"]
    assert not from_plain(plain).same_scale


def test_json_keeps_what_the_axis_cannot_show_and_gaps_stay_gaps() -> None:
    axis = Axis(label="y", scale="log")
    mark = Mark(kind="line", y=[-1.0, float("nan"), 2.0])
    back = from_plain(to_plain(Figure(name="f", title="F", x=Axis(label="x"), y=axis, marks=(mark,))))
    np.testing.assert_array_equal(back.marks[0].y, [-1.0, np.nan, 2.0])
    assert back.caption == ""


@pytest.mark.parametrize("plain", [{}, {"name": "f"}, {**to_plain(toy.bars()), "marks": [{"kind": "bar", "w": 1}]}])
def test_what_is_no_figure_is_one_sentence(plain: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="a figure as JSON was required"):
        from_plain(plain)


def test_a_figure_can_be_heard() -> None:
    said = describe(toy.lines())
    assert said.startswith(
        "Loss while training: band and line of train, test; step from 1 to 295; loss (nats) from 0.0"
    )
    assert describe(toy.bars()).endswith("of train, test; accuracy from 0.101 to 1.")


def test_importing_it_imports_neither_plotly_nor_matplotlib() -> None:
    code = (
        "import sys, vallis.report.figure, vallis.report.page, vallis.report.study_page;"
        "import vallis.report.matplotlib_figure, vallis.report.plotly_figure;"
        "print([name for name in ('plotly', 'matplotlib', 'jinja2', 'torch', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_words_at_places_of_an_axis_are_kept_and_not_described_as_numbers() -> None:
    ticked = Axis(label="place", ticks=((0.0, "0"), (3.0, "one")))
    mark = Mark(kind="line", x=[0, 3], y=[0, 1])
    figure = Figure(name="f", title="t", x=ticked, y=Axis(label="y"), marks=(mark,))
    assert from_plain(json.loads(json.dumps(to_plain(figure)))).x == ticked
    assert "place" not in describe(figure) and "y from 0 to 1" in describe(figure)
