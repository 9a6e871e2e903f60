"""Operators from a plain module, loss and data: right, the same twice over, and nothing of the caller's is touched."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.numerics.per_target import dense_fisher
from tests.numerics.solutions import built, classes, mlp, random
from vallis.core import tree
from vallis.core.errors import UnknownPart, UsageError
from vallis.core.functional import preserving_global_state
from vallis.core.own import solution_of
from vallis.core.rng import Rng
from vallis.numerics.at import objective_of
from vallis.numerics.curvature import GaussNewton, Hessian
from vallis.numerics.fisher import EmpiricalFisher, Fisher, SampledFisher
from vallis.numerics.operators import Operator
from vallis.numerics.residual import Residual
from vallis.testing.oracles import dense_hessian

KINDS: list[Callable[..., Operator]] = [
    Hessian,
    GaussNewton,
    Residual,
    Fisher,
    partial(SampledFisher, rng=Rng(0)),
    EmpiricalFisher,
]


def state_of(module: nn.Module) -> Any:
    gradients = [value.grad for value in module.parameters()]
    return [
        [part.training for part in module.modules()],
        [value.detach().clone() for value in (*module.parameters(), *module.buffers())],
        [None if value is None else value.clone() for value in gradients],
        torch.random.get_rng_state(),
    ]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.norm, self.other = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.other(self.second(torch.relu(self.norm(self.first(x))))))


def resnet() -> tuple[nn.Module, Any, Any]:
    module = built(lambda: nn.Sequential(Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)))
    module.train()
    with preserving_global_state():
        module(random(8, 2, 4, 4, seed=8))  # running statistics of its own
    data = TensorDataset(random(17, 2, 4, 4), classes(17))
    return module, nn.CrossEntropyLoss(), DataLoader(data, batch_size=5)


def dropout() -> tuple[nn.Module, Any, Any]:
    make = lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 3))  # noqa: E731
    return built(make).train(), F.cross_entropy, (random(17, 2), classes(17))


class Language(nn.Module):
    """A causal transformer whose scores are ``(N, T, C)``."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 4), nn.Linear(4, 5)
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]).to(self.head.weight.dtype)
        return {"logits": self.head(self.encoder(self.embedding(x), mask=mask, is_causal=True))}


def language() -> tuple[nn.Module, Any, Any]:
    x = classes(11, 6, num_classes=5)
    y = x.roll(-1, 1)
    y[:, -1] = -100
    y[3:7, 2:] = -100
    return built(Language).train(), nn.CrossEntropyLoss(), DataLoader(TensorDataset(x, y), batch_size=4)


CASES = {"resnet": resnet, "dropout": dropout, "language": language}
HOW: dict[str, dict[str, Any]] = {"language": {"outputs": lambda returned: returned["logits"].transpose(1, 2)}}


@pytest.mark.parametrize("name", CASES)
def test_the_hessian_and_the_fisher_matrix_are_the_dense_ones(name: str) -> None:
    module, loss, data = CASES[name]()
    how = HOW.get(name, {})
    objective = objective_of(module, loss, data, dtype=torch.float64, **how)
    solution = solution_of(module, loss, train=data, **how)
    vectors = random(objective.num_parameters, 2, seed=6).double()
    for kind, truth in ((Hessian, dense_hessian(solution)), (Fisher, dense_fisher(solution))):
        torch.testing.assert_close(kind(objective) @ vectors, truth @ vectors, rtol=1e-8, atol=1e-9)
        assert float(truth.abs().max()) > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_twice_the_same_bits_and_nothing_is_touched(name: str) -> None:
    module, loss, data = CASES[name]()
    for value in module.parameters():
        value.grad = torch.ones_like(value)
    before, how = tree.fingerprint(state_of(module)), HOW.get(name, {})
    vector = random(sum(value.numel() for value in module.parameters()), seed=6)
    for kind in KINDS:
        first = kind(objective_of(module, loss, data, **how)) @ vector
        assert tree.fingerprint(state_of(module)) == before
        with preserving_global_state():
            torch.rand(3)  # what the caller has drawn meanwhile changes nothing
            assert torch.equal(kind(objective_of(module, loss, data, **how)) @ vector, first)
        assert float(first.norm()) > 0
    assert module.training


def test_solutions_and_objectives_are_taken_as_they_are() -> None:
    solution = mlp()
    solution.net.module.train()
    objective = objective_of(solution, dtype=torch.float64)
    assert objective.dtype == torch.float64
    assert not objective.module.training
    assert solution.net.module.training
    assert objective_of(objective) is objective
    with pytest.raises(UnknownPart):
        objective_of(solution, split="tset")


def test_what_is_missing_or_too_much_is_said() -> None:
    module = nn.Linear(2, 3)
    with pytest.raises(UsageError, match="loss and data were required beside a module, loss and data did not come"):
        objective_of(module)
    with pytest.raises(UsageError, match="data did not come"):
        objective_of(module, nn.CrossEntropyLoss())
    with pytest.raises(UsageError, match="nothing was required beside a Solution"):
        objective_of(mlp(), nn.CrossEntropyLoss())
    with pytest.raises(UsageError, match="required, int came"):
        objective_of(3)  # type: ignore[arg-type]
