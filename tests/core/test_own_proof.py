"""Refused at the door: networks, losses and data that would make every later number wrong, each in one sentence."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.core.caller import is_sentence, untouched
from tests.core.networks import draw, mlp
from vallis.core.errors import DataError, LossError, ModelError, SettingsError, VallisError
from vallis.core.objective import Objective
from vallis.core.types import Solution

X, Y = draw(10, 3).float(), torch.arange(10) % 4


def plain(module: nn.Module | None = None, **how: Any) -> Solution:
    return Solution.of(mlp() if module is None else module, nn.CrossEntropyLoss(), **{"train": (X, Y), **how})


def mlp_of_seed(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mlp()


class Body(nn.Module):
    """A linear layer whose answer is bent in some way."""

    def __init__(self, bend: Callable[[torch.Tensor], Any] = lambda z: z) -> None:
        super().__init__()
        self.body, self.bend = nn.Linear(3, 4), bend

    def forward(self, x: torch.Tensor) -> Any:
        return self.bend(self.body(x))


class Counting(Body):
    def __init__(self, once: bool) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.once = once

    def forward(self, x: torch.Tensor) -> Any:
        if not (self.once and self.calls > 0):
            self.calls += 1
        return super().forward(x)


def _patched() -> nn.Module:
    module = nn.Linear(3, 4)
    forward = module.forward
    module.forward = lambda x: forward(x) * 2
    return module


class Checkpointing(nn.Module):
    """Computes its first half again on the way back, when `call` has long put the template's weights back."""

    def __init__(self, reentrant: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 4)
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():  # torch warns that the first layer gets no gradient
            warnings.simplefilter("ignore")
            return self.second(checkpoint(self.first, x, use_reentrant=self.reentrant))


class Detaching(Checkpointing):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).detach())


class DetachingOne(nn.Module):
    """One column of the outputs of ten follows a layer that is cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.aside = nn.Linear(3, 10), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.first(x)[:, :9], self.first(x)[:, 9:] + self.aside(x).detach()], dim=1)


class Hooked(nn.Module):
    """Puts a hook on what flows in the middle, as users do who look at slopes, or who clip them."""

    def __init__(self, hook: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second, self.hook = nn.Linear(3, 4), nn.Linear(4, 4), hook

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.first(x)
        if z.requires_grad:
            z.register_hook(self.hook)
        return self.second(z)


class Looked(nn.Module):
    """Rows longer than one are shortened where they lie, whenever they are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, max_norm=1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x.abs().long().clamp(max=6))


class Spiking(nn.Module):
    """Each unit of a first layer fires or does not; small changes of its weights flip a few."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 200), nn.Linear(200, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second((self.first(x) > 0).to(x.dtype))


class Routing(nn.Module):
    """Which expert sees an example is a choice, by which there is no slope; and one weight is not used at all."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(3, 2), nn.ModuleList(nn.Linear(3, 4) for _ in range(2))
        self.idle = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = F.one_hot(self.gate(x).argmax(1), 2).to(x.dtype)
        return torch.einsum("ne,enc->nc", chosen, torch.stack([expert(x) for expert in self.experts]))


