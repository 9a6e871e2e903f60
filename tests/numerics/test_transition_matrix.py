"""The noise by counting, the estimator by brute force, the interval by what it must cover."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from vallis.core.errors import DataError, LossError, SettingsError
from vallis.core.rng import Rng
from vallis.numerics.transition_matrix import (
    CIFAR10_PAIRS,
    DIGIT_PAIRS,
    FASHION_PAIRS,
    asymmetric,
    binary,
    draw_noisy,
    estimate_transition,
    frequencies,
    labelled,
    mixed_with_identity,
    next_in_group,
    predicted_probabilities,
    symmetric,
)
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.testing.toys.solutions import start, trained

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def answers(n: int = 200, num_classes: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(num_classes, 0.4), n))


def test_symmetric_noise() -> None:
    assert symmetric(3, 0.4).tolist() == [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]


def test_the_pairs_of_the_literature() -> None:
    digits = asymmetric(10, DIGIT_PAIRS, 0.3)
    moved = {(int(i), int(j)): float(digits[i, j]) for i, j in (digits - torch.eye(10)).clamp(min=0).nonzero()}
    assert moved == dict.fromkeys([(2, 7), (3, 8), (5, 6), (6, 5), (7, 1)], 0.3)
    said = {CIFAR10[first]: CIFAR10[second] for first, second in CIFAR10_PAIRS}
    assert said == {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
    assert len(dict(FASHION_PAIRS)) == 5


def test_the_next_of_a_group_and_two_classes() -> None:
    matrix = next_in_group((0, 1, 0, 1, 0), 0.25)
    assert {(int(i), int(j)) for i, j in (matrix == 0.25).nonzero()} == {(0, 2), (2, 4), (4, 0), (1, 3), (3, 1)}
    assert binary(0.4, 0.05).tolist() == [[0.95, 0.05], [0.4, 0.6]]


@pytest.mark.parametrize(
    "matrix",
    [symmetric(10, 0.7), asymmetric(10, DIGIT_PAIRS, 0.6), next_in_group((0, 0, 0), 1.0), binary(0.1, 0.2)],
)
def test_rows_add_up_to_one(matrix: torch.Tensor) -> None:
    torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64), rtol=0, atol=1e-15)
    assert matrix.dtype == torch.float64


def test_mixing_with_the_identity_mends_the_condition() -> None:
    flat = symmetric(4, 0.75)
    assert np.linalg.cond(flat.numpy()) > 1e15
    assert np.linalg.cond(mixed_with_identity(flat, 0.5).numpy()) == pytest.approx(2)
    assert mixed_with_identity(flat, 1.0).equal(torch.eye(4, dtype=torch.float64))
    assert mixed_with_identity(flat, 0.0).equal(flat)


@pytest.mark.parametrize("matrix", [symmetric(4, 0.5), asymmetric(4, ((0, 1), (2, 3), (3, 2)), 0.3)])
def test_labels_are_drawn_by_the_matrix(matrix: torch.Tensor) -> None:
    y = torch.arange(4).repeat(5000)
    noisy = draw_noisy(y, matrix, Rng(0))
    for row in range(4):
        counts = torch.bincount(noisy[y == row], minlength=4).numpy()
        possible = matrix[row].numpy() > 0
        assert counts[~possible].sum() == 0
        if possible.sum() > 1:
            assert stats.chisquare(counts[possible], 5000 * matrix[row].numpy()[possible]).pvalue > 1e-3
    assert noisy.equal(draw_noisy(y, matrix, Rng(0)))
    assert not noisy.equal(draw_noisy(y, matrix, Rng(1)))
    torch.testing.assert_close(frequencies(y, noisy, 4), matrix, rtol=0, atol=0.03)


def test_more_noise_keeps_the_noise_there_was() -> None:
    y = torch.arange(10).repeat(300)
    small, large = (draw_noisy(y, symmetric(10, rate), Rng(0)) for rate in (0.2, 0.6))
    changed = small != y
    assert small[changed].equal(large[changed])
    assert int((large != y).sum()) > int(changed.sum()) > 0


def test_frequencies_by_hand() -> None:
    found = frequencies(torch.tensor([0, 0, 0, 2]), torch.tensor([0, 1, 1, 2]), 3)
    np.testing.assert_allclose(found.numpy(), [[1 / 3, 2 / 3, 0], [math.nan] * 3, [0, 0, 1]])


@pytest.mark.parametrize("percentile", [97.0, 50.0, None])
def test_the_estimate_by_brute_force(percentile: float | None) -> None:
    """Sorting each column in Python: the largest probability that is below the percentile, of equals the first."""
    p = answers()
    found, rows = estimate_transition(p, percentile=percentile), []
    for label in range(4):
        column = p[:, label].tolist()
        place = len(column) if percentile is None else math.ceil(percentile / 100 * (len(column) - 1))
        limit = math.inf if percentile is None else sorted(column)[place]
        anchor = max((value, -row) for row, value in enumerate(column) if value < limit)
        assert int(found.anchors[label]) == -anchor[1]
        rows.append(p[-anchor[1]].tolist())
    np.testing.assert_allclose(found.matrix.numpy(), rows, atol=1e-15)
    assert found.low.equal(found.matrix)


def test_the_probabilities_stay_as_they_came() -> None:
    """The authors' code zeroes the largest of each class in place, which changes the rows of the classes after it."""
    p = answers()
    before = p.clone()
    first = estimate_transition(p, percentile=50.0, num_resamples=3, rng=Rng(0))
    assert p.equal(before)
    assert first.matrix.equal(estimate_transition(p, percentile=50.0).matrix)
    # In place, the outliers of class 0 would have lost their entry before they speak for another class.
    spoiled = p.clone()
    for label in range(4):
        column = spoiled[:, label]
        column[column >= np.percentile(column.numpy(), 50, method="higher")] = 0
    rows = torch.stack([spoiled[spoiled[:, label].argmax()] for label in range(4)])
    assert not torch.allclose(rows / rows.sum(1, keepdim=True), first.matrix)


