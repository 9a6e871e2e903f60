from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.problems.expect import arrays, build
from vallis.core import spec
from vallis.core.errors import DataChanged, DataCorrupt, DataError, DataMissing, SettingsError
from vallis.problems.arrays import Arrays

GENERATOR = np.random.default_rng(0)
GOOD: dict[str, Any] = {
    "x_train": GENERATOR.normal(size=(7, 3)),
    "y_train": np.array([0, 1, 2, 0, 1, 2, 0], dtype=np.int8),
    "x_test": GENERATOR.normal(size=(4, 3)),
    "y_test": np.array([0, 1, 2, 1]),
}


def save(path: Path, **arrays_: Any) -> str:
    np.savez(path, **arrays_)
    return str(path)


def test_the_file_becomes_a_task(tmp_path: Path) -> None:
    task = build(Arrays(path=save(tmp_path / "mine.npz", **GOOD, more=np.zeros(2))))
    train, test = arrays(task, "train"), arrays(task, "test")
    np.testing.assert_allclose(train.x.numpy(), GOOD["x_train"], rtol=1e-6)
    assert test.y.tolist() == [0, 1, 2, 1]
    assert (train.index.tolist(), test.index.tolist()) == ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10])
    assert task.loss.kind == "categorical"


def test_a_test_set_is_optional(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", x_train=GOOD["x_train"], y_train=GOOD["y_train"])
    assert list(build(Arrays(path=path)).splits) == ["train"]


def test_regression_and_binary(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", **{**GOOD, "y_train": GENERATOR.normal(size=(7, 2)), "y_test": np.zeros((4, 2))})
    task = build(Arrays(path=path, loss="squared_error"))
    assert task.loss.kind == "other"
    assert arrays(task, "train").y.shape == (7, 2)
    path = save(tmp_path / "b.npz", **{**GOOD, "y_train": np.arange(7) % 2 == 0, "y_test": np.ones(4, dtype=int)})
    assert build(Arrays(path=path, loss="binary_cross_entropy")).loss.kind == "binary"


def test_the_name_of_a_run_depends_on_the_content(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", **GOOD)
    first = Arrays(path=path)
    assert len(first.sha256) == 64
    assert spec.from_spec(spec.to_spec(first)) == first
    save(tmp_path / "a.npz", **{**GOOD, "y_test": np.array([0, 1, 2, 2])})
    second = Arrays(path=path)
    assert spec.digest(first) != spec.digest(second)
    with pytest.raises(DataChanged, match=first.sha256[:12]):
        build(first)
    build(second)
    build(replace(first, sha256=""))


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(DataMissing, match=str(path)):
            Arrays(path=str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"y_test": None}, "lacks y_test"),
        ({"x_train": None}, "lacks x_train"),
        ({"x_train": np.zeros((0, 3)), "y_train": np.zeros(0, dtype=int)}, "at least one example"),
        ({"x_train": np.array(3.0)}, "at least one example"),
        ({"x_train": np.full((7, 3), np.nan)}, "NaN or infinity in row 0"),
        ({"x_test": np.array([[0.0] * 3, [0, 1e300, 0], [0] * 3, [0] * 3])}, "NaN or infinity in row 1"),
        ({"x_train": np.full((7, 3), "a")}, "real numbers"),
        ({"x_train": np.zeros((7, 3), dtype=complex)}, "real numbers"),
        ({"x_train": np.zeros((6, 3))}, "7 targets|6 targets|required"),
        ({"x_test": np.zeros((4, 5))}, "inputs of one shape"),
        ({"y_train": np.zeros((7, 2), dtype=int)}, "one integer class a row"),
        ({"y_train": np.zeros(7)}, "one integer class a row"),
        ({"y_train": np.arange(7) - 1}, "goes down to -1"),
    ],
)
def test_bad_content_is_one_sentence(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    held = {key: array for key, array in {**GOOD, **change}.items() if array is not None}
    with pytest.raises(DataError, match=said) as raised:
        build(Arrays(path=save(tmp_path / "a.npz", **held)))
    assert "\n" not in str(raised.value)


def test_two_classes_only_for_the_binary_loss(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 and 1 were required"):
        build(Arrays(path=save(tmp_path / "a.npz", **GOOD), loss="binary_cross_entropy"))


def test_no_npz_and_no_pickles(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_text("x,y")
    with pytest.raises(DataCorrupt, match="damaged"):
        build(Arrays(path=str(path)))
    save(path, **{**GOOD, "x_train": np.array([{}] * 7, dtype=object)})
    with pytest.raises(DataCorrupt, match="Object arrays"):
        build(Arrays(path=str(path)))


def test_unknown_loss(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"arrays\.loss"):
        Arrays(path="a.npz", loss="hinge")  # type: ignore[arg-type]
