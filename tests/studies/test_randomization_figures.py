from __future__ import annotations

import numpy as np
from scipy import stats

from tests.studies.randomization import rows_of
from vallis.studies.zhang2017_randomization import Zhang2017Randomization

STUDY = Zhang2017Randomization()


def test_figures_show_what_there_is() -> None:
    assert STUDY.figures([]) == []
    rows = [row for row in rows_of("digits", 5) if row.tags["pixels"] == "none"]
    assert [figure.name for figure in STUDY.figures(rows)] == ["time_to_fit", "test_error"]
    figures = {figure.name: figure for figure in STUDY.figures([*rows_of("digits", 5), *rows_of("cifar10", 3)])}
    assert list(figures)[:3] == ["time_to_fit", "test_error", "time_by_kind"]
    assert list(figures)[3:] == ["learned_with_cifar10", "fitted_with_cifar10"]
    (digits, *others) = figures["time_to_fit"].marks
    assert digits.label == "digits, mlp (n=5)"
    assert len(others) == 5
    assert digits.x == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    ratios = [[1000 * (1 + share) + 10 * seed for share in digits.x] for seed in range(5)]
    np.testing.assert_allclose(digits.y, np.mean([np.divide(line, line[0]) for line in ratios], axis=0))
    assert digits.error[0] == 0
    assert (digits.error[1:] > 0).all()
    errors = [[0.1 + 0.8 * share - 0.001 * (seed % 3) for share in digits.x] for seed in range(5)]
    np.testing.assert_allclose(figures["test_error"].marks[0].y, np.mean(errors, axis=0))
    np.testing.assert_allclose(figures["test_error"].marks[0].error, stats.sem(errors) * stats.t.ppf(0.975, 4))
    assert figures["time_by_kind"].marks[0].kind == "bar"
    assert figures["time_by_kind"].x.scale == "category"


def test_the_error_is_called_the_gap_where_everything_is_fitted_only() -> None:
    def caption(train: float) -> str:
        rows = rows_of("digits", 5, lambda numbers, tags, seed: numbers.update(train_accuracy=train))
        (figure,) = [figure for figure in STUDY.figures(rows) if figure.name == "test_error"]
        return figure.caption

    assert "this is the generalization gap as well" in caption(1.0)
    assert "the generalization gap is smaller than this" in caption(0.98)