def test_a_network_that_knows_the_noise_gives_it_back() -> None:
    """Answers that are mixtures of the rows of T: those of examples that are certain of their class are the rows."""
    true = asymmetric(4, ((0, 1), (2, 3)), 0.3)
    posterior = torch.cat([torch.eye(4, dtype=torch.float64).repeat(20, 1), answers(500)])
    found = estimate_transition(posterior @ true, percentile=None)
    torch.testing.assert_close(found.matrix, true)
    assert float((estimate_transition(posterior @ true, percentile=97.0).matrix - true).abs().max()) < 0.15


def test_the_interval_covers_what_more_examples_say() -> None:
    """In about the share of repeats that it claims: at least 80 % of entries at a claim of 95 %."""
    limit = estimate_transition(answers(200_000, seed=99), percentile=90.0).matrix.diagonal()
    covered = []
    for seed in range(40):
        found = estimate_transition(answers(400, seed=seed), percentile=90.0, num_resamples=100, rng=Rng(seed))
        assert bool((found.low <= found.high).all())
        # Only the diagonal is a quantile; beside it stands whatever the anchor happens to say.
        covered.append(((found.low.diagonal() <= limit) & (limit <= found.high.diagonal())).double().mean().item())
    assert 0.8 < np.mean(covered) <= 1.0


def test_examples_that_all_say_the_same() -> None:
    same = torch.tensor([[0.7, 0.3]]).repeat(10, 1)
    torch.testing.assert_close(estimate_transition(same).matrix, same[:2].double(), rtol=0, atol=1e-7)


def test_predicted_probabilities_are_the_softmax_in_order() -> None:
    solution = trained(Blobs(num_classes=3), TinyMlp(dropout=0.5), Rng(0))
    (batch,) = solution.task.splits["train"]
    module = solution.net.module
    outputs = torch.func.functional_call(module, {**solution.params, **solution.buffers}, (batch.x,))
    torch.testing.assert_close(predicted_probabilities(solution), outputs.double().softmax(1).detach())
    with pytest.raises(DataError, match="one row of logits"):
        predicted_probabilities(start(LinearRegression(), LinearModel(), Rng(0)))


