"""Networks that use their layers in every way that we know of, each small enough for dense matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tests.numerics.solutions import built, classes, held, random
from vallis.core import tree
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from vallis.core.own_loss import adapt
from vallis.core.types import Batch, Solution

N, T = 8, 3


@dataclass(frozen=True)
class Uneven:
    """A split in batches of these sizes."""

    x: Any
    y: torch.Tensor
    sizes: Sequence[int]

    def __len__(self) -> int:
        return len(self.y)

    def __iter__(self) -> Iterator[Batch]:
        for rows in torch.arange(len(self.y)).split(list(self.sizes)):
            yield self.take(rows)

    def take(self, positions: torch.Tensor) -> Batch:
        return Batch(x=tree.take(self.x, positions), y=self.y[positions], index=positions)

    def fingerprint(self) -> str:
        return tree.fingerprint([self.x, self.y])


class Acting(nn.Module):
    """Some layers, and a function of the network and its inputs for a forward pass."""

    def __init__(self, does: Callable[[Any, torch.Tensor], torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.does = does
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.does(self, x)


def cut(solution: Solution, sizes: Sequence[int]) -> Solution:
    """The same examples in batches of these sizes."""
    data: Any = solution.task.splits["train"]
    task = replace(solution.task, splits={"train": Uneven(data.x, data.y, sizes)})
    return replace(solution, tasks=(task,))


def dense(
    loss: Any = None, y: torch.Tensor | None = None, sizes: Sequence[int] = (3, 3, 2), width: int = 3
) -> Solution:
    """Two layers."""
    module = built(lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, width)))
    return cut(held(module, random(N, 2), classes(N) if y is None else y, loss=loss), sizes)


def convolved(make: Callable[[], nn.Module], *shape: int) -> Solution:
    """A layer on images or signals of two channels, then the mean over positions."""

    def forward(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.head(torch.tanh(net.layer(x)).flatten(2).square().mean(2))

    module = built(lambda: Acting(forward, layer=make(), head=nn.Linear(4, 3)))
    return held(module, random(N, 2, *shape), classes(N), batch_size=3)


def sequence(
    forward: Callable[[Any, torch.Tensor], torch.Tensor], tokens: bool = False, loss: Any = None, **make: Any
) -> Solution:
    """On ``(N, T, 4)``, T as large as most batches; one target a token, of which some do not count, or one in all."""
    y = classes(N, T) if tokens else classes(N)
    if tokens:
        y[random(N, T, seed=3) > 0.5] = -100
    module = built(lambda: Acting(forward, **{name: layer() for name, layer in make.items()}))
    return held(module, random(N, T, 4), y, loss=loss, batch_size=3)


def words(forward: Callable[[Any, torch.Tensor], torch.Tensor], make: Callable[[], dict[str, nn.Module]]) -> Solution:
    """On tokens of four kinds, to be told from those before."""

    def made() -> nn.Module:
        layers = make()
        return Acting(forward, **layers)

    y = classes(N, T, num_classes=4)
    y[random(N, T, seed=3) > 0.7] = -100
    return held(built(made), classes(N, T, num_classes=4, seed=5), y, batch_size=3)


def language(tied: bool) -> Solution:
    """An embedding, which may be the matrix of the last layer, too."""

    def make() -> dict[str, nn.Module]:
        embedding, head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        if tied:
            head.weight = embedding.weight
        return {"embedding": embedding, "mix": nn.Linear(3, 3), "head": head}

    return words(
        lambda net, x: net.head(torch.tanh(net.mix(net.embedding(x)).cumsum(1))).transpose(1, 2),
        make,
    )


def encoder(batch_first: bool, attention_only: bool = False) -> Solution:
    def forward(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = x if batch_first else x.transpose(0, 1)
        hidden = net.inner(x, x, x, need_weights=False)[0] if attention_only else net.inner(x)
        return net.head(torch.tanh(net.feed(hidden)).mean(1 if batch_first else 0))

    def inner() -> nn.Module:
        if attention_only:
            return nn.MultiheadAttention(4, 2, batch_first=batch_first)
        return nn.TransformerEncoderLayer(4, 2, 2, dropout=0.1, batch_first=batch_first, activation="gelu")

    return sequence(forward, inner=inner, feed=lambda: nn.Linear(4, 3), head=lambda: nn.Linear(3, 3))


def recurrent(batch_first: bool, kind: type[nn.RNNBase] = nn.LSTM) -> Solution:
    def forward(net: Any, x: torch.Tensor) -> torch.Tensor:
        hidden = net.memory(torch.tanh(net.before(x if batch_first else x.transpose(0, 1))))[0]
        return net.head(hidden[:, -1] if batch_first else hidden[-1])

    return sequence(
        forward,
        before=lambda: nn.Linear(4, 2),
        memory=lambda: kind(2, 2, batch_first=batch_first),  # type: ignore[call-arg]
        head=lambda: nn.Linear(2, 3),
    )


def per_token(loss: Any = None) -> Solution:
    """A score for every token."""
    return sequence(
        lambda net, x: net.head(torch.tanh(net.mix(x)).cumsum(1)).transpose(1, 2),
        tokens=True,
        loss=loss,
        mix=lambda: nn.Linear(4, 3),
        head=lambda: nn.Linear(3, 3),
    )


def flat(time_first: bool, token: int | None = None, sizes: Sequence[int] = (1, 3, 4)) -> Solution:
    """All tokens as rows of one matrix; the first batch is a single example, which has no order to tell."""

    def forward(net: Any, x: torch.Tensor) -> torch.Tensor:
        turned = x.transpose(0, 1) if time_first else x
        hidden = torch.tanh(net.mix(turned.reshape(-1, 4))).view(*turned.shape[:2], 3)
        hidden = hidden.transpose(0, 1) if time_first else hidden
        return net.head(hidden.cumsum(1)[:, -1] if token is None else hidden[:, token])

    return cut(sequence(forward, mix=lambda: nn.Linear(4, 3), head=lambda: nn.Linear(3, 3)), sizes)


def used_twice() -> Solution:
    """On two different numbers of positions."""
    return sequence(
        lambda net, x: net.head(torch.tanh(net.mix(torch.tanh(net.mix(x)).sum(1)))),
        mix=lambda: nn.Linear(4, 4),
        head=lambda: nn.Linear(4, 3),
    )


def chosen_rows(sizes: Sequence[int]) -> Solution:
    """A mixture of experts: each takes the rows that are its own, in examples 3 to 5 just as many as three examples."""

    def forward(net: Any, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, 4)
        mine = rows[:, 0] > 0
        first, second = net.one(rows[mine]), net.other(rows[~mine])
        both = torch.zeros(len(rows), 3, dtype=first.dtype).index_put((mine,), first).index_put((~mine,), second)
        return net.head(torch.tanh(both).view(len(x), -1, 3).sum(1))

    make = {"one": lambda: nn.Linear(4, 3), "other": lambda: nn.Linear(4, 3), "head": lambda: nn.Linear(3, 3)}
    solution = sequence(forward, **make)
    data: Any = solution.task.splits["train"]
    alike, uneven = [[1, -1, -1]] * 3, [[1, 1, -1], [-1, -1, -1], [-1, -1, 1]]
    data.x[:, :, 0] = data.x[:, :, 0].abs() * torch.tensor([*alike, *uneven, *alike[:2]])
    return cut(solution, sizes)


def routed() -> Solution:
    """Each batch goes through one of two layers, the second of which sees time first; the first batch never does."""

    def forward(net: Any, x: torch.Tensor) -> torch.Tensor:
        hidden = net.one(x).sum(1) if float(x[0, 0, 0]) > 0 else net.other(x.transpose(0, 1)).square().sum(0)
        return net.head(torch.tanh(hidden))

    make = {"one": lambda: nn.Linear(4, 3), "other": lambda: nn.Linear(4, 3), "head": lambda: nn.Linear(3, 3)}
    solution = sequence(forward, **make)
    data: Any = solution.task.splits["train"]
    data.x[:, 0, 0] = data.x[:, 0, 0].abs() * torch.tensor([1, 1, 1, -1, -1, -1, 1, 1])
    return solution


def token_rows(sizes: Sequence[int]) -> Solution:
    """Scores and targets with a row for each token, so that no axis is that of the examples."""
    solution = sequence(
        lambda net, x: net.head(torch.tanh(net.mix(x)).cumsum(1)).flatten(0, 1),
        mix=lambda: nn.Linear(4, 3),
        head=lambda: nn.Linear(3, 3),
    )

    class Flattened(Uneven):
        def take(self, positions: torch.Tensor) -> Batch:
            return Batch(x=self.x[positions], y=self.y[positions].flatten(), index=positions)

    data: Any = solution.task.splits["train"]
    task = replace(solution.task, splits={"train": Flattened(data.x, classes(N, T), sizes)})
    return replace(solution, tasks=(task,))


def normalised(make: Callable[[], nn.Module]) -> Solution:
    module = built(lambda: nn.Sequential(nn.Linear(2, 4), make(), nn.Tanh(), nn.Linear(4, 3, bias=False)))
    for name, value in module.named_buffers():
        if value.is_floating_point():
            value.copy_(random(*value.shape).abs() + (0.5 if name.endswith("var") else 0))
    return held(module, random(N, 2), classes(N), batch_size=3)


def weighted(**more: Any) -> Loss:
    return adapt(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 4.0, 0.25]), **more))


NETWORKS: dict[str, Callable[[], Solution]] = {
    "dense": dense,
    "one_class": lambda: dense(y=torch.ones(N, dtype=torch.int64)),
    "one_row_batches": lambda: dense(sizes=(1,) * N),
    "class_weights": lambda: dense(weighted()),
    "class_weights_smoothed": lambda: dense(weighted(label_smoothing=0.2)),
    "smoothed": lambda: dense(CrossEntropy(label_smoothing=0.2)),
    "soft_targets": lambda: dense(y=random(N, 3).double().softmax(1)),
    "squared_error": lambda: dense(SquaredError(), random(N, 3, seed=4)),
    "binary": lambda: dense(BinaryCrossEntropy(), classes(N, 1, num_classes=2), width=1),
    "own_loss": lambda: dense(adapt(lambda z, y: torch.nn.functional.cross_entropy(z, y))),
    "conv1d": lambda: convolved(lambda: nn.Conv1d(2, 4, 3, stride=2, dilation=2, padding=1), 7),
    "conv2d": lambda: convolved(lambda: nn.Conv2d(2, 4, (2, 3), stride=(1, 2), dilation=(2, 1), padding=(1, 0)), 4, 5),
    "conv_reflect": lambda: convolved(lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect", bias=False), 3, 4),
    "conv_replicate": lambda: convolved(lambda: nn.Conv1d(2, 4, 3, padding=2, padding_mode="replicate"), 4),
    "conv_circular": lambda: convolved(lambda: nn.Conv2d(2, 4, 2, padding="same", padding_mode="circular"), 3, 3),
    "conv_grouped": lambda: convolved(lambda: nn.Conv2d(2, 4, 2, groups=2), 3, 3),
    "conv_transposed": lambda: convolved(lambda: nn.ConvTranspose2d(2, 4, 2, stride=2), 2, 2),
    "conv3d": lambda: convolved(lambda: nn.Conv3d(2, 4, 2), 2, 3, 2),
    "tokens": per_token,
    "tokens_weighted": lambda: per_token(weighted()),
    "words": lambda: language(tied=False),
    "tied_words": lambda: language(tied=True),
    "attention": lambda: encoder(True, attention_only=True),
    "attention_time_first": lambda: encoder(False, attention_only=True),
    "encoder": lambda: encoder(True),
    "encoder_time_first": lambda: encoder(False),
    "lstm": lambda: recurrent(True),
    "lstm_time_first": lambda: recurrent(False),
    "gru_time_first": lambda: recurrent(False, nn.GRU),
    "flat": lambda: flat(False),
    "flat_time_first": lambda: flat(True),
    "flat_first_token": lambda: flat(True, token=0),
    "flat_last_token": lambda: flat(True, token=-1, sizes=(3, 3, 2)),
    "used_twice": used_twice,
    "chosen_rows": lambda: chosen_rows((3, 3, 2)),
    "chosen_rows_early": lambda: chosen_rows((1, 2, 3, 2)),
    "routed": routed,
    "token_rows": lambda: token_rows((3, 3, 2)),
    "token_rows_one": lambda: token_rows((1,) * N),
    "batch_norm": lambda: normalised(lambda: nn.BatchNorm1d(4)),
    "layer_norm": lambda: normalised(lambda: nn.LayerNorm(4)),
    "group_norm": lambda: normalised(lambda: nn.GroupNorm(2, 4)),
    "rectified_slopes": lambda: normalised(lambda: nn.PReLU(4)),
}
