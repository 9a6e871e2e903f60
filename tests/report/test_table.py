import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.report import toy
from vallis.core.types import Array, Estimate, Result, Row, Verdict
from vallis.report import table
from vallis.report.section import sections


def written(tmp_path: Path, measured: Any = None, facts: Any = toy.FACTS) -> dict[str, Any]:
    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    found = sections(toy.measured() if measured is None else measured)
    path = table.write_results(tmp_path, facts, found, vallis_version="0.1.0")
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return held


def test_the_schema_is_exactly_this(tmp_path: Path) -> None:
    held = written(tmp_path)
    assert list(held) == ["schema", "vallis", "solution", "results"]
    assert (held["schema"], held["vallis"]) == (1, "0.1.0")
    assert list(held["solution"])[:4] == ["problem", "model", "parameters", "digest"]
    assert len(held["results"]) == 7
    for result in held["results"].values():
        assert list(result) == ["status", "values", "notes"]
        assert result["status"] in ("ok", "not_applicable", "failed")
        assert all(list(note) == ["code", "text"] for note in result["notes"])
        for value in result["values"].values():
            assert list(value) in (
                ["value", "stderr", "n", "unit", "method"],
                ["file", "dims", "unit"],
                ["file", "dims", "unit", "coords"],
            )
        if result["status"] != "ok":
            assert result["values"] == {}
            assert result["notes"]


def test_numbers_are_not_rounded(tmp_path: Path) -> None:
    held = written(tmp_path)["results"]["tests.report.toy:HessianSpectrum"]["values"]["top_eigenvalue"]
    assert held == {
        "value": 22.41387,
        "stderr": 3e-7,
        "n": 1437,
        "unit": "nats/weight^2",
        "method": "Lanczos, 62 steps",
    }


def test_arrays_lie_beside_with_their_coordinates(tmp_path: Path) -> None:
    held = written(tmp_path)["results"]["tests.report.toy:LossSlice"]["values"]["loss"]
    assert held["file"] == "arrays/tests.report.toy_LossSlice.loss.npy"
    assert held["dims"] == ["beta", "alpha"]
    np.testing.assert_array_equal(np.load(tmp_path / held["file"], allow_pickle=False), toy.SURFACE)
    for dim, path in held["coords"].items():
        assert path == f"arrays/tests.report.toy_LossSlice.loss.{dim}.npy"
        np.testing.assert_array_equal(np.load(tmp_path / path, allow_pickle=False), toy.GRID)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_null_and_noted(tmp_path: Path, bad: float) -> None:
    values = {"loss": Estimate(value=bad, stderr=bad), "fine": Estimate(value=1.0)}
    held = written(tmp_path, [(toy.LossSlice(), Result(values=values))], {**toy.FACTS, "train_loss": bad})
    (result,) = held["results"].values()
    assert (result["values"]["loss"]["value"], result["values"]["loss"]["stderr"]) == (None, None)
    assert [note["code"] for note in result["notes"]] == ["not_finite"]
    assert held["solution"]["train_loss"] is None


def test_scalars_of_other_libraries_become_plain(tmp_path: Path) -> None:
    number: Any = np.float32(0.5)
    values = {"a": Estimate(value=number, stderr=torch.tensor(0.25), n=np.int64(3))}  # type: ignore[arg-type]
    facts = {"problem": "p", "parameters": np.int64(7), "shape": (torch.tensor(3), {"x": np.arange(2)})}
    held = written(tmp_path, [(toy.LossSlice(), Result(values=values))], facts)
    (result,) = held["results"].values()
    assert result["values"]["a"] == {"value": 0.5, "stderr": 0.25, "n": 3, "unit": "1", "method": ""}
    assert held["solution"] == {
        "problem": "p",
        "model": None,
        "parameters": 7,
        "digest": None,
        "shape": [3, {"x": [0, 1]}],
    }


def test_an_array_of_objects_never_becomes_a_pickle(tmp_path: Path) -> None:
    array = Array(data=np.array([1, 2.5], dtype=object), dims=("k",))
    held = written(tmp_path, [(toy.LossSlice(), Result(values={"a": array}))])
    (result,) = held["results"].values()
    assert np.load(tmp_path / result["values"]["a"]["file"], allow_pickle=False).tolist() == [1.0, 2.5]


