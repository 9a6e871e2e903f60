"""Signed margins against sorting, and what counts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.numerics.solutions import Returned, classes, random
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from vallis.core.own_loss import OwnLoss, adapt
from vallis.numerics.scores import ignored_target, judge


def test_the_margin_is_the_true_score_minus_the_best_other() -> None:
    scores, y = random(50, 4), classes(50, num_classes=4)
    judged = judge(CrossEntropy(), scores, y)
    assert judged is not None
    for place in range(50):
        others = [float(s) for c, s in enumerate(scores[place]) if c != y[place]]
        assert float(judged.margins[place]) == pytest.approx(float(scores[place, y[place]]) - max(others))
    assert torch.equal(judged.margins > 0, scores.argmax(1) == y)
    assert torch.equal(judged.classes, y)
    assert torch.equal(judged.rows, torch.arange(50))
    assert judged.num_classes == 4


def test_a_tie_is_an_error_and_nan_never_wins() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0], [torch.nan, 0.0, 0.0], [torch.inf, 0.0, 0.0]])
    judged = judge(CrossEntropy(), scores, torch.tensor([0, 0, 0]))
    assert judged is not None
    assert (judged.margins > 0).tolist() == [False, False, True]


def test_sequences_have_a_margin_a_counted_token() -> None:
    scores, y = random(6, 5, 3), classes(6, 3, num_classes=5)
    y[0, 0] = y[2, :] = -100
    y[3, 1] = 5  # no class, though the loss would choke on it
    judged = judge(CrossEntropy(), scores, y)
    assert judged is not None
    assert judged.rows.tolist() == [0, 0, 1, 1, 1, 3, 3, 4, 4, 4, 5, 5, 5]
    flat = judge(CrossEntropy(), scores.transpose(1, 2).reshape(-1, 5), y.reshape(-1))
    assert flat is not None
    assert torch.equal(judged.margins, flat.margins)


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(ignore_index=0),
        adapt(nn.CrossEntropyLoss(ignore_index=0)),
        adapt(nn.CrossEntropyLoss(ignore_index=0), pick=lambda returned: returned.logits),
        adapt(nn.CrossEntropyLoss(ignore_index=0, weight=torch.ones(3))),
        adapt(partial(F.cross_entropy, ignore_index=0)),
        adapt(partial(F.cross_entropy, ignore_index=0, weight=torch.ones(3))),
    ],
)
def test_a_class_that_the_loss_ignores_does_not_count(loss: Any) -> None:
    assert ignored_target(loss) == 0
    y = torch.tensor([0, 1, 2, 0])
    outputs: Any = random(4, 3)
    if getattr(loss, "pick", None) is not None:
        outputs = Returned(hidden=random(4, 2), logits=outputs)
    judged = judge(loss, outputs, y)
    assert judged is not None
    assert judged.rows.tolist() == [1, 2]


def test_two_classes_by_the_sign_of_one_score() -> None:
    scores = torch.tensor([[2.0], [-1.0], [0.0], [3.0]])
    judged = judge(BinaryCrossEntropy(), scores, torch.tensor([1, 0, 1, 0]))
    assert judged is not None
    assert judged.margins.tolist() == [2.0, 1.0, 0.0, -3.0]
    assert (judged.classes.tolist(), judged.num_classes) == ([1, 0, 1, 0], 2)


def test_several_labels_an_example_belong_to_it() -> None:
    judged = judge(adapt(nn.BCEWithLogitsLoss()), random(3, 2), torch.tensor([[1.0, 0.0]] * 3))
    assert judged is not None
    assert judged.rows.tolist() == [0, 0, 1, 1, 2, 2]


def test_distributions_as_targets_are_judged_by_their_largest_entry() -> None:
    scores, soft = random(20, 3), random(20, 3, seed=5).softmax(1)
    judged = judge(CrossEntropy(), scores, soft)
    assert judged is not None
    assert torch.equal(judged.classes, soft.argmax(1))


@pytest.mark.parametrize(
    ("loss", "outputs", "y"),
    [
        (SquaredError(), random(4, 3), random(4, 3)),
        (OwnLoss(function=F.l1_loss), random(4, 3), classes(4)),
        (CrossEntropy(), random(4, 1), torch.zeros(4, dtype=torch.long)),  # one class: nothing to be told from
        (CrossEntropy(), random(4, 3), classes(4, 2)),
        (CrossEntropy(), random(4, 3), ["a", "b", "c", "d"]),
        (CrossEntropy(), (random(4, 3), random(4, 3)), classes(4)),
        (BinaryCrossEntropy(), random(4, 2), classes(4, num_classes=2)),
    ],
)
def test_where_nothing_is_classified_there_is_no_judgement(loss: Any, outputs: Any, y: Any) -> None:
    assert judge(loss, outputs, y) is None


def test_other_losses_ignore_nothing() -> None:
    assert ignored_target(SquaredError()) is None
    assert ignored_target(OwnLoss(function=F.l1_loss)) is None
