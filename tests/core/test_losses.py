"""The house's own losses against arithmetic written out by hand, in float64."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError, find_scores, mean_of_rows

SEEDS = st.integers(0, 2**20)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(logits: torch.Tensor, y: torch.Tensor, smoothing: float, ignored: int) -> tuple[list[float], list[int]]:
    """Each example's mean loss over its targets that count, and their number: two nested loops and nothing else."""
    losses, counts = [], []
    for z, labels in zip(logits.reshape(*logits.shape[:2], -1), y.reshape(len(y), -1), strict=True):
        total, count = 0.0, 0
        for t, label in enumerate(labels.tolist()):
            if label != ignored:
                logs = z[:, t] - z[:, t].exp().sum().log()
                total -= float((1 - smoothing) * logs[label] + smoothing * logs.mean())
                count += 1
        losses.append(total / count if count else 0.0)
        counts.append(count)
    return losses, counts


@settings(deadline=None, max_examples=40)
@given(
    SEEDS,
    st.integers(1, 5),
    st.integers(2, 4),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([-100, 1]),
)
def test_cross_entropy_of_classes(
    seed: int, size: int, classes: int, steps: int, smoothing: float, ignored: int
) -> None:
    shape = (size, classes, steps) if steps else (size, classes)
    logits = drawn(seed, *shape)
    y = drawn(seed + 1, size, *shape[2:]).abs().mul(10).long() % classes
    y = torch.where(drawn(seed + 2, *y.shape) > 0.8, ignored, y)
    loss = CrossEntropy(label_smoothing=smoothing, ignore_index=ignored)
    losses, counts = by_hand(logits, y, smoothing, ignored)
    found, weights = loss.per_example(logits, y)
    assert found.tolist() == pytest.approx(losses)
    assert weights.tolist() == counts
    assert loss.weight(y) == sum(counts)
    if sum(counts):
        mean = sum(one * count for one, count in zip(losses, counts, strict=True)) / sum(counts)
        assert float(loss.mean(logits, y)) == pytest.approx(mean)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.integers(1, 5), st.integers(2, 4), st.integers(0, 3))
