"""The density against the dense spectrum: what is exact, how near the rest comes, and how often the bands cover it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.numerics.solutions import AWKWARD, mlp
from tests.numerics.test_lanczos import MATRIX, TRUTH, P
from tests.numerics.test_quadrature import beside_an_outlier
from tests.numerics.test_spectra import rotated
from vallis.core.errors import SettingsError, UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.density import Density, distance, spectral_density
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Dense, Operator
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian

RNG = Rng(0).child("density")
REPEATS = 200


def found(seed: int = 0, num_probes: int = 4, num_steps: int = 8, search: int | None = 16) -> Density:
    return spectral_density(
        Dense(MATRIX), num_probes=num_probes, num_steps=num_steps, num_search_steps=search, rng=RNG.child(seed)
    )


def must_cover(covered: int) -> None:
    """At least as often as 95 % of the repeats, up to what chance takes away once in a thousand times."""
    assert covered >= stats.binom.ppf(0.001, REPEATS, 0.95)


def test_a_small_operator_is_solved() -> None:
    values = torch.arange(-5.0, 25.0, dtype=torch.float64)
    operator = 1.0 * Dense(rotated(values))  # not the matrix itself, which is written out without a product
    seen = spectral_density(operator, num_probes=1, num_steps=1, rng=RNG)
    np.testing.assert_allclose(seen.known, values.numpy()[::-1], atol=1e-10)
    assert (seen.exact, seen.num_products, operator.num_products, seen.bulk, seen.change) == (True, 30, 30, (), 0.0)
    assert seen.moment(2) == (pytest.approx(float((values**2).mean())), 0.0)
    band = seen.cumulative([-10.0, -0.5, 100.0])
    np.testing.assert_allclose((band.low, band.value, band.high), [[0.0, 5 / 30, 1.0]] * 3)
    assert seen.fraction_within(2.5) == pytest.approx((5 / 30,) * 3)
    assert distance(seen, values.numpy()) == pytest.approx(0.0, abs=1e-10)
    assert (seen.edges, seen.scale, seen.pairs) == (pytest.approx((-5.0, 24.0)), pytest.approx(24.0), None)


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_networks_solved(name: str) -> None:
    solution = AWKWARD[name]()
    true = torch.linalg.eigvalsh(dense_hessian(in_eval_mode(solution))).numpy()
    hessian = Hessian(Objective(in_eval_mode(solution), dtype=torch.float64))
    assert distance(spectral_density(hessian, num_probes=2, num_steps=2, rng=RNG), true) < 1e-8


@pytest.mark.parametrize("seed", range(10))
def test_the_distance_to_the_true_spectrum_is_small_and_smaller_with_more_steps(seed: int) -> None:
    """In units of the largest eigenvalue, 10; the mean magnitude is 0.09, so zero alone would be 9e-3 away."""
    few, many = (distance(found(seed, 4, m, 2 * m), TRUTH) / 10.0 for m in (8, 24))
    assert distance(np.zeros(P), TRUTH) / 10.0 > 8e-3
    assert few < 2e-3
    assert many < 1e-4


def test_those_that_stand_alone_are_eigenvalues_within_their_residuals() -> None:
    seen = found()
    assert len(seen.known) >= 4
    assert list(seen.known) == sorted(seen.known, reverse=True)
    gaps = np.abs(TRUTH[:, None] - seen.known)
    assert (gaps.min(0) <= seen.residuals + 1e-12).all()
    assert len(set(gaps.argmin(0))) == len(seen.known)
    assert seen.known[0] == pytest.approx(10.0, abs=1e-6)
    pairs = seen.pairs
    assert pairs is not None
    true = (MATRIX @ pairs.vectors - pairs.vectors * torch.from_numpy(pairs.values)).norm(dim=0)
    np.testing.assert_allclose(true.numpy(), seen.residuals, rtol=1e-3, atol=1e-10)


def test_it_is_a_distribution_that_counts_each_known_eigenvalue_once() -> None:
    seen = found()
    values, weights = seen.measure()
    assert weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(weights[: len(seen.known)], 1 / P)
    assert seen.num_products == 16 + 4 * 8
    assert seen.edges == (pytest.approx(TRUTH[0], rel=1e-3), pytest.approx(TRUTH[-1], rel=1e-6))
    assert values.min() == seen.edges[0]


@pytest.mark.parametrize("num_probes", [2, 4, pytest.param(8, marks=pytest.mark.slow)])
def test_bands_and_moments_cover_the_truth_as_often_as_they_say(num_probes: int) -> None:
    points = np.array([-0.3, -2e-3, -5e-4, 0.0, 7e-4, 0.01, 0.5])
    true, flat = np.searchsorted(TRUTH, points, side="right") / P, float(np.mean(np.abs(TRUTH) <= 1e-3))
    inside, within, means, errors = np.zeros(len(points), dtype=int), 0, 0, np.empty((REPEATS, 3))
    for repeat in range(REPEATS):
        seen = found(1000 * num_probes + repeat, num_probes)
        band = seen.cumulative(points)
        assert (band.low <= band.value + 1e-12).all()
        assert (band.value <= band.high + 1e-12).all()
        inside += (band.low - 1e-12 <= true) & (true <= band.high + 1e-12)
        _, low, high = seen.fraction_within(1e-3)
        within += low <= flat <= high
        errors[repeat] = [seen.moment(degree)[0] - np.mean(TRUTH**degree) for degree in (1, 2, 3)]
        means += abs(errors[repeat, 0]) <= stats.t.ppf(0.975, num_probes - 1) * seen.moment(1)[1] + 1e-13
    for covered in (*inside, within, means):
        must_cover(int(covered))
    # Unbiased, whatever was searched for and taken out.
    assert (np.abs(errors.mean(0)) < 4 * errors.std(0) / np.sqrt(REPEATS)).all()


def test_one_outlier_that_was_not_taken_out_is_covered() -> None:
    """Of samples nearly all of which are small and close together, their scatter alone says too little."""
    values = torch.cat([torch.linspace(-0.1, 0.1, 299, dtype=torch.float64), torch.tensor([100.0])])
    matrix, points, covered = Dense(rotated(values)), np.array([1.0]), np.zeros(3, dtype=int)
    for repeat in range(REPEATS):
        seen = spectral_density(matrix, num_probes=3, num_steps=3, num_search_steps=0, rng=RNG.child("alone", repeat))
        band, (mean, stderr) = seen.cumulative(points), seen.moment(1)
        _, low, high = seen.fraction_within(1.0)
        covered += (
            bool(band.low[0] <= 299 / 300 <= band.high[0]),
            low <= 299 / 300 <= high,
            abs(mean - float(values.mean())) <= stats.t.ppf(0.975, 2) * stderr,
        )
    for each in covered:
        must_cover(int(each))


def test_bands_shrink_with_steps() -> None:
    few, many = (found(0, 6, m, 2 * m).cumulative([-0.01, 0.01]) for m in (5, 25))
    assert ((many.high - many.low) < 0.5 * (few.high - few.low)).all()


def test_a_single_probe_has_no_band() -> None:
    seen = found(num_probes=1)
    band = seen.cumulative([0.0])
    assert band.high[0] - band.low[0] == pytest.approx(seen.bulk_fraction)
    assert seen.moment(1)[1] == np.inf
    assert distance(seen, TRUTH) < 0.02


def test_without_a_search_nothing_is_taken_out() -> None:
    seen = found(search=0)
    assert (len(seen.known), seen.vectors, seen.pairs) == (0, None, None)
    assert seen.bulk_fraction == 1.0
    assert distance(found(), TRUTH) < 0.5 * distance(seen, TRUTH)


def test_known_pairs_are_not_searched_for_again() -> None:
    known = eigenpairs(Dense(MATRIX), largest=6, smallest=2, rng=RNG, tolerance=1e-9)
    seen = spectral_density(Dense(MATRIX), num_probes=3, num_steps=8, rng=RNG, known=known.largest)
    np.testing.assert_allclose(seen.known[:6], TRUTH[::-1][:6], atol=1e-6)
    assert len(seen.known) > 6
    assert len(np.unique(seen.known.round(6))) == len(seen.known)
    assert distance(seen, TRUTH) < 0.01


def test_a_multiple_eigenvalue_is_not_taken_for_a_single_one() -> None:
    """Half of the eigenvalues are zero, and forty are one: nodes that converge and yet stand for many."""
    values = torch.cat([torch.zeros(200), torch.ones(40), torch.linspace(2.0, 3.0, 160)]).double()
    seen = spectral_density(Dense(rotated(values)), num_probes=4, num_steps=12, rng=RNG)
    assert not np.any(np.abs(seen.known) < 1e-3)
    assert not np.any(np.abs(seen.known - 1) < 1e-3)
    assert distance(seen, values.numpy()) < 0.05


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_a_multiple_of_the_identity(value: float) -> None:
    seen = spectral_density(Dense(value * torch.eye(300)), num_probes=3, num_steps=5, rng=RNG)
    assert len(seen.known) == 0
    assert seen.num_products == 4
    assert distance(seen, np.full(300, value)) < 1e-5
    assert seen.moment(1) == (pytest.approx(value), pytest.approx(0.0, abs=1e-6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_operator_of_low_rank_whose_range_is_found_leaves_only_zeros(dtype: torch.dtype) -> None:
    """What products then leave is rounding of nothing, which is symmetric to no digit."""
    turn = torch.linalg.qr(torch.randn(300, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    values = torch.cat([torch.logspace(-3, 0, 12, dtype=torch.float64), torch.zeros(288, dtype=torch.float64)])
    products = turn[:, :12] * values[:12]

    class LowRank(Operator):
        def _product(self, vector: torch.Tensor) -> torch.Tensor:
            rounding = torch.finfo(dtype).eps / 2 * vector.roll(1)
            return (products @ (turn[:, :12].T @ vector.double())).to(dtype) + rounding

    operator = LowRank(300, dtype, torch.device("cpu"))
    density = spectral_density(operator, num_probes=4, num_steps=10, num_search_steps=40, rng=RNG)
    small = 1e-5 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(np.sort(density.known)[-12:], values[:12].numpy(), atol=small)
    assert all(np.abs(seen.nodes).max() <= small for seen in density.bulk)
    assert density.fraction_within(small)[0] == pytest.approx(288 / 300)


def test_the_room_for_vectors_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vallis.numerics.density._KNOWN_BYTES", 4 * P * 3)
    seen = found()
    np.testing.assert_allclose(seen.known, TRUTH[::-1][:3], atol=1e-6)
    assert distance(seen, TRUTH) < 0.02


def test_float32_is_as_good_up_to_rounding() -> None:
    single = spectral_density(Dense(MATRIX.float()), num_probes=4, num_steps=8, num_search_steps=16, rng=RNG.child(0))
    assert distance(single, TRUTH) == pytest.approx(distance(found(), TRUTH), rel=0.05)
    assert single.moment(1)[0] == pytest.approx(found().moment(1)[0], rel=1e-4)


def test_change_says_whether_more_steps_would_help() -> None:
    assert found(0, 4, 40, 60).change < 0.2 * found(0, 4, 4, 60).change


def test_a_network_of_moderate_size() -> None:
    solution = mlp()
    true = torch.linalg.eigvalsh(dense_hessian(solution)).numpy()
    hessian = Hessian(Objective(solution, dtype=torch.float64))
    seen = spectral_density(hessian, num_probes=6, num_steps=10, rng=RNG, exact_size=0)
    assert not seen.exact
    assert distance(seen, true) < 0.02 * np.abs(true).max()
    assert seen.known[0] == pytest.approx(true[-1], rel=1e-6)


def test_distances_are_those_of_sorted_eigenvalues() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 50))
    assert distance(one, other) == pytest.approx(np.mean(np.abs(np.sort(one) - np.sort(other))))
    assert distance(one, one + 2.5) == pytest.approx(2.5)


@pytest.mark.parametrize("wrong", [{"num_probes": 0}, {"num_steps": 0}, {"num_search_steps": -1}])
def test_impossible_wishes_are_refused(wrong: dict[str, int]) -> None:
    wanted = {"num_probes": 2, "num_steps": 2, "num_search_steps": 2, **wrong}
    with pytest.raises(SettingsError, match="came: raise them"):
        spectral_density(Dense(MATRIX), rng=RNG, **wanted)


@pytest.mark.parametrize("size", [10, 300])
def test_what_is_not_finite_or_not_symmetric_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="finite"):
        spectral_density(Dense(torch.full((size, size), torch.inf)), num_probes=1, num_steps=2, rng=RNG)
    with pytest.raises(UsageError, match="symmetric"):
        spectral_density(Dense(torch.triu(torch.ones(size, size))), num_probes=1, num_steps=2, rng=RNG)


@pytest.mark.parametrize("search", [0, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_eigenvalue_at_a_threshold_counts_as_reached(search: int, dtype: torch.dtype) -> None:
    """Multiple eigenvalues exactly where the question is; rounding puts the nodes on either side."""
    values = torch.tensor([0.0] * 200 + [1.0] * 80 + [-2.0] * 20).double()
    points = np.array([-2.0, -1.0, 0.0, 0.5, 1.0])
    true = np.array([20, 20, 220, 220, 300]) / 300
    inside = []
    for repeat in range(25):
        seen = spectral_density(
            Dense(rotated(values).to(dtype)), num_probes=4, num_steps=8, num_search_steps=search, rng=RNG.child(repeat)
        )
        band = seen.cumulative(points)
        np.testing.assert_allclose(band.value, true, atol=0.15)
        assert band.value[-1] == pytest.approx(1.0, abs=1e-5)
        inside.append((band.low <= true + 1e-6) & (true <= band.high + 1e-6))
        share, low, high = seen.fraction_within(1.0)
        assert low <= share <= high
        assert share == pytest.approx(280 / 300, abs=0.1)
        assert seen.fraction_within(2.0)[0] == pytest.approx(1.0, abs=1e-5)
    assert (np.sum(inside, axis=0) >= stats.binom.ppf(0.001, 25, 0.95)).all()


def test_a_solved_operator_leaves_open_what_equals_a_threshold_up_to_rounding() -> None:
    values = torch.tensor([0.0] * 10 + [1.0] * 5 + [-1.0] * 5).double()
    seen = spectral_density(Dense(rotated(values)), num_probes=1, num_steps=1, rng=RNG)
    band = seen.cumulative([-1.0, 0.0, 0.5])
    np.testing.assert_allclose(band.value, [0.25, 0.75, 0.75])
    np.testing.assert_allclose(band.low, [0.0, 0.25, 0.75])
    np.testing.assert_allclose(band.high, [0.25, 0.75, 0.75])
    assert seen.fraction_within(1.0) == pytest.approx((1.0, 0.5, 1.0))


@pytest.mark.parametrize("search", [0, 16])
def test_float32_beside_an_outlier_covers_what_it_does_not_resolve(search: int) -> None:
    matrix = beside_an_outlier(1e6)
    true = torch.linalg.eigvalsh(matrix).numpy()
    points = np.array([0.6, 0.75, 1.0, 1.25, 1.4])
    shares = np.searchsorted(true, points) / 300
    for repeat in range(5):
        seen = spectral_density(
            Dense(matrix.float()), num_probes=4, num_steps=10, num_search_steps=search, rng=RNG.child(repeat)
        )
        band = seen.cumulative(points)
        assert (band.low <= shares).all()
        assert (shares <= band.high).all()
        assert seen.rounding > 0.1


def test_unconverged_pairs_are_noted_and_stay_so() -> None:
    rough = eigenpairs(Dense(MATRIX), largest=4, rng=RNG, max_products=6).largest
    assert not rough.converged.all()
    seen = spectral_density(Dense(MATRIX), num_probes=2, num_steps=4, rng=RNG, known=rough)
    assert [note.code for note in seen.notes] == ["known_not_converged"]
    assert seen.pairs is not None
    assert int((~seen.pairs.converged).sum()) == int((~rough.converged).sum())
    assert found().notes == ()


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_a_scale_whose_square_float32_does_not_hold(scale: float) -> None:
    single = spectral_density(
        Dense((scale * MATRIX).float()), num_probes=4, num_steps=8, num_search_steps=16, rng=RNG.child(0)
    )
    assert distance(single, scale * TRUTH) / scale == pytest.approx(distance(found(), TRUTH), rel=0.05)


@pytest.mark.parametrize("size", [1, 2])
def test_the_smallest_operators(size: int) -> None:
    matrix = torch.tensor([[2.0, 0.5], [0.5, -1.0]], dtype=torch.float64)[:size, :size]
    seen = spectral_density(Dense(matrix), num_probes=3, num_steps=4, rng=RNG, exact_size=0)
    assert distance(seen, torch.linalg.eigvalsh(matrix).numpy()) < 1e-12
