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
from vallis.numerics.probes import chance_of_agreement
from vallis.numerics.spectra import Eigenpairs
from vallis.numerics.trace import Method, trace
from vallis.testing.oracles import dense_hessian

RNG = Rng(0).child("trace")
TRUE = float(MATRIX.trace())


def test_small_operators_are_summed_exactly() -> None:
    matrix = rotated(torch.arange(30.0, dtype=torch.float64))
    operator = 1.0 * Dense(matrix)  # not the matrix itself, which is written out without a product
    found = trace(operator, num_probes=3, rng=RNG)
    assert found.value == pytest.approx(float(matrix.trace()), rel=1e-12)
    assert (found.stderr, len(found.samples), found.num_products, operator.num_products) == (0.0, 0, 30, 30)
    assert found.interval() == (found.value, found.value)


def test_each_probe_is_a_quadratic_form_with_signs() -> None:
    """For a diagonal matrix every probe is exact, which few probes cannot tell from luck and twelve can."""
    operator = Dense(torch.diag(torch.arange(300.0, dtype=torch.float64)))
    few, many = (trace(operator, num_probes=count, rng=RNG) for count in (4, 12))
    np.testing.assert_allclose(many.samples, 299 * 150)
    assert (few.stderr, few.agree, few.exact) == (None, True, False)
    assert (few.interval(), many.interval()) == ((-np.inf, np.inf), (many.value, many.value))


def test_two_probes_that_agree_by_luck_are_not_exact() -> None:
    """A pair of coordinates that are coupled: ``z'Az = 2 z_1 z_2`` is 2 or -2, and the trace is 0."""
    matrix = torch.zeros(300, 300, dtype=torch.float64)
    matrix[0, 1] = matrix[1, 0] = 1.0
    found = [trace(Dense(matrix), num_probes=2, rng=RNG.child(repeat)) for repeat in range(40)]
    lucky = [each for each in found if each.samples[0] == each.samples[1]]
    assert 5 < len(lucky) < 35
    for each in lucky:
        assert (each.stderr, each.exact, each.interval()) == (None, False, (-np.inf, np.inf))
    covered = [low <= 0.0 <= high for low, high in (each.interval() for each in found)]
    assert all(covered)


@pytest.mark.parametrize("size", [3, 4, 5])
def test_luck_is_no_more_frequent_than_the_bound(size: int) -> None:
    """All signs of small matrices by enumeration: no value of a form that varies has more than 3/4 of them."""
    generator = torch.Generator().manual_seed(size)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * size)
    for _ in range(50):
        matrix = torch.randint(-1, 2, (size, size), generator=generator).float().triu(1)
        values, counts = ((corners @ matrix) * corners).sum(1).unique(return_counts=True)
        assert len(values) == 1 or int(counts.max()) <= 0.75 * 2**size
    assert chance_of_agreement(12) == pytest.approx(0.75**11)


def test_mean_and_error_bar_are_those_of_the_samples() -> None:
    found = trace(Dense(MATRIX), num_probes=25, rng=RNG)
    assert found.value == pytest.approx(found.samples.mean())
    assert found.stderr is not None
    # Of the scatter of the samples and the variance that the products tell, the larger.
    true = np.sqrt(2 * float((MATRIX**2).sum() - (MATRIX.diagonal() ** 2).sum()) / 25)
    assert found.stderr >= stats.sem(found.samples)
    assert 0.8 * true < found.stderr < 1.5 * true
    low, high = stats.t.interval(0.9, 24, loc=found.value, scale=found.stderr)
    assert found.interval(0.9) == pytest.approx((low, high))


@pytest.mark.parametrize("num_probes", [5, 20])
def test_the_interval_covers_the_truth_as_often_as_it_says(num_probes: int) -> None:
    """200 repeats; a 95 % interval covers no less often than its binomial law lets it in 99.9 % of all cases."""
    operator, repeats = Dense(MATRIX), 200
    covered, values = 0, []
    for repeat in range(repeats):
        found = trace(operator, num_probes=num_probes, rng=RNG.child(num_probes, repeat))
        low, high = found.interval()
        covered += low <= TRUE <= high
        values.append(found.value)
    assert covered >= stats.binom.ppf(0.001, repeats, 0.95)
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
    for operator in (Dense(MATRIX), Dense(MATRIX[:6, :6])):
        with pytest.raises(SettingsError, match="at least 6 products were required for 'krylov', num_probes=5"):
            trace(operator, num_probes=5, rng=RNG, method="krylov", exact_size=0)
    with pytest.raises(UsageError, match="symmetric"):
        trace(Dense(torch.triu(torch.ones(300, 300))), num_probes=20, rng=RNG, method="xtrace")


def test_the_toy_is_large_enough() -> None:
    assert P > 256  # or the tests above would all have been exact


SKETCHES: tuple[Method, ...] = ("auto", "krylov", "hutch++", "xtrace", "xnystrace")