def test_keys_that_make_the_same_file_name_get_two_files(tmp_path: Path) -> None:
    arrays = {key: Array(data=np.array([float(n)]), dims=("k",)) for n, key in enumerate(("a b", "a/b", "../b"))}
    held = written(tmp_path, [(toy.LossSlice(), Result(values=arrays))])
    (result,) = held["results"].values()
    paths = [value["file"] for value in result["values"].values()]
    assert len(set(paths)) == 3
    assert [float(np.load(tmp_path / path)[0]) for path in paths] == [0.0, 1.0, 2.0]
    assert all((tmp_path / path).resolve().is_relative_to(tmp_path.resolve() / "arrays") for path in paths)


def test_claims_are_exactly_this(tmp_path: Path) -> None:
    held = json.loads(table.write_claims(tmp_path, "zhang2017", "smoke", toy.claims()).read_text())
    assert list(held) == ["schema", "study", "scale", "claims"]
    assert (held["schema"], held["study"], held["scale"]) == (1, "zhang2017", "smoke")
    keys = ["id", "says", "where", "about", "shows", "verdict", "statistic", "p", "n"]
    assert all(list(claim) == keys for claim in held["claims"])
    assert [claim["verdict"] for claim in held["claims"]] == ["holds", "undecided", "fails", "not_run"]
    assert held["claims"][0] | {"says": ""} == {
        "id": "fits_random",
        "says": "",
        "where": "section 2.1, table 1",
        "about": "",
        "shows": "",
        "verdict": "holds",
        "statistic": 0.998,
        "p": 0.003,
        "n": 10,
    }


def test_a_statistic_that_is_no_number_is_null(tmp_path: Path) -> None:
    claims = [(toy.claims()[0][0], Verdict(verdict="undecided", statistic=float("nan"), p=float("inf")))]
    held = json.loads(table.write_claims(tmp_path, "s", "smoke", claims).read_text())
    assert (held["claims"][0]["statistic"], held["claims"][0]["p"]) == (None, None)


def lines(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def test_a_line_for_each_number_of_a_study(tmp_path: Path) -> None:
    path = table.write_table(tmp_path, toy.rows())
    rows = lines(path)
    assert (
        path.read_text().splitlines()[0] == "labels,width,seed,measurement,key,value,stderr,n,unit,method,status,note"
    )
    assert len(rows) == 9 * 3 + 9
    assert rows[1] == {
        "labels": "true",
        "width": "64",
        "seed": "0",
        "measurement": "generalization_gap",
        "key": "test_accuracy",
        "value": "0.97",
        "stderr": "0.009",
        "n": "360",
        "unit": "1",
        "method": "fraction",
        "status": "ok",
        "note": "",
    }
    failed = [row for row in rows if row["status"] == "failed"]
    assert [(row["key"], row["value"], row["note"]) for row in failed] == [
        ("", "", "RuntimeError: The loss is not finite.")
    ]


def test_arrays_and_tags_with_the_name_of_a_column(tmp_path: Path) -> None:
    values = {"spectrum": Array(data=np.zeros((2, 3)), dims=("a", "b"), unit="nats")}
    row = Row(tags={"n": 5, "key": "k"}, seed=1, measurement="m", outcome=Result(values=values))
    (line,) = lines(table.write_table(tmp_path, [row, replace(row, tags={"kind": True})]))[:1]
    assert (line["tag_n"], line["tag_key"], line["kind"], line["n"]) == ("5", "k", "", "")
    assert (line["key"], line["value"], line["method"], line["unit"]) == ("spectrum", "", "array of 2x3", "nats")


def test_parquet_holds_the_same_with_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    mixed = replace(toy.rows()[0], tags={"labels": 3, "width": 1.5})
    table.write_table(tmp_path, [*toy.rows(), mixed])
    held = parquet.read_table(tmp_path / "table.parquet")
    columns = held.to_pydict()
    assert {name: str(held.schema.field(name).type) for name in ("labels", "width", "seed", "value", "n")} == {
        "labels": "string",
        "width": "double",
        "seed": "int64",
        "value": "double",
        "n": "int64",
    }
    as_text = [row["value"] for row in lines(tmp_path / "table.csv")]
    assert [("" if value is None else repr(value)) for value in columns["value"]] == as_text


def test_no_rows_still_have_a_header(tmp_path: Path) -> None:
    assert lines(table.write_table(tmp_path, [])) == []
