"""Networks as people write them, each with its data and with its loss written out by hand a second time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

Sums = Callable[[Any, Any], tuple[torch.Tensor, Any]]
DOUBLE = torch.float64


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to bring a network.

    Attributes:
        make: builds the module, the same for the same global seed.
        loss: what the user would pass.
        batches: the data, cut unevenly.
        sums: from outputs and targets to the summed loss and the count, in plain arithmetic.
        how: the further arguments of `solution_of`.
        call: how a user calls the module on x.
        rows: whether x and y are trees of tensors with one row an example, so that they may be cut anew.
    """

    make: Callable[[], nn.Module]
    loss: Any
    batches: list[tuple[Any, Any]]
    sums: Sums
    how: Mapping[str, Any] = field(default_factory=dict)
    call: Callable[[nn.Module, Any], Any] = lambda module, x: module(x)
    rows: bool = True


def made(case: Case, seed: int = 0) -> nn.Module:
    """The case's module in float64, in training mode, with gradients lying about, as after a training step."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = case.make().double().train()
    for place, value in enumerate(module.parameters()):
        if value.requires_grad and place % 2:
            value.grad = torch.full_like(value, 0.5)
    return module


def reference(case: Case, module: nn.Module) -> tuple[float, torch.Tensor]:
    """The mean loss and its gradient, by plain torch on the module itself, batch by batch with summed losses."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        pairs = [case.sums(case.call(module, x), y) for x, y in case.batches]
        mean = sum(total for total, _ in pairs) / sum(count for _, count in pairs)
        weights = [value for value in module.parameters() if value.requires_grad]
        slopes = torch.autograd.grad(mean, weights, allow_unused=True, materialize_grads=True)
    finally:
        for part, mode in modes:
            part.training = mode
    return float(mean.detach()), torch.cat([slope.reshape(-1) for slope in slopes])


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def classes(*shape: int, high: int = 4, seed: int = 2) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def cut(x: Any, y: Any, *sizes: int) -> list[tuple[Any, Any]]:
    return list(zip(_split(x, sizes), _split(y, sizes), strict=True))


def _split(held: Any, sizes: tuple[int, ...]) -> list[Any]:
    if isinstance(held, dict):
        parts = {key: _split(value, sizes) for key, value in held.items()}
        return [{key: part[i] for key, part in parts.items()} for i in range(len(sizes))]
    if isinstance(held, tuple):
        return list(zip(*(_split(value, sizes) for value in held), strict=True))
    return list(held.split(list(sizes)))


# --------------------------------------------------------------------------------- losses once more, by hand


