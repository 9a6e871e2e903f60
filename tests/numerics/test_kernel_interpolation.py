"""Interpolation against numpy's pinv and solve, scikit-learn's kernel ridge, and a case by hand."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import lapack
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge

from tests.numerics.solutions import random
from vallis.core.errors import DataError, SettingsError, UsageError
from vallis.core.rng import Rng
from vallis.numerics import gram_on_disk, kernel_interpolation
from vallis.numerics.kernel_functions import Gaussian, Linear, median_gamma
from vallis.numerics.kernel_interpolation import interpolate, interpolate_from


def digits(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    held = load_digits()
    order = np.random.default_rng(0).permutation(len(held.target))
    x, y = torch.tensor(held.data[order] / 16), torch.tensor(held.target[order])
    return x[:n], y[:n], x[n:], y[n:]


def test_two_points_by_hand() -> None:
    """K = [[1, k], [k, 1]] with k = e^-1; for y = (1, 0): alpha = (1, -k) / (1 - k^2), |f|^2 = 1 / (1 - k^2)."""
    k = math.exp(-1)
    found = interpolate(Gaussian(gamma=1.0), torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [0.0]]))
    assert found.coefficients[:, 0].tolist() == pytest.approx([1 / (1 - k**2), -k / (1 - k**2)])
    assert found.norm == pytest.approx((1 / (1 - k**2)) ** 0.5)
    assert found(torch.tensor([[0.0], [1.0]]))[:, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-15)
    assert found.condition == pytest.approx((1 + k) ** 2 / (1 - k**2), rel=1e-5)
    assert (found.jitter, found.num_copies) == (0.0, 0)


def test_the_condition_number_of_three_points_by_hand() -> None:
    """The first column of K is the largest: its entries lie below the diagonal, of which only the mirror is kept."""
    points = torch.tensor([[0.0], [1.0], [-1.0]])
    found = interpolate(Gaussian(gamma=1.0), points, torch.ones(3, 1))
    gram = Gaussian(gamma=1.0).block(points.double(), points.double()).numpy()
    assert np.abs(gram).sum(0).argmax() == 0
    assert found.condition == pytest.approx(np.linalg.cond(gram, 1), rel=1e-5)


def test_a_linear_kernel_gives_the_least_norm_solution() -> None:
    x, y = random(12, 30).double(), random(12, 4, seed=1).double()
    found = interpolate(Linear(), x, y)
    weights = np.linalg.pinv(x.numpy()) @ y.numpy()
    np.testing.assert_allclose((found.centres.T @ found.coefficients).numpy(), weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.norms.numpy(), np.linalg.norm(weights, axis=0), rtol=1e-10)
    assert found.norm == pytest.approx(np.linalg.norm(weights))
    new = random(5, 30, seed=3).double()
    np.testing.assert_allclose(found(new).numpy(), new.numpy() @ weights, rtol=1e-9, atol=1e-12)


def test_against_kernel_ridge_on_digits() -> None:
    x, y, new, _ = digits(600)
    targets = torch.eye(10, dtype=torch.float64)[y]
    found = interpolate(Gaussian(gamma=0.2), x, targets)
    ridge = KernelRidge(kernel="rbf", gamma=0.2, alpha=1e-13).fit(x.numpy(), targets.numpy())
    np.testing.assert_allclose(found(new).numpy(), ridge.predict(new.numpy()), atol=1e-7)
    gram = Gaussian(gamma=0.2).block(x, x).numpy()
    np.testing.assert_allclose(
        found.norms.numpy() ** 2, np.einsum("ic,ic->c", targets.numpy(), np.linalg.solve(gram, targets.numpy()))
    )
    exact = np.linalg.cond(gram, 1)
    assert exact / 3 < found.condition < exact * 1.001
    assert found.residual == pytest.approx(
        float(np.abs(gram @ found.coefficients.numpy() - targets.numpy()).max()), abs=1e-11
    )


def test_digits_are_interpolated_and_learned_and_noise_has_the_larger_norm() -> None:
    """B8: no train error, a test error below 5 %, and a larger norm for random labels."""
    x, y, new, true = digits(1000)
    noise = torch.randint(10, y.shape, generator=torch.Generator().manual_seed(0))
    both = torch.cat([torch.eye(10)[y], torch.eye(10)[noise]], 1)
    found = interpolate(Gaussian(gamma=median_gamma(x, Rng(0))), x, both)
    fitted, unseen = found(x), found(new)
    assert fitted[:, :10].argmax(1).equal(y) and fitted[:, 10:].argmax(1).equal(noise)
    assert float((unseen[:, :10].argmax(1) != true).double().mean()) < 0.05
    assert 0.8 < float((unseen[:, 10:].argmax(1) != true).double().mean()) < 0.98
    assert found.norms[10:].norm() > 2 * found.norms[:10].norm()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, new, _ = digits(100)
    targets = torch.eye(10)[y]
    whole = interpolate(Gaussian(gamma=0.2), x, targets)
    monkeypatch.setattr(kernel_interpolation, "ROWS", 7)
    parts = interpolate(Gaussian(gamma=0.2), x, targets)
    torch.testing.assert_close(parts(new), whole(new), rtol=0, atol=1e-9)
    assert parts.condition == pytest.approx(whole.condition, rel=1e-5)
    assert parts.norm == pytest.approx(whole.norm, rel=1e-9)


@pytest.mark.parametrize("rows", [3, 1024])
def test_jitter_is_added_where_it_must_be_and_said(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far too wide a Gaussian: K is all but constant, of numerical rank far below 60."""
    monkeypatch.setattr(kernel_interpolation, "ROWS", rows)
    monkeypatch.setattr(kernel_interpolation, "JITTERS", (0.0, 1e-17, 1e-8))  # the second changes nothing
    x, y = random(60, 2).double(), random(60, 1, seed=1).double()
    found = interpolate(Gaussian(gamma=1e-3), x, y)
    assert found.jitter == 1e-8
    gram = Gaussian(gamma=1e-3).block(x, x)
    exact = torch.linalg.solve(gram + found.jitter * torch.eye(60), y)
    residual = float((gram @ found.coefficients - y).abs().max())
    assert found.residual == pytest.approx(residual, rel=1e-4)
    assert residual == pytest.approx(float((gram @ exact - y).abs().max()), rel=1e-4)
    assert found.residual > 1e-6
    assert found.norm**2 == pytest.approx(float((y * exact).sum()), rel=1e-4)


