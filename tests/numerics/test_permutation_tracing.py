"""Tracing: what is found is a symmetry (outputs stay), all of it is found where it is known, and no more is claimed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.prune import l1_unstructured

from tests.numerics.solutions import Attention, Recurrent, Tied, built, random
from vallis.core.errors import ModelError
from vallis.core.rng import Rng
from vallis.models.resnet20 import network
from vallis.numerics import permutation_tracing
from vallis.numerics.permutation_tracing import find_permutations
from vallis.numerics.permutations import permuted, random_permutations


class Residual(nn.Module):
    """Two blocks around one stream of channels, a strided one with a projection, averaging at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.a, self.norm1, self.b = nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5), nn.Conv2d(5, 6, 3, padding=1)
        self.down, self.project = nn.Conv2d(6, 7, 3, 2, 1), nn.Conv2d(6, 7, 1, 2)
        self.head = nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm0(self.stem(x)))
        x = x + self.b(torch.relu(self.norm1(self.a(x))))
        x = F.relu(self.down(x) + self.project(x))
        return self.head(x.mean((2, 3)))


class Joined(nn.Module):
    """Two branches side by side, then a dense layer over flattened pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 4, 1)
        self.hidden, self.head = nn.Linear(7 * 16, 5), nn.Linear(5, 3)
        self.norm = nn.LayerNorm(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.one(x), self.other(x)], dim=1)
        return self.head(torch.tanh(self.norm(self.hidden(x.flatten(1)))))


class Borrowed(nn.Module):
    """Uses the weight of a layer once more, in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.inner(x))) + self.inner.weight.sum(1)[:2]