@pytest.mark.parametrize("method", SKETCHES)
@pytest.mark.parametrize("size", [1, 5, 30])
def test_no_fewer_products_than_parameters_are_summed_up_exactly(size: int, method: Method) -> None:
    matrix = rotated(torch.arange(1.0, size + 1).double())
    for num_probes in (size, size + 1000):
        found = trace(Dense(matrix), num_probes=num_probes, rng=RNG, method=method, exact_size=0)
        assert (found.exact, found.stderr, found.num_products, found.method) == (True, 0.0, size, "exact")
        assert found.value == pytest.approx(size * (size + 1) / 2)


@pytest.mark.parametrize("method", SKETCHES)
@pytest.mark.parametrize("left", [0, 3, 20])
def test_what_known_pairs_leave_is_summed_up_where_it_is_little(left: int, method: Method) -> None:
    matrix = rotated(torch.linspace(1.0, 40.0, 40, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(matrix)
    count = 40 - left
    known = Eigenpairs(
        values=values[:count].numpy(),
        vectors=vectors[:, :count],
        residuals=np.zeros(count),
        converged=np.ones(count, dtype=bool),
    )
    found = trace(Dense(matrix), num_probes=20, rng=RNG, method=method, known=known, exact_size=0)
    assert (found.exact, found.num_products) == (True, left)
    assert found.value == pytest.approx(820.0)


@pytest.mark.parametrize("method", ["krylov", "xtrace", "xnystrace"])
def test_nothing_but_zeros_is_no_proof(method: Method) -> None:
    found = trace(Dense(torch.zeros(300, 300)), num_probes=30, rng=RNG, method=method)
    assert (found.value, found.stderr, found.agree, found.exact) == (0.0, None, True, False)
    assert found.interval() == (0.0, 0.0)


def with_an_outlier() -> torch.Tensor:
    bulk = 0.01 * torch.rand(299, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return rotated(torch.cat([bulk, torch.tensor([10.0], dtype=torch.float64)]))


INDEFINITE = torch.cat([torch.tensor([5.0, -4.0, 3.0]), 0.01 * torch.linspace(-3, 3, 297)]).double()


def test_skewed_samples_are_noted_and_known_pairs_mend_them() -> None:
    """One direction holds 87 % of the trace, and its part of each probe is chi-square."""
    matrix = with_an_outlier()
    largest = eigenpairs(Dense(matrix), largest=1, rng=RNG, tolerance=1e-8).largest
    covered, noted, repeats = np.zeros(2), np.zeros(2), 200
    for repeat in range(repeats):
        for place, known in enumerate((None, largest)):
            found = trace(Dense(matrix), num_probes=32, rng=RNG.child(repeat), known=known)
            low, high = found.interval()
            covered[place] += low <= float(matrix.trace()) <= high
            noted[place] += "skewed_samples" in [note.code for note in found.notes]
    assert noted[0] > 0.8 * repeats
    assert noted[1] <= stats.binom.ppf(0.999, repeats, 0.05)
    assert (covered >= stats.binom.ppf(0.001, repeats, 0.95)).all()


@pytest.mark.parametrize(("method", "num_probes"), [("hutchinson", 4), ("hutchinson", 16), ("hutch++", 8)])
def test_few_skewed_samples_know_their_own_error_from_the_products(method: Method, num_probes: int) -> None:
    """By their scatter alone 82 % of 1000 intervals cover with 4 signs, and 86 % of Hutch++'s with 8 products."""
    matrix = with_an_outlier() if method == "hutchinson" else rotated(INDEFINITE)
    true, repeats = float(matrix.trace()), 300
    intervals = (
        trace(Dense(matrix), num_probes=num_probes, rng=RNG.child(seed), method=method).interval()
        for seed in range(repeats)
    )
    covered = sum(low <= true <= high for low, high in intervals)
    assert covered >= stats.binom.ppf(0.001, repeats, 0.95)


def test_unconverged_pairs_are_noted() -> None:
    rough = eigenpairs(Dense(MATRIX), largest=4, rng=RNG, max_products=6).largest
    good = eigenpairs(Dense(MATRIX), largest=4, rng=RNG, tolerance=1e-6).largest
    codes = [[n.code for n in trace(Dense(MATRIX), num_probes=4, rng=RNG, known=k).notes] for k in (rough, good)]
    assert codes == [["known_not_converged"], []]


@pytest.mark.parametrize("method", ["hutchinson", "krylov", "hutch++", "xtrace"])
@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_a_scale_whose_square_float32_does_not_hold(method: Method, scale: float) -> None:
    plain = trace(Dense(MATRIX), num_probes=30, rng=RNG, method=method)
    found = trace(Dense((scale * MATRIX).float()), num_probes=30, rng=RNG, method=method)
    assert found.value / scale == pytest.approx(plain.value, rel=1e-3)
    assert found.stderr is not None
    assert plain.stderr is not None
    assert found.stderr / scale == pytest.approx(plain.stderr, rel=1e-2)
