"""Members of a company against the same trainings alone: the same bits, at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch

from tests.training.runs import begin, bits, follow, ground, saw
from vallis.core.losses import Loss, SquaredError
from vallis.core.protocols import Model, Problem
from vallis.core.types import Batch, Solution, StepInfo
from vallis.models.convnet import Convnet
from vallis.models.mlp import Mlp
from vallis.numerics import program_replay, program_stack, same_bits
from vallis.numerics.batched_products import BIAS_SLOPES
from vallis.problems.corrupted import Corrupted
from vallis.testing.toys.problems import Bars, Blobs
from vallis.training import _optimizers
from vallis.training._descent_company import Company, company_of
from vallis.training._descent_member import Member
from vallis.training._descent_state import State
from vallis.training.gradient_descent import GradientDescent

PLAIN = GradientDescent(learning_rate=0.1, momentum=0.9, batch_size=7, max_steps=23)
COMPANIES: dict[str, list[GradientDescent]] = {
    "alike": [PLAIN] * 3,
    "without momentum": [replace(PLAIN, momentum=0.0)] * 3,
    "nesterov and decay": [replace(PLAIN, weight_decay=0.01, options={"nesterov": True}, schedule="cosine")] * 3,
    "own rates": [replace(PLAIN, learning_rate=rate) for rate in (0.01, 0.1, 0.3)],
    "own rates twice": [replace(PLAIN, learning_rate=rate) for rate in (0.01, 0.1, 0.3) * 2],
    "own everything": [
        PLAIN,
        replace(PLAIN, weight_decay=0.1, schedule="exponential", decay=0.5),
        replace(PLAIN, optimizer="Adam", momentum=0.0, learning_rate=0.01),
        replace(PLAIN, optimizer="RMSprop", momentum=0.5, learning_rate=0.01, batch_size=5),
        replace(PLAIN, optimizer="Adagrad", momentum=0.0, batch_size=None),
        replace(PLAIN, options={"nesterov": True}, max_steps=5),
    ],
    "Adam": [replace(PLAIN, optimizer="Adam", momentum=0.0, learning_rate=0.01, weight_decay=0.1)] * 3,
    "AdamW": [replace(PLAIN, optimizer="AdamW", momentum=0.0, learning_rate=0.01)] * 3,
    "RMSprop": [replace(PLAIN, optimizer="RMSprop", learning_rate=0.01)] * 3,
    "Adagrad": [replace(PLAIN, optimizer="Adagrad", momentum=0.0)] * 3,
    "fused": [replace(PLAIN, options={"fused": True})] * 3,
    "Adam with more options": [
        replace(PLAIN, optimizer="Adam", momentum=0.0, learning_rate=0.01, options={"amsgrad": True, "maximize": True})
    ]
    * 3,
    "Adamax": [replace(PLAIN, optimizer="Adamax", momentum=0.0)] * 3,
    "they stop": [replace(PLAIN, max_steps=200, stop_train_accuracy=accuracy) for accuracy in (0.5, 0.9, 1.0)],
    "one diverges": [PLAIN, replace(PLAIN, learning_rate=1e30), PLAIN],
    "no steps": [replace(PLAIN, max_steps=0), PLAIN],
}


def members(trainings: Sequence[GradientDescent], problem: Problem, model: Model, taken: int = 0) -> list[Member]:
    """Each with a seed of its own, after so many steps alone."""
    made = []
    for seed, training in enumerate(trainings):
        net, tasks = ground(problem, model)
        state = begin(training, net, tasks, seed)
        follow(training, state, taken)
        made.append(Member(training, state))
    return made


def in_company(found: Sequence[Member]) -> tuple[list[list[StepInfo]], list[list[str]]]:
    """What each saw, and its bits after every step."""
    company = Company(found)
    infos: list[list[StepInfo]] = [[] for _ in found]
    paths: list[list[str]] = [[] for _ in found]
    while True:
        step = company.step()
        if not step:
            return infos, paths
        for place, info in step:
            infos[place].append(info)
            paths[place].append(bits(solution(found[place])))


def alone(member: Member) -> tuple[list[StepInfo], list[str]]:
    infos: list[StepInfo] = []
    path = []
    while not member.state.done:
        infos.append(member.training.step(member.state))
        path.append(bits(solution(member)))
    return infos, path


def solution(member: Member) -> Solution:
    return member.training.solution(member.state)


@pytest.mark.parametrize("name", COMPANIES)
def test_members_are_what_they_would_be_alone_at_every_step(name: str) -> None:
    problem, model = Blobs(), Mlp(widths=(9, 8), activation="tanh")
    together = in_company(members(COMPANIES[name], problem, model))
    for member, infos, path in zip(members(COMPANIES[name], problem, model), *together, strict=True):
        expected, expected_path = alone(member)
        assert saw(infos) == saw(expected)
        assert path == expected_path


@pytest.mark.parametrize(
    ("problem", "model", "training"),
    [
        (Blobs(), Mlp(widths=(9,), dropout=0.4), PLAIN),
        (Blobs(), Mlp(widths=(9,), dropout=0.4), replace(PLAIN, dropout=0.2)),
        (Bars(), Convnet(channels=(3, 4), batch_norm=True), replace(PLAIN, augmentation="crop_flip")),
        (Bars(), Convnet(channels=(3, 4), activation="gelu", pool="average", dropout=0.3), PLAIN),
        (Corrupted(base=Bars(), labels=0.5), Mlp(widths=(16,)), replace(PLAIN, batch_size=None)),
        (Blobs(angles=(0.0, 1.0)), Mlp(widths=(9,)), PLAIN),
    ],
)
def test_whatever_is_trained(problem: Problem, model: Model, training: GradientDescent) -> None:
    together = in_company(members([training] * 3, problem, model))
    for member, infos, path in zip(members([training] * 3, problem, model), *together, strict=True):
        assert (saw(infos), path) == (saw(alone(member)[0]), path)
        assert path[-1] == bits(solution(member))


@pytest.mark.parametrize("name", ["alike", "Adam", "own everything"])
def test_one_may_come_from_a_rest_and_go_to_one(name: str) -> None:
    problem, model = Blobs(), Mlp(widths=(9,))
    net, tasks = ground(problem, model)
    expected = [alone(member)[1][-1] for member in members(COMPANIES[name], problem, model)]
    found = members(COMPANIES[name], problem, model, taken=3)
    company = Company(found)
    for _ in range(4):
        company.step()
    for place, member in enumerate(found):
        training = member.training
        state = training.unpack(training.pack(member.state), net, tasks, member.state.rng)
        again = Member(training, state)
        follow(training, state)
        assert bits(solution(again)) == expected[place]
    while company.step():
        pass
    assert [bits(solution(member)) for member in found] == expected


def test_members_may_be_at_different_steps() -> None:
    problem, model = Blobs(), Mlp(widths=(9,))
    expected = [alone(member)[1][-1] for member in members([PLAIN] * 4, problem, model)]
    found = members([PLAIN] * 4, problem, model)
    for member, taken in zip(found, (0, 3, 0, 14), strict=True):
        follow(PLAIN, member.state, taken)  # type: ignore[arg-type]
    in_company(found)
    assert [bits(solution(member)) for member in found] == expected


@pytest.mark.parametrize("name", ["alike", "nesterov and decay", "Adam", "own everything"])
def test_where_no_batched_product_has_the_bits_of_one_there_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(same_bits, "agree", lambda *given: bool(tried.append(given)))
    monkeypatch.setattr(_optimizers, "_fuses", lambda *_: False)
    same_bits._chosen.cache_clear()
    problem, model = Blobs(), Mlp(widths=(16, 9), activation="tanh")
    _, by_loops = in_company(members(COMPANIES[name], problem, model))
    assert tried
    monkeypatch.undo()
    same_bits._chosen.cache_clear()
    _, batched = in_company(members(COMPANIES[name], problem, model))
    assert by_loops == batched


def test_a_wrong_way_that_is_taken_for_right_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(slope: torch.Tensor, out: torch.Tensor) -> None:
        torch.sum(slope, 1, out=out).mul_(1 + 2**-20)

    for module in (program_stack, program_replay):
        monkeypatch.setattr(module, "BIAS_SLOPES", (BIAS_SLOPES[0], wrong))
    expected = [alone(member)[1] for member in members([PLAIN] * 2, Blobs(), Mlp(widths=(9,)))]
    assert in_company(members([PLAIN] * 2, Blobs(), Mlp(widths=(9,))))[1] == expected
    monkeypatch.setattr(same_bits, "agree", lambda *_: True)
    monkeypatch.setattr(same_bits, "_seconds", lambda way, _: -int(way is wrong))
    same_bits._chosen.cache_clear()
    found = in_company(members([PLAIN] * 2, Blobs(), Mlp(widths=(9,))))[1]
    same_bits._chosen.cache_clear()
    assert found != expected


@pytest.mark.parametrize("optimizer", ["Adam", "RMSprop", "Adagrad"])
def test_who_shared_an_update_may_part_when_another_leaves(optimizer: str) -> None:
    """The second and the last are of one rule, and neighbours until the first leaves: they shared their counters."""
    one = replace(PLAIN, optimizer=optimizer, momentum=0.0, learning_rate=0.01)
    other = replace(one, learning_rate=0.02)
    trainings, sizes = [replace(other, stop_train_loss=100.0), one, other, one], (39, 41, 41, 40)

    def made() -> list[Member]:
        return [
            members([training], Blobs(num_train=size), Mlp(widths=(9,)))[0]
            for training, size in zip(trainings, sizes, strict=True)
        ]

    found = made()
    company = Company(found)
    assert [course.is_joint for _, course in company._courses] == [True, True]
    while company.step():
        pass
    for member, single in zip(found, made(), strict=True):
        assert bits(solution(member)) == alone(single)[1][-1]


@dataclass(frozen=True, kw_only=True)
class Noisy(GradientDescent):
    """Adds noise to its batches."""

    def next_batch(self, state: State) -> Batch:
        batch = super().next_batch(state)
        return replace(batch, x=batch.x + torch.randn(batch.x.shape, generator=state.rng.child(state.step).torch()))


def test_a_class_that_is_derived_goes_alone() -> None:
    """Companies read batches and update weights in ways of their own, and would not call its methods."""
    net, tasks = ground(Blobs(), Mlp(widths=(9,)))
    assert PLAIN.company(begin(PLAIN, net, tasks)) is not None
    noisy = Noisy(batch_size=7, max_steps=3)
    assert noisy.company(begin(noisy, net, tasks)) is None


def test_a_member_that_is_done_costs_nothing_more() -> None:
    found = members([replace(PLAIN, max_steps=2), PLAIN], Blobs(), Mlp(widths=(9,)))
    company = Company(found)
    counts = [len(company.step()) for _ in range(4)]
    assert counts == [2, 2, 1, 1]
    # Its weights lie in memory of their own: the rest can be freed.
    assert found[0].line.flat.untyped_storage().nbytes() == found[0].line.flat.numel() * 4


def test_solutions_do_not_move_with_the_company() -> None:
    found = members([PLAIN] * 2, Blobs(), Mlp(widths=(9,)))
    company = Company(found)
    company.step()
    kept = solution(found[0])
    before = bits(kept)
    company.step()
    assert bits(kept) == before


def test_who_may_go_together() -> None:
    def key(problem: Problem, model: Model, training: GradientDescent = PLAIN, loss: Loss | None = None) -> object:
        net, tasks = ground(problem, model)
        return company_of(begin(training, net, tuple(replace(task, loss=loss or task.loss) for task in tasks)))

    mlp = key(Blobs(), Mlp(widths=(9,)))
    assert mlp is not None
    assert mlp == key(Blobs(), Mlp(widths=(9,)), replace(PLAIN, optimizer="Adam", momentum=0.0))
    assert mlp != key(Blobs(), Mlp(widths=(8,)))
    assert mlp != key(Blobs(), Mlp(widths=(9,), activation="tanh"))
    assert key(Blobs(), Mlp(widths=(9,)), loss=SquaredError()) is None
    assert key(Blobs(), Mlp(widths=(9,)), GradientDescent(optimizer="LBFGS", batch_size=None)) is None


def test_nothing_global_is_touched() -> None:
    before = torch.get_rng_state()
    in_company(members([PLAIN] * 2, Blobs(), Mlp(widths=(9,), dropout=0.4)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "joint"),
    [
        *(("alike", [True]), ("Adam", [True]), ("Adagrad", [True]), ("fused", [False]), ("Adamax", [False])),
        *(("own rates", [False] * 3), ("own rates twice", [True] * 3)),
    ],
)
def test_those_who_are_treated_alike_share_one_update(name: str, joint: list[bool]) -> None:
    company = Company(members(COMPANIES[name], Blobs(), Mlp(widths=(9,))))
    company.step()
    assert [course.is_joint for _, course in company._courses] == joint
