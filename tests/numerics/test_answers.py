"""What outputs say of each example, against the margins of the measurements and the losses of torch."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vallis.core.errors import LossError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from vallis.numerics.answers import Outputs, correct
from vallis.numerics.scores import judge


class Counting(CrossEntropy):
    """Counts how often it is taken apart."""

    calls = 0

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        type(self).calls += 1
        return super().per_example(outputs, y)


def test_answers_come_when_asked_for_and_once() -> None:
    logits, y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(), torch.arange(5) % 3
    answers = Outputs(Counting(), logits * 2, y)
    assert Counting.calls == 0
    for _ in range(2):
        assert torch.equal(answers.losses, F.cross_entropy(logits * 2, y, reduction="none"))  # type: ignore[arg-type]
    assert Counting.calls == 1
    assert torch.equal(answers.correct, logits.argmax(1) == y)  # type: ignore[arg-type]
    assert torch.equal(answers.scores, logits * 2)  # type: ignore[arg-type]
    assert answers.targets is y
    held = (answers.losses, answers.scores)
    assert not any(value.requires_grad for value in held if value is not None)


def test_outputs_of_any_structure_lose_their_graph() -> None:
    logits = torch.zeros(2, 3, requires_grad=True) + 1
    answers = Outputs(CrossEntropy(), {"logits": logits, "hidden": logits * 2}, torch.tensor([0, 1]))
    assert answers.scores is not None and not answers.scores.requires_grad
    assert not answers.outputs["hidden"].requires_grad


class Inseparable(CrossEntropy):
    """Cannot say of what it is the mean."""

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        raise LossError("a loss of each example was required, there is none: give another")


def test_what_there_is_not_is_none() -> None:
    answers = Outputs(Inseparable(), torch.zeros(2, 3), torch.tensor([0, 1]))
    assert answers.losses is None and answers.correct is not None
    squared = Outputs(SquaredError(), torch.zeros(2, 3), torch.zeros(2, 3))
    assert squared.correct is None and squared.losses is not None


def test_correct_by_kind_of_loss() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    y = torch.tensor([0, 0, 0])
    assert correct(CrossEntropy(), logits, y).tolist() == [True, False, True]  # type: ignore[union-attr]
    binary = correct(BinaryCrossEntropy(), torch.tensor([[0.1], [-0.1]]), torch.tensor([1.0, 1.0]))
    assert binary is not None
    assert binary.tolist() == [True, False]
    assert correct(SquaredError(), logits, logits) is None
    assert correct(CrossEntropy(), logits, torch.full((3, 4), 0.5)) is None
    assert correct(CrossEntropy(), logits, [0, 0, 0]) is None


def test_an_example_of_tokens_is_right_when_all_that_count_are() -> None:
    logits = torch.zeros(3, 2, 4)
    logits[:, 1] = torch.tensor([1.0, 1.0, -1.0, -1.0])  # says 1 1 0 0
    y = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, -100, -100]])
    assert correct(CrossEntropy(), logits, y).tolist() == [True, False, True]  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(), (3,)]), ignored=st.sampled_from([-100, 0, 2]))
def test_it_is_what_the_measurements_call_right(seed: int, shape: tuple[int, ...], ignored: int) -> None:
    """Scores of few values, so that ties are common, and NaN among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-1, 2, (8, 3, *shape), generator=generator).float()
    logits[torch.rand(logits.shape, generator=generator) < 0.05] = torch.nan
    y = torch.randint(0, 3, (8, *shape), generator=generator)
    y[torch.rand(y.shape, generator=generator) < 0.2] = ignored
    loss = CrossEntropy(ignore_index=ignored)
    judged = judge(loss, logits, y)
    assert judged is not None
    expected = torch.ones(8, dtype=torch.bool)
    expected[judged.rows[~(judged.margins > 0)]] = False
    found = correct(loss, logits, y)
    assert found is not None
    assert torch.equal(found, expected)


def test_shares_of_classes_are_judged_by_the_largest() -> None:
    shares = torch.tensor([[0.2, 0.8], [0.7, 0.3]])
    found = correct(CrossEntropy(), torch.tensor([[0.0, 1.0], [0.0, 1.0]]), shares)
    assert found is not None
    assert found.tolist() == [True, False]


def test_a_net_that_says_nothing_is_never_right() -> None:
    y = torch.tensor([0, 1])
    assert not correct(CrossEntropy(), torch.zeros(2, 2), y).any()  # type: ignore[union-attr]
    assert not correct(BinaryCrossEntropy(), torch.zeros(2), y).any()  # type: ignore[union-attr]
