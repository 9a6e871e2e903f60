"""A structured grid as ParaView reads it: read back by the rules of the format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vallis.core.errors import UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.report.export import export, write_figures
from vallis.report.figure import save
from vallis.report.vtk import to_vtk

X, Y = np.array([-1.0, 0.0, 1.0]), np.array([0.0, 2.0])
Z = np.array([[1.0, 10.0, 100.0], [2.0, np.nan, 4.0]])


def figure(kind: str = "surface") -> Figure:
    mark = Mark(kind=kind, x=X, y=Y, z=Z) if kind == "surface" else Mark(kind="line", x=X, y=X)  # type: ignore[arg-type]
    loss = Axis(label="loss (nats)", scale="log")
    return Figure(name=kind, title="Löss", x=Axis(label="a"), y=Axis(label="b"), z=loss, marks=(mark,))


def test_points_and_values_are_where_the_format_wants_them() -> None:
    lines = to_vtk(figure()).splitlines()
    assert lines[0] == "# vtk DataFile Version 3.0"
    assert lines[1].isascii()
    assert lines[2:4] == ["ASCII", "DATASET STRUCTURED_GRID"]
    assert lines[4] == "DIMENSIONS 3 2 1"
    assert lines[5] == "POINTS 6 double"
    points = np.array([line.split() for line in lines[6:12]], dtype=float)
    # x runs fastest.
    np.testing.assert_array_equal(points[:, 0], [-1, 0, 1, -1, 0, 1])
    np.testing.assert_array_equal(points[:, 1], [0, 0, 0, 2, 2, 2])
    # A third of the longer side, 2, along the logarithm; what is no number lies highest.
    np.testing.assert_allclose(points[:3, 2], [0, 1 / 3, 2 / 3], rtol=1e-8)
    assert points[4, 2] == pytest.approx(2 / 3)
    assert lines[12] == "POINT_DATA 6"
    assert lines[13:15] == ["SCALARS loss_nats double 1", "LOOKUP_TABLE default"]
    np.testing.assert_array_equal(np.array(lines[15:21], dtype=float), Z.ravel())
    assert lines[21] == "SCALARS log_loss_nats double 1"


def test_only_surfaces_are_written(tmp_path: Path) -> None:
    assert save(figure(), tmp_path / "a.vtk").read_text().startswith("# vtk")
    with pytest.raises(UsageError, match="a figure with a surface"):
        save(figure("line"), tmp_path / "b.vtk")
    write_figures(tmp_path, [figure(), figure("line")])
    assert [path.name for path in export(tmp_path, ["vtk"])] == ["surface.vtk"]


def test_surfaces_side_by_side_are_one_grid_with_a_gap() -> None:
    one = figure()
    marks = tuple(replace(one.marks[0], z=z, label=label) for z, label in ((Z, "a"), (2 * Z, "b")))
    lines = to_vtk(replace(one, marks=marks)).splitlines()
    assert lines[4] == "DIMENSIONS 7 2 1"
    points = np.array([line.split() for line in lines[6:20]], dtype=float)
    np.testing.assert_array_equal(points[:7, 0], [-1, 0, 1, 2, 3, 4, 5])
    start = lines.index("LOOKUP_TABLE default") + 1
    values = np.array(lines[start : start + 14], dtype=float).reshape(2, 7)
    np.testing.assert_array_equal(values, np.column_stack([Z, np.full(2, np.nan), 2 * Z]))
