"""One pass for many: everybody gets every batch, and what is shared is read once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.numerics.populations import solutions
from tests.numerics.test_population import normalised
from vallis.core.data import Stream
from vallis.core.errors import DataError
from vallis.core.objective import Objective
from vallis.core.own import solution_of
from vallis.numerics.at import objective_of
from vallis.numerics.joint_passes import passes
from vallis.numerics.population import together


def objectives(*groups: list[object], **how: object) -> list[Objective]:
    return [objective_of(each) for group in groups for each in group]  # type: ignore[arg-type]


def heard(found: list[Objective]) -> list[list[tuple[float, torch.Tensor]]]:
    """For each objective, in their order, the shares and outputs of its batches."""
    told: list[list[tuple[float, torch.Tensor]]] = [[] for _ in found]
    for place, term, outputs in passes(found):
        assert not outputs.requires_grad
        assert term.objective is found[place]
        told[place].append((term.share, outputs))
    return told


def wanted(objective: Objective) -> list[tuple[float, torch.Tensor]]:
    with torch.no_grad():
        return [(term.share, term.outputs(objective.origin)) for term in objective.terms()]


@pytest.mark.parametrize("own", [False, True])
def test_everybody_gets_what_it_gets_alone(own: bool) -> None:
    found = objectives(solutions(count=4, own_x=own, own_y=own), solutions(normalised, count=1))
    assert sum(population is not None for _, population in together(found, 64)) == 1
    for told, objective in zip(heard(found), found, strict=True):
        alone = wanted(objective)
        assert [share for share, _ in told] == pytest.approx([share for share, _ in alone], rel=1e-12)
        for (_, one), (_, other) in zip(told, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_one_by_one_has_the_bits_of_one() -> None:
    found = objectives(solutions(count=2), solutions(count=2, num_examples=400, batch_size=400))
    for told, objective in zip(heard(found), found, strict=True):
        for (one_share, one), (share, other) in zip(told, wanted(objective), strict=True):
            assert one_share == share and torch.equal(one, other)


def test_what_is_shared_is_read_once_for_all() -> None:
    x, y = torch.randn(8, 3).double(), torch.randint(0, 4, (8,))
    reads = []

    def read() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        reads.append(1)
        yield x[:5], y[:5]
        yield x[5:], y[5:]

    source = Stream(read)
    found = [objective.over(source) for objective in objectives(solutions(count=3))]
    before = len(reads)
    assert [len(told) for told in heard(found)] == [2, 2, 2]
    assert len(reads) - before == 2  # what counts, and what is said


def test_nobody_sees_what_another_writes_over_its_inputs() -> None:
    x, y = torch.randn(8, 3).double(), torch.randint(0, 4, (8,))
    source = Stream(lambda: [(x.clone(), y)])
    writing = solutions(lambda: torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 4)), count=1)
    found = [objective.over(source) for objective in objectives(writing, solutions(count=1))]
    for told, objective in zip(heard(found), found, strict=True):
        assert torch.equal(told[0][1], wanted(objective)[0][1])


def test_in_other_precisions_each_has_its_own() -> None:
    held = solutions(count=2)
    found = [objective_of(held[0]), objective_of(held[1], dtype=torch.float32)]
    found[1].data = found[0].data
    assert [told[0][1].dtype for told in heard(found)] == [torch.float64, torch.float32]


def test_nobody_is_a_pass_over_nothing() -> None:
    assert list(passes([])) == []


def test_nothing_counts() -> None:
    x, y = torch.randn(4, 3).double(), torch.full((4,), -100)
    found = objectives(solutions(count=1))
    source = solution_of(
        solutions(count=1)[0].net.module, torch.nn.CrossEntropyLoss(), train=(x, y.clone().fill_(0))
    ).task.splits["train"]
    empty = found[0].over(type(source)(x=x, y=y, index=torch.arange(4)))  # type: ignore[call-arg]
    with pytest.raises(DataError, match="at least one counted target"):
        list(passes([empty]))
