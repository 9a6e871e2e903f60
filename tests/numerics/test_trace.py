"""The trace against the exact one, and the promise of its error bar."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.numerics.solutions import mlp
from tests.numerics.test_lanczos import MATRIX, P
from tests.numerics.test_spectra import rotated
from vallis.core.errors import SettingsError, UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Dense
from vallis.numerics.trace import Method, trace
from vallis.testing.oracles import dense_hessian

RNG = Rng(0).child("trace")
TRUE = float(MATRIX.trace())


def test_small_operators_are_summed_exactly() -> None:
    matrix = rotated(torch.arange(30.0, dtype=torch.float64))
    operator = Dense(matrix)
    found = trace(operator, num_probes=3, rng=RNG)
    assert found.value == pytest.approx(float(matrix.trace()), rel=1e-12)
    assert (found.stderr, len(found.samples), found.num_products, operator.num_products) == (0.0, 0, 30, 30)
    assert found.interval() == (found.value, found.value)


def test_each_probe_is_a_quadratic_form_with_signs() -> None:
    """For a diagonal matrix every probe is exact."""
    found = trace(Dense(torch.diag(torch.arange(300.0, dtype=torch.float64))), num_probes=4, rng=RNG)
    np.testing.assert_allclose(found.samples, 299 * 150)
    assert found.stderr == 0.0


def test_mean_and_error_bar_are_those_of_the_samples() -> None:
    found = trace(Dense(MATRIX), num_probes=25, rng=RNG)
    assert found.value == pytest.approx(found.samples.mean())
    assert found.stderr == pytest.approx(stats.sem(found.samples))
    low, high = stats.t.interval(0.9, 24, loc=found.value, scale=found.stderr)
    assert found.interval(0.9) == pytest.approx((low, high))


@pytest.mark.parametrize("num_probes", [5, 20])
def test_the_interval_covers_the_truth_as_often_as_it_says(num_probes: int) -> None:
    """200 repeats; the number of misses of a 95 % interval lies within the central 99.8 % of its binomial law."""
    operator, repeats = Dense(MATRIX), 200
    covered, values = 0, []
    for repeat in range(repeats):
        found = trace(operator, num_probes=num_probes, rng=RNG.child(num_probes, repeat))
        low, high = found.interval()
        covered += low <= TRUE <= high
        values.append(found.value)
    lowest, highest = stats.binom.ppf([0.001, 0.999], repeats, 0.95)
    assert lowest <= covered <= highest
    # Unbiased, and as spread as theory says: Var(z'Az) = 2 (|A|^2 - |diag A|^2) for random signs.
    variance = 2 * float((MATRIX**2).sum() - (MATRIX.diagonal() ** 2).sum()) / num_probes
    assert np.mean(values) == pytest.approx(TRUE, abs=4 * np.sqrt(variance / repeats))
    assert np.var(values) == pytest.approx(variance, rel=0.4)


def test_known_eigenpairs_take_their_part_of_the_noise_away() -> None:
    operator = Dense(MATRIX)
    known = eigenpairs(operator, largest=8, rng=RNG, tolerance=1e-3).largest
    plain, deflated = (trace(operator, num_probes=40, rng=RNG, known=each) for each in (None, known))
    assert plain.stderr is not None
    assert deflated.stderr is not None
    assert deflated.stderr < plain.stderr / 3
    assert deflated.value == pytest.approx(TRUE, abs=4 * deflated.stderr)


def test_known_pairs_need_not_be_good_for_the_trace_to_be_unbiased() -> None:
    rough = eigenpairs(Dense(MATRIX), largest=4, rng=RNG, max_products=6)
    assert not rough.converged
    found = trace(Dense(MATRIX), num_probes=400, rng=RNG, known=rough.largest)
    assert found.stderr is not None
    assert found.value == pytest.approx(TRUE, abs=4 * found.stderr)


def test_a_single_probe_has_no_error_bar() -> None:
    found = trace(Dense(MATRIX), num_probes=1, rng=RNG)
    assert found.stderr is None
    assert found.interval() == (-np.inf, np.inf)


def test_probes_are_the_same_for_every_dtype_and_paired_by_their_number() -> None:
    double, single = (trace(Dense(MATRIX.to(d)), num_probes=6, rng=RNG) for d in (torch.float64, torch.float32))
    np.testing.assert_allclose(double.samples, single.samples, rtol=1e-4)
    np.testing.assert_array_equal(trace(Dense(MATRIX), num_probes=3, rng=RNG).samples, double.samples[:3])


def test_a_networks_trace() -> None:
    solution = mlp()
    true = float(dense_hessian(solution).trace())
    hessian = Hessian(Objective(solution, dtype=torch.float64))
    assert trace(hessian, num_probes=1, rng=RNG).value == pytest.approx(true, rel=1e-9)
    found = trace(hessian, num_probes=200, rng=RNG, exact_size=0)
    assert found.stderr is not None
    assert found.value == pytest.approx(true, abs=4 * found.stderr)


def test_impossible_wishes_and_nan_are_refused() -> None:
    with pytest.raises(SettingsError, match="num_probes=0"):
        trace(Dense(MATRIX), num_probes=0, rng=RNG)
    for size in (10, 300):
        with pytest.raises(UsageError, match="finite"):
            operator = Dense(torch.full((size, size), torch.nan))
            trace(operator, num_probes=2, rng=RNG)


@pytest.mark.parametrize("method", ["auto", "hutchinson", "krylov", "hutch++", "xtrace", "xnystrace"])
def test_every_method_spends_what_it_was_given(method: Method) -> None:
    operator = Dense(MATRIX @ MATRIX)
    found = trace(operator, num_probes=40, rng=RNG, method=method)
    assert (found.num_products, operator.num_products) == (40, 40)
    assert found.method == ("krylov" if method == "auto" else method)
    assert found.stderr is not None
    assert found.value == pytest.approx(float((MATRIX**2).sum()), abs=4 * found.stderr + 1e-6)
    assert found.value == pytest.approx(found.samples.mean())


def test_auto_has_no_sketch_where_there_is_no_room_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trace(Dense(MATRIX), num_probes=17, rng=RNG, method="auto").method == "hutchinson"
    assert trace(Dense(MATRIX), num_probes=18, rng=RNG, method="auto").method == "krylov"
    monkeypatch.setattr("vallis.numerics.trace._SKETCH_BYTES", 40 * P * 8 - 1)
    assert trace(Dense(MATRIX), num_probes=40, rng=RNG, method="auto").method == "hutchinson"


@pytest.mark.parametrize("method", ["hutchinson", "krylov", "hutch++", "xtrace"])
def test_known_pairs_may_be_rough_for_every_method(method: Method) -> None:
    rough = eigenpairs(Dense(MATRIX), largest=4, rng=RNG, max_products=6)
    assert not rough.converged
    values = [
        trace(Dense(MATRIX), num_probes=24, rng=RNG.child(seed), known=rough.largest, method=method).value
        for seed in range(100)
    ]
    assert np.mean(values) == pytest.approx(TRUE, abs=4 * stats.sem(values))


def test_what_a_method_cannot_do_is_refused() -> None:
    with pytest.raises(SettingsError, match="a method among auto"):
        trace(Dense(MATRIX), num_probes=20, rng=RNG, method="guess")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="between 6 and 400"):
        trace(Dense(MATRIX), num_probes=5, rng=RNG, method="krylov")
    with pytest.raises(SettingsError, match="between 6 and 400"):
        trace(Dense(MATRIX), num_probes=401, rng=RNG, method="xtrace")
    with pytest.raises(UsageError, match="symmetric"):
        trace(Dense(torch.triu(torch.ones(300, 300))), num_probes=20, rng=RNG, method="xtrace")


def test_the_toy_is_large_enough() -> None:
    assert P > 256  # or the tests above would all have been exact


def test_more_products_than_parameters_are_summed_up_exactly() -> None:
    found = trace(Dense(rotated(torch.arange(300.0).double())), num_probes=1000, rng=Rng(0), method="auto")
    assert (found.stderr, found.num_products) == (0.0, 300)
    assert found.value == pytest.approx(299 * 300 / 2)
