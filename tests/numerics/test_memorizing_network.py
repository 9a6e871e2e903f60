"""Theorem 1 against cases by hand, a recurrence over slopes, dense condition numbers, and real digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng
from vallis.numerics.memorizing_network import Memorization, largest_error, memorize, memorize_each


def uniform(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(10, (n,), generator=torch.Generator().manual_seed(seed))


def hinges(found: Memorization) -> np.ndarray:
    return np.maximum(found.places[:, None].numpy() - found.thresholds.numpy(), 0)


def weights_by_slopes(z: np.ndarray, b: np.ndarray, y: np.ndarray) -> np.ndarray:
    """c is a broken line that bends at b: the weight is how much steeper it becomes there, so that it meets y at z."""
    slope, height, weights = 0.0, 0.0, []
    for place in range(len(z)):
        if place:
            height = y[place - 1] + slope * (b[place] - z[place - 1])
        new = (y[place] - height) / (z[place] - b[place])
        weights.append(new - slope)
        slope = new
    return np.array(weights)


def test_two_points_by_hand() -> None:
    """With a = 2: places 0 and 4, thresholds -1 and 2; w_1 = 3, and 5 * 3 + 2 w_2 = 7."""
    found = memorize(torch.tensor([[2.0], [0.0]]), torch.tensor([7.0, 3.0]), rng=Rng(0))
    scale = float(found.direction[0])
    assert found.num_parameters == 2 * 2 + 1
    if scale > 0:
        assert found.places.tolist() == [0, 2 * scale]
        assert found.thresholds.tolist() == [-1, scale]
        assert found.weights.tolist() == pytest.approx([3.0, (7 - 3 * (1 + 2 * scale)) / scale])
    else:
        assert found.weights.tolist() == pytest.approx([7.0, (3 - 7 * (1 - 2 * scale)) / -scale])
    assert found.module()(torch.tensor([[0.0], [2.0]])).tolist() == pytest.approx([3.0, 7.0])


@pytest.mark.parametrize("n", [1, 2, 100, 500, 1000])
def test_it_memorises_random_points(n: int) -> None:
    """B6: within 1e-6 (1 + max |y|) for n up to 1000, with exactly 2n + d weights."""
    x, y = uniform(n, 64), labels(n)
    found = memorize(x, y, rng=Rng(0))
    module = found.module()
    assert sum(value.numel() for value in module.parameters()) == found.num_parameters == 2 * n + 64
    with torch.no_grad():
        errors = (module(x) - y).abs()
    assert float(errors.max()) <= 1e-6 * (1 + float(y.abs().max()))
    assert found.residual == pytest.approx(float(errors.max()), abs=1e-5)
    assert found.residual == largest_error(module, x, y)


def test_its_weights_are_those_of_the_broken_line() -> None:
    found = memorize(uniform(200, 8), labels(200), rng=Rng(0))
    order = (uniform(200, 8) @ found.direction).argsort()
    expected = weights_by_slopes(found.places.numpy(), found.thresholds.numpy(), labels(200)[order].double().numpy())
    np.testing.assert_allclose(found.weights.numpy(), expected, rtol=1e-6)


def test_lemma_1() -> None:
    """A is lower triangular with eigenvalues z_i - b_i, and as badly conditioned as is said."""
    found = memorize(uniform(60, 5), labels(60), rng=Rng(0))
    matrix = hinges(found)
    assert np.array_equal(matrix, np.tril(matrix))
    assert (np.diff(found.places) > 0).all() and (found.places > found.thresholds).all()
    assert (found.thresholds[1:] > found.places[:-1]).all()
    assert found.smallest_eigenvalue == pytest.approx(np.linalg.eigvals(matrix).real.min())
    exact = np.linalg.cond(matrix, 1)
    assert exact / 3 < found.condition <= exact * (1 + 1e-5)  # LAPACK's estimate is never above, but for its digits


def test_classes_share_direction_and_thresholds() -> None:
    n, y = 80, labels(80)
    found = memorize(uniform(n, 6), torch.eye(10)[y], rng=Rng(0))
    assert found.num_parameters == sum(v.numel() for v in found.module().parameters()) == n + 6 + n * 10
    one = memorize(uniform(n, 6), (y == 3).double(), rng=Rng(0))
    np.testing.assert_allclose(found.weights[:, 3].numpy(), one.weights.numpy(), rtol=1e-9, atol=1e-6)
    with torch.no_grad():
        assert found.module()(uniform(n, 6)).argmax(1).equal(y)


def test_digits_are_memorised_with_random_labels() -> None:
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:1000, None] / 16
    for y in (torch.tensor(digits.target[:1000]), labels(1000)):
        found = memorize(x, y, rng=Rng(0))
        assert found.num_parameters == 2 * 1000 + 64
        assert found.residual <= 1e-6 * 10


def test_float32_fails_where_float64_does_not() -> None:
    """The card's numbers: conditions of 8e7 and 8e10, float32 errors of 0.5 and 571, at n = 100 and 1000."""
    for n, condition, wrong in ((100, 8e7, 0.01), (1000, 8e10, 10.0)):
        found = memorize(uniform(n, 64), labels(n), rng=Rng(0))
        assert condition / 30 < found.condition < condition * 30
        assert largest_error(found.module().float(), uniform(n, 64).float(), labels(n)) > wrong > 1e4 * found.residual


