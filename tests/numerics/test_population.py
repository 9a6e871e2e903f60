"""Several networks at once say what each says alone; and those that are not alike are left alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.numerics.populations import Make, small, solutions
from vallis.core.data import Stream
from vallis.core.objective import Objective
from vallis.core.own import solution_of
from vallis.core.types import Solution
from vallis.numerics import population
from vallis.numerics.at import objective_of
from vallis.numerics.population import Population, together, unstacked
from vallis.testing.oracles import dense_loss, dense_vector


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 4))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 4),
    )


class Scaled(nn.Module):
    """A forward function of its own, with a number that is no parameter."""

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(3, 4), scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.scale * self.layer(x)
        return out


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.outer = nn.Linear(4, 4)
        self.outer.weight = self.inner.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.outer(torch.tanh(self.inner(nn.functional.pad(x, (0, 1)))))
        return out


class Branching(Scaled):
    """Asks its weights which way to go, which nobody can answer for several networks at once."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return -out if bool(self.layer.weight.detach().sum() > 0) else out


def objectives(found: list[Solution], dtype: torch.dtype | None = None) -> list[Objective]:
    return [objective_of(each, dtype=dtype) for each in found]


def joined(found: list[Solution]) -> Population:
    ((places, joint),) = together(objectives(found), 100)
    assert places == tuple(range(len(found)))
    assert joint is not None
    return joint


def are_alone(found: list[Solution]) -> bool:
    return all(joint is None for _, joint in together(objectives(found), 100))


@pytest.mark.parametrize(
    ("make", "shape"),
    [(small, (3,)), (normalised, (3,)), (convolutional, (1, 8, 8)), (Scaled, (3,)), (Tied, (3,))],
)
@pytest.mark.parametrize(("own_x", "own_y"), [(False, False), (False, True), (True, True)])
def test_losses_are_those_of_each_alone(make: Make, shape: tuple[int, ...], own_x: bool, own_y: bool) -> None:
    held = solutions(make, shape=shape, own_x=own_x, own_y=own_y)
    joint = joined(held)
    losses = torch.stack([dense_loss(each, dense_vector(each)) for each in held])
    torch.testing.assert_close(joint.losses(), losses, rtol=1e-12, atol=1e-14)


def test_at_other_points() -> None:
    held = solutions()
    joint = joined(held)
    moved = torch.stack([dense_vector(each) for each in held]) + 0.3
    losses = torch.stack([dense_loss(each, point) for each, point in zip(held, moved, strict=True)])
    torch.testing.assert_close(joint.losses(joint.point(moved)), losses, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(joint.vectors(joint.point(moved)), moved, rtol=0, atol=0)


def test_what_they_return_is_that_of_each() -> None:
    held = solutions(own_x=True)
    joint = joined(held)
    term = next(joint.terms())
    with torch.no_grad():
        outputs = unstacked(term.outputs(joint.origin), len(joint))
        for said, each, batch in zip(outputs, joint.members, term.batches, strict=True):
            torch.testing.assert_close(said, each.outputs_at(each.origin, batch), rtol=1e-12, atol=1e-14)


def test_targets_that_do_not_count_weigh_nothing() -> None:
    """Each member ignores others, so that its batches have shares of their own."""
    held = []
    for each in solutions(own_y=True, batch_size=5):
        x, y = (torch.cat([getattr(batch, name) for batch in each.task.splits["train"]]) for name in ("x", "y"))
        y[torch.randperm(5)[:2]] = -100
        held.append(solution_of(each.net.module, nn.CrossEntropyLoss(), train=(x, y), batch_size=5))
    joint = joined(held)
    assert len({tuple(term.share.tolist()) for term in joint.terms()}) == 2
    losses = torch.stack([dense_loss(each, dense_vector(each)) for each in held])
    torch.testing.assert_close(joint.losses(), losses, rtol=1e-12, atol=1e-14)


def test_a_batch_in_which_only_some_count_parts_them() -> None:
    held = []
    for number, each in enumerate(solutions(batch_size=5)):
        x, y = (torch.cat([getattr(batch, name) for batch in each.task.splits["train"]]) for name in ("x", "y"))
        y[:5] = -100 if number == 0 else y[:5]
        held.append(solution_of(each.net.module, nn.CrossEntropyLoss(), train=(x, y), batch_size=5))
    assert sorted(len(places) for places, _ in together(objectives(held), 100)) == [1, 3]


def test_what_diverged_stays_its_own() -> None:
    held = solutions()
    next(iter(held[1].params.values())).fill_(float("nan"))
    losses = joined(held).losses()
    assert losses.isnan().tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    "makes",
    [
        [lambda: Scaled(2.0), lambda: Scaled(2.0005)],
        [small, lambda: nn.Sequential(nn.Linear(3, 6), nn.Sigmoid(), nn.Linear(6, 4))],
        [normalised, lambda: nn.Sequential(*normalised()[:1], nn.BatchNorm1d(6, eps=0.1), *normalised()[2:])],
    ],
)
def test_networks_that_are_set_up_otherwise_do_not_go_together(makes: list[Make]) -> None:
    held = [solutions(make, count=1)[0] for make in makes for _ in range(3)]
    groups = together(objectives(held), 100)
    assert [places for places, _ in groups] == [(0, 1, 2), (3, 4, 5)]
    assert all(joint is not None for _, joint in groups)


