"""A user's loss: what it counts, what it judges, and each example's share, against arithmetic written out by hand."""

import functools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.core.caller import is_sentence, untouched
from tests.core.networks import CASES, draw, made
from vallis.core.errors import DataError, LossError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from vallis.core.own_loss import OwnLoss, Picked, adapt, shapes

LOGITS, CLASSES = draw(6, 4), torch.tensor([0, 3, 1, 2, 2, -100])
TOKENS = draw(6, 4, 5)
TOKEN_CLASSES = torch.where(draw(6, 5) > 0.5, -100, draw(6, 5, seed=4).abs().mul(2).long().clamp(max=3))
TOKEN_CLASSES[4] = -100
SOFT = draw(6, 4).softmax(1)
SOFT_TOKENS = draw(6, 4, 5).softmax(1)
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
FLAT = CLASSES.clamp(min=0)
NUMBERS = draw(6, 4, seed=7)


@dataclass
class Returned:
    logits: torch.Tensor
    extra: torch.Tensor


# What torch's losses count: (loss, outputs, targets, the weight of each example).
COUNTS: dict[str, tuple[Any, torch.Tensor, torch.Tensor, list[float]]] = {
    "classes": (nn.CrossEntropyLoss(), LOGITS, CLASSES, [1, 1, 1, 1, 1, 0]),
    "classes, another ignored": (nn.CrossEntropyLoss(ignore_index=2), LOGITS, FLAT, [1, 1, 1, 0, 0, 1]),
    "function": (F.cross_entropy, LOGITS, CLASSES, [1, 1, 1, 1, 1, 0]),
    "partial": (functools.partial(F.cross_entropy, ignore_index=2), LOGITS, FLAT, [1, 1, 1, 0, 0, 1]),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.2), LOGITS, CLASSES, [1, 1, 1, 1, 1, 0]),
    "tokens": (nn.CrossEntropyLoss(), TOKENS, TOKEN_CLASSES, (TOKEN_CLASSES != -100).sum(1).tolist()),
    "probabilities": (nn.CrossEntropyLoss(), LOGITS, SOFT, [1] * 6),
    "probabilities of tokens": (nn.CrossEntropyLoss(), TOKENS, SOFT_TOKENS, [5] * 6),
    "class weights": (nn.CrossEntropyLoss(weight=WEIGHTS), LOGITS, CLASSES, [1, 3, 2, 0.5, 0.5, 0]),
    "class weights, smoothed": (
        nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2),
        LOGITS,
        CLASSES,
        [1, 3, 2, 0.5, 0.5, 0],
    ),
    "class weights in a partial": (
        functools.partial(F.cross_entropy, weight=WEIGHTS),
        LOGITS,
        CLASSES,
        [1, 3, 2, 0.5, 0.5, 0],
    ),
    "class weights and probabilities": (nn.CrossEntropyLoss(weight=WEIGHTS), LOGITS, SOFT, [1] * 6),
    "class weights and probabilities of tokens": (nn.CrossEntropyLoss(weight=WEIGHTS), TOKENS, SOFT_TOKENS, [5] * 6),
    "likelihood": (nn.NLLLoss(), LOGITS.log_softmax(1), CLASSES, [1, 1, 1, 1, 1, 0]),
    "likelihood, class weights": (nn.NLLLoss(weight=WEIGHTS), LOGITS.log_softmax(1), CLASSES, [1, 3, 2, 0.5, 0.5, 0]),
    "likelihood of tokens": (
        F.nll_loss,
        TOKENS.log_softmax(1),
        TOKEN_CLASSES,
        (TOKEN_CLASSES != -100).sum(1).tolist(),
    ),
    "binary": (nn.BCEWithLogitsLoss(), LOGITS[:, 0], SOFT[:, 0], [1] * 6),
    "binary in a column": (nn.BCEWithLogitsLoss(), LOGITS[:, :1], SOFT[:, 0], [1] * 6),
    "binary, whole numbers": (nn.BCEWithLogitsLoss(), LOGITS[:, 0], (FLAT > 1).long(), [1] * 6),
    "binary, many": (F.binary_cross_entropy_with_logits, LOGITS, SOFT, [4] * 6),
    "binary, weighted": (nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), LOGITS, SOFT, [4] * 6),
    "binary probabilities": (nn.BCELoss(), SOFT, SOFT.flip(0), [4] * 6),
    "squares": (nn.MSELoss(), LOGITS, NUMBERS, [4] * 6),
    "squares of whole numbers": (F.mse_loss, LOGITS[:, 0], FLAT, [1] * 6),
    "absolute": (nn.L1Loss(), LOGITS, NUMBERS, [4] * 6),
    "smooth absolute": (F.smooth_l1_loss, LOGITS, NUMBERS, [4] * 6),
    "huber": (functools.partial(F.huber_loss, delta=0.3), LOGITS, NUMBERS, [4] * 6),
    "counts of events": (nn.PoissonNLLLoss(), LOGITS, NUMBERS.abs(), [4] * 6),
    "divergence": (nn.KLDivLoss(reduction="batchmean"), LOGITS.log_softmax(1), SOFT, [1] * 6),
    "own": (lambda z, y: (z - y).pow(4).mean(), LOGITS, NUMBERS, [1] * 6),
    "own, of a dict of targets": (lambda z, y: (z * y["a"]).mean(), LOGITS, {"a": NUMBERS}, [1] * 6),
}


