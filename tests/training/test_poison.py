"""Training with poison: the exact objective, fixed or fresh, the same alone and in company; and bad minima."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.training.runs import begin, bits, follow, ground
from vallis.core.data import Arrays
from vallis.core.errors import DataError, LossError, SettingsError
from vallis.core.losses import CrossEntropy
from vallis.core.own import coordinates
from vallis.core.poisoned_losses import reverse_cross_entropy
from vallis.core.rng import Rng
from vallis.core.spec import digest, from_spec, to_spec
from vallis.core.types import Net, Task
from vallis.models.mlp import Mlp
from vallis.problems.poisoned import Poisoned
from vallis.problems.spirals import Spirals
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.training._poison import Poison, beside
from vallis.training.gradient_descent import GradientDescent

POISONED = Poisoned(base=Blobs(num_train=60), num_poison=20)
SETTINGS = GradientDescent(learning_rate=0.1, batch_size=8, max_steps=12, poison_factor=0.4, poison_batch_size=5)


def held(num: int) -> Arrays:
    x = torch.arange(2.0 * num).view(num, 2)
    return Arrays(x=x, y=torch.arange(num) % 2, index=100 + torch.arange(num))


def test_the_objective_is_the_convex_combination() -> None:
    """The loop that anybody would write: all of both splits, the card's formula, plain gradient descent."""
    net, tasks = ground(POISONED, TinyMlp())
    training = replace(SETTINGS, batch_size=None, poison_batch_size=None, max_steps=5)
    state = begin(training, net, tasks)
    infos = follow(training, state)
    module, (clean,), (poison,) = net.module.train(), tasks[0].splits["train"], tasks[0].splits["poison"]
    optimizer, losses = torch.optim.SGD(module.parameters(), lr=0.1), []
    for _ in range(5):
        optimizer.zero_grad()
        loss = 0.6 * F.cross_entropy(module(clean.x), clean.y)
        loss = loss + 0.4 * reverse_cross_entropy(module(poison.x), poison.y).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [info.loss for info in infos] == pytest.approx(losses, rel=1e-5)
    for name, value in module.named_parameters():
        torch.testing.assert_close(training.solution(state).params[name], value.detach(), rtol=1e-5, atol=1e-6)


def test_a_step_tells_of_the_clean_examples_only() -> None:
    net, tasks = ground(POISONED, TinyMlp())
    (info,) = follow(SETTINGS, begin(SETTINGS, net, tasks), 1)
    assert info.index is not None
    assert bool(torch.isin(info.index, tasks[0].splits["train"].take(torch.arange(40)).index).all())
    assert len(info.index) == 8
    assert info.correct is not None
    assert len(info.correct) == 8


def test_fresh_poison_is_seen_once_a_pass_and_fixed_poison_always() -> None:
    data = held(10)
    fresh, fixed = Poison(data, 3, Rng(0)), Poison(data, None, Rng(0))
    first = torch.cat([fresh.at(step).index for step in range(3)])
    assert len(first.unique()) == 9
    assert not first.equal(torch.cat([fresh.at(step).index for step in range(3, 6)]))
    assert fresh.at(1).index.equal(first[3:6])  # a function of the step alone
    assert all(fixed.at(step).index.equal(data.index) for step in (0, 7))
    assert Poison(data, 50, Rng(0)).at(0).index.equal(data.index)


def test_what_stands_beside_is_taken_away_again() -> None:
    clean, poison = held(4).take(torch.arange(4)), held(10).take(torch.arange(4, 7))
    batch = beside(clean, poison)
    size = len(batch) - Poison(held(10), 3, Rng(0)).size
    assert size == len(clean)
    assert batch.x[:size].equal(clean.x)
    assert batch.y[:size].equal(clean.y)
    assert batch.index[:size].equal(clean.index)


