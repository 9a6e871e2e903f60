"""What one presentation says of an example, against plain Python for one target at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vallis.core.errors import DataError
from vallis.core.losses import CrossEntropy
from vallis.numerics.presentations import QUANTITIES, must_be_classes, presentations
from vallis.numerics.scores import judge


def by_hand(logits: list[float], share: list[float]) -> dict[str, float]:
    """One target: a distribution over the classes, a one-hot one for a class."""
    highest = max(logits)
    total = sum(math.exp(value - highest) for value in logits)
    logs = [value - highest - math.log(total) for value in logits]
    true = max(range(len(share)), key=lambda place: share[place])
    others = [value for place, value in enumerate(logits) if place != true]
    return {
        "losses": -sum(q * log for q, log in zip(share, logs, strict=True) if q),
        "margins": logits[true] - max(others),
        "probabilities": math.exp(logs[true]),
        "error_norms": math.sqrt(sum((math.exp(log) - q) ** 2 for q, log in zip(share, logs, strict=True))),
    }


def one_hot(y: int, num_classes: int) -> list[float]:
    return [float(place == y) for place in range(num_classes)]


def agree(found: Any, row: int, expected: dict[str, float]) -> None:
    for name in QUANTITIES:
        assert float(getattr(found, name)[row]) == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name
    assert bool(found.correct[row]) == (expected["margins"] > 0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), num_classes=st.sampled_from([2, 3, 7]), scale=st.sampled_from([0.1, 1.0, 40.0]))
def test_classes(seed: int, num_classes: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(6, num_classes, generator=generator, dtype=torch.float64)
    y = torch.randint(0, num_classes, (6,), generator=generator)
    found = presentations(logits, y)
    assert bool(found.counted.all())
    for row in range(6):
        agree(found, row, by_hand(logits[row].tolist(), one_hot(int(y[row]), num_classes)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), ignored=st.sampled_from([-100, 0]))
def test_tokens_of_which_some_do_not_count(seed: int, ignored: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (5, 3), generator=generator)
    y[torch.rand(5, 3, generator=generator) < 0.4] = ignored
    found = presentations(logits, y, ignore_index=ignored)
    for row in range(5):
        tokens = [
            by_hand(logits[row, :, place].tolist(), one_hot(int(y[row, place]), 4))
            for place in range(3)
            if int(y[row, place]) != ignored
        ]
        assert bool(found.counted[row]) == bool(tokens)
        if tokens:
            means = {name: sum(token[name] for token in tokens) / len(tokens) for name in QUANTITIES}
            agree(found, row, {**means, "margins": min(token["margins"] for token in tokens)})


def test_distributions_are_judged_by_their_largest_entry() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    shares = torch.tensor([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2]], dtype=torch.float64)
    found = presentations(logits, shares)
    for row in range(4):
        agree(found, row, by_hand(logits[row].tolist(), shares[row].tolist()))


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_one_logit_is_the_second_of_two(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    logits = torch.tensor([0.3, -2.0, 5.0, 0.0, -0.1], dtype=torch.float64)
    y = torch.tensor([1, 0, 0, 1, 1])
    found = presentations(logits.reshape(shape), y.to(dtype))
    for row in range(5):
        agree(found, row, by_hand([0.0, float(logits[row])], one_hot(int(y[row]), 2)))


def test_labels_of_one_example_are_right_together() -> None:
    logits = torch.tensor([[2.0, -1.0, 3.0], [2.0, 1.0, -0.5], [1.0, 1.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 0.0, math.nan], [1.0, 0.0, 0.0], [math.nan] * 3])
    found = presentations(logits, y, kind="binary")
    labels = [by_hand([0.0, 2.0], [0.0, 1.0]), by_hand([0.0, -1.0], [1.0, 0.0])]
    means = {name: sum(label[name] for label in labels) / 2 for name in QUANTITIES}
    agree(found, 0, {**means, "margins": 1.0})
    assert found.counted.tolist() == [True, True, False]
    assert not found.correct[1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised(dtype: torch.dtype) -> None:
    logits = torch.tensor([[8.0, 0.5, -3.0]], dtype=dtype)
    found = presentations(logits, torch.tensor([0]))
    assert found.losses.dtype == torch.float32
    expected = by_hand(logits[0].double().tolist(), one_hot(0, 3))
    assert float(found.losses[0]) == pytest.approx(expected["losses"], rel=1e-3)


def test_the_error_norm_does_not_cancel_where_the_network_is_sure() -> None:
    logits = torch.tensor([[20.0, 0.0, 0.0]])
    found = presentations(logits, torch.tensor([0]))
    expected = by_hand([20.0, 0.0, 0.0], one_hot(0, 3))
    assert float(found.error_norms[0]) == pytest.approx(expected["error_norms"], rel=1e-5)


def test_right_is_what_the_measurements_call_right() -> None:
    """Scores of few values, so that ties are common, and NaN among them."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randint(-1, 2, (300, 3), generator=generator).float()
    logits[torch.rand(logits.shape, generator=generator) < 0.05] = torch.nan
    y = torch.randint(0, 3, (300,), generator=generator)
    judged = judge(CrossEntropy(), logits, y)
    assert judged is not None
    assert torch.equal(presentations(logits, y).correct, judged.margins > 0)


def test_no_graph_and_the_losses_of_torch() -> None:
    generator = torch.Generator().manual_seed(2)
    logits, y = torch.randn(8, 5, generator=generator, requires_grad=True), torch.arange(8) % 5
    found = presentations(logits, y)
    assert not any(getattr(found, name).requires_grad for name in QUANTITIES)
    assert torch.allclose(found.losses, F.cross_entropy(logits, y, reduction="none"))


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (torch.zeros(4, 3), torch.zeros(5, dtype=torch.long)),
        (torch.zeros(4, 3), torch.zeros(4)),
        (torch.zeros(4, 7, 3), torch.zeros(4, 7, dtype=torch.long)),  # the class axis last
        (torch.zeros(4), torch.zeros(4, 2)),
        (torch.zeros(4, 3, dtype=torch.long), torch.zeros(4, dtype=torch.long)),
        (torch.zeros(()), torch.zeros(())),
    ],
)
def test_what_does_not_fit_is_refused(logits: torch.Tensor, targets: torch.Tensor) -> None:
    with pytest.raises(DataError, match="required"):
        presentations(logits, targets)


@pytest.mark.parametrize("targets", [torch.tensor([-1.0, 1.0, -1.0]), torch.tensor([0, 1, 2])])
def test_targets_of_two_classes_are_shares(targets: torch.Tensor) -> None:
    """Signs, or a third class, would have losses and error norms that mean nothing."""
    with pytest.raises(DataError, match=r"in \[0, 1\]"):
        presentations(torch.zeros(3), targets)


def test_a_sign_may_stand_for_nothing() -> None:
    seen = presentations(torch.zeros(3), torch.tensor([-1.0, 1.0, -1.0]), ignore_index=-1)
    assert seen.counted.tolist() == [False, True, False]


def test_class_156_counts_as_a_byte_too() -> None:
    """Torch compares -100 with bytes as 156: such an example was never presented, without a word."""
    logits, y = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)), torch.tensor([156, 1, 199])
    found, expected = presentations(logits, y.byte()), presentations(logits, y)
    for name in ("counted", "correct", *QUANTITIES):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert found.counted.all()
    more = torch.randn(3, 300, generator=torch.Generator().manual_seed(1))  # more classes than there are bytes
    must_be_classes(more, y.byte(), None, -100)
    assert presentations(more, y.byte()).counted.all()