@pytest.mark.parametrize("name", COUNTS)
def test_what_a_loss_counts(name: str) -> None:
    loss, outputs, y, weights = COUNTS[name]
    ours = adapt(loss)
    assert ours.weight(y) == pytest.approx(sum(weights), rel=1e-15)
    wanted = loss(outputs, y) if name not in ("binary in a column", "binary, whole numbers") else None
    if wanted is not None:
        torch.testing.assert_close(ours.mean(outputs, y), wanted, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", COUNTS)
def test_examples_add_up_to_the_mean(name: str) -> None:
    loss, outputs, y, weights = COUNTS[name]
    losses, counted = adapt(loss).per_example(outputs, y)
    assert losses.shape == counted.shape == (6,)
    assert counted.tolist() == pytest.approx(weights)
    torch.testing.assert_close((losses * counted).sum() / counted.sum(), adapt(loss).mean(outputs, y))
    assert losses[counted == 0].abs().sum() == 0


# Where the rows of the targets are no examples, or the outputs are no rows, there is nothing to take apart.
WITHOUT_ROWS = ("language_model_time_first", "absolute_of_ragged_sequences")


@pytest.mark.parametrize("name", [name for name in CASES if name not in WITHOUT_ROWS])
def test_examples_of_whole_networks_add_up(name: str) -> None:
    case = CASES[name]
    how = dict(case.how)
    ours = adapt(case.loss, how.get("weight"), how.get("outputs"))
    module = made(case).eval()
    x, y = case.batches[0]
    outputs = case.call(module, x)
    losses, weights = ours.per_example(outputs, y)
    torch.testing.assert_close((losses * weights).sum() / weights.sum(), ours.mean(outputs, y))


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (nn.CrossEntropyLoss(), "categorical"),
        (nn.CrossEntropyLoss(weight=WEIGHTS), "categorical"),
        (functools.partial(F.cross_entropy, weight=WEIGHTS), "categorical"),
        (F.nll_loss, "categorical"),
        (nn.BCEWithLogitsLoss(), "binary"),
        (nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), "binary"),
        (nn.MSELoss(), "other"),
        (nn.L1Loss(), "other"),
        (lambda z, y: z.mean(), "other"),
    ],
)
def test_the_kind_of_a_loss(loss: Any, kind: str) -> None:
    assert adapt(loss).kind == kind


# -------------------------------------------------------------------------------------- what the model returns

