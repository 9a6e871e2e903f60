"""Eigenpairs against dense solvers, and certificates that are refused when they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.numerics.solutions import mlp
from tests.numerics.test_spectra import rotated
from vallis.core.errors import SettingsError, UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Dense, Operator, Product
from vallis.numerics.spectra import Eigenpairs, Spectrum
from vallis.testing.oracles import dense_hessian

RNG = Rng(0).child("lanczos")
P = 400


def decaying(size: int = P) -> torch.Tensor:
    """A spectrum as networks have them: few large values, a bulk near zero, a few below."""
    values = torch.cat([10.0 * 0.7 ** torch.arange(20.0), -1.0 * 0.5 ** torch.arange(5.0)]).double()
    bulk = 1e-3 * torch.randn(size - 25, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.cat([values, bulk])


MATRIX = rotated(decaying())
TRUTH = np.sort(decaying().numpy())


def must_be_certified(matrix: torch.Tensor, pairs: Eigenpairs, tolerance: float) -> None:
    """What the pairs say of themselves, computed anew in float64."""
    matrix = matrix.double()
    true = (matrix @ pairs.vectors - pairs.vectors * torch.from_numpy(pairs.values.copy())).norm(dim=0).numpy()
    np.testing.assert_allclose(pairs.residuals, true, rtol=1e-2, atol=1e-6 * np.abs(TRUTH).max())
    limit = tolerance * np.abs(TRUTH).max()
    assert ((true <= limit * 1.01) | ~pairs.converged).all()
    torch.testing.assert_close(pairs.vectors.norm(dim=0), torch.ones(len(pairs), dtype=torch.float64))


@pytest.mark.parametrize(("largest", "smallest"), [(5, 0), (0, 4), (6, 3), (1, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_of_the_spectrum(largest: int, smallest: int, dtype: torch.dtype) -> None:
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    matrix = MATRIX.to(dtype)
    found = eigenpairs(Dense(matrix), largest=largest, smallest=smallest, rng=RNG, tolerance=tolerance, search=5)
    assert (found.stop, found.converged, found.notes) == ("converged", True, ())
    np.testing.assert_allclose(found.largest.values, TRUTH[::-1][:largest], atol=10 * tolerance)
    np.testing.assert_allclose(found.smallest.values, TRUTH[:smallest], atol=10 * tolerance)
    assert found.num_products < P / 2
    for pairs in (found.largest, found.smallest):
        must_be_certified(matrix, pairs, tolerance)
        assert pairs.converged.all()


def test_restarts_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for a few vectors only, the same pairs come out, after more products."""
    free = eigenpairs(Dense(MATRIX), largest=4, smallest=2, rng=RNG, tolerance=1e-9)
    monkeypatch.setattr("vallis.numerics.hunt.capacity", lambda operator, wanted: wanted + 6)
    tight = eigenpairs(Dense(MATRIX), largest=4, smallest=2, rng=RNG, tolerance=1e-9, max_products=2000)
    assert tight.converged
    assert tight.num_products > free.num_products
    np.testing.assert_allclose(tight.largest.values, free.largest.values, atol=1e-8)
    np.testing.assert_allclose(tight.smallest.values, free.smallest.values, atol=1e-8)
    must_be_certified(MATRIX, tight.largest, 1e-9)


def test_what_has_not_converged_is_said_so() -> None:
    found = eigenpairs(Dense(MATRIX), largest=10, rng=RNG, tolerance=1e-10, max_products=14)
    assert (found.stop, found.converged, found.num_products) == ("max_products", False, 14)
    assert found.largest.converged.any()
    assert not found.largest.converged.all()
    must_be_certified(MATRIX, found.largest, 1e-10)
    limit = 1e-10 * found.scale
    np.testing.assert_array_equal(found.largest.converged, found.largest.residuals <= limit)