def test_no_jitter_is_below_what_rounding_makes_of_the_matrix() -> None:
    x, y = random(60, 2).double(), random(60, 1, seed=1).double()
    assert interpolate(Gaussian(gamma=1e-3), x, y).jitter in kernel_interpolation.JITTERS[1:]


def test_a_singular_matrix_beyond_rounding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_interpolation, "JITTERS", (0.0,))
    with pytest.raises(UsageError, match="full rank"):
        interpolate(Linear(), random(40, 3), random(40, 1))


def test_copies_count_once() -> None:
    x, y = random(10, 3), random(10, 2, seed=1)
    once = interpolate(Gaussian(gamma=0.5), x, y)
    twice = interpolate(Gaussian(gamma=0.5), torch.cat([x, x[:4]]), torch.cat([y, y[:4]]))
    assert (twice.num_copies, twice.jitter) == (4, 0.0)
    assert twice.norm == once.norm
    with pytest.raises(DataError, match="same input with different targets"):
        interpolate(Gaussian(gamma=0.5), torch.cat([x, x[:4]]), torch.cat([y, y[1:5]]))


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 15), st.integers(0, 1000))
def test_no_other_function_through_the_examples_has_a_smaller_norm(n: int, seed: int) -> None:
    x, y = random(n, 3, seed=seed).double(), random(n, 1, seed=seed + 1).double()
    kernel = Gaussian(gamma=2.0)
    least = interpolate(kernel, x, y)
    other = interpolate_from(kernel, x + 0.5 * random(n, 3, seed=seed + 2), x, y)
    assert other.norm >= least.norm * (1 - 1e-6)
    assert float((other(x) - y).abs().max()) <= 1e-9 * (1 + other.condition)