ANSWERS: dict[str, tuple[Callable[[], Any], type[VallisError], str]] = {
    "other width": (lambda: mlp(2), ModelError, "(10, 3) float32 came"),
    "raises": (lambda: Body(lambda z: 1 / 0), ModelError, "raised ZeroDivisionError"),
    "returns nothing": (lambda: Body(lambda z: None), ModelError, "returned a NoneType"),
    "returns text": (lambda: Body(lambda z: "cat"), ModelError, "returned a str"),
    "returns an empty dict": (lambda: Body(lambda z: {}), ModelError, "returned a dict"),
    "returns an array": (lambda: Body(lambda z: z.detach().numpy()), ModelError, "returned a ndarray"),
    "random": (lambda: Body(F.dropout), ModelError, "two calls in eval mode differ"),
    "random shape": (lambda: Body(lambda z: [z] * int(torch.randint(1, 99, ()))), ModelError, "two calls"),
    "counts": (lambda: Counting(once=False), ModelError, "changes them at every call"),
    "counts once": (lambda: Counting(once=True), ModelError, "changes them at every call"),
    "patched": (_patched, ModelError, "weight is also read"),
    "runs again": (Checkpointing, ModelError, "checkpoints its activations"),
    "runs again, reentrant": (lambda: Checkpointing(reentrant=True), ModelError, "first.0.weight of Checkpointing has"),
    "detaches": (Detaching, ModelError, "first.0.weight of Detaching has none"),
    "detaches one": (DetachingOne, ModelError, "aside.weight of DetachingOne has none"),
    "turns slopes": (lambda: Hooked(lambda slope: -slope), ModelError, "the forward pass of Hooked puts on a tensor"),
    "cuts slopes off": (lambda: Hooked(torch.Tensor.detach), ModelError, "the forward pass of Hooked puts on a tensor"),
    "renormalises": (
        lambda: nn.Sequential(Looked(), nn.Flatten(), nn.Linear(12, 4)),
        ModelError,
        "calls change 0.table.weight",
    ),
    "two predictions": (lambda: Body(lambda z: (z, z)), LossError, "tuple((10, 4), (10, 4)) came"),
    "classes": (lambda: Body(lambda z: z.argmax(1)), LossError, "(10,) int64 and (10,) int64 came"),
    "one number": (lambda: Body(lambda z: z.sum()), LossError, "() float32 and (10,) int64 came"),
    "NaN outputs": (lambda: Body(lambda z: z * float("nan")), LossError, "train gives nan"),
    "mixes examples": (
        lambda: Body(lambda z: z - z.mean(0)),
        LossError,
        "keep examples from mixing",
    ),
    "normalises by the batch": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)),
        ModelError,
        "1 is a batch normalisation without running statistics",
    ),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_network_whose_answers_cannot_be_examined_is_refused_in_a_sentence(what: str) -> None:
    make, error, came = ANSWERS[what]
    module = make()
    with untouched(module, X, Y), pytest.raises(error) as caught:
        plain(module)
    assert came in str(caught.value)
    assert is_sentence(str(caught.value)), str(caught.value)


def test_hooks_that_only_look_are_taken() -> None:
    seen: list[torch.Tensor] = []
    plain(Hooked(seen.append))
    assert seen


def test_weights_that_only_choose_and_weights_that_idle_have_no_gradient_in_truth() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Routing()
    objective = Objective(plain(module))
    blocks = dict(zip(objective.names, objective.point(objective.gradient()), strict=True))
    assert not blocks["gate.weight"].any()
    assert not blocks["idle.weight"].any()
    assert blocks["experts.0.weight"].any()


