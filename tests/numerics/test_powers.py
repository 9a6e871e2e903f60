"""The first two power sums against the dense ones, and the promise of their error bars."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.numerics.solutions import AWKWARD
from tests.numerics.test_lanczos import MATRIX
from vallis.core.errors import SettingsError, UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Dense
from vallis.numerics.powers import powers
from vallis.numerics.surface import in_eval_mode
from vallis.numerics.trace import trace
from vallis.testing.oracles import dense_hessian

RNG = Rng(0).child("powers")
TRACE, SQUARE = float(MATRIX.trace()), float((MATRIX**2).sum())


@pytest.mark.parametrize("name", AWKWARD)
def test_small_networks_exactly(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    matrix = dense_hessian(solution)
    found = powers(Hessian(Objective(solution, dtype=torch.float64)), num_probes=1, rng=RNG)
    assert found.first.value == pytest.approx(float(matrix.trace()), rel=1e-8)
    assert found.second.value == pytest.approx(float((matrix**2).sum()), rel=1e-8)
    assert found.frobenius() == pytest.approx((float(matrix.norm()),) * 3)


def test_one_product_serves_both_and_the_first_is_the_trace() -> None:
    operator = Dense(MATRIX)
    found = powers(operator, num_probes=7, rng=RNG)
    assert (operator.num_products, found.first.num_products, found.second.num_products) == (7, 7, 7)
    np.testing.assert_array_equal(found.first.samples, trace(operator, num_probes=7, rng=RNG).samples)


@pytest.mark.parametrize("num_known", [0, 8])
def test_the_intervals_cover_the_truth_as_often_as_they_say(num_known: int) -> None:
    """Of the squares only where the largest eigenvalues are taken out: else few of them make the samples too skewed."""
    known = eigenpairs(Dense(MATRIX), largest=8, rng=RNG, tolerance=1e-6).largest if num_known else None
    first = second = 0
    for repeat in range(200):
        found = powers(Dense(MATRIX), num_probes=20, rng=RNG.child(repeat), known=known)
        low, high = found.first.interval()
        first += low <= TRACE <= high
        low, high = found.second.interval()
        second += low <= SQUARE <= high
        value, lowest, highest = found.frobenius()
        assert (lowest, value, highest) == pytest.approx((max(low, 0) ** 0.5, found.second.value**0.5, high**0.5))
    lowest, highest = stats.binom.ppf([0.001, 0.999], 200, 0.95)
    assert lowest <= first <= highest
    if num_known:
        assert lowest <= second <= highest


def test_rough_pairs_leave_both_unbiased() -> None:
    rough = eigenpairs(Dense(MATRIX), largest=4, rng=RNG, max_products=6)
    assert not rough.converged
    found = powers(Dense(MATRIX), num_probes=500, rng=RNG, known=rough.largest)
    for told, true in ((found.first, TRACE), (found.second, SQUARE)):
        assert told.stderr is not None
        assert told.value == pytest.approx(true, abs=4 * told.stderr)


def test_a_single_probe_has_no_interval() -> None:
    found = powers(Dense(MATRIX), num_probes=1, rng=RNG)
    assert found.second.stderr is None
    assert found.frobenius()[1:] == (0.0, np.inf)


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(SettingsError, match="num_probes=0"):
        powers(Dense(MATRIX), num_probes=0, rng=RNG)
    for size in (9, 300):
        with pytest.raises(UsageError, match="finite"):
            powers(Dense(torch.full((size, size), torch.inf)), num_probes=1, rng=RNG)
        with pytest.raises(UsageError, match="symmetric"):
            powers(Dense(torch.triu(torch.ones(size, size))), num_probes=1, rng=RNG)


def test_probes_that_agree_are_not_exact_and_unconverged_pairs_are_noted() -> None:
    """Of a diagonal matrix both sums are the same for all signs; four probes cannot know it."""
    operator = Dense(torch.diag(torch.arange(300.0, dtype=torch.float64)))
    found = powers(operator, num_probes=4, rng=RNG)
    assert [(each.stderr, each.agree, each.exact) for each in (found.first, found.second)] == [(None, True, False)] * 2
    assert powers(operator, num_probes=1, rng=RNG, exact_size=300).first.exact
    rough = eigenpairs(Dense(MATRIX), largest=4, rng=RNG, max_products=6).largest
    noted = powers(Dense(MATRIX), num_probes=4, rng=RNG, known=rough)
    assert [note.code for note in noted.second.notes] == ["known_not_converged"]


@pytest.mark.parametrize("num_known", [0, 8])
def test_error_bars_are_no_smaller_than_the_products_say(num_known: int) -> None:
    """Few forms are often close together by luck; the variance of a form is told by the products, too."""
    known = eigenpairs(Dense(MATRIX), largest=8, rng=RNG, tolerance=1e-6).largest if num_known else None
    rest = (
        MATRIX
        if known is None
        else MATRIX - known.vectors @ torch.diag(torch.from_numpy(known.values.copy())) @ known.vectors.T
    )
    square = rest @ rest
    true = [2 * float((each**2).sum() - (each.diagonal() ** 2).sum()) for each in (rest, square)]
    found = [powers(Dense(MATRIX), num_probes=4, rng=RNG.child(repeat), known=known) for repeat in range(20)]
    for place, exact in enumerate(true):
        bars = np.array([(each.first, each.second)[place].stderr for each in found])
        scatter = [(each.first, each.second)[place].samples.std(ddof=1) / 2 for each in found]
        assert (bars >= np.array(scatter) - 1e-12).all()
        assert (bars > 1.2 * np.array(scatter)).any()
        assert np.mean(bars**2) > 0.7 * exact / 4
