import dataclasses
import inspect

import numpy as np
import pytest
import torch
from torch import nn

from vallis.core import types
from vallis.core.data import Arrays
from vallis.core.errors import UnknownPart
from vallis.core.losses import CrossEntropy
from vallis.core.types import Array, Batch, Estimate, Failed, Net, NotApplicable, Note, Outcome, Result, Solution, Task

DATACLASSES = [item for _, item in inspect.getmembers(types, dataclasses.is_dataclass)]
SPLIT = Arrays(x=torch.zeros(3, 2), y=torch.zeros(3, dtype=torch.int64), index=torch.arange(3))


def solution(*names: str) -> Solution:
    tasks = tuple(Task(name=name, splits={"train": SPLIT}, loss=CrossEntropy()) for name in names)
    params = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
    return Solution(net=Net(module=nn.Linear(2, 2)), params=params, buffers={"mean": torch.zeros(9)}, tasks=tasks)


@pytest.mark.parametrize("kind", DATACLASSES)
def test_types_are_frozen_named_and_explained(kind: type) -> None:
    assert kind.__dataclass_params__.frozen
    assert all(item.kw_only for item in dataclasses.fields(kind))
    assert kind.__doc__ and not kind.__doc__.startswith(kind.__name__ + "(")


def test_there_are_the_types_that_the_house_names() -> None:
    named = "Batch Task Net Layer Solution StepInfo Packed Estimate Array Note Result NotApplicable Failed Job Row"
    named += " Source Claim Verdict"
    assert {kind.__name__ for kind in DATACLASSES} == set(named.split())


def test_a_batch_is_as_long_as_its_identities() -> None:
    assert len(Batch(x=object(), y=None, index=torch.arange(4))) == 4


def test_a_solution_counts_what_is_trained() -> None:
    assert solution("only").num_parameters == 6


def test_a_solution_is_measured_on_one_task_at_a_time() -> None:
    both = solution("first", "second")
    assert both.task.name == "first"
    chosen = both.on("second")
    assert chosen.task.name == "second" and len(chosen.tasks) == 1
    assert chosen.params is both.params and chosen.net is both.net
    assert len(both.tasks) == 2
    with pytest.raises(UnknownPart, match="no task is named 'secnd'; did you mean second"):
        both.on("secnd")


def test_solutions_are_compared_by_identity_not_by_tensors() -> None:
    one, two = solution("a"), solution("a")
    assert one == one and one != two
    assert len({one, two}) == 2


def test_the_door_for_networks_from_outside() -> None:
    found = Solution.of(nn.Linear(2, 2), nn.CrossEntropyLoss(), train=(SPLIT.x, SPLIT.y), name="mine")
    assert (found.task.name, found.origin, found.step) == ("mine", None, 0)


def test_a_result_tells_numbers_from_arrays() -> None:
    number, table = Estimate(value=1.0), Array(data=np.zeros(2), dims=("k",))
    found = Result(values={"number": number, "table": table})
    assert found.estimate("number") is number
    assert found.array("table") is table
    with pytest.raises(TypeError, match=r"table is an Array, not an Estimate: use array\('table'\)"):
        found.estimate("table")
    with pytest.raises(TypeError, match=r"number is an Estimate, not an Array: use estimate\('number'\)"):
        found.array("number")
    with pytest.raises(KeyError):
        found.estimate("nothing")


def test_every_outcome_has_notes() -> None:
    note = Note(code="needs_smooth", text="it has kinks")
    outcomes: list[Outcome] = [
        Result(values={}, notes=(note,)),
        NotApplicable(note=note),
        Failed(error="LossError", message="it is no mean"),
    ]
    assert [outcome.notes[0].code for outcome in outcomes] == ["needs_smooth", "needs_smooth", "LossError"]
    assert outcomes[2].notes[0].text == "it is no mean"


def test_nobody_knows_is_no_zero() -> None:
    assert Estimate(value=2.0).stderr is None
    assert Estimate(value=2.0) != Estimate(value=2.0, stderr=0.0)
