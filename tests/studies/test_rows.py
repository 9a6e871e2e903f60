from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vallis.core.types import Array, Estimate, Failed, NotApplicable, Note, Outcome, Result, Row
from vallis.studies._rows import by_seed, judged, mean_and_error, paired, results, same_seeds


def row(seed: int, outcome: Outcome, measurement: str = "gap", **tags: str | float) -> Row:
    return Row(tags=tags, seed=seed, measurement=measurement, outcome=outcome)


def found(value: float) -> Result:
    return Result(values={"loss": Estimate(value=value), "curve": Array(data=np.zeros(2), dims=("step",))})


ROWS = [
    row(0, found(1.0), labels=0.0, net="mlp"),
    row(1, found(2.0), labels=0.0, net="mlp"),
    row(1, found(3.0), labels=1.0, net="mlp"),
    row(2, found(4.0), labels=1.0, net="mlp"),
    row(0, found(5.0), labels=1.0, net="convnet"),
    row(0, found(9.0), measurement="other", labels=0.0, net="mlp"),
    row(3, Failed(error="DataMissing", message="none"), labels=0.0, net="mlp"),
    row(4, NotApplicable(note=Note(code="x", text="x")), labels=0.0, net="mlp"),
    row(5, found(math.nan), labels=0.0, net="mlp"),
]


def test_a_cell_is_read_by_seed() -> None:
    assert by_seed(ROWS, "gap", "loss", {"labels": 0.0, "net": "mlp"}) == {0: 1.0, 1: 2.0}
    assert by_seed(ROWS, "gap", "loss", {"labels": 1.0, "net": "mlp"}) == {1: 3.0, 2: 4.0}
    assert by_seed(ROWS, "other", "loss", {"labels": 0.0}) == {0: 9.0}


def test_what_is_not_there_is_nothing() -> None:
    assert by_seed(ROWS, "gap", "loss", {"labels": 0.5}) == {}
    assert by_seed(ROWS, "gap", "loss", {"colour": "red"}) == {}
    assert by_seed(ROWS, "gap", "curve", {}) == {}
    assert by_seed([], "gap", "loss", {}) == {}


def test_only_seeds_that_have_everything_are_compared() -> None:
    cells = [by_seed(ROWS, "gap", "loss", {"labels": labels, "net": "mlp"}) for labels in (0.0, 1.0)]
    assert paired(cells).tolist() == [[2.0, 3.0]]
    assert paired([cells[0]]).tolist() == [[1.0], [2.0]]
    assert paired([cells[0], {}]).shape == (0, 2)
    assert paired([]).shape == (0, 0)


def test_mean_and_error() -> None:
    lines = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    mean, error = mean_and_error(lines)
    np.testing.assert_allclose(mean, [3, 5])
    np.testing.assert_allclose(error, [2 / math.sqrt(3), 0])
    np.testing.assert_allclose(mean_and_error(lines[:1])[1], [0, 0])


def test_all_that_was_found_in_one_cell_and_no_other() -> None:
    assert set(results(ROWS, "gap", {"labels": 0.0, "net": "mlp"})) == {0, 1, 5}
    assert results(ROWS, "gap", {"labels": 0.0}) == {}


def test_a_rule_is_put_to_every_seed_that_has_all_cells() -> None:
    cells = [{"labels": labels, "net": "mlp"} for labels in (0.0, 1.0)]
    rows = [row(seed, found(seed + labels), labels=labels, net="mlp") for seed in range(6) for labels in (0.0, 1.0)]
    rows.append(row(9, found(100.0), labels=0.0, net="mlp"))

    def rises(held: Sequence[Result]) -> tuple[bool, float]:
        low, high = (each.estimate("loss").value for each in held)
        return high > low, math.nan if low == 5.0 else low

    verdict = judged(rows, "gap", cells, rises)
    assert (verdict.verdict, verdict.n) == ("holds", 6)
    assert verdict.statistic == 2.0, "the median of 0 to 4: of seed 5 nothing is shown, and seed 9 lacks a cell"
    assert judged(rows, "gap", cells[::-1], rises).verdict == "fails"
    assert judged(rows, "gap", [*cells, {"labels": 2.0}], rises).verdict == "not_run"
    assert judged(rows, "gap", [], rises).verdict == "not_run"


def test_several_numbers_of_the_same_seeds() -> None:
    def both(seed: int, **values: float) -> Row:
        return row(seed, Result(values={key: Estimate(value=value) for key, value in values.items()}), net="mlp")

    rows = [both(0, loss=1.0, gap=10.0), both(1, loss=2.0), both(2, gap=30.0), both(3, loss=4.0, gap=math.nan)]
    assert same_seeds(rows, "gap", ["loss", "gap"], [{"net": "mlp"}]).tolist() == [[[1.0], [10.0]]]
    kept = same_seeds(rows, "gap", ["loss", "gap"], [{"net": "mlp"}], undefined=True)
    np.testing.assert_equal(kept[:, :, 0], [[1, 10], [4, math.nan]])
    assert same_seeds([], "gap", ["loss", "gap"], [{}, {}, {}]).shape == (0, 2, 3)
    assert by_seed(ROWS, "gap", "loss", {"labels": 0.0, "net": "mlp"}, undefined=True).keys() == {0, 1, 5}