def test_fewer_products_than_pairs_give_fewer_pairs() -> None:
    found = eigenpairs(Dense(MATRIX), largest=10, rng=RNG, max_products=3)
    assert (found.stop, len(found.largest)) == ("max_products", 3)


@pytest.mark.parametrize("tolerance", [1e-12, 2e-8])
def test_rounding_ends_the_iteration_before_the_products_do(tolerance: float) -> None:
    found = eigenpairs(Dense(MATRIX.float()), largest=3, rng=RNG, tolerance=tolerance, max_products=5000)
    assert (found.stop, found.converged) == ("rounding", False)
    assert found.num_products < 100
    assert not found.largest.converged.all()
    np.testing.assert_allclose(found.largest.values, TRUTH[::-1][:3], atol=1e-5)
    must_be_certified(MATRIX.float(), found.largest, tolerance)


@pytest.mark.parametrize("copies", [2, 3])
def test_a_search_finds_the_copies_of_a_multiple_eigenvalue(copies: int) -> None:
    values = decaying()
    values[1:copies] = values[0]
    matrix = rotated(values)
    blind = eigenpairs(Dense(matrix), largest=4, rng=RNG, tolerance=1e-6, search=0)
    assert blind.converged
    assert np.sum(blind.largest.values > 9.9) < copies  # converged, and yet not the four largest
    found = eigenpairs(Dense(matrix), largest=4, rng=RNG, tolerance=1e-6, search=8)
    assert found.converged
    np.testing.assert_allclose(found.largest.values, np.sort(values.numpy())[::-1][:4], atol=1e-5)
    must_be_certified(matrix, found.largest, 1e-6)


def test_a_search_that_runs_out_of_products_says_so() -> None:
    found = eigenpairs(Dense(MATRIX), largest=2, rng=RNG, tolerance=1e-6, search=500, max_products=60)
    assert found.num_products == 60
    assert [note.code for note in found.notes] == ["search_cut_short"]
    assert found.converged


def test_pairs_beside_which_there_was_no_looking_have_not_converged() -> None:
    """A space of eight vectors is invariant, and holds two copies of a value of which there are four."""
    values = torch.cat([torch.full((4,), 3.0), torch.full((3,), -2.0), torch.zeros(100), torch.full((293,), 0.5)])
    found = eigenpairs(Dense(rotated(values)), largest=5, rng=RNG, tolerance=1e-6, max_products=8)
    assert (found.stop, found.converged) == ("max_products", False)
    assert [note.code for note in found.notes] == ["search_cut_short"]
    assert found.largest.converged.all()  # each stands for an eigenvalue, if not for that of its rank


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(P),
        torch.ones(P),
        torch.cat([torch.full((3,), 7.0), torch.zeros(P - 3)]),
        torch.cat([torch.full((2,), 7.0), torch.zeros(P - 4), torch.full((2,), -1.0)]),
    ],
    ids=["zero", "identity", "low rank", "both ends"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_distinct_eigenvalues_break_down_and_go_on(values: torch.Tensor, dtype: torch.dtype) -> None:
    matrix = rotated(values.double())
    operator = Dense(matrix.to(dtype))
    operator.is_symmetric = True
    found = eigenpairs(operator, largest=5, smallest=3, rng=RNG, tolerance=1e-5, search=5)
    assert found.converged
    expected = np.sort(values.double().numpy())
    np.testing.assert_allclose(found.largest.values, expected[::-1][:5], atol=1e-4)
    np.testing.assert_allclose(found.smallest.values, expected[:3], atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 60, 256])
