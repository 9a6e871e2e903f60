"""Quadrature against the spectrum that a vector sees, which the dense eigenvectors give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.numerics.test_spectra import rotated
from vallis.core.errors import SettingsError, UsageError
from vallis.core.rng import Rng
from vallis.numerics.operators import Dense, Product
from vallis.numerics.probes import sphere
from vallis.numerics.quadrature import Recurrence

RNG = Rng(0).child("quadrature")
VALUES = torch.cat(
    [torch.tensor([2.0, 1.5, -1.0]), 0.3 * torch.randn(57, generator=torch.Generator().manual_seed(1))]
).double()
MATRIX = rotated(VALUES)
START = sphere(Dense(MATRIX), RNG)


def seen_by(matrix: torch.Tensor, start: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, rising, and the squared overlaps with a vector."""
    values, vectors = torch.linalg.eigh(matrix)
    return values.numpy(), ((vectors.T @ (start / start.norm())) ** 2).numpy()


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 12])
def test_polynomials_up_to_degree_2m_minus_1_are_exact_and_no_further(num_steps: int) -> None:
    run = Recurrence(Dense(MATRIX), START, num_steps + 1).run(num_steps + 1)
    found = run.quadrature(num_steps)
    values, weights = seen_by(MATRIX, START)
    assert len(found) == num_steps
    for degree in range(2 * num_steps):
        assert found.moment(degree) == pytest.approx(float(weights @ values**degree), rel=1e-11, abs=1e-12)
    # The next even power is missed by the product of all off-diagonal entries, squared: Gauss quadrature is too small.
    beyond = float(weights @ values ** (2 * num_steps))
    rows = run.rows()
    beside = (rows[1:] @ MATRIX @ rows[:-1].T).diagonal()
    missed = float((beside**2).prod())
    assert beyond - found.moment(2 * num_steps) == pytest.approx(missed, rel=1e-6, abs=1e-12 * beyond)
    assert num_steps > 7 or missed > 1e-8 * beyond


def test_a_breakdown_is_an_answer_that_is_complete_up_to_rounding() -> None:
    """Three distinct eigenvalues are all there is after three steps, at any degree."""
    values = torch.tensor([1.0] * 20 + [2.0] * 5 + [-3.0]).double()
    matrix = rotated(values)
    start = sphere(Dense(matrix), RNG)
    operator = Dense(matrix)
    run = Recurrence(operator, start, 20).run(20)
    found = run.quadrature()
    assert (len(found), run.ended, operator.num_products) == (3, True, 3)
    true, weights = seen_by(matrix, start)
    for degree in range(15):
        assert found.moment(degree) == pytest.approx(float(weights @ true**degree), rel=1e-9)
    np.testing.assert_allclose(found.residuals, 0.0, atol=1e-13)
    low, high = found.cumulative(np.array([-4.0, 0.0, 1.5, 5.0]))
    np.testing.assert_allclose(low, high, atol=1e-12)
    np.testing.assert_allclose(low, [0.0, weights[true < 0].sum(), weights[true < 1.5].sum(), 1.0], atol=1e-9)


@pytest.mark.parametrize("matrix", [torch.zeros(9, 9), torch.eye(9), torch.ones(1, 1)])
def test_matrices_with_one_eigenvalue_end_at_once(matrix: torch.Tensor) -> None:
    run = Recurrence(Dense(matrix.double()), torch.ones(len(matrix)), 5).run(5)
    found = run.quadrature()
    assert (len(found), run.ended) == (1, True)
    np.testing.assert_allclose((found.nodes[0], found.weights[0]), (float(matrix[0, 0]), 1.0))