@pytest.mark.parametrize("seed", range(3))
def test_units_that_fire_or_not_have_no_gradient_in_truth(seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = Spiking()
    objective = Objective(plain(module))
    blocks = dict(zip(objective.names, objective.point(objective.gradient()), strict=True))
    assert not blocks["first.weight"].any()
    assert blocks["second.weight"].any()


def test_frozen_weights_may_be_cut_off() -> None:
    module = Detaching()
    module.first.requires_grad_(False)
    assert Objective(plain(module)).names == ("second.weight", "second.bias")


def _sum(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(z, y, reduction="sum")


LOSSES: dict[str, tuple[dict[str, Any], type[VallisError], str]] = {
    "nothing": ({"loss": None}, LossError, "a NoneType came"),
    "text": ({"loss": "cross_entropy"}, LossError, "a str came"),
    "class": ({"loss": nn.CrossEntropyLoss}, LossError, "write CrossEntropyLoss()"),
    "sum": ({"loss": nn.CrossEntropyLoss(reduction="sum")}, LossError, "reduction='sum' came"),
    "none": ({"loss": nn.MSELoss(reduction="none")}, LossError, "reduction='none' came"),
    "own sum": ({"loss": _sum}, LossError, "divide it by their number"),
    "own vector": ({"loss": lambda z, y: F.cross_entropy(z, y, reduction="none")}, LossError, "a tensor (10,) came"),
    "a float": ({"loss": lambda z, y: 1.5}, LossError, "a float came"),
    "an int tensor": ({"loss": lambda z, y: (z.argmax(1) == y).sum()}, LossError, "a tensor () came"),
    "root": ({"loss": lambda z, y: z.square().mean().sqrt()}, LossError, "say what it counts with weight="),
    "across examples": ({"loss": lambda z, y: z.std(0).mean()}, LossError, "keep examples from mixing"),
    "raises": ({"loss": lambda z, y: 1 / 0}, LossError, "ZeroDivisionError"),
    "one argument": ({"loss": lambda z: z.mean()}, LossError, "TypeError"),
    "infinite": ({"loss": lambda z, y: (z / 0).mean()}, LossError, "train gives"),
    "reads the weights": (
        {"loss": lambda z, y: F.cross_entropy(z, y) + sum(w.square().sum() for w in SHARED.parameters())},
        ModelError,
        "0.weight is also read",
    ),
    "no backward": (
        {"loss": nn.HuberLoss(), "train": (X, torch.zeros(10, 4, dtype=torch.float64))},
        LossError,
        "Found dtype Double",
    ),
    "counts wrongly": ({"loss": lambda z, y: F.cross_entropy(z, y), "weight": lambda y: 1}, LossError, "weight="),
    "ignores quietly": (
        {"loss": lambda z, y: F.cross_entropy(z, y), "train": (X, torch.where(Y > 1, -100, Y))},
        LossError,
        "weight=lambda targets",
    ),
    "count raises": ({"weight": lambda y: y["tokens"].sum()}, LossError, "weight= must turn targets (10,) int64"),
    "count is text": ({"weight": "tokens"}, LossError, "weight= must turn"),
    "count is none": ({"weight": lambda y: None}, LossError, "weight= must turn"),
    "nothing counts": ({"weight": lambda y: 0}, DataError, "train has none"),
    "counts NaN": ({"weight": lambda y: float("nan")}, DataError, "train has none"),
    "inputs raise": ({"inputs": lambda b: b["pixels"]}, DataError, "a tuple of 2 came"),
    "targets raise": ({"targets": lambda b: b[7]}, DataError, "raised IndexError"),
    "outputs raise": ({"outputs": lambda z: z.logits}, LossError, "raised AttributeError"),
    "no targets": ({"loss": lambda z, y: z.mean(), "train": [(X, None)]}, LossError, "NoneType() came"),
    "batch of none": ({"batch_size": 0}, SettingsError, "0 came"),
    "half a batch": ({"batch_size": 2.5}, SettingsError, "2.5 came"),
    "negative batch": ({"batch_size": -1}, SettingsError, "-1 came"),
}
SHARED = mlp_of_seed()


@pytest.mark.parametrize("what", LOSSES)
def test_a_loss_that_is_no_mean_is_refused_in_a_sentence(what: str) -> None:
    given, error, came = LOSSES[what]
    with untouched(SHARED, X, Y), pytest.raises(error) as caught:
        Solution.of(SHARED, **{"loss": nn.CrossEntropyLoss(), "train": (X, Y), **given})
    assert came in str(caught.value)
    assert is_sentence(str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("targets", "came"),
    [
        (Y + 1, "train holds 4"),
        (Y - 1, "train holds -1"),
        (torch.full((10,), 2**40), "train holds 1099511627776"),
        (Y.to(torch.int32), "int32 came"),
        (Y.float(), "float32 came"),
        (torch.full((10,), -100), "train has none"),
        (["cat"] * 10, "a list of 10 str came"),
        ({"label": Y}, "dict((10,)) came"),
    ],
    ids=["too high", "too low", "huge", "int32", "float", "all ignored", "text", "dict"],
)
def test_targets_that_do_not_fit_are_refused_in_a_sentence(targets: Any, came: str) -> None:
    with pytest.raises((DataError, LossError), match=r"required") as caught:
        plain(train=(X, targets))
    assert came in str(caught.value)
    assert is_sentence(str(caught.value)), str(caught.value)


@pytest.mark.parametrize("wrong", [2.0, -1.0])
@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0]))])
def test_binary_targets_lie_between_0_and_1(loss: nn.Module, wrong: float) -> None:
    y = torch.ones(10, 1).index_fill(0, torch.tensor([8]), wrong)
    with pytest.raises(DataError, match=f"from 0 to 1 were required, train holds {wrong}"):
        Solution.of(mlp(3, 1), loss, train=(X, y))


