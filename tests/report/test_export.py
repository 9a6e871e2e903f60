import json
from pathlib import Path

import pytest

from tests.report import toy
from vallis.core.errors import StoreError, UsageError
from vallis.report.csv_figure import to_csv
from vallis.report.export import export, load_figures, write_figures
from vallis.report.figure import FORMATS
from vallis.report.page import write_examination


def test_figures_come_back_from_a_report(tmp_path: Path) -> None:
    write_examination(tmp_path, toy.FACTS, toy.measured(), vallis_version="0.1.0")
    figures = load_figures(tmp_path)
    assert [figure.name for figure in figures] == [
        "training_curves",
        "hessian_spectrum",
        "trace_by_layer",
        "loss_plane_linear",
        "loss_surface_linear",
        "hardest",
        "by_labels",
    ]
    assert to_csv(figures[3]) == to_csv(toy.heatmap())


def test_every_figure_in_every_format(tmp_path: Path) -> None:
    write_figures(tmp_path, [toy.bars(), toy.bars(), toy.hostile_figure()])
    paths = export(tmp_path, [*FORMATS, "csv"])
    assert len(paths) == 3 * 4
    assert all(path.parent == tmp_path / "figures" and path.stat().st_size > 100 for path in paths)
    assert {path.name for path in paths} >= {"accuracy.pdf", "accuracy-2.pdf"}


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_figures(tmp_path, [toy.bars()])
    with pytest.raises(UsageError, match=r"among pdf, svg, png, csv, vtk were required, 'gif' came"):
        export(tmp_path, ["csv", "gif"])
    assert not (tmp_path / "figures").exists()


def test_a_folder_without_a_report_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"figures\.json is not there: give the folder of a report"):
        export(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"figures": [{"name": "f"}]})])
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "figures.json").write_text(text)
    with pytest.raises(StoreError, match="make the report anew"):
        load_figures(tmp_path)
