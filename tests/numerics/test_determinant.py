"""The log-determinant against the dense one, its bounds, and what has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.numerics.solutions import mlp
from tests.numerics.test_lanczos import MATRIX, TRUTH, P
from tests.numerics.test_quadrature import beside_an_outlier
from tests.numerics.test_spectra import rotated
from vallis.core.errors import SettingsError, UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import GaussNewton
from vallis.numerics.determinant import LogDeterminant, log_determinant
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Dense
from vallis.numerics.probes import sphere
from vallis.numerics.spectra import Eigenpairs
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


def test_one_eigenvalue_far_from_the_others_makes_no_interval_too_short() -> None:
    """By the scatter of 4 probes alone 83 % of 4000 intervals cover."""
    values = torch.cat([0.01 * torch.linspace(0, 1, 299), torch.tensor([10.0])]).double()
    operator, true, covered = Dense(torch.diag(values)), float((values + 0.1).log().sum()), 0
    for seed in range(200):
        low, high = log_determinant(
            operator, shift=0.1, num_probes=4, num_steps=6, rng=RNG.child(seed), lower_end=0.0
        ).interval()
        covered += low <= true <= high
    assert covered >= stats.binom.ppf(0.001, 200, 0.95)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [1e5, 1e6])
@pytest.mark.parametrize("num_steps", [3, 12])
def test_beside_an_outlier_the_bounds_hold(num_steps: int, ratio: float, dtype: torch.dtype) -> None:
    """All bounds of a probe, for the truth of that very probe by the dense eigenvectors."""
    matrix = beside_an_outlier(ratio)
    values, vectors = torch.linalg.eigh(matrix)
    seen = log_determinant(
        Dense(matrix.to(dtype)), shift=0.1, num_probes=3, num_steps=num_steps, rng=RNG, lower_end=0.0, exact_size=0
    )
    assert seen.is_bracketed
    for probe in range(3):
        weights = (vectors.T @ sphere(Dense(matrix), RNG.child("probe", probe))) ** 2
        true = 300 * float(weights @ (values + 0.1).log())
        assert seen.low[probe] - 0.5 <= true <= seen.high[probe] + 0.5  # of 30; the rounding of float32


@pytest.mark.parametrize("num_steps", [1, 2, 6, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_singular_matrix_with_its_lower_end_at_zero(num_steps: int, dtype: torch.dtype) -> None:
    """Like a Gauss-Newton matrix of low rank: Ritz values meet the end, or fall below it by rounding."""
    values = torch.cat([torch.zeros(290), torch.linspace(1.0, 9.0, 10)]).double()
    true = float((values + 0.1).log().sum())
    operator = Dense(rotated(values).to(dtype))
    seen = log_determinant(operator, shift=0.1, num_probes=8, num_steps=num_steps, rng=RNG, lower_end=0.0)
    low, high = seen.interval(0.9999)
    assert seen.is_bracketed
    assert low <= true <= high


def test_a_lower_end_that_eigenvalues_lie_below_is_refused() -> None:
    with pytest.raises(UsageError, match="lower it, or leave it out"):
        log_determinant(Dense(MATRIX), shift=1.2, num_probes=1, num_steps=20, rng=RNG, lower_end=-0.5)
    with pytest.raises(UsageError, match="lower it, or leave it out"):
        log_determinant(Dense(MATRIX), shift=1.2, num_probes=1, num_steps=20, rng=RNG, lower_end=-0.5, exact_size=P)
    with pytest.raises(UsageError, match="lower it, or leave it out"):
        log_determinant(
            Dense(MATRIX), shift=1.2, num_probes=1, num_steps=1, rng=RNG, lower_end=-0.5, known=KNOWN.smallest
        )


def test_without_a_lower_bound_none_is_claimed() -> None:
    """Few steps and a small shift: for all that they say, the spectrum may reach below zero."""
    values = torch.cat([torch.logspace(-3, 0, 290), torch.linspace(1.0, 9.0, 10)]).double()
    how = {"shift": 1e-3, "num_probes": 3, "num_steps": 4, "rng": RNG}
    free = log_determinant(Dense(rotated(values)), **how)  # type: ignore[arg-type]
    assert not free.is_bracketed
    assert "not_bracketed" in [note.code for note in free.notes]
    np.testing.assert_array_equal(free.low, free.high)
    bound = log_determinant(Dense(rotated(values)), lower_end=0.0, **how)  # type: ignore[arg-type]
    assert bound.is_bracketed
    assert bound.notes == ()


def test_unconverged_pairs_are_noted() -> None:
    rough = eigenpairs(Dense(MATRIX), largest=4, rng=RNG, max_products=6).largest
    seen = log_determinant(Dense(MATRIX), shift=SHIFT, num_probes=2, num_steps=5, rng=RNG, known=rough, lower_end=-1.0)
    assert [note.code for note in seen.notes] == ["known_not_converged"]
    good = log_determinant(
        Dense(MATRIX), shift=SHIFT, num_probes=2, num_steps=5, rng=RNG, known=KNOWN.largest, lower_end=-1.0
    )
    assert good.notes == ()


def test_all_pairs_known_is_exact_and_rounding_is_noted() -> None:
    values, vectors = torch.linalg.eigh(MATRIX)
    every = Eigenpairs(values=values.numpy(), vectors=vectors, residuals=np.zeros(P), converged=np.ones(P, dtype=bool))
    seen = log_determinant(Dense(MATRIX), shift=SHIFT, num_probes=2, num_steps=5, rng=RNG, known=every)
    assert (seen.value, seen.stderr, seen.exact) == (pytest.approx(TRUE), 0.0, True)
    assert seen.interval() == (seen.value, seen.value)
    large = torch.diag(torch.tensor([1e8, 1.0, 2.0]))
    assert [n.code for n in log_determinant(Dense(large), shift=0.0, num_probes=1, num_steps=1, rng=RNG).notes] == [
        "rounding"
    ]


@pytest.mark.parametrize("size", [1, 2])
def test_the_smallest_operators(size: int) -> None:
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)[:size, :size]
    true = float(torch.linalg.slogdet(matrix).logabsdet)
    seen = log_determinant(Dense(matrix), shift=0.0, num_probes=40, num_steps=3, rng=RNG, exact_size=0, lower_end=0.1)
    low, high = seen.interval(0.9999)
    assert low - 1e-12 <= true <= high + 1e-12


def test_a_negative_shift_that_leaves_all_positive() -> None:
    values = torch.linspace(2.0, 3.0, 300, dtype=torch.float64)
    seen = log_determinant(Dense(rotated(values)), shift=-1.0, num_probes=6, num_steps=8, rng=RNG, lower_end=1.9)
    low, high = seen.interval(0.9999)
    assert low <= float((values - 1).log().sum()) <= high