def test_small_operators_are_solved_densely(size: int) -> None:
    values = torch.randn(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    operator = 1.0 * Dense(rotated(values))  # not the matrix itself, which is written out without a product
    found = eigenpairs(operator, largest=1, smallest=1, rng=RNG)
    assert (found.stop, operator.num_products) == ("dense", size)
    np.testing.assert_allclose(found.largest.values, [float(values.max())], atol=1e-12)
    np.testing.assert_allclose(found.smallest.values, [float(values.min())], atol=1e-12)


@pytest.mark.parametrize("dense_size", [256, 0])
def test_more_pairs_than_there_are_are_clamped_with_a_note(dense_size: int) -> None:
    values = torch.arange(6.0, dtype=torch.float64)
    found = eigenpairs(Dense(rotated(values)), largest=10, smallest=6, rng=RNG, dense_size=dense_size, tolerance=1e-9)
    assert [note.code for note in found.notes] == ["fewer_eigenvalues"]
    np.testing.assert_allclose(found.largest.values, values.flip(0), atol=1e-9)
    np.testing.assert_allclose(found.smallest.values, values, atol=1e-9)
    assert found.converged


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0, 2.5]), min_size=2, max_size=12),
    largest=st.integers(0, 4),
    smallest=st.integers(1, 4),
)
def test_lanczos_and_the_dense_solver_agree(values: list[float], largest: int, smallest: int) -> None:
    """Multiplicities included, because a small space is exhausted by breakdowns and searches."""
    operator = Dense(rotated(torch.tensor(values, dtype=torch.float64)))
    ways = [
        eigenpairs(operator, largest=largest, smallest=smallest, rng=RNG, tolerance=1e-9, dense_size=d, search=12)
        for d in (256, 0)
    ]
    np.testing.assert_allclose(ways[0].largest.values, ways[1].largest.values, atol=1e-8)
    np.testing.assert_allclose(ways[0].smallest.values, ways[1].smallest.values, atol=1e-8)


def test_the_same_seed_gives_the_same_bits_and_another_seed_the_same_numbers() -> None:
    def run(rng: Rng) -> Spectrum:
        return eigenpairs(Dense(MATRIX), largest=3, rng=rng, tolerance=1e-10)

    one, same, other = run(Rng(1)), run(Rng(1)), run(Rng(2))
    np.testing.assert_array_equal(one.largest.values, same.largest.values)
    assert torch.equal(one.largest.vectors, same.largest.vectors)
    np.testing.assert_allclose(one.largest.values, other.largest.values, atol=1e-9)
    assert not np.array_equal(one.largest.residuals, other.largest.residuals)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    eigenpairs(Dense(MATRIX), largest=1, rng=RNG)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("batch_size", [1, 5, 16, 17])
def test_a_networks_eigenvalues_by_lanczos(batch_size: int) -> None:
    solution = mlp(batch_size)
    truth = torch.linalg.eigvalsh(dense_hessian(solution)).numpy()
    found = eigenpairs(
        Hessian(Objective(solution, dtype=torch.float64)),
        largest=5,
        smallest=3,
        rng=RNG,
        dense_size=0,
        tolerance=1e-10,
    )
    assert found.converged
    np.testing.assert_allclose(found.largest.values, truth[::-1][:5], atol=1e-9)
    np.testing.assert_allclose(found.smallest.values, truth[:3], atol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"largest": 0},
        {"largest": -1},
        {"largest": 1, "max_products": 0},
        {"largest": 1, "tolerance": 0.0},
        {"largest": 1, "tolerance": float("inf")},
    ],
)
def test_impossible_wishes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="were required"):
        eigenpairs(Dense(MATRIX), rng=RNG, **wrong)  # type: ignore[arg-type]


def test_operators_without_symmetry_are_refused() -> None:
    with pytest.raises(UsageError, match="symmetric"):
        eigenpairs(Product(Dense(MATRIX), Dense(MATRIX + 1)), largest=1, rng=RNG)