def test_cross_entropy_of_probabilities(seed: int, size: int, classes: int, steps: int) -> None:
    shape = (size, classes, steps) if steps else (size, classes)
    logits, y = drawn(seed, *shape), drawn(seed + 1, *shape).softmax(1)
    loss = CrossEntropy()
    losses, weights = loss.per_example(logits, y)
    wanted = -(y * (logits - logits.exp().sum(1, keepdim=True).log())).sum(1).reshape(size, -1).mean(1)
    torch.testing.assert_close(losses, wanted)
    assert weights.tolist() == [max(steps, 1)] * size
    assert loss.weight(y) == size * max(steps, 1)
    torch.testing.assert_close(loss.mean(logits, y), wanted.mean())


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool])
def test_binary_cross_entropy(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    logits, y = drawn(0, *shape), (drawn(1, *shape) > 0).to(dtype)
    likely = torch.sigmoid(logits) * y + torch.sigmoid(-logits) * (1 - y.double())
    losses, weights = BinaryCrossEntropy().per_example(logits, y)
    torch.testing.assert_close(losses, -likely.log().reshape(6, -1).mean(1))
    assert weights.tolist() == [y.numel() / 6] * 6
    assert BinaryCrossEntropy().weight(y) == y.numel()
    torch.testing.assert_close(BinaryCrossEntropy().mean(logits, y), -likely.log().mean())


def test_targets_follow_the_outputs_to_their_type() -> None:
    outputs, y = drawn(0, 6).float(), (drawn(1, 6) > 0).double()
    for loss in (BinaryCrossEntropy(), SquaredError()):
        assert loss.mean(outputs, y).dtype == loss.per_example(outputs, y)[0].dtype == torch.float32


def test_binary_logits_in_a_column_meet_targets_in_a_row() -> None:
    logits, y = drawn(0, 6, 1), (drawn(1, 6) > 0).double()
    torch.testing.assert_close(BinaryCrossEntropy().mean(logits, y), BinaryCrossEntropy().mean(logits[:, 0], y))


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64])
def test_squared_error(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    outputs, y = drawn(0, *shape).requires_grad_(), drawn(1, *shape).mul(4).to(dtype)
    squares = (outputs - y.double()) ** 2
    losses, weights = SquaredError().per_example(outputs, y)
    torch.testing.assert_close(losses, squares.reshape(6, -1).mean(1))
    assert weights.tolist() == [y.numel() / 6] * 6
    mean = SquaredError().mean(outputs, y)
    torch.testing.assert_close(mean, squares.mean())
    (slope,) = torch.autograd.grad(mean, outputs)
    torch.testing.assert_close(slope, 2 * (outputs.detach() - y.double()) / y.numel())


@pytest.mark.parametrize(
    ("loss", "kind"), [(CrossEntropy(), "categorical"), (BinaryCrossEntropy(), "binary"), (SquaredError(), "other")]
)
def test_kinds_and_scores(loss: Loss, kind: str) -> None:
    outputs = drawn(0, 3, 2)
    assert loss.kind == kind
    assert loss.scores(outputs) is outputs
    assert loss.scores({"logits": outputs, "hidden": drawn(1, 3, 2)}) is outputs
    assert loss.scores((outputs, drawn(1, 3, 2))) is None


LOGITS, OTHER = drawn(0, 3, 2), drawn(1, 3, 5)


class WithLogits:
    logits = LOGITS


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        (LOGITS, True),
        ({"logits": LOGITS, "hidden": OTHER}, True),
        (OrderedDict(hidden=OTHER, logits=LOGITS), True),
        (WithLogits(), True),
        ([LOGITS], True),
        ({"prediction": LOGITS, "place": torch.arange(3)}, True),
        ((LOGITS, OTHER.sum()), True),
        ((LOGITS, OTHER), False),
        ({"logits": None, "a": OTHER, "b": OTHER}, False),
        (None, False),
        ("logits", False),
        ({}, False),
    ],
)
def test_scores_are_found_where_they_are_unambiguous(outputs: Any, found: bool) -> None:
    assert (find_scores(outputs) is LOGITS) if found else (find_scores(outputs) is None)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 4), st.integers(0, 4))
def test_means_of_rows(seed: int, size: int, width: int) -> None:
    shape = (size, width) if width else (size,)
    losses, counts = drawn(seed, *shape), drawn(seed + 1, *shape).abs().mul(2).floor()
    means, totals = mean_of_rows(losses, counts)
    for i in range(size):
        row, weight = losses[i].reshape(-1), counts[i].reshape(-1)
        assert float(totals[i]) == float(weight.sum())
        wanted = float((row * weight).sum() / weight.sum()) if weight.sum() > 0 else 0.0
        assert float(means[i]) == pytest.approx(wanted)


def test_an_ignored_infinity_does_not_spread() -> None:
    """A padded place may hold anything: what does not count must not make the mean NaN."""
    logits = torch.tensor([[0.0, 1.0], [float("-inf"), float("-inf")]])
    losses, weights = CrossEntropy().per_example(logits, torch.tensor([1, -100]))
    assert losses.tolist() == pytest.approx([float(F.cross_entropy(logits[:1], torch.tensor([1]))), 0.0])
    assert weights.tolist() == [1.0, 0.0]


def test_class_156_counts_as_a_byte_too() -> None:
    """Torch compares -100 with bytes as 156, and its own cross-entropy counts that class."""
    logits, y = drawn(0, 3, 200), torch.tensor([156, 1, 156])
    for loss, narrow in ((CrossEntropy(), y.byte()), (CrossEntropy(ignore_index=1), y.byte())):
        assert loss.weight(narrow) == loss.weight(y)
        each, weights = loss.per_example(logits, narrow)
        assert torch.equal(each, loss.per_example(logits, y)[0])
        torch.testing.assert_close((each * weights).sum() / weights.sum(), loss.mean(logits, narrow))