@pytest.mark.parametrize("num_outputs", [0, 3])
@pytest.mark.parametrize("depth", [2, 3, 4, 8, 41])
def test_deeper_networks_are_narrower_and_answer_the_same(depth: int, num_outputs: int) -> None:
    n, d = 40, 5
    y = torch.randn((n, num_outputs) if num_outputs else (n,), generator=torch.Generator().manual_seed(0)).double()
    found = memorize(uniform(n, d), y, rng=Rng(0))
    deep, outputs = found.deep_module(depth), max(1, num_outputs)
    with torch.no_grad():
        torch.testing.assert_close(deep(uniform(n, d)), y, rtol=0, atol=1e-7)
    share = -(-n // (depth - 1))
    assert deep.width <= share + 1 + outputs
    assert deep.num_hidden_layers == -(-n // share) <= depth - 1
    extra = 1 + (deep.num_hidden_layers - 1) * outputs
    assert sum(v.numel() for v in deep.parameters()) == n + d + n * outputs + extra


def test_a_deep_network_is_layers_of_relus() -> None:
    """Layer by layer, with every carried number through a ReLU of its own: written out as matrices."""
    n, d, depth = 12, 3, 4
    y = labels(n).double()
    found = memorize(uniform(n, d), y, rng=Rng(0))
    deep = found.deep_module(depth)
    lowest = float(deep.lowest.detach())
    with torch.no_grad():
        b, w, offsets = ([v.detach() for v in group] for group in (deep.thresholds, deep.weights, deep.offsets))
        first = torch.cat([found.direction[:, None].expand(d, len(b[0])), found.direction[:, None]], 1)
        h = torch.relu(uniform(n, d) @ first + torch.cat([-b[0], deep.lowest]))
        previous = torch.zeros(1, dtype=torch.float64)
        for layer in range(1, depth - 1):
            units, place = len(b[layer - 1]), len(b[layer - 1])
            total = h[:, :units] @ w[layer - 1][:, 0] + (h[:, place + 1] - previous if layer > 1 else 0)
            z = h[:, place] - lowest
            rows = [*(z - one for one in b[layer]), z + lowest, total + offsets[layer - 1]]
            h, previous = torch.relu(torch.stack(rows, 1)), offsets[layer - 1]
        last = h[:, : len(b[-1])] @ w[-1][:, 0] + h[:, -1] - previous
    torch.testing.assert_close(last, y, rtol=0, atol=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 1000))
def test_any_values_on_any_points(n: int, d: int, seed: int) -> None:
    y = 100 * torch.randn(n, generator=torch.Generator().manual_seed(seed)).double()
    found = memorize(uniform(n, d, seed), y, rng=Rng(seed))
    assert found.residual <= 1e-15 * found.condition * n * 100 + 1e-9


def test_the_direction_with_the_largest_smallest_gap() -> None:
    x, y = uniform(50, 4), labels(50)
    one, many = (memorize(x, y, rng=Rng(0), num_directions=k) for k in (1, 200))
    gaps = [float(found.places.diff().min() / found.direction.norm()) for found in (one, many)]
    assert gaps[1] > 2 * gaps[0]


def test_what_cannot_be_memorised_is_refused() -> None:
    x, y = uniform(5, 3), labels(5)
    x[3] = x[1]
    with pytest.raises(DataError, match=r"1 of 5 are copies of others \(example 3 of 1"):
        memorize(x, y, rng=Rng(0))
    with pytest.raises(DataError, match="fall together"):
        memorize(torch.tensor([[1.0, 1.0], [1.0, 1.0 + 2**-52]], dtype=torch.float64), y[:2], rng=Rng(0))
    with pytest.raises(DataError, match="finite"):
        memorize(torch.tensor([[1.0], [float("nan")]]), y[:2], rng=Rng(0))
    with pytest.raises(DataError, match="row of values"):
        memorize(uniform(4, 3), y, rng=Rng(0))
    with pytest.raises(SettingsError, match="num_directions=0"):
        memorize(uniform(5, 3), y, rng=Rng(0), num_directions=0)
    with pytest.raises(SettingsError, match=r"2\.\.6"):
        memorize(uniform(5, 3), y, rng=Rng(0)).deep_module(7)


def test_a_matrix_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vallis.numerics.memorizing_network.spare_bytes", lambda _: 16 * 5**2 - 1)
    with pytest.raises(DataError, match="two matrices of 5 x 5"):
        memorize(uniform(5, 3), labels(5), rng=Rng(0))


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e17, 1e150, 1e300])
def test_points_of_any_size_are_memorized(scale: float) -> None:
    """At 1e17 the 1 of ``b_1 = z_1 - 1`` is below the last digit of z_1."""
    x = torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    y = torch.arange(40.0, dtype=torch.float64) % 7
    found = memorize(x, y, rng=Rng(0))
    assert found.residual < 1e-6 and largest_error(found.module(), x, y) < 1e-6


def test_several_targets_share_a_direction_and_are_what_each_has_alone() -> None:
    x, y = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), torch.eye(3)[torch.arange(30) % 3]
    numbers = y.argmax(1).double()
    for found, wanted in zip(memorize_each(x, (y, numbers), rng=Rng(0)), (y, numbers), strict=True):
        alone = memorize(x, wanted, rng=Rng(0))
        assert torch.equal(found.weights, alone.weights)
        assert (found.residual, found.condition) == (alone.residual, alone.condition)