def test_all_steps_are_the_whole_spectrum() -> None:
    found = Recurrence(Dense(MATRIX), START, 60).run(60).quadrature()
    values, weights = seen_by(MATRIX, START)
    np.testing.assert_allclose(found.nodes, values, atol=1e-10)
    np.testing.assert_allclose(found.weights, weights, atol=1e-10)
    assert found.complete


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 12))
def test_the_cumulative_weights_lie_within_their_bounds(seed: int, size: int, num_steps: int) -> None:
    """Chebyshev, Markov, Stieltjes: at any point, for any matrix and any number of steps."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix, start = matrix + matrix.T, torch.randn(size, generator=generator, dtype=torch.float64)
    found = Recurrence(Dense(matrix), start, num_steps).run(num_steps).quadrature()
    values, weights = seen_by(matrix, start)
    points = np.concatenate([np.linspace(values[0] - 1, values[-1] + 1, 41), found.nodes])
    true = np.array([weights[values <= point + 1e-12].sum() for point in points])
    low, high = found.cumulative(points)
    assert (low <= true + 1e-9).all()
    assert (true <= high + 1e-9).all()


def test_bounds_at_a_node_are_tighter_than_between_two() -> None:
    found = Recurrence(Dense(MATRIX), START, 5).run(5).quadrature()
    low, high = found.cumulative(np.array([found.nodes[2], (found.nodes[2] + found.nodes[3]) / 2]))
    np.testing.assert_allclose(high - low, [found.weights[2], found.weights[2] + found.weights[3]])


def test_residuals_are_those_of_the_ritz_vectors() -> None:
    run = Recurrence(Dense(MATRIX), START, 10).run(10)
    found, vectors = run.quadrature(), run.vectors(np.arange(10))
    assert vectors is not None
    nodes = torch.from_numpy(found.nodes)
    true = (MATRIX @ vectors - vectors * nodes).norm(dim=0)
    np.testing.assert_allclose(found.residuals, true.numpy(), atol=1e-12)
    np.testing.assert_allclose(found.weights, ((vectors.T @ START) ** 2).numpy(), atol=1e-12)


def test_fewer_steps_can_be_looked_at_afterwards() -> None:
    long, short = Recurrence(Dense(MATRIX), START, 10).run(10), Recurrence(Dense(MATRIX), START, 4).run(4)
    np.testing.assert_array_equal(long.quadrature(4).nodes, short.quadrature().nodes)
    np.testing.assert_array_equal(long.quadrature(4).weights, short.quadrature().weights)
    assert len(long.quadrature(99)) == 10


def test_known_vectors_are_not_seen() -> None:
    values, vectors = torch.linalg.eigh(MATRIX)
    known, rest = vectors[:, [0, -1]], vectors[:, 1:-1]
    found = Recurrence(Dense(MATRIX), START, 8, known).run(8).quadrature()
    weights = ((rest.T @ START) ** 2).numpy()
    weights, true = weights / weights.sum(), values[1:-1].numpy()
    for degree in range(16):
        assert found.moment(degree) == pytest.approx(float(weights @ true**degree), rel=1e-11, abs=1e-12)
    assert found.nodes.min() > float(values[0])


def test_a_start_within_the_known_vectors_sees_nothing() -> None:
    vectors = torch.linalg.eigh(MATRIX).eigenvectors
    operator = Dense(MATRIX)
    run = Recurrence(operator, vectors[:, 3], 5, vectors[:, 2:5]).run(5)
    assert (len(run.quadrature()), run.complete, operator.num_products) == (0, True, 0)


def test_rows_stay_orthonormal_in_float32() -> None:
    """Long after the outermost eigenvalues have converged, which is where plain Lanczos loses it."""
    values = torch.cat([torch.tensor([100.0, 50.0]), torch.rand(398, generator=torch.Generator().manual_seed(0))])
    matrix = rotated(values.double()).float()
    run = Recurrence(Dense(matrix), sphere(Dense(matrix), RNG), 120).run(120)
    gram = run.rows() @ run.rows().T
    torch.testing.assert_close(gram, torch.eye(120), atol=2e-5, rtol=0)


def test_less_room_for_rows_gives_the_same_moments() -> None:
    """Only the first six rows are kept: the largest eigenvalues are in them."""
    free = Recurrence(Dense(MATRIX), START, 25).run(25)
    tight = Recurrence(Dense(MATRIX), START, 25, row_bytes=6 * 60 * 8).run(25)
    assert tight.rows().shape == (6, 60)
    assert tight.vectors(np.arange(2)) is None
    for degree in range(1, 12):
        assert tight.quadrature().moment(degree) == pytest.approx(free.quadrature().moment(degree), rel=1e-6, abs=1e-6)


def test_radau_has_its_node_and_brackets_a_logarithm_with_gauss() -> None:
    matrix = MATRIX + 1.5 * torch.eye(60, dtype=torch.float64)
    values, weights = seen_by(matrix, START)
    true = float(weights @ np.log(values))
    widths = []
    for num_steps in (2, 4, 8, 16):
        run = Recurrence(Dense(matrix), START, num_steps).run(num_steps)
        upper, lower = run.quadrature(), run.radau(0.4)
        assert lower.nodes[0] == pytest.approx(0.4)
        assert lower.weights.sum() == pytest.approx(1.0)
        for degree in range(2 * num_steps + 1):
            assert lower.moment(degree) == pytest.approx(float(weights @ values**degree), rel=1e-9)
        high, low = (float(each.weights @ np.log(each.nodes)) for each in (upper, lower))
        assert low - 1e-12 <= true <= high + 1e-12
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 1e-3 * widths[0]


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(SettingsError, match="num_steps=0"):
        Recurrence(Dense(MATRIX), START, 0)
    other = rotated(VALUES.flip(0) ** 2)
    with pytest.raises(UsageError, match="symmetric"):
        Recurrence(Product(Dense(MATRIX), Dense(other)), START, 3)
    with pytest.raises(UsageError, match="finite"):
        Recurrence(Dense(torch.full((5, 5), torch.inf)), torch.ones(5), 3).run(3)


def beside_an_outlier(ratio: float) -> torch.Tensor:
    bulk = 0.5 + torch.rand(299, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return rotated(torch.cat([bulk, torch.tensor([ratio], dtype=torch.float64)]))


@pytest.mark.parametrize("ratio", [1e5, 1e6, 1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_beside_an_outlier_closes_no_bound(ratio: float, dtype: torch.dtype) -> None:
    """In float32 the bulk is within the rounding of the outlier, so that what a few steps have seen is not all."""
    matrix = beside_an_outlier(ratio)
    start = sphere(Dense(matrix), RNG)
    run = Recurrence(Dense(matrix.to(dtype)), start, 20).run(20)
    found = run.quadrature()
    assert not found.complete
    values, weights = seen_by(matrix, start)
    points = np.array([0.0, 0.6, 0.75, 1.0, 1.25, 1.4, 2.0, 0.5 * ratio, 2 * ratio])
    true = np.array([weights[values <= point].sum() for point in points])
    low, high = found.cumulative(points)
    assert (low <= true + 1e-6).all()
    assert (true <= high + 1e-6).all()
    assert high[-2] - low[-2] < 1e-3  # what lies far from all eigenvalues is known


@pytest.mark.parametrize("ratio", [1e5, 1e6])
def test_float32_follows_a_bulk_as_far_as_it_resolves_it(ratio: float) -> None:
    matrix = beside_an_outlier(ratio).float()
    assert Recurrence(Dense(matrix), sphere(Dense(matrix), RNG), 20).run(20).size > 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_eigenvalue_at_a_point_counts_whatever_rounding_makes_of_it(dtype: torch.dtype) -> None:
    values = torch.tensor([0.0] * 40 + [1.0] * 20 + [-3.0] * 10).double()
    matrix = rotated(values)
    for seed in range(8):
        start = sphere(Dense(matrix), RNG.child(seed))
        found = Recurrence(Dense(matrix.to(dtype)), start, 20).run(20).quadrature()
        true, weights = seen_by(matrix, start)
        points = np.array([-3.0, 0.0, 1.0])
        sums = [weights[true < point + 0.1].sum() for point in points]
        np.testing.assert_allclose(found.reached(points), sums, atol=1e-5)
        without = [weights[true < point - 0.1].sum() for point in points]
        np.testing.assert_allclose(found.reached(points, inclusive=False), without, atol=1e-5)
        low, high = found.cumulative(points)
        assert (low <= np.array(without) + 1e-5).all()
        assert (high >= np.array(sums) - 1e-5).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 25), st.integers(1, 12))
def test_the_staircase_holds_between_its_breaks(seed: int, size: int, num_steps: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix, start = matrix + matrix.T, torch.randn(size, generator=generator, dtype=torch.float64)
    breaks, below, above = Recurrence(Dense(matrix), start, num_steps).run(num_steps).quadrature().staircase()
    values, weights = seen_by(matrix, start)
    places = np.concatenate([breaks[:1] - 1, (breaks[1:] + breaks[:-1]) / 2, breaks[-1:] + 1])
    true = np.array([weights[values <= place].sum() for place in places])
    assert (below <= true + 1e-9).all()
    assert (true <= above + 1e-9).all()
    assert (np.diff(below) >= 0).all()
    assert (np.diff(above) >= 0).all()


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_a_scale_whose_square_float32_does_not_hold(scale: float) -> None:
    plain = Recurrence(Dense(MATRIX), START, 10).run(10).quadrature()
    found = Recurrence(Dense((scale * MATRIX).float()), START, 10).run(10).quadrature()
    np.testing.assert_allclose(found.nodes / scale, plain.nodes, atol=1e-5)
    np.testing.assert_allclose(found.weights, plain.weights, atol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 2, 5, 9])
def test_radau_where_the_lowest_eigenvalue_is_its_node_is_a_bound_all_the_same(num_steps: int) -> None:
    """Ten eigenvalues are exactly where the rule is to have its node, and Ritz values meet it."""
    values = torch.cat([torch.full((10,), 1.0), torch.linspace(2.0, 5.0, 8)]).double()
    matrix = rotated(values)
    start = torch.ones(18, dtype=torch.float64)
    run = Recurrence(Dense(matrix), start, num_steps).run(num_steps)
    true, weights = seen_by(matrix, start)
    for end in (1.0, 1.0 + 1e-15):
        rule = run.radau(end)
        assert rule is not None
        assert float(rule.weights @ np.log(rule.nodes)) <= float(weights @ np.log(true)) + 1e-9
