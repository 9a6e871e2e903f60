import csv
import io

import numpy as np
import pytest

from tests.report import toy
from vallis.core.figures import Axis, Figure, Mark
from vallis.report.csv_figure import COLUMNS, to_csv


def read(figure: Figure) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(to_csv(figure), newline=""))
    rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    return rows


def column(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) if row[name] else float("nan") for row in rows]


def test_a_line_comes_back_bit_for_bit() -> None:
    y = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)
    y[3] = np.nan
    figure = Figure(
        name="f", title="F", x=Axis(label="x"), y=Axis(label="y"), marks=(Mark(kind="line", y=y, label="a, b"),)
    )
    rows = read(figure)
    np.testing.assert_array_equal(column(rows, "y"), y)
    assert {row["label"] for row in rows} == {"a, b"}
    assert rows[3]["y"] == ""


def test_nothing_is_dropped_that_only_the_axis_cannot_show() -> None:
    axis = Axis(label="y", scale="log")
    rows = read(Figure(name="f", title="F", x=Axis(label="x"), y=axis, marks=(Mark(kind="line", y=[-1.0, np.inf]),)))
    assert column(rows, "y") == [-1.0, np.inf]


def test_a_grid_is_long() -> None:
    rows = read(toy.heatmap())
    assert len(rows) == 41 * 41
    np.testing.assert_array_equal(np.reshape(column(rows, "z"), (41, 41)), toy.SURFACE)
    assert (float(rows[1]["x"]), float(rows[1]["y"])) == (toy.GRID[1], toy.GRID[0])


def test_bands_bars_and_images() -> None:
    bands = [row for row in read(toy.lines()) if row["mark"] == "band"]
    assert all(float(row["low"]) < float(row["high"]) for row in bands)
    bars = read(toy.bars())
    assert (bars[5]["x"], bars[5]["y"], bars[5]["error"], bars[5]["label"]) == (
        "random labels",
        "0.101",
        "0.009",
        "test",
    )
    pixels = read(toy.images())
    assert len(pixels) == 8 * 16 * 16
    assert (pixels[17]["label"], pixels[17]["x"], pixels[17]["y"]) == ("0 as 3", "1", "1")


@pytest.mark.parametrize("figure", toy.figures(), ids=lambda figure: figure.name)
def test_every_kind_is_written(figure: Figure) -> None:
    assert len(read(figure)) > 1


def test_text_with_quotes_and_line_ends_comes_back() -> None:
    nasty = 'a "quoted"\r\n, line;\ttab' + toy.HOSTILE
    mark = Mark(kind="bar", x=[nasty], y=[1.0], label=nasty)
    rows = read(Figure(name="f", title="F", x=Axis(label="x", scale="category"), y=Axis(label="y"), marks=(mark,)))
    assert (rows[0]["x"], rows[0]["label"]) == (nasty, nasty)