@pytest.mark.parametrize("size", [10, 300])
def test_products_with_nan_are_refused(size: int) -> None:
    class Broken(Operator):
        def _product(self, vector: torch.Tensor) -> torch.Tensor:
            return vector * torch.nan

    with pytest.raises(UsageError, match="finite products"):
        eigenpairs(Broken(size, torch.float64, torch.device("cpu")), largest=1, rng=RNG)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_by_magnitude_both_ends_come_as_they_lie(dtype: torch.dtype) -> None:
    found = eigenpairs(Dense(-MATRIX.to(dtype)), magnitude=12, rng=RNG, tolerance=1e-5)
    order = np.argsort(-np.abs(TRUTH))[:12]
    expected = np.sort(-TRUTH[order])
    assert found.converged
    np.testing.assert_allclose(found.smallest.values, expected[expected < 0], rtol=1e-4)
    np.testing.assert_allclose(found.largest.values, expected[expected > 0][::-1], rtol=1e-4)
    must_be_certified(-MATRIX, found.smallest, 1e-5)


def test_a_start_near_the_eigenvectors_saves_products() -> None:
    cold = eigenpairs(Dense(MATRIX), largest=5, rng=RNG, tolerance=1e-4)
    noise = torch.randn(P, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / P**0.5
    warm = eigenpairs(
        Dense(MATRIX), largest=5, rng=RNG, tolerance=1e-4, start=(cold.largest.vectors + 1e-3 * noise).requires_grad_()
    )
    assert warm.converged
    assert warm.num_products < 0.8 * cold.num_products
    np.testing.assert_allclose(warm.largest.values, TRUTH[::-1][:5], rtol=1e-4)
    must_be_certified(MATRIX, warm.largest, 1e-4)


def test_a_start_that_is_wrong_costs_products_and_no_correctness() -> None:
    away = torch.linalg.eigh(MATRIX).eigenvectors[:, 100:105]
    found = eigenpairs(Dense(MATRIX), largest=3, rng=RNG, tolerance=1e-6, start=away + 1e-6)
    assert found.converged
    np.testing.assert_allclose(found.largest.values, TRUTH[::-1][:3], rtol=1e-5)


@pytest.mark.parametrize("shape", [(P,), (P - 1, 2), (P, 0)])
def test_starts_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="start directions of shape"):
        eigenpairs(Dense(MATRIX), largest=1, rng=RNG, start=torch.ones(shape))


def test_a_start_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(UsageError, match="start directions as a tensor were required, a list came"):
        eigenpairs(Dense(MATRIX), largest=2, rng=RNG, start=[[1.0]] * P)  # type: ignore[arg-type]


def test_a_pair_that_hides_a_neighbour_is_not_taken_for_converged() -> None:
    """Forty values of a slow decay: residuals that are small beside the first say little of the last."""
    values = torch.cat([40 * 0.5 ** torch.arange(6.0), torch.linspace(0.5, 0.3, 60), torch.zeros(P - 66)]).double()
    truth = np.sort(values.numpy())[::-1][:30]
    for seed in range(5):
        found = eigenpairs(Dense(rotated(values)), largest=30, rng=Rng(seed), tolerance=1e-3)
        assert found.converged
        np.testing.assert_allclose(found.largest.values, truth, rtol=5e-3)


def test_a_matrix_that_is_not_symmetric_after_all_is_found_out() -> None:
    """Such as a Hessian with a layer whose second derivative is wrong."""
    matrix = MATRIX.clone()
    matrix[:, 7] *= 1.5
    operator = Dense(matrix)
    operator.is_symmetric = True
    with pytest.raises(UsageError, match="u @ A v and v @ A u differ"):
        eigenpairs(operator, largest=5, rng=RNG, tolerance=1e-8)