WRAPPINGS: dict[str, tuple[Any, Any]] = {
    "itself": (LOGITS, None),
    "dict": ({"logits": LOGITS, "hidden": NUMBERS}, None),
    "dataclass": (Returned(LOGITS, NUMBERS), None),
    "alone in a list": ([LOGITS], None),
    "among whole numbers": ((LOGITS, CLASSES), None),
    "beside a number": ({"prediction": LOGITS, "loss": LOGITS.sum()}, None),
    "picked": ((NUMBERS, (LOGITS,)), lambda out: out[1][0]),
}


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=WEIGHTS)], ids=["known", "own"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_predictions_are_found_in_what_a_model_returns(wrapping: str, loss: nn.Module) -> None:
    outputs, pick = WRAPPINGS[wrapping]
    ours = adapt(loss, None, pick)
    assert ours.scores(outputs) is LOGITS
    torch.testing.assert_close(ours.mean(outputs, CLASSES), loss(LOGITS, CLASSES))
    losses, weights = ours.per_example(outputs, CLASSES)
    torch.testing.assert_close((losses * weights).sum() / weights.sum(), loss(LOGITS, CLASSES))


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()])
def test_ambiguous_predictions_are_refused(loss: nn.Module) -> None:
    with pytest.raises(LossError, match=r"tuple\(\(6, 4\), \(6, 4\)\) came") as caught:
        adapt(loss).mean((LOGITS, NUMBERS), NUMBERS)
    assert is_sentence(str(caught.value))


def test_a_function_of_ones_own_gets_what_the_model_returns() -> None:
    seen = []
    adapt(lambda out, y: seen.append(out) or LOGITS.mean()).mean({"logits": LOGITS}, CLASSES)
    assert seen == [{"logits": LOGITS}]


def test_whole_numbers_among_the_outputs_do_not_round_the_losses() -> None:
    losses, weights = adapt(lambda out, y: out["score"].pow(2).mean()).per_example(
        {"argmax": FLAT, "score": LOGITS}, FLAT
    )
    torch.testing.assert_close(losses, LOGITS.pow(2).mean(1))
    assert weights.tolist() == [1.0] * 6


def test_class_weights_follow_the_predictions() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        ours = adapt(nn.CrossEntropyLoss(weight=WEIGHTS.float()))
        assert ours.mean(LOGITS.to(dtype), CLASSES).dtype == dtype


# --------------------------------------------------------------------------------------------- weights by hand


def test_an_integer_weight_is_the_class_that_does_not_count() -> None:
    ours = adapt(lambda z, y: F.cross_entropy(z, y, ignore_index=2), 2)
    assert ours.weight(FLAT) == 4
    assert adapt(nn.CrossEntropyLoss(), -100).weight(CLASSES) == 5


def test_a_function_counts_what_it_says() -> None:
    ours = adapt(lambda z, y: z.mean(), lambda y: (y["mask"] * 0.5).sum())
    assert ours.weight({"mask": torch.ones(3)}) == 1.5


@pytest.mark.parametrize(
    "y", [None, {"a": torch.zeros(3), "b": torch.zeros(2)}, object()], ids=["nothing", "uneven", "object"]
)
def test_targets_that_cannot_be_counted_need_a_weight(y: Any) -> None:
    with pytest.raises(LossError, match=r"targets with one row an example were required") as caught:
        adapt(lambda z, y: z.mean()).weight(y)
    assert is_sentence(str(caught.value))
    assert adapt(lambda z, y: z.mean(), lambda y: 3).weight(y) == 3


@pytest.mark.parametrize(("y", "size"), [(torch.tensor(1), 1), (torch.zeros(0), 0), (["a", "b"], 2), ({"a": FLAT}, 6)])
def test_examples_are_counted_without_one(y: Any, size: int) -> None:
    assert adapt(lambda z, y: z.mean()).weight(y) == size


# ---------------------------------------------------------------------------------------------- already adapted


@pytest.mark.parametrize("loss", [CrossEntropy(), BinaryCrossEntropy(), SquaredError()])
def test_losses_of_the_house_pass_through(loss: Loss) -> None:
    assert adapt(loss) == Picked(loss=loss)
    pick = len
    assert adapt(loss, None, pick) == adapt(Picked(loss=loss), None, pick) == Picked(loss=loss, pick=pick)
    own = OwnLoss(function=F.l1_loss)
    assert adapt(own) is own
    assert adapt(own, None, pick).pick is pick


