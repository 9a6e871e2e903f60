"""Both corrections against enumeration of the noise, an optimizer of scipy, cross-entropy and differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional as F

from vallis.core.corrected_losses import (
    BackwardCorrected,
    CorrectedCrossEntropy,
    ForwardCorrected,
    checked_transition,
    condition_number,
)
from vallis.core.errors import LossError
from vallis.core.losses import CrossEntropy
from vallis.core.types import Solution

C, N = 4, 12
BOTH = (ForwardCorrected, BackwardCorrected)
IDENTITY = torch.eye(C, dtype=torch.float64).tolist()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(C, shape, generator=torch.Generator().manual_seed(seed))


def transition(seed: int = 0, right: float = 0.5) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    return right * torch.eye(C, dtype=torch.float64) + (1 - right) * torch.from_numpy(
        generator.dirichlet(np.ones(C), C)
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_of_the_backward_loss_over_the_noise_is_the_clean_loss(seed: int) -> None:
    """Theorem 1, by enumeration of every noisy label."""
    matrix, logits, y = transition(seed), 3 * drawn(N, C, seed=seed), labels(N, seed=seed)
    loss, expected = BackwardCorrected(transition=matrix.tolist()), torch.zeros(N, dtype=torch.float64)
    for noisy in range(C):
        each, _ = loss.per_example(logits, torch.full((N,), noisy))
        expected += matrix[y, noisy] * each
    torch.testing.assert_close(expected, F.cross_entropy(logits, y, reduction="none"), rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_the_forward_loss_is_least_at_the_clean_posterior(seed: int) -> None:
    """Theorem 2: scipy looks over the whole simplex, and knows nothing of the answer."""
    matrix = transition(seed)
    posterior = np.random.default_rng(seed + 10).dirichlet(np.ones(C))
    chances, loss = posterior @ matrix.numpy(), ForwardCorrected(transition=matrix.tolist())

    def expected(p: Any) -> float:
        logits = torch.from_numpy(np.log(np.maximum(p, 1e-300))).expand(C, C)
        return float(loss.per_example(logits, torch.arange(C))[0].numpy() @ chances)

    found = minimize(
        expected,
        np.full(C, 1 / C),
        method="SLSQP",
        bounds=[(1e-9, 1)] * C,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 500},
    )
    np.testing.assert_allclose(found.x, posterior, atol=1e-4)
    assert expected(posterior) <= found.fun + 1e-12


@pytest.mark.parametrize("made", BOTH)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_both_are_their_formula(made: type[CorrectedCrossEntropy], shape: tuple[int, ...]) -> None:
    """Entry by entry in Python floats, with as many targets an example."""
    matrix, logits, y = transition(), drawn(N, C, *shape), labels(N, *shape)
    inverse, loss = np.linalg.inv(matrix.numpy()), made(transition=matrix.tolist())
    each = []
    for row, target in zip(logits.movedim(1, -1).reshape(-1, C).tolist(), y.reshape(-1).tolist(), strict=True):
        total = sum(math.exp(z) for z in row)
        p = [math.exp(z) / total for z in row]
        if made is ForwardCorrected:
            each.append(-math.log(sum(p[i] * float(matrix[i, target]) for i in range(C))))
        else:
            each.append(-sum(float(inverse[target, j]) * math.log(p[j]) for j in range(C)))
    found, weights = loss.per_example(logits, y)
    np.testing.assert_allclose(found.numpy(), np.reshape(each, (N, -1)).mean(1), atol=1e-12)
    assert weights.tolist() == [math.prod(shape)] * N
    assert float(loss.mean(logits, y)) == pytest.approx(np.mean(each), abs=1e-12)
    assert loss.weight(y) == len(each)
    assert loss(logits, y).equal(loss.mean(logits, y))


@pytest.mark.parametrize("made", BOTH)
def test_slopes_and_bends_against_differences(made: type[CorrectedCrossEntropy]) -> None:
    """With zeros in the matrix: the logarithm of zero must not reach a derivative."""
    matrix = torch.tensor([[0.6, 0.4, 0, 0], [0, 1, 0, 0], [0, 0.2, 0.8, 0], [0.3, 0, 0, 0.7]], dtype=torch.float64)
    loss, y = made(transition=matrix.tolist()), labels(3)
    assert torch.autograd.gradcheck(lambda z: loss.mean(z, y), drawn(3, C).requires_grad_())
    assert torch.autograd.gradgradcheck(lambda z: loss.mean(z, y), drawn(3, C).requires_grad_())


@pytest.mark.parametrize("made", BOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_identity_gives_cross_entropy(made: type[CorrectedCrossEntropy], dtype: torch.dtype) -> None:
    """To the last bit, example by example and in the slopes."""
    loss, plain = made(transition=IDENTITY), CrossEntropy()
    one, other = (5 * drawn(N, C).to(dtype)).requires_grad_(), (5 * drawn(N, C).to(dtype)).requires_grad_()
    y = labels(N)
    assert loss.per_example(one, y)[0].equal(plain.per_example(other, y)[0])
    first, second = loss.mean(one, y), plain.mean(other, y)
    torch.testing.assert_close(first, second, rtol=4 * torch.finfo(dtype).eps, atol=0)
    (slope,), (wanted,) = torch.autograd.grad(first, one), torch.autograd.grad(second, other)
    assert slope.equal(wanted)


@pytest.mark.parametrize("made", BOTH)
def test_ignored_targets_do_not_count(made: type[CorrectedCrossEntropy]) -> None:
    loss, logits, y = made(transition=transition().tolist(), ignore_index=2), drawn(N, C, 3), labels(N, 3)
    kept = y != 2
    each, weights = loss.per_example(logits, y)
    assert loss.weight(y) == int(kept.sum()) < N * 3
    assert weights.tolist() == kept.sum(1).tolist()
    alone = made(transition=transition().tolist()).mean(logits.movedim(1, 2)[kept], y[kept])
    torch.testing.assert_close(loss.mean(logits, y), alone)
    torch.testing.assert_close((each * weights).sum() / weights.sum(), alone)
    at = logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss.mean(at, y), at)
    assert bool((slope.movedim(1, 2)[~kept] == 0).all())
    assert loss.mean(logits, torch.full_like(y, 2)).isnan()


def test_what_does_not_count_has_no_slope_where_class_0_never_comes_about() -> None:
    rows = [[0.0, 1.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
    logits = drawn(3, 3).requires_grad_()
    ForwardCorrected(transition=rows)(logits, torch.tensor([1, -100, 2])).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all()) and not bool(logits.grad[1].any())


@pytest.mark.parametrize("made", BOTH)
def test_huge_logits_stay_finite(made: type[CorrectedCrossEntropy]) -> None:
    """In float32, where a softmax would have been 0 or 1."""
    logits = torch.tensor([[1000.0, -1000.0, 0.0, 0.0], [-3e4, 3e4, 0.0, 1.0]], requires_grad=True)
    value = made(transition=transition().tolist()).mean(logits, torch.tensor([1, 0]))
    (slope,) = torch.autograd.grad(value, logits)
    assert bool(value.isfinite())
    assert bool(slope.isfinite().all())


def test_clipping_bounds_the_backward_loss() -> None:
    """Without it, a sure answer can cost less than any number; with it, no more than log 1e-7 a class."""
    matrix, sure = transition().tolist(), torch.tensor([[200.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    free = BackwardCorrected(transition=matrix)
    losses = [float(free.mean(sure, torch.tensor([y]))) for y in range(C)]
    assert min(losses) < -20
    clipped = BackwardCorrected(transition=matrix, least_probability=1e-7)
    inverse = torch.linalg.inv(transition())
    p = torch.tensor([1 - 1e-7, 1e-7, 1e-7, 1e-7], dtype=torch.float64)
    wanted = -(inverse @ p.log())
    found = [float(clipped.mean(sure, torch.tensor([y]))) for y in range(C)]
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-10)
    mild = drawn(N, C)
    torch.testing.assert_close(clipped.mean(mild, labels(N)), free.mean(mild, labels(N)), rtol=1e-15, atol=0)


def test_forward_is_never_negative_and_bends_down_somewhere() -> None:
    loss = ForwardCorrected(transition=transition().tolist())
    logits, y = 4 * drawn(200, C), labels(200)
    assert float(loss.per_example(logits, y)[0].min()) >= 0
    lowest = 0.0
    for row, label in zip(logits[:40], y[:40], strict=True):
        bend = torch.autograd.functional.hessian(lambda z, label=label: loss.mean(z[None], label[None]), row)
        lowest = min(lowest, float(torch.linalg.eigvalsh(bend)[0]))
    assert lowest < -1e-3


def test_the_condition_number_is_told() -> None:
    matrix = transition()
    assert ForwardCorrected(transition=matrix.tolist()).condition_number == pytest.approx(
        float(np.linalg.cond(matrix.numpy()))
    )
    flat = [[1 / C] * C] * C
    assert ForwardCorrected(transition=flat).condition_number > 1e15
    assert condition_number(torch.zeros(2, 2)) == math.inf
    with pytest.raises(LossError, match="with an inverse"):
        BackwardCorrected(transition=flat)


@pytest.mark.parametrize(
    "rows",
    [[[1.0]], [[1.0, 0.0]], [[0.5, 0.6], [0.0, 1.0]], [[1.2, -0.2], [0.0, 1.0]], [[math.nan, 1.0], [0.0, 1.0]]],
)
def test_what_is_no_transition_matrix_is_refused(rows: list[list[float]]) -> None:
    with pytest.raises(LossError, match="transition matrix"):
        checked_transition(rows)
    with pytest.raises(LossError, match="transition matrix"):
        ForwardCorrected(transition=rows)


def test_what_does_not_fit_is_refused() -> None:
    loss = ForwardCorrected(transition=IDENTITY)
    with pytest.raises(LossError, match=r"logits \(N, 4\)"):
        loss.mean(drawn(N, 3), labels(N))
    with pytest.raises(LossError, match="noisy classes"):
        loss.mean(drawn(N, C), drawn(N, C))
    with pytest.raises(LossError, match="least probability"):
        ForwardCorrected(transition=IDENTITY, least_probability=0.7)


@pytest.mark.parametrize("made", BOTH)
@pytest.mark.parametrize(
    ("y", "said"),
    [
        (torch.tensor([0, -1]), r"classes in 0..1 or -100 were required by the transition matrix, -1 came"),
        (torch.tensor([0, 2]), "2 came"),
        (torch.tensor([0, 1, 1]), r"noisy classes \(2,\) were required .* torch.int64 \(3,\) came"),
        (torch.tensor([[0], [1]]), r"torch.int64 \(2, 1\) came"),
        ([0, 1], "a list came"),
    ],
)
def test_labels_that_are_no_classes_are_refused(made: type[CorrectedCrossEntropy], y: Any, said: str) -> None:
    """A negative one would be counted from the end of the matrix, silently."""
    with pytest.raises(LossError, match=said):
        made(transition=[[0.9, 0.1], [0.2, 0.8]])(torch.zeros(2, 2), y)


def test_a_label_that_cannot_come_about_is_refused_forward() -> None:
    """Its loss is infinite, and its slopes are no numbers."""
    loss = ForwardCorrected(transition=[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    assert float(loss(torch.zeros(2, 3), torch.tensor([0, 1]))) > 0
    with pytest.raises(LossError, match="can come about were required for forward correction, 2 came"):
        loss(torch.zeros(2, 3), torch.tensor([0, 2]))


@pytest.mark.parametrize("rows", [None, [["a", "b"], ["c", "d"]], [[1.0, 0.0], [0.0]]])
def test_what_is_no_table_of_numbers_is_refused(rows: Any) -> None:
    with pytest.raises(LossError, match=r"a transition matrix \(C, C\) was required, a \w+ came that is none"):
        ForwardCorrected(transition=rows)


@pytest.mark.parametrize("made", BOTH)
def test_many_at_once_by_vmap(made: type[CorrectedCrossEntropy]) -> None:
    loss = made(transition=[[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    generator = torch.Generator().manual_seed(0)
    logits, y = torch.randn(4, 5, 3, generator=generator), torch.randint(3, (4, 5), generator=generator)
    found = torch.func.vmap(loss.mean)(logits, y)
    torch.testing.assert_close(found, torch.stack([loss(*one) for one in zip(logits, y, strict=True)]))


def test_it_is_a_value() -> None:
    matrix = transition()
    one, other = ForwardCorrected(transition=matrix), ForwardCorrected(transition=matrix.tolist())
    assert one == other
    assert hash(one) == hash(other)
    assert one != ForwardCorrected(transition=IDENTITY)


def test_anybody_can_use_it() -> None:
    """In a loop of one's own, and handed in beside a module."""
    loss, module = ForwardCorrected(transition=transition().tolist()), nn.Linear(2, C)
    x, y = drawn(N, 2).float(), labels(N)
    loss(module(x), y).backward()
    assert module.weight.grad is not None
    solution = Solution.of(module, loss, train=(x, y))
    (batch,) = solution.task.splits["train"]
    with torch.no_grad():
        assert float(solution.task.loss.mean(module(x), batch.y)) == pytest.approx(float(loss(module(x), y)))
    assert solution.task.loss.kind == "categorical"


@pytest.mark.parametrize("correction", BOTH)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_narrow_types_are_the_classes_that_they_say(
    correction: type[CorrectedCrossEntropy], dtype: torch.dtype
) -> None:
    """As many labels as classes, none of them zero: as a mask, bytes would pick every row in turn, without a word."""
    loss, logits, y = correction(transition=transition().tolist()), drawn(C, C), torch.tensor([1, 1, 3, 2])
    assert float(loss.mean(logits, y.to(dtype))) == float(loss.mean(logits, y))


def test_truth_values_are_no_classes() -> None:
    loss = ForwardCorrected(transition=IDENTITY)
    with pytest.raises(LossError, match=r"noisy classes \(2,\) were required for a corrected loss, torch.bool"):
        loss.mean(drawn(2, C), torch.tensor([True, False]))
