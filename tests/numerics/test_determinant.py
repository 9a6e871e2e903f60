"""The log-determinant against the dense one, its bounds, and what has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.numerics.solutions import mlp
from tests.numerics.test_lanczos import MATRIX, TRUTH, P
from tests.numerics.test_spectra import rotated
from vallis.core.errors import SettingsError, UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import GaussNewton
from vallis.numerics.determinant import LogDeterminant, log_determinant
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Dense
from vallis.testing.oracles import dense_hessian

RNG = Rng(0).child("determinant")
SHIFT = 1.2  # the smallest eigenvalue is -1
TRUE = float(torch.linalg.slogdet(MATRIX + SHIFT * torch.eye(P, dtype=torch.float64)).logabsdet)
KNOWN = eigenpairs(Dense(MATRIX), largest=8, smallest=3, rng=RNG, tolerance=1e-10)


def found(seed: int = 0, num_probes: int = 5, num_steps: int = 10, lower_end: float | None = -1.0) -> LogDeterminant:
    return log_determinant(
        Dense(MATRIX), shift=SHIFT, num_probes=num_probes, num_steps=num_steps, rng=RNG.child(seed), lower_end=lower_end
    )


def test_a_small_operator_exactly() -> None:
    values = torch.arange(1.0, 31.0, dtype=torch.float64)
    seen = log_determinant(Dense(rotated(values)), shift=0.5, num_probes=1, num_steps=1, rng=RNG)
    assert seen.value == pytest.approx(float((values + 0.5).log().sum()), rel=1e-12)
    assert (seen.stderr, seen.num_products, seen.is_certain) == (0.0, 30, True)
    assert seen.interval() == (seen.value, seen.value)


def test_a_diagonal_of_two_values_is_found_by_two_steps() -> None:
    """Quadrature is then complete, and only the choice of probes is left."""
    values = torch.cat([torch.full((150,), 2.0), torch.full((150,), 3.0)]).double()
    seen = log_determinant(Dense(torch.diag(values)), shift=0.0, num_probes=400, num_steps=2, rng=RNG, lower_end=1.0)
    np.testing.assert_allclose(seen.low, seen.high, rtol=1e-9)
    assert seen.stderr is not None
    assert seen.value == pytest.approx(150 * np.log(6.0), abs=4 * seen.stderr)


@pytest.mark.parametrize("num_steps", [3, 10])
def test_the_interval_covers_the_truth_as_often_as_it_says(num_steps: int) -> None:
    """With three steps it is the bounds that do so, with ten the scatter of the probes."""
    covered, widths = 0, []
    for repeat in range(200):
        seen = found(repeat, num_steps=num_steps)
        assert (seen.low <= seen.high).all()
        low, high = seen.interval()
        covered += low <= TRUE <= high
        widths.append(float((seen.high - seen.low).mean()))
    assert covered >= stats.binom.ppf(0.001, 200, 0.95)
    assert np.mean(widths) > 1.0 if num_steps == 3 else np.mean(widths) < 0.3


def test_known_eigenpairs_leave_less_to_chance() -> None:
    plain = found()
    deflated = log_determinant(
        Dense(MATRIX), shift=SHIFT, num_probes=5, num_steps=10, rng=RNG, known=KNOWN.largest, lower_end=-1.0
    )
    assert plain.stderr is not None
    assert deflated.stderr is not None
    assert deflated.stderr < plain.stderr / 3
    low, high = deflated.interval(0.9999)
    assert low <= TRUE <= high


def test_without_a_lower_end_the_smallest_that_was_seen_is_taken() -> None:
    seen = found(lower_end=None)
    assert not seen.is_certain
    assert -SHIFT < seen.lower_end <= TRUTH[0]  # the residual of what was seen reaches below the true end
    low, high = seen.interval(0.9999)
    assert low <= TRUE <= high
    assert found().is_certain


def test_a_gauss_newton_matrix_is_known_to_be_positive() -> None:
    operator = GaussNewton(Objective(mlp(), dtype=torch.float64))
    matrix = operator.dense()
    true = float(torch.linalg.slogdet(matrix + 0.1 * torch.eye(61, dtype=torch.float64)).logabsdet)
    seen = log_determinant(operator, shift=0.1, num_probes=30, num_steps=12, rng=RNG, lower_end=0.0, exact_size=0)
    low, high = seen.interval(0.9999)
    assert low <= true <= high
    assert high - low < 10.0
    exact = log_determinant(operator, shift=0.1, num_probes=1, num_steps=1, rng=RNG, lower_end=0.0)
    assert exact.value == pytest.approx(true, rel=1e-9)


def test_a_single_probe_has_no_interval() -> None:
    seen = found(num_probes=1)
    assert seen.stderr is None
    assert seen.interval() == (-np.inf, np.inf)


@pytest.mark.parametrize("shift", [0.0, 0.999])
def test_a_shift_that_is_too_small_is_refused_and_one_that_does_is_named(shift: float) -> None:
    with pytest.raises(UsageError, match="take a shift above"):
        log_determinant(Dense(MATRIX), shift=shift, num_probes=2, num_steps=20, rng=RNG)
    with pytest.raises(UsageError, match="take a shift above 1"):
        log_determinant(Dense(MATRIX), shift=shift, num_probes=2, num_steps=2, rng=RNG, known=KNOWN.smallest)
    with pytest.raises(UsageError, match="take a shift above 1"):
        found_end = -1.0
        log_determinant(Dense(MATRIX), shift=shift, num_probes=2, num_steps=2, rng=RNG, lower_end=found_end)
    hessian = dense_hessian(mlp())
    smallest = float(torch.linalg.eigvalsh(hessian)[0])
    with pytest.raises(UsageError, match="positive"):
        log_determinant(Dense(hessian), shift=-smallest - 1e-3, num_probes=1, num_steps=1, rng=RNG)


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(SettingsError, match="num_steps=0"):
        found(num_steps=0)
    with pytest.raises(UsageError, match="finite"):
        log_determinant(Dense(torch.full((9, 9), torch.inf)), shift=1.0, num_probes=1, num_steps=1, rng=RNG)