def test_a_loss_module_is_copied_and_evaluated() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.drop = nn.Parameter(torch.tensor(2.0)), nn.Dropout(0.5)

        def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.drop(z).mean() * self.scale

    mine = Noisy()
    with untouched(mine):
        ours = adapt(mine)
        first, second = (float(ours.mean(LOGITS, CLASSES).detach()) for _ in range(2))
    assert first == second == pytest.approx(2 * float(LOGITS.mean()))
    assert mine.training


# ---------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("loss", "came"),
    [
        (None, "a NoneType came"),
        ("mse", "a str came"),
        (nn.MSELoss, "the class MSELoss came: write MSELoss()"),
        (nn.CrossEntropyLoss(reduction="sum"), "reduction='sum' came"),
        (nn.L1Loss(reduction="none"), "reduction='none' came"),
        (functools.partial(F.mse_loss, reduction="sum"), "reduction='sum' came"),
    ],
)
def test_what_is_no_mean_by_its_word_is_refused(loss: Any, came: str) -> None:
    with pytest.raises(LossError) as caught:
        adapt(loss)
    assert came in str(caught.value)
    assert is_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("loss", "outputs", "y", "error", "came"),
    [
        (nn.CrossEntropyLoss(), LOGITS, FLAT[:3], LossError, "(6, 4) float64 and (3,) int64 came"),
        (nn.CrossEntropyLoss(weight=WEIGHTS), LOGITS, FLAT[:3], LossError, "(6, 4) float64 and (3,) int64 came"),
        (nn.MSELoss(), LOGITS[:, :1], NUMBERS[:, 0], LossError, "outputs and targets of one shape"),
        (nn.BCEWithLogitsLoss(), LOGITS, FLAT, LossError, "(6, 4) float64 and (6,) int64 came"),
        (F.l1_loss, LOGITS, ["a"], LossError, "a list of 1 str came"),
        (lambda z, y: F.cross_entropy(z, y), LOGITS, FLAT + 9, DataError, "raised IndexError"),
        (lambda z, y: None, LOGITS, FLAT, LossError, "a NoneType came"),
        (lambda z, y: z, LOGITS, FLAT, LossError, "a tensor (6, 4) came"),
        (lambda z, y: z.argmax(), LOGITS, FLAT, LossError, "a tensor () came"),
        (lambda z, y: z.nosuch, LOGITS, FLAT, LossError, "AttributeError"),
    ],
)
def test_what_cannot_be_computed_is_refused(loss: Any, outputs: Any, y: Any, error: type[Exception], came: str) -> None:
    with pytest.raises(error) as caught:
        adapt(loss).mean(outputs, y)
    assert came in str(caught.value)
    assert is_sentence(str(caught.value)), str(caught.value)


@pytest.mark.parametrize("y", [{"a": FLAT}, ["cat"] * 6, None])
def test_targets_that_torch_cannot_take_are_refused_when_counted(y: Any) -> None:
    for loss in (nn.CrossEntropyLoss(), nn.MSELoss()):
        with pytest.raises(LossError, match="targets in a tensor were required") as caught:
            adapt(loss).weight(y)
        assert is_sentence(str(caught.value))


def test_a_loss_without_examples_cannot_be_taken_apart() -> None:
    with pytest.raises(LossError, match="the loss cannot be taken apart into examples") as caught:
        adapt(lambda z, y: z.mean()).per_example(torch.zeros(()), FLAT)
    assert is_sentence(str(caught.value))


def test_numbers_of_one_element_are_numbers() -> None:
    assert adapt(lambda z, y: z.mean().reshape(1, 1)).mean(LOGITS, FLAT).shape == ()


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (LOGITS, "(6, 4) float64"),
        ({"a": LOGITS, "b": FLAT}, "dict((6, 4), (6,))"),
        (["a", "b"], "a list of 2 str"),
        (None, "NoneType()"),
    ],
)
def test_shapes_are_said_in_words(held: Any, said: str) -> None:
    assert shapes(held) == said


def test_on_another_default_device() -> None:
    with torch.device("meta"):
        losses, weights = adapt(lambda z, y: z.mean()).per_example(LOGITS, FLAT)
    assert losses.device == weights.device == LOGITS.device