@pytest.mark.parametrize(
    ("test", "error", "came"),
    [
        ([], DataError, "in test, none came"),
        ((X * float("nan"), Y), DataError, "test inputs must be numbers, 30 NaN came"),
        ((X, Y + 1), DataError, "test holds 4"),
        ((X[:, :2], Y), ModelError, "the inputs of test, (10, 2) float32 came"),
        ((X / 0, Y), LossError, "test gives"),
        ((X, torch.full((10,), -100)), DataError, "test has none"),
    ],
    ids=["empty", "NaN", "range", "width", "infinite", "nothing counts"],
)
def test_the_test_split_is_held_to_the_same(test: Any, error: type[VallisError], came: str) -> None:
    with pytest.raises(error) as caught:
        plain(test=test)
    assert came in str(caught.value)
    assert is_sentence(str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("width", "loss", "y", "kind"),
    [
        (4, lambda z, y: F.cross_entropy(z, y), Y, "categorical"),
        (4, lambda z, y: F.multi_margin_loss(z, y), Y, "categorical"),
        (4, lambda z, y: z[:, 0].mean() * y.sum() * 0 + z.mean(), Y + 1, "other"),
        (4, lambda z, y: (z - y).abs().mean(), Y[:, None] * torch.ones(4).long(), "other"),
        (4, lambda z, y: z.mean() + 0 * y.sum(), Y.float(), "other"),
        (1, lambda z, y: (z[:, 0] - y).abs().mean(), Y.clamp(max=0), "other"),
    ],
    ids=["classes", "margins", "out of range", "many", "floats", "one output"],
)
def test_a_function_on_logits_and_classes_is_a_classification(width: int, loss: Any, y: Any, kind: str) -> None:
    found = Solution.of(mlp(3, width), loss, train=(X, y))
    assert found.task.loss.kind == kind


def test_not_only_the_first_batch_is_looked_at() -> None:
    batches = [(X[:2], torch.tensor([1, 2])), (X[2:4], torch.tensor([3, 1])), (X[4:6], torch.tensor([0, 1]))]
    with pytest.raises(LossError, match=r"weight=lambda targets"):
        Solution.of(mlp(), lambda z, y: F.cross_entropy(z, y, ignore_index=0), train=batches)


def test_a_late_batch_with_ignored_tokens_is_found() -> None:
    y = Y.repeat(3)
    y[-1] = -100
    batches = list(zip(X.repeat(3, 1).split(3), y.split(3), strict=True))
    with pytest.raises(LossError, match=r"weight=lambda targets"):
        Solution.of(mlp(), lambda z, y: F.cross_entropy(z, y), train=batches)
    found = Solution.of(mlp_of_seed(), lambda z, y: F.cross_entropy(z, y), train=batches, weight=-100)
    known = Solution.of(mlp_of_seed(), nn.CrossEntropyLoss(), train=batches)
    assert Objective(found).value() == Objective(known).value()


def test_rounding_is_not_taken_for_a_loss_that_is_no_mean() -> None:
    """The loss of a network that has memorised everything is the small difference of large numbers."""
    module = nn.Linear(3, 1)
    with torch.no_grad():
        module.weight.mul_(1e6)
        level = module(X).mean()
    found = Solution.of(module, lambda z, y: z.mean() - level, train=(X, Y))
    assert abs(Objective(found).value()) < 1
    with pytest.raises(LossError, match="keep examples from mixing"):
        Solution.of(module, lambda z, y: z.std() - level, train=(X, Y))


@pytest.mark.parametrize(
    "loss", [lambda z, y: (z.argmax(1) == y).float().mean(), lambda z, y: z.detach().square().mean()]
)
def test_what_has_no_gradient_is_not_called_differentiable(loss: Callable[[Any, Any], Any]) -> None:
    found = Solution.of(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), loss, train=(X, Y))
    assert not found.net.traits & {"differentiable", "smooth"}
    assert Objective(found).gradient().abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float64])
def test_inputs_of_another_type_than_the_weights_are_refused_with_what_to_give(dtype: torch.dtype) -> None:
    x, y = torch.ones(6, 3).to(dtype), torch.arange(6) % 2
    with pytest.raises(ModelError, match=r"its weights are float32: give inputs of that type, x.to\(torch.float32\)"):
        Solution.of(nn.Linear(3, 2), nn.CrossEntropyLoss(), train=(x, y))
    embedded = nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(9, 2))
    assert Solution.of(embedded, nn.CrossEntropyLoss(), train=(torch.ones(6, 3, dtype=torch.int64), y)).num_parameters
    with pytest.raises(ModelError, match="use inputs= to say how it is called"):
        Solution.of(nn.Linear(4, 2), nn.CrossEntropyLoss(), train=(torch.ones(6, 3), y))