class Applied(nn.Module):
    """A forward in one line over modules a, b and c."""

    def __init__(self, forward: Callable[[nn.Module, torch.Tensor], torch.Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.applied = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.applied(self, x)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Dropout(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    )


def flattened() -> nn.Module:
    first = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(4, 3))


def pictures() -> torch.Tensor:
    return random(4, 1, 4, 4)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor], dict[str, int]]] = {
    "mlp": (mlp, pictures, {"1": 8, "4": 6}),
    "residual": (Residual, pictures, {"stem": 6, "a": 5, "down": 7}),
    "joined": (Joined, pictures, {"one": 3, "other": 4, "hidden": 5}),
    "linear": (lambda: nn.Linear(3, 2), lambda: random(4, 3), {}),
    "tied": (Tied, lambda: random(4, 3), {}),
    "borrowed": (Borrowed, lambda: random(4, 3), {}),
    "flattened": (
        flattened,
        pictures,
        {"0": 4},
    ),
    "resnet20": (
        lambda: network(1, 3, 0.1),
        lambda: random(2, 1, 8, 8),
        {f"unit{stage}_{unit}.convolution1": 16 * 2 ** (stage - 1) for stage in (1, 2, 3) for unit in (1, 2, 3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_units_that_are_found_may_move(name: str) -> None:
    make, inputs, expected = CASES[name]
    module, x = built(make).double().eval(), inputs().double()
    spec = find_permutations(module, x)
    assert dict(spec.sizes) == expected
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    moved = permuted(spec, tensors, random_permutations(spec, Rng(0)))
    with torch.no_grad():
        torch.testing.assert_close(torch.func.functional_call(module, moved, (x,)), module(x))
    matrices = {p.name for held in spec.groups.values() for p in held if tensors[p.name].ndim > 1}
    assert any(not moved[matrix].equal(tensors[matrix]) for matrix in matrices) == bool(expected)


def test_what_is_not_known_stays_in_place() -> None:
    """Attention and recurrence are not followed: nothing is claimed of them, and what is found is still a symmetry."""
    for make in (Attention, Recurrent):
        module, x = built(make).double().eval(), random(3, 3, 4 if make is Attention else 2).double()
        spec = find_permutations(module, x)
        tensors = dict(module.named_parameters())
        moved = permuted(spec, tensors, random_permutations(spec, Rng(0)))
        with torch.no_grad():
            torch.testing.assert_close(torch.func.functional_call(module, moved, (x,)), module(x))


def convolved(forward: Callable[[Any, torch.Tensor], torch.Tensor], width: int = 8) -> nn.Module:
    return Applied(forward, a=nn.Conv1d(2, 8, 3, padding=1), b=nn.Linear(width, 3), c=nn.Linear(8, 8))


MIXED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pooled over its units": (
        lambda: nn.Sequential(nn.Linear(2, 8), nn.MaxPool1d(3, 1, 1), nn.Linear(8, 3)), (4, 2)),
    "maxout": (lambda: nn.Sequential(nn.Linear(2, 8), nn.MaxPool1d(2), nn.Linear(4, 3)), (4, 2)),
    "pooled by a function": (
        lambda: Applied(lambda net, x: net.b(F.max_pool1d(net.a(x), 3, 1, 1)), a=nn.Linear(2, 8), b=nn.Linear(8, 3)),
        (4, 5, 2)),
    "averaged over its units": (lambda: convolved(lambda net, x: net.b(torch.relu(net.a(x)).mean(1))), (4, 2, 8)),
    "averaged over more": (
        lambda: Applied(lambda net, x: net.b(torch.relu(net.a(x)).mean(dim=(1, -1))), a=nn.Conv2d(2, 8, 3, padding=1),
                        b=nn.Linear(8, 3)), (4, 2, 8, 8)),
    "convolved over other axes": (
        lambda: Applied(lambda net, x: net.b(net.a(x)).flatten(1), a=nn.Linear(2, 8), b=nn.Conv1d(8, 3, 1)), (4, 8, 2)),
    "shared over two axes": (
        lambda: convolved(lambda net, x: net.b(torch.cat([net.c(net.a(x)).flatten(1), net.c(x[:, 0])], 1)), 72),
        (4, 2, 8)),
    "normalised weights": (
        lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 8)), nn.ReLU(), nn.Linear(8, 3)), (4, 2)),
    "masked weights": (
        lambda: nn.Sequential(l1_unstructured(nn.Linear(2, 8), "weight", 0.3), nn.ReLU(), nn.Linear(8, 3)), (4, 2)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("name", MIXED)
def test_what_looks_like_a_symmetry_and_is_none_is_not_claimed(name: str) -> None:
    make, shape = MIXED[name]
    module, x = built(make).double().eval(), random(*shape).double()
    spec = find_permutations(module, x)
    tensors = {key: value.detach() for key, value in (*module.named_parameters(), *module.named_buffers())}
    moved = permuted(spec, tensors, random_permutations(spec, Rng(0)))
    torch.testing.assert_close(torch.func.functional_call(module, moved, (x,)), module(x))


def test_a_reordering_that_changes_the_answers_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tracing takes for a symmetry is put to the test, here a cumulative sum over units."""
    monkeypatch.setattr(permutation_tracing, "_SAME", (torch.cumsum,))
    sums = built(lambda: Applied(lambda net, x: net.b(torch.cumsum(net.a(x), 1)), a=nn.Linear(2, 8), b=nn.Linear(8, 3)))
    assert not find_permutations(sums, random(4, 2)).groups


class Wavers(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else -x


class Lengths(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(len(x), -1)


def test_what_cannot_be_traced_is_said() -> None:
    with pytest.raises(ModelError, match=r"asks for len\(x\): x.shape\[0\] can be traced\): write"):
        find_permutations(Lengths(), random(2, 2))
    with pytest.raises(ModelError, match="can be traced"):
        find_permutations(Wavers(), random(2, 2))
    with pytest.raises(ModelError, match="one tensor"):
        find_permutations(Wavers(), {"x": random(2, 2)})


def test_a_failure_is_told_in_a_sentence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="tracing it raised RuntimeError"):
        find_permutations(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), random(5, 7))
    assert capsys.readouterr().err == ""


class SharedNorm(nn.Module):
    """One normalisation for the inputs and for the units."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first, self.last = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(torch.relu(self.first(self.norm(x)))))


class SharedTable(nn.Module):
    """The entries of a table are inputs of one layer and weights of another."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.last = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9, bias=False)
        self.last.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(self.table(x))))


@pytest.mark.parametrize(
    ("make", "x"), [(SharedNorm, torch.randn(5, 6)), (SharedTable, torch.arange(9))], ids=["norm", "table"]
)
def test_what_is_used_twice_stays_where_one_use_holds_it(make: Callable[[], nn.Module], x: torch.Tensor) -> None:
    """The fresh scales of a normalisation are ones, and hide that they belong to the inputs, too."""
    assert find_permutations(make().eval(), x).groups == {}


class Doubled(nn.Module):
    """The same units twice, one beside the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.relu(self.first(x))
        return self.last(torch.cat([z, z], 1))


def test_groups_are_put_to_the_test_with_every_network() -> None:
    module, x = Doubled().eval(), torch.randn(5, 3)
    told = {name: value.detach().clone() for name, value in module.named_parameters()}
    with torch.no_grad():
        module.last.weight[:, 4:] = 0.0  # as long as it does nothing, the second half may be overlooked
    assert "first" not in find_permutations(module, x, [dict(module.named_parameters()), told]).groups
    assert "first" not in find_permutations(module, x, [told]).groups