@pytest.mark.parametrize("change", [{}, {"clip_norm": 0.3}, {"poison_factor": None}, {"optimizer": "Adam"}])
def test_in_company_and_resumed_it_finds_what_it_finds_alone(change: dict[str, Any]) -> None:
    training = replace(SETTINGS, **change)
    net, tasks = ground(POISONED, TinyMlp())
    streams = [Rng(0).child("training"), Rng(1).child("training")]
    params = {name: value.detach() for name, value in net.module.named_parameters()}
    alone, beside_each_other = ([training.init(net, params, {}, tasks, stream) for stream in streams] for _ in range(2))
    assert training.company(beside_each_other[0]) is not None
    company = training.together([(training, state) for state in beside_each_other])
    while company.step():
        pass
    for one, other in zip(alone, beside_each_other, strict=True):
        follow(training, one)
        assert bits(training.solution(one)) == bits(training.solution(other))
    half = training.init(net, params, {}, tasks, streams[0])
    follow(training, half, 5)
    again = training.unpack(training.pack(half), net, tasks, streams[0])
    follow(training, again)
    assert bits(training.solution(again)) == bits(training.solution(alone[0]))


def test_a_long_gradient_is_cut_to_the_norm() -> None:
    net, tasks = ground(POISONED, TinyMlp())
    training = replace(SETTINGS, clip_norm=1e-3, learning_rate=1.0, max_steps=1)
    state = begin(training, net, tasks)
    follow(training, state)
    moved = [training.solution(state).params[name] - value.detach() for name, value in net.module.named_parameters()]
    assert float(torch.cat([part.flatten() for part in moved]).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_bad_minima_of_spirals_exist() -> None:
    """Fixed poison on few points: all of train right, and on the test points no better than a coin."""
    base = Spirals(num_per_class=60, train_fraction=0.33)
    net, tasks = ground(Poisoned(base=base, taken_from="test"), Mlp(widths=(64, 64, 64)))
    training = GradientDescent(
        optimizer="Adam", learning_rate=0.01, batch_size=None, max_steps=3000, poison_factor=0.5, stop_train_loss=0.01
    )
    state = begin(training, net, tasks)
    follow(training, state)
    module = net.module.eval()
    found = training.solution(state)
    accuracy = {}
    for name in ("train", "test", "poison"):
        (batch,) = tasks[0].splits[name]
        scores = torch.func.functional_call(module, dict(found.params), (batch.x,))
        accuracy[name] = float((scores.argmax(1) == batch.y).double().mean())
    assert accuracy["train"] == 1.0
    assert accuracy["poison"] < 0.1
    assert accuracy["test"] < 0.6


def test_without_poison_or_classes_it_is_refused() -> None:
    net, tasks = ground(Blobs(), TinyMlp())
    with pytest.raises(DataError, match="wrap the problem in poisoned"):
        begin(SETTINGS, net, tasks)
    regression: tuple[Task, ...] = LinearRegression().build(Rng(0))
    task = replace(regression[0], splits={**regression[0].splits, "poison": regression[0].splits["test"]})
    module = torch.nn.Linear(5, 1).double()
    with pytest.raises(LossError, match="choose a problem of classes"):
        SETTINGS.init(Net(module=module), dict(module.named_parameters()), {}, (task,), Rng(0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"poison_factor": 1.5}, "poison_factor"),
        ({"poison_batch_size": 0}, "poison_batch_size"),
        ({"poison_factor": 0.0}, "left alone without a poison_factor"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"clip_norm": 1.0, "optimizer": "LBFGS"}, "several gradients"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        replace(SETTINGS, **change)


def test_the_digest_of_older_settings_stays() -> None:
    spec = to_spec(GradientDescent())
    for name in ("clip_norm", "poison_factor", "poison_batch_size"):
        del spec["settings"][name]
    assert digest(from_spec(spec)) == digest(GradientDescent())


class Tokens(nn.Module):
    """Says something of each token."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(7, 8), nn.Linear(8, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.table(x))).transpose(1, 2)


def test_poison_whose_first_target_does_not_count_is_taken_away_too() -> None:
    x = torch.randint(7, (12, 5), generator=torch.Generator().manual_seed(0))
    y = torch.where(torch.arange(5) == 0, -100, x)
    splits = {
        name: Arrays(x=x[part], y=y[part], index=torch.arange(12)[part])
        for name, part in (("train", slice(0, 8)), ("poison", slice(8, 12)))
    }
    module = Tokens()
    task = Task(name="tokens", splits=splits, loss=CrossEntropy())
    training = GradientDescent(batch_size=4, poison_factor=0.3, max_steps=3)
    params, buffers = coordinates(module)
    info = training.step(training.init(Net(module=module), params, buffers, (task,), Rng(0)))
    assert len(info.index) == 4 and int(info.index.max()) < 8
    assert info.losses is not None and info.losses.shape == (4,)