def test_other_centres_by_hand() -> None:
    """One example at 0, one centre at 1: alpha = y / k(0, 1), and the norm is |alpha|."""
    found = interpolate_from(Gaussian(gamma=1.0), torch.ones(1, 1), torch.zeros(1, 1), torch.full((1, 1), 2.0))
    assert found.norm == pytest.approx(2 * math.e)
    assert found(torch.zeros(1, 1)).item() == pytest.approx(2.0)
    assert found(torch.ones(1, 1)).item() == pytest.approx(2 * math.e)
    with pytest.raises(UsageError, match="dependent"):
        interpolate_from(Gaussian(gamma=1.0), torch.zeros(2, 1), torch.tensor([[0.0], [1.0]]), torch.ones(2, 1))
    with pytest.raises(DataError, match="a centre for each of 2"):
        interpolate_from(Gaussian(gamma=1.0), torch.zeros(1, 1), torch.tensor([[0.0], [1.0]]), torch.ones(2, 1))


def test_what_cannot_be_solved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="row of targets"):
        interpolate(Linear(), random(3, 2), random(3))
    with pytest.raises(DataError, match="finite"):
        interpolate(Linear(), torch.full((3, 2), math.inf), random(3, 1))
    monkeypatch.setattr(kernel_interpolation, "spare_bytes", lambda _: 16 * 9 - 1)
    with pytest.raises(DataError, match="kernels of 3 examples around other centres"):
        interpolate_from(Linear(), random(3, 4), random(3, 4, seed=1), random(3, 1))


@pytest.mark.parametrize("width", [7, 64, 500])
@pytest.mark.parametrize("jitters", [(0.0, 1e-8), (1e-6,)])
def test_on_disk_it_is_the_same_function(
    width: int, jitters: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, new, _ = digits(211)
    targets = torch.eye(10)[y]
    kernel = Gaussian(gamma=0.2)
    monkeypatch.setattr(kernel_interpolation, "JITTERS", jitters)
    dense = interpolate(kernel, x, targets)
    monkeypatch.setattr(kernel_interpolation, "spare_bytes", lambda _: 8 * 211**2 - 1)
    monkeypatch.setattr(kernel_interpolation, "panel_width", lambda *_: width)
    monkeypatch.setattr(gram_on_disk, "ROWS", 50)
    found = interpolate(kernel, x, targets)
    assert (found.on_disk, dense.on_disk) == (True, False)
    torch.testing.assert_close(found(new), dense(new), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.norms, dense.norms, rtol=1e-9, atol=0)
    assert (found.jitter, found.num_copies) == (pytest.approx(dense.jitter), 0)
    assert found.condition == pytest.approx(dense.condition, rel=1e-5)
    assert found.residual == pytest.approx(dense.residual, rel=1e-3, abs=1e-11)


def test_on_disk_jitter_is_added_where_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_interpolation, "spare_bytes", lambda _: 1)
    x, y = random(60, 2).double(), random(60, 1, seed=1).double()
    found = interpolate(Gaussian(gamma=1e-3), x, y)
    assert found.jitter in kernel_interpolation.JITTERS[1:]
    gram = Gaussian(gamma=1e-3).block(x, x)
    assert found.residual == pytest.approx(float((gram @ found.coefficients - y).abs().max()), rel=1e-4)
    monkeypatch.setattr(kernel_interpolation, "JITTERS", (0.0,))
    with pytest.raises(UsageError, match="full rank"):
        interpolate(Linear(), random(40, 3), random(40, 1))


def test_on_disk_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_interpolation, "spare_bytes", lambda _: 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert interpolate(Gaussian(gamma=1.0), random(9, 3), random(9, 1)).residual < 1e-9
    assert not list(tmp_path.iterdir()) and np.random.get_state()[1].tolist() == state  # noqa: NPY002