def test_impossible_settings_are_refused() -> None:
    for rate in (-0.1, 1.1, math.nan):
        with pytest.raises(SettingsError, match="rate"):
            symmetric(3, rate)
    for pairs in ((), ((0, 0),), ((0, 3),), ((0, 1), (0, 2))):
        with pytest.raises(SettingsError, match="pairs"):
            asymmetric(3, pairs, 0.2)
    with pytest.raises(SettingsError, match="at least 2 classes"):
        symmetric(1, 0.2)
    with pytest.raises(SettingsError, match="every group"):
        next_in_group((0, 0, 1), 0.2)
    with pytest.raises(SettingsError, match="percentile"):
        estimate_transition(answers(), percentile=100.0)
    with pytest.raises(SettingsError, match="stream"):
        estimate_transition(answers(), num_resamples=2)
    for wrong in (torch.ones(3, 2), torch.full((3, 2), math.nan), torch.tensor([[1.5, -0.5]] * 3), torch.ones(3)):
        with pytest.raises(DataError, match="probabilities"):
            estimate_transition(wrong)
    with pytest.raises(DataError, match="a place for each class"):
        draw_noisy(torch.tensor([0, 3]), symmetric(3, 0.1), Rng(0))
    with pytest.raises(LossError, match="transition matrix"):
        draw_noisy(torch.tensor([0, 1]), torch.ones(2, 2), Rng(0))


def test_of_a_class_that_labels_no_example_nothing_is_known() -> None:
    """Its row is that of the identity, of the interval too; other rows are what they are without labels."""
    p, labels = answers(num_classes=5), torch.arange(200) % 5
    labels[labels == 3] = 1
    labels[:2] = torch.tensor([-100, 7])  # neither counts
    plain = estimate_transition(p, num_resamples=10, rng=Rng(0))
    found = estimate_transition(p, labels=labels, num_resamples=10, rng=Rng(0))
    for one, other in ((plain.matrix, found.matrix), (plain.low, found.low), (plain.high, found.high)):
        assert other[3].equal(torch.eye(5, dtype=torch.float64)[3]) and not one[3].equal(other[3])
        assert other[[0, 1, 2, 4]].equal(one[[0, 1, 2, 4]])
    assert estimate_transition(p, labels=torch.arange(200) % 5).matrix.equal(plain.matrix)
    assert labelled(labels, 5).tolist() == [True, True, True, False, True]


def test_intervals_that_are_none_are_refused() -> None:
    for how in ({"coverage": 95.0}, {"num_resamples": -1}, {"num_resamples": 1.5}):
        with pytest.raises(SettingsError, match="a number of resamples from 0 on and a coverage in"):
            estimate_transition(answers(), rng=Rng(0), **{"num_resamples": 2, **how})  # type: ignore[arg-type]


def by_the_authors(eta: np.ndarray[Any, np.dtype[np.float64]], percentile: float) -> list[int]:
    """Their rule, on a copy: what lies at the percentile or above is set to 0."""
    found = []
    for place in range(eta.shape[1]):
        column = eta[:, place].copy()
        column[column >= np.percentile(column, percentile, method="higher")] = 0.0
        found.append(int(column.argmax()))
    return found


@pytest.mark.parametrize("percentile", [1.0, 50.0, 90.0, 97.0, 99.9])
def test_the_anchors_are_those_of_the_authors_where_no_two_examples_are_equally_sure(percentile: float) -> None:
    generator = np.random.default_rng(5)
    for n, c in ((4, 2), (33, 3), (100, 5), (101, 4), (700, 10)):
        eta = generator.dirichlet(np.full(c, 0.5), n)
        eta = eta[(eta >= 1e-3).all(1)]
        found = estimate_transition(torch.from_numpy(eta), percentile=percentile)
        if math.ceil((len(eta) - 1) * (percentile / 100)) >= 1:
            assert found.anchors.tolist() == by_the_authors(eta / eta.sum(1, keepdims=True), percentile)


def test_examples_that_are_equally_sure_are_no_outliers() -> None:
    """A perfect posterior of four inputs: all of a class are equally sure, and those of the others were taken."""
    matrix, true = symmetric(4, 0.3), torch.arange(400) % 4
    found = estimate_transition(matrix[true])
    torch.testing.assert_close(found.matrix, matrix)
    copies = estimate_transition(matrix[true], num_resamples=20, rng=Rng(0))
    torch.testing.assert_close(copies.low, matrix)
