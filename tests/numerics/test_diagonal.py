"""The diagonal against the dense one, and the promise of its error bars."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.numerics.solutions import AWKWARD, mlp
from tests.numerics.test_lanczos import MATRIX, P
from vallis.core.errors import SettingsError, UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.diagonal import diagonal
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Dense
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian

RNG = Rng(0).child("diagonal")
TRUE = MATRIX.diagonal()


@pytest.mark.parametrize("name", AWKWARD)
def test_small_networks_exactly(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    found = diagonal(Hessian(Objective(solution, dtype=torch.float64)), num_probes=1, rng=RNG)
    torch.testing.assert_close(found.value, dense_hessian(solution).diagonal(), rtol=1e-8, atol=1e-10)
    assert found.stderr is not None
    assert not found.stderr.any()
    assert found.num_probes == 0
    assert all(torch.equal(end, found.value) for end in found.interval())


def test_a_diagonal_matrix_needs_one_probe() -> None:
    matrix = torch.diag(torch.arange(300.0, dtype=torch.float64))
    found = diagonal(Dense(matrix), num_probes=1, rng=RNG)
    torch.testing.assert_close(found.value, matrix.diagonal())
    assert found.stderr is None
    low, high = found.interval()
    assert torch.isneginf(low).all()
    assert torch.isposinf(high).all()


def test_intervals_cover_each_entry_as_often_as_they_say_and_scatter_as_theory_says() -> None:
    repeats, num_probes = 200, 10
    inside, values = torch.zeros(P), []
    for repeat in range(repeats):
        found = diagonal(Dense(MATRIX), num_probes=num_probes, rng=RNG.child(repeat))
        low, high = found.interval()
        inside += (low <= TRUE) & (high >= TRUE)
        values.append(found.value)
    # Each entry by itself, at a level that 400 entries pass together.
    lowest, highest = stats.binom.ppf([1e-5, 1 - 1e-5], repeats, 0.95)
    assert float(inside.min()) >= lowest
    assert float(inside.mean()) == pytest.approx(0.95 * repeats, abs=0.02 * repeats)
    assert float(inside.min()) <= highest
    drawn = torch.stack(values)
    variance = ((MATRIX**2).sum(1) - TRUE**2) / num_probes
    torch.testing.assert_close(drawn.var(0).mean(), variance.mean(), rtol=0.1, atol=0.0)
    assert float(((drawn.mean(0) - TRUE) / (variance / repeats).sqrt()).abs().max()) < 5


@pytest.mark.parametrize("max_products", [8, 200])
def test_known_pairs_leave_less_to_chance_and_need_not_be_good(max_products: int) -> None:
    rough = eigenpairs(Dense(MATRIX), largest=6, rng=RNG, tolerance=1e-8, max_products=max_products)
    assert rough.converged == (max_products == 200)
    operator = Dense(MATRIX)
    plain = diagonal(operator, num_probes=50, rng=RNG)
    found = diagonal(operator, num_probes=50, rng=RNG, known=rough.largest)
    assert (plain.num_products, found.num_products) == (50, 56)
    assert found.stderr is not None
    assert plain.stderr is not None
    assert float(found.stderr.mean()) < 0.5 * float(plain.stderr.mean())
    scores = (found.value - TRUE) / found.stderr
    assert float((scores.abs() > 2.0).double().mean()) < 0.12
    assert float(scores.abs().max()) < 6


def test_it_is_no_sum_of_rounded_parts_in_float32() -> None:
    single, double = (
        diagonal(Dense(MATRIX.to(dtype)), num_probes=8, rng=RNG) for dtype in (torch.float32, torch.float64)
    )
    np.testing.assert_allclose(single.value, double.value, atol=1e-4)
    assert single.value.dtype == torch.float64


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(SettingsError, match="num_probes=0"):
        diagonal(Dense(MATRIX), num_probes=0, rng=RNG)
    for size in (9, 300):
        with pytest.raises(UsageError, match="finite"):
            diagonal(Dense(torch.full((size, size), torch.inf)), num_probes=1, rng=RNG)
        with pytest.raises(UsageError, match="symmetric"):
            diagonal(Dense(torch.triu(torch.ones(size, size))), num_probes=1, rng=RNG)


def test_a_network_that_is_not_written_out() -> None:
    solution = mlp()
    found = diagonal(Hessian(Objective(solution, dtype=torch.float64)), num_probes=300, rng=RNG, exact_size=0)
    assert found.stderr is not None
    scores = (found.value - dense_hessian(solution).diagonal()) / found.stderr
    assert float(scores.abs().max()) < 5


def test_probes_that_agree_on_an_entry_may_do_so_by_luck() -> None:
    """Entries 0 and 1 are coupled, all others are not: their probes agree surely, those of the two by luck."""
    matrix = torch.diag(torch.arange(300.0, dtype=torch.float64))
    matrix[0, 1] = matrix[1, 0] = 1.0
    two = [diagonal(Dense(matrix), num_probes=2, rng=RNG.child(repeat)) for repeat in range(30)]
    assert any(each.stderr is not None and float(each.stderr[0]) == 0.0 for each in two)
    for each in two:
        low, high = each.interval()
        assert bool((low <= matrix.diagonal()).all())
        assert bool((matrix.diagonal() <= high).all())
    low, high = diagonal(Dense(matrix), num_probes=12, rng=RNG).interval()
    assert torch.equal(low[2:], high[2:])