def cross_entropy_sums(logits: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
    chosen = logits.gather(1, y[:, None])[:, 0]
    return (logits.logsumexp(1) - chosen).sum(), len(y)


def token_sums(logits: torch.Tensor, y: torch.Tensor, ignored: int = -100) -> tuple[torch.Tensor, int]:
    flat, labels = logits.reshape(-1, logits.shape[-1]), y.reshape(-1)
    return cross_entropy_sums(flat[labels != ignored], labels[labels != ignored])


def weighted_sums(logits: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    weights = CLASS_WEIGHTS.double()[y]
    losses = logits.logsumexp(1) - logits.gather(1, y[:, None])[:, 0]
    return (weights * losses).sum(), weights.sum()


def smoothed_sums(logits: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
    soft = 0.9 * F.one_hot(y, logits.shape[1]).double() + 0.1 / logits.shape[1]
    return -(soft * (logits - logits.logsumexp(1, keepdim=True))).sum(), len(y)


def soft_sums(logits: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
    return -(y * (logits - logits.logsumexp(1, keepdim=True))).sum(), len(y)


def binary_sums(logits: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
    flat, labels = logits.reshape(-1), y.reshape(-1).double()
    return -(labels * torch.sigmoid(flat).log() + (1 - labels) * torch.sigmoid(-flat).log()).sum(), labels.numel()


def squared_sums(outputs: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
    return ((outputs - y) ** 2).sum(), y.numel()


CLASS_WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 3.0])

# --------------------------------------------------------------------------------------------------- networks


def mlp(inputs: int = 3, outputs: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, outputs))


class ResNet(nn.Module):
    """Convolutions with BatchNorm whose statistics have moved, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)
        self(torch.randn(8, 1, 4, 4) * 2 + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)).relu()
        x = (x + self.norm2(self.second(x))).relu()
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.2, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.embed, self.head, self.time = nn.Linear(3, 4), nn.Linear(4, 4), int(batch_first)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embed(x)).mean(self.time))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], batch_first: bool) -> None:
        super().__init__()
        self.cells = kind(3, 4, num_layers=2, dropout=0.3, batch_first=batch_first)
        self.head, self.batch_first = nn.Linear(4, 4), batch_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.cells(x)
        return self.head(states[:, -1] if self.batch_first else states[-1])


class CausalLanguageModel(nn.Module):
    """Attention under a causal mask, and an output layer that shares the embedding's weights: returns (N, T, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=x.dtype)
        return self.head(x + self.attend(x, x, x, attn_mask=mask, need_weights=False)[0])


class TimeFirstLanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cells, self.head = nn.Embedding(7, 4), nn.LSTM(4, 4), nn.Linear(4, 7)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(self.embed(tokens))[0])


@dataclass
class Returned:
    logits: torch.Tensor
    hidden: torch.Tensor
    note: str = "for people"


class Returning(nn.Module):
    """Hands its predictions back in whatever wrapping it is told."""

    def __init__(self, wrap: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.body, self.head, self.wrap = nn.Linear(3, 5), nn.Linear(5, 4), wrap

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.body(x).tanh()
        return self.wrap(self.head(hidden), hidden)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, left: torch.Tensor, right: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return (self.left(left) * scale).tanh() + self.right(right)


class NestedInput(nn.Module):
    """Takes one dict whose name is no keyword of forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        (first, second), third = batch["pair"], batch["deep"]["third"]
        return self.body(first + second) * third


class Reader(nn.Module):
    """Takes texts as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.EmbeddingBag(128, 4, mode="mean")

    def forward(self, texts: list[str]) -> torch.Tensor:
        return torch.cat([self.letters(torch.tensor([list(text.encode())])) for text in texts])


class Caching(nn.Module):
    """Keeps activations with their graph, has a property named like a parameter, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.register_buffer("scale", torch.full((4,), 1.5), persistent=False)
        self.cache: dict[str, Any] = {}
        self(torch.ones(2, 3))

    @property
    def weight(self) -> torch.Tensor:
        return self.body.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = F.linear(x, self.weight, self.body.bias)
        self.cache["deep"] = [{"last": self.last * 2}]
        return self.last * self.scale


def frozen_body() -> nn.Module:
    module = mlp()
    module[0].requires_grad_(False)
    return module


def parametrized() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 5)),
        nn.Tanh(),
        parametrizations.spectral_norm(nn.Linear(5, 4)),
        parametrizations.orthogonal(nn.Linear(4, 4)),
    )


def normed_by_hooks() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old functions are deprecated, and in every second repository
        first = nn.utils.weight_norm(nn.Linear(3, 5))
    module = nn.Sequential(first, nn.Tanh(), nn.utils.spectral_norm(nn.Linear(5, 4)))
    module.double()(draw(2, 3))  # leaves tensors with a graph behind
    return module


def pruned() -> nn.Module:
    module = mlp()
    prune.random_unstructured(module[0], "weight", 0.3)
    return module


class Force(nn.Module):
    """Predicts the slope of an energy, and so differentiates within its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.body(x).tanh().sum(), x, create_graph=True)[0]


def hooked() -> nn.Module:
    module = mlp()
    module[0].register_forward_hook(lambda part, inputs, output: output * 2)
    module[3].register_forward_pre_hook(lambda part, inputs: (inputs[0] + 1,))
    return module


# ------------------------------------------------------------------------------------------------------ cases

_X, _Y = draw(10, 3), classes(10)
_SEQUENCES = draw(10, 5, 3)
_TOKENS = classes(10, 6, high=7)
_NEXT = torch.where(draw(10, 6) > 0.4, -100, _TOKENS.roll(-1, 1)).index_fill(0, torch.tensor([8, 9]), -100)
_PLAIN = cut(_X, _Y, 4, 3, 2, 1)
_ENTROPY = nn.CrossEntropyLoss()


def _time_first(*sizes: int) -> list[tuple[Any, Any]]:
    return [(x.transpose(0, 1), y) for x, y in cut(_SEQUENCES, _Y, *sizes)]


def _of(make: Callable[[], nn.Module], batches: list[tuple[Any, Any]] = _PLAIN, **other: Any) -> Case:
    return Case(**{"make": make, "batches": batches, "loss": _ENTROPY, "sums": cross_entropy_sums, **other})


def _returning(wrap: Callable[[Any, Any], Any], unwrap: Callable[[Any], Any], **other: Any) -> Case:
    def sums(outputs: Any, y: Any) -> Any:
        return cross_entropy_sums(unwrap(outputs), y)

    return _of(lambda: Returning(wrap), sums=sums, **other)


CASES: dict[str, Case] = {
    "mlp": _of(mlp),
    "resnet": _of(ResNet, cut(draw(10, 1, 4, 4), _Y, 4, 6)),
    "transformer": _of(lambda: Transformer(True), cut(_SEQUENCES, _Y, 3, 7)),
    "transformer_time_first": _of(lambda: Transformer(False), _time_first(4, 6), rows=False),
    "transformer_as_many_steps_as_examples": _of(lambda: Transformer(False), _time_first(5, 5), rows=False),
    "lstm": _of(lambda: Recurrent(nn.LSTM, True), cut(_SEQUENCES, _Y, 3, 7)),
    "gru_time_first": _of(lambda: Recurrent(nn.GRU, False), _time_first(6, 4), rows=False),
    "lstm_as_many_steps_as_examples": _of(lambda: Recurrent(nn.LSTM, False), _time_first(5, 5), rows=False),
    "language_model": _of(
        CausalLanguageModel,
        cut(_TOKENS, _NEXT, 3, 5, 2),  # nothing counts in the last batch
        how={"outputs": lambda logits: logits.transpose(1, 2)},
        sums=token_sums,
    ),
    "language_model_own_loss": _of(
        CausalLanguageModel,
        cut(_TOKENS, _NEXT, 3, 5, 2),
        loss=lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten()),
        how={"weight": -100},
        sums=token_sums,
    ),
    "language_model_time_first": _of(
        TimeFirstLanguageModel,
        [(x.T, y.T) for x, y in cut(_TOKENS, _TOKENS.roll(-1, 1), 4, 6)],
        loss=lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten()),
        how={"weight": lambda y: y.numel()},
        sums=token_sums,
        rows=False,
    ),
    "padding_counts_by_hand": _of(
        CausalLanguageModel,
        cut(_TOKENS, _TOKENS.roll(-1, 1), 3, 7),
        loss=lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=0),
        how={"weight": lambda y: (y != 0).sum()},
        sums=lambda logits, y: token_sums(logits, y, ignored=0),
    ),
    "returns_dict": _returning(lambda logits, hidden: {"logits": logits, "hidden": hidden}, lambda out: out["logits"]),
    "returns_dataclass": _returning(Returned, lambda out: out.logits),
    "returns_tuple": _returning(
        lambda logits, hidden: (hidden, (logits, None)), lambda out: out[1][0], how={"outputs": lambda out: out[1][0]}
    ),
    "returns_its_loss_in_a_dict": _returning(
        lambda logits, hidden: {"logits": logits, "sum": logits.sum()}, lambda out: out["logits"]
    ),
    "takes_keywords": _of(
        TwoInputs, cut({"right": draw(10, 2), "left": _X}, _Y, 4, 6), call=lambda module, x: module(**x)
    ),
    "takes_positions": _of(TwoInputs, cut((_X, draw(10, 2)), _Y, 4, 6), call=lambda module, x: module(*x)),
    "takes_one_nested_dict": _of(
        NestedInput, cut({"pair": (_X, draw(10, 3, seed=5)), "deep": {"third": draw(10, 1)}}, _Y, 4, 6)
    ),
    "takes_texts": _of(
        Reader, [(["cat", "a dog", "cow"], _Y[:3]), (["sheep", "ox"], _Y[3:5]), (["hen"], _Y[5:6])], rows=False
    ),
    "frozen": _of(frozen_body),
    "parametrized": _of(parametrized),
    "normed_by_hooks": _of(normed_by_hooks),
    "hooked": _of(hooked),
    "pruned": _of(pruned),
    "averaged": _of(lambda: torch.optim.swa_utils.AveragedModel(mlp())),
    "force": _of(Force, cut(_X, draw(10, 3, seed=3), 4, 6), loss=nn.MSELoss(), sums=squared_sums),
    "complex_outputs": _of(
        lambda: Returning(lambda logits, hidden: torch.fft.fft(logits)),
        loss=lambda waves, y: waves.abs().square().mean(),
        sums=lambda waves, y: (waves.real.square().sum() + waves.imag.square().sum(), waves.numel()),
    ),
    "caching": _of(Caching),
    "class_weights": _of(mlp, loss=nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), sums=weighted_sums),
    "label_smoothing": _of(mlp, loss=nn.CrossEntropyLoss(label_smoothing=0.1), sums=smoothed_sums),
    "probabilities": _of(mlp, cut(_X, draw(10, 4).softmax(1), 4, 6), sums=soft_sums),
    "probabilities_and_class_weights": _of(
        mlp,
        cut(_X, draw(10, 4).softmax(1), 4, 6),
        loss=nn.CrossEntropyLoss(weight=CLASS_WEIGHTS),
        sums=lambda logits, y: (-(CLASS_WEIGHTS * y * (logits - logits.logsumexp(1, keepdim=True))).sum(), len(y)),
    ),
    "binary": _of(lambda: mlp(3, 1), cut(_X, _Y > 1, 4, 6), loss=nn.BCEWithLogitsLoss(), sums=binary_sums),
    "many_labels": _of(
        lambda: mlp(3, 2),
        cut(_X, draw(10, 2).sigmoid(), 4, 6),
        loss=F.binary_cross_entropy_with_logits,
        sums=binary_sums,
    ),
    "squared": _of(lambda: mlp(3, 2), cut(_X, draw(10, 2), 4, 6), loss=nn.MSELoss(), sums=squared_sums),
    "squared_whole_numbers": _of(lambda: mlp(3, 1), cut(_X, classes(10, 1), 4, 6), loss=F.mse_loss, sums=squared_sums),
    "absolute_of_ragged_sequences": _of(
        lambda: nn.Linear(3, 3),
        [(draw(4, 5, 3), draw(4, 5, 3, seed=3)), (draw(6, 2, 3), draw(6, 2, 3, seed=4))],
        loss=nn.L1Loss(),
        sums=lambda outputs, y: ((outputs - y).abs().sum(), y.numel()),
        rows=False,
    ),
    "huber": _of(
        lambda: mlp(3, 2),
        cut(_X, draw(10, 2), 4, 6),
        loss=nn.HuberLoss(delta=0.7),
        sums=lambda outputs, y: (
            torch.where((outputs - y).abs() < 0.7, (outputs - y) ** 2 / 2, 0.7 * ((outputs - y).abs() - 0.35)).sum(),
            y.numel(),
        ),
    ),
    "negative_log_likelihood": _of(
        lambda: nn.Sequential(mlp(), nn.LogSoftmax(1)),
        loss=nn.NLLLoss(),
        sums=lambda logs, y: (-logs.gather(1, y[:, None]).sum(), len(y)),
    ),
    "divergence": _of(
        lambda: nn.Sequential(mlp(), nn.LogSoftmax(1)),
        cut(_X, draw(10, 4).softmax(1), 4, 6),
        loss=nn.KLDivLoss(reduction="batchmean"),
        sums=lambda logs, y: ((y * (y.log() - logs)).sum(), len(y)),
    ),
    "own_function": _of(
        mlp,
        loss=lambda logits, y: (logits.logsumexp(1) - logits[torch.arange(len(y)), y]).mul(3).mean(),
        sums=lambda logits, y: (3 * cross_entropy_sums(logits, y)[0], len(y)),
    ),
}