def test_a_hook_is_left_alone() -> None:
    held = solutions()
    for each in held:
        each.net.module.register_forward_hook(lambda module, inputs, out: 2 * out)
    assert are_alone(held)


def test_what_cannot_be_computed_together_is_left_alone() -> None:
    assert are_alone(solutions(Branching))


def test_a_wrong_way_together_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Population.outputs_of_one
    monkeypatch.setattr(Population, "outputs_of_one", lambda *given: 1.001 * right(*given))
    assert are_alone(solutions())


@pytest.mark.parametrize(
    "losses",
    [
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (nn.CrossEntropyLoss(weight=torch.ones(4).double()), nn.CrossEntropyLoss(weight=torch.arange(4.0).double())),
    ],
)
def test_other_losses_do_not_go_together(losses: tuple[Any, Any]) -> None:
    held = [solutions(loss=loss, count=1)[0] for loss in losses for _ in range(3)]
    assert {places for places, _ in together(objectives(held), 100)} == {(0, 1, 2), (3, 4, 5)}


@pytest.mark.parametrize("change", ["batches", "examples", "shape"])
def test_examples_that_lie_otherwise_do_not_go_together(change: str) -> None:
    other = {"batches": {"batch_size": 5}, "examples": {"num_examples": 8}, "shape": {}}[change]
    held = solutions(count=3) + solutions(count=3, **other)  # type: ignore[arg-type]
    if change == "shape":
        held[3:] = [
            solution_of(
                each.net.module, nn.CrossEntropyLoss(), train=(torch.randn(10, 3).double(), torch.rand(10, 4).double())
            )
            for each in held[3:]
        ]
    assert {places for places, _ in together(objectives(held), 100)} == {(0, 1, 2), (3, 4, 5)}


def test_too_few_too_many_examples_and_too_many_parameters_gain_nothing() -> None:
    assert are_alone(solutions(count=2))
    assert are_alone(solutions(num_examples=400, batch_size=400))
    assert not are_alone(solutions(num_examples=400, batch_size=100))
    assert are_alone(solutions(lambda: nn.Sequential(nn.Linear(3, 90_000), nn.Linear(90_000, 4)), count=3))


def test_images_count_for_what_is_made_of_them() -> None:
    held = solutions(convolutional, shape=(1, 28, 28), num_examples=10, batch_size=10)
    assert not are_alone(held)  # 10 images of 784 places in 3 channels: 10 rows each
    held = solutions(convolutional, shape=(1, 28, 28), num_examples=11, batch_size=11)
    assert are_alone(held)