@pytest.mark.parametrize("spare", [2**40, 1])
def test_inputs_beyond_floating_numbers_are_refused(spare: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their squares are infinite, and the function would be no number anywhere."""
    monkeypatch.setattr(kernel_interpolation, "spare_bytes", lambda _: spare)
    for kernel in (Gaussian(gamma=1.0), Linear()):
        with pytest.raises(UsageError, match=r"scale them|full rank"):
            interpolate(kernel, random(9, 3).double() * 1e160, random(9, 1))


def test_it_is_asked_at_inputs_of_the_size_it_was_fitted_to() -> None:
    found = interpolate(Gaussian(gamma=1.0), random(5, 4), random(5, 2))
    assert found(torch.zeros(0, 4)).shape == (0, 2)
    assert found(random(3, 4).reshape(3, 2, 2)).shape == (3, 2)
    for x in (torch.zeros(2), torch.zeros(4), torch.zeros(3, 2), torch.zeros(3, 1)):
        with pytest.raises(DataError, match=r"inputs \(N, ...\) of 4 numbers each were required"):
            found(x)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("penalty", [1e-3, 0.5, 40.0])
def test_a_penalty_gives_kernel_ridge_regression(
    penalty: float, on_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against scikit-learn and the normal equations, with copies that disagree."""
    x, y, new = (random(*shape, seed=seed).double() for seed, shape in enumerate([(30, 40), (30, 3), (7, 40)]))
    x[3], x[17] = x[20], x[20]
    if on_disk:
        monkeypatch.setattr(kernel_interpolation, "spare_bytes", lambda device: 8 * 30**2 - 1)
    found = interpolate(Linear(), x, y, penalty=penalty)
    added = penalty * float(x.square().sum(1).mean())
    assert (found.on_disk, found.num_copies, found.penalty) == (on_disk, 0, pytest.approx(added))
    weights = np.linalg.solve(x.numpy().T @ x.numpy() + added * np.eye(40), x.numpy().T @ y.numpy())
    np.testing.assert_allclose(found(new).numpy(), new.numpy() @ weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.norms.numpy(), np.linalg.norm(weights, axis=0), rtol=1e-9)
    assert found.residual == pytest.approx(np.abs(x.numpy() @ weights - y.numpy()).max(), rel=1e-9)
    gaussian = interpolate(Gaussian(gamma=0.02), x, y, penalty=penalty)
    theirs = KernelRidge(alpha=penalty, kernel="rbf", gamma=0.02).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(gaussian(new).numpy(), theirs.predict(new.numpy()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("penalty", [1e6, 1e15])
def test_the_norm_is_exact_under_a_huge_penalty(penalty: float) -> None:
    """Then ``alpha`` is ``y / p``, and the difference of two terms that are nearly alike had no digit left."""
    x, y = random(12, 3).double(), random(12, 2).double()
    found = interpolate(Gaussian(gamma=0.5), x, y, penalty=penalty)
    gram = torch.exp(-0.5 * torch.cdist(x, x) ** 2)
    alpha = torch.linalg.solve(gram + penalty * torch.eye(12, dtype=torch.float64), y)
    torch.testing.assert_close(found.norms, (alpha * (gram @ alpha)).sum(0).sqrt(), rtol=1e-9, atol=0)


def test_a_vanishing_penalty_interpolates_and_an_impossible_one_is_refused() -> None:
    x, y = random(12, 5).double(), random(12, 2, seed=1).double()
    through, near = (interpolate(Gaussian(gamma=0.5), x, y, penalty=penalty) for penalty in (0.0, 1e-13))
    np.testing.assert_allclose(near.norms.numpy(), through.norms.numpy(), rtol=1e-9)
    assert through.penalty == 0.0
    gram = Gaussian(gamma=0.5).block(x, x).numpy() + 0.5 * np.eye(12)
    reciprocal, _ = lapack.dpocon(np.linalg.cholesky(gram), np.linalg.norm(gram, 1), uplo="L")
    assert interpolate(Gaussian(gamma=0.5), x, y, penalty=0.5).condition == pytest.approx(1 / reciprocal, rel=1e-4)
    for penalty in (-1e-3, math.inf, math.nan):
        with pytest.raises(SettingsError, match="a penalty of 0 or more"):
            interpolate(Linear(), x, y, penalty=penalty)


@pytest.mark.parametrize("spare", [None, 1])
@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6, 1e-13])
def test_the_condition_number_sees_two_near_copies(
    apart: float, spare: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LAPACK's estimate begins with the mean of all columns of the inverse, in which those of near copies cancel."""
    if spare is not None:
        monkeypatch.setattr(kernel_interpolation, "spare_bytes", lambda _: spare)
    for seed in range(6):
        x = random(40, 10, seed=seed).double()
        x[1] = x[0] + apart * random(1, 10, seed=100 + seed).double()[0]
        found = interpolate(Gaussian(gamma=0.1), x, torch.eye(3)[torch.arange(40) % 3 * (torch.arange(40) > 1)])
        gram = Gaussian(gamma=0.1).block(x, x) + found.jitter * torch.eye(40, dtype=torch.float64)
        assert found.condition > float(torch.linalg.cond(gram, 1)) / 3
