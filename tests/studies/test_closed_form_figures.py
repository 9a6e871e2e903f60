"""The pictures of what is built in closed form, from tables whose numbers are known."""

from __future__ import annotations

import numpy as np

from tests.studies.closed_form import row_of, rows_of
from vallis.studies._closed_form_rules import RANDOM_CONVOLUTIONS, RIDGE, RIDGE_ON_CONVOLUTIONS
from vallis.studies._randomization_figures import figures


def test_figures_compare_norms() -> None:
    drawn = {figure.name: figure for figure in figures(rows_of("digits", 5), (0.0, 1.0))}
    (norms,) = drawn["norms_of_interpolants"].marks
    np.testing.assert_allclose(norms.y, [24, 40, 48])
    np.testing.assert_allclose(norms.error, 0)
    (linear,) = drawn["norms_of_linear_models"].marks
    assert len(linear.x) == 6
    (kernels,) = drawn["kernel_norm_by_features"].marks
    np.testing.assert_allclose(kernels.y, [24, 50])
    assert kernels.label == "digits (n=5)"
    (construction,) = drawn["construction"].marks
    np.testing.assert_allclose(construction.y, [1.9e-6, 1.9e-6, 2, 2])
    assert drawn["construction"].y.scale == "log"


def test_the_figure_of_errors_shows_what_features_and_a_penalty_do_and_what_failed_leaves_the_others() -> None:
    rows = rows_of("digits", 5)
    errors = {RIDGE: 0.015, RANDOM_CONVOLUTIONS: 0.06, RIDGE_ON_CONVOLUTIONS: 0.05}
    for network, error in errors.items():
        for seed in range(3 if network == RIDGE_ON_CONVOLUTIONS else 5):
            rows.append(row_of("digits", network, {}, seed, "kernel_interpolation", {"test_error": error}, 100))
    drawn = {figure.name: figure for figure in figures(rows, (0.0, 1.0))}
    (bars,) = drawn["kernel_test_error_by_features"].marks
    assert bars.x == ["pixels", "pixels, l2", "Gabor features", "random convolutions", "random convolutions, l2"]
    np.testing.assert_allclose(bars.y, [0.02, 0.015, 0.01, 0.06, 0.05])
    assert bars.label == "digits (n=3 to 5)"