def test_many_are_parted_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "MOST_ROWS", 700)
    groups = together(objectives(solutions(count=15, num_examples=100, batch_size=100)), 100)
    assert sorted(len(places) for places, _ in groups) == [5, 5, 5]
    assert sorted(place for places, _ in groups for place in places) == list(range(15))


def test_a_stream_is_read_anew_and_left_alone() -> None:
    """Nobody knows how long its batches are before it was read."""
    x, y = torch.randn(8, 3).double(), torch.randint(0, 4, (8,))
    source = Stream(lambda: [(x[:4], y[:4]), (x[4:], y[4:])])
    held = [objective.over(source) for objective in objectives(solutions())]
    assert all(joint is None for _, joint in together(held, 100))


def test_nothing_of_the_members_is_touched() -> None:
    held = solutions(normalised)
    before = [{name: value.clone() for name, value in (*each.params.items(), *each.buffers.items())} for each in held]
    modes = [[part.training for part in each.net.module.modules()] for each in held]
    joined(held).losses()
    for each, kept, mode in zip(held, before, modes, strict=True):
        assert all(torch.equal(kept[name], value) for name, value in (*each.params.items(), *each.buffers.items()))
        assert [part.training for part in each.net.module.modules()] == mode


class Keeping(nn.Module):
    """Keeps what it said, as one that shows its attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.said = nn.Linear(3, 4), [torch.zeros(0)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.said[0] = self.layer(x)
        return self.said[0]


class KeepingLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(())

    def forward(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.last = nn.functional.cross_entropy(outputs, y)
        return self.last


def test_what_a_network_or_a_loss_keeps_is_not_that_of_all() -> None:
    (one,) = solutions(Keeping, count=1, loss=KeepingLoss())
    held = [replace(one, params={name: value + k for name, value in one.params.items()}) for k in range(3)]
    joined(held).losses()
    kept = copy.deepcopy((one.net.module.said, one.task.loss.function.last))  # type: ignore[attr-defined]
    assert kept[0][0].shape[1:] == (4,)
    assert float(kept[1]) > 0


def test_it_is_the_same_every_time() -> None:
    one, other = (joined(solutions()) for _ in range(2))
    assert torch.equal(one.losses(), other.losses())


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(a - b), "other": a}


def test_inputs_and_outputs_may_be_dicts() -> None:
    x, y = {"a": torch.randn(6, 3).double(), "b": torch.randn(6, 3).double()}, torch.randint(0, 4, (6,))
    held = [
        solution_of(Two().double(), nn.CrossEntropyLoss(), train=(x, y), outputs=lambda found: found["logits"])
        for _ in range(3)
    ]
    held = [type(held[0])(**{**vars(each), "tasks": held[0].tasks}) for each in held]  # one function picks for all
    joint = joined(held)
    for loss, each in zip(joint.losses(), held, strict=True):
        assert float(loss) == pytest.approx(objective_of(each).value(), rel=1e-12)


@pytest.mark.parametrize("turned", ["inputs", "targets"])
def test_dicts_in_another_order_do_not_go_together(turned: str) -> None:
    def loss(outputs: dict[str, torch.Tensor], y: dict[str, torch.Tensor]) -> torch.Tensor:
        return (outputs["logits"] * (y["a"] - 2 * y["b"])).mean()

    held = []
    for number in range(4):
        x, y = ({name: torch.randn(6, size).double() for name in ("a", "b")} for size in (3, 4))
        if number == 1:
            x, y = (dict(reversed(x.items())), y) if turned == "inputs" else (x, dict(reversed(y.items())))
        held.append(solution_of(Two().double(), loss, train=(x, y)))
    assert sorted(places for places, _ in together(objectives(held), 100)) == [(0, 2, 3), (1,)]