@pytest.mark.parametrize(
    "start", [torch.zeros(P, 1), torch.full((P, 1), torch.nan), torch.eye(P)[:, :1] * torch.tensor([1.0, -1.0])]
)
def test_starts_that_point_nowhere_are_refused(start: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="whose sum is finite and not zero"):
        eigenpairs(Dense(MATRIX), largest=1, rng=RNG, start=start)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_a_scale_whose_square_float32_does_not_hold(scale: float) -> None:
    """The squares of a product's entries overflow float32 from 1e19 on, and vanish below 1e-23."""
    how = {"largest": 4, "smallest": 2, "rng": RNG, "tolerance": 1e-3}
    plain, scaled = (eigenpairs(Dense((each * MATRIX).float()), **how) for each in (1.0, scale))  # type: ignore[arg-type]
    assert scaled.converged
    true = np.linalg.eigvalsh(MATRIX.numpy())
    np.testing.assert_allclose(scaled.largest.values / scale, true[::-1][:4], rtol=1e-3)
    np.testing.assert_allclose(scaled.smallest.values / scale, true[:2], atol=2e-3 * true.max())
    assert scaled.scale / scale == pytest.approx(plain.scale, rel=1e-3)
    assert 0 < scaled.largest.residuals.max() / scale <= 1e-3 * plain.scale * 1.01


def test_what_float32_cannot_hold_is_said_in_true_words() -> None:
    matrix = (1e30 * MATRIX).double()
    assert eigenpairs(Dense(matrix), largest=1, rng=RNG).converged
    with pytest.raises(UsageError, match="overflow"):
        eigenpairs(Dense((1e38 * MATRIX).float() * 1e3), largest=1, rng=RNG)


class Diagonal(Operator):
    """A spectrum and nothing else: a random start sees no more of a matrix."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(len(values), torch.float64, torch.device("cpu"))
        self.values = torch.from_numpy(values)

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return self.values * vector


@pytest.mark.parametrize("count", [1, 10, 20])
def test_what_says_it_has_converged_is_wrong_at_most_twice_in_a_hundred(count: int) -> None:
    """Spectra as networks have them, outliers over a factor of 30 above a heavy-tailed bulk, at a loose tolerance."""
    misses, tolerance = 0, 0.02
    for seed in range(100):
        drawn = np.random.default_rng(seed)
        outliers = np.exp(drawn.uniform(np.log(0.08), np.log(2.7), max(10, count)))
        values = np.concatenate([outliers, 0.01 * np.abs(drawn.standard_t(3, 600 - len(outliers)))])
        found = eigenpairs(Diagonal(values), largest=count, rng=Rng(seed), tolerance=tolerance)
        assert found.converged
        truth = np.sort(values)[::-1][:count]
        misses += bool((np.abs(found.largest.values - truth) > 1.5 * tolerance * truth).any())
    assert misses <= 2


def test_a_start_that_the_operator_takes_to_nothing_is_not_taken_for_asymmetry() -> None:
    """All that is left of such products is rounding, which is not symmetric: a rank of one in float32."""
    values = torch.cat([torch.tensor([5.0]), torch.zeros(P - 1)]).double()
    matrix = rotated(values).float()
    start = torch.linalg.eigh(matrix.double()).eigenvectors[:, :5]
    found = eigenpairs(Dense(matrix), largest=1, rng=RNG, start=start)
    assert found.converged
    assert found.largest.values[0] == pytest.approx(5.0, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "came"),
    [
        ({"largest": 2.5}, "for largest, 2.5 came"),
        ({"largest": True}, "for largest, True came"),
        ({"smallest": "3"}, "for smallest, '3' came"),
        ({"magnitude": None}, "for magnitude, None came"),
        ({"largest": 1, "max_products": 10.0}, "for max_products, 10.0 came"),
        ({"largest": 1, "search": 0.5}, "for search, 0.5 came"),
    ],
)
def test_counts_are_whole_numbers(settings: dict[str, Any], came: str) -> None:
    with pytest.raises(SettingsError, match=f"whole number was required {came}"):
        eigenpairs(Dense(MATRIX), rng=RNG, **settings)


def test_counts_of_numpy_are_counts() -> None:
    assert len(eigenpairs(Dense(MATRIX), largest=np.int64(2), rng=RNG).largest) == 2  # type: ignore[arg-type]
