from __future__ import annotations

from typing import Any

import torch

from tests.training.runs import begin, ground
from vallis.training._descent_course import Course
from vallis.training._descent_member import Member
from vallis.training.gradient_descent import GradientDescent

TRAINING = GradientDescent(learning_rate=0.1, momentum=0.9, batch_size=7)


def laid_out(size: int) -> tuple[list[Member], torch.Tensor, torch.Tensor]:
    """Members side by side, with gradients of their own."""
    net, tasks = ground()
    members = [Member(TRAINING, begin(TRAINING, net, tasks, seed)) for seed in range(size)]
    values, slopes = (torch.zeros(size, len(members[0].line.flat)) for _ in range(2))
    for member, row, slope in zip(members, values, slopes, strict=True):
        member.line.lay_out(row, slope)
    slopes.copy_(torch.randn(slopes.shape, generator=torch.Generator().manual_seed(0)))
    return members, values, slopes


def moved(sizes: list[int], finite: list[list[bool]]) -> tuple[torch.Tensor, list[Any]]:
    """The weights of three after these moves, in courses of these sizes."""
    members, values, slopes = laid_out(sum(sizes))
    courses, start = [], 0
    for size in sizes:
        part = slice(start, start + size)
        courses.append((part, Course(members[part], values[part], slopes[part])))
        start += size
    for are_finite in finite:
        for part, course in courses:
            course.move(are_finite[part])
    memories = [member.state.optimizer.state[member.line.flat].get("momentum_buffer") for member in members]
    return values, [*memories, *(course.is_joint for _, course in courses)]


def test_one_update_for_all_is_that_of_each() -> None:
    together, (*memories, is_joint) = moved([3], [[True] * 3] * 4)
    alone, (*wanted, _, _, _) = moved([1, 1, 1], [[True] * 3] * 4)
    assert is_joint
    assert torch.equal(together, alone)
    assert all(torch.equal(a, b) for a, b in zip(memories, wanted, strict=True))


def test_one_whose_loss_is_not_finite_stays_where_it_is() -> None:
    moves = [[True] * 3, [True, False, True], [True, False, True]]
    together, (*memories, is_joint) = moved([3], moves)
    alone, (*wanted, _, _, _) = moved([1, 1, 1], moves)
    assert not is_joint
    assert torch.equal(together, alone)
    assert torch.equal(together[1], moved([3], moves[:1])[0][1])
    assert all(torch.equal(a, b) for a, b in zip(memories, wanted, strict=True))
