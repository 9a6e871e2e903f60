"""Every example once a pass, and samples without a favourite."""

from __future__ import annotations

import torch

from tests.numerics.solutions import NUM_EXAMPLES, mlp, regression
from vallis.core.data import Batches
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.minibatches import Minibatches

RNG = Rng(0)


def in_batches() -> Objective:
    """The same examples, as a loader would have brought them."""
    solution = mlp()
    data = Batches(kept=tuple(solution.task.splits["train"]))
    object.__setattr__(solution, "tasks", (type(solution.task)(name="toy", splits={"train": data},
                                                               loss=solution.task.loss),))  # fmt: skip
    return Objective(solution)


def objectives(solution: Solution) -> list[Objective]:
    return [Objective(solution), in_batches()]


def test_a_pass_sees_each_example_once_in_another_order() -> None:
    for objective in objectives(mlp()):
        examples = Minibatches(objective, 6)
        seen = [torch.cat([batch.index for batch in examples.epoch(RNG.child(e))]).tolist() for e in range(3)]
        assert all(sorted(one) == list(range(NUM_EXAMPLES)) for one in seen)
        assert seen[0] != seen[1]
        again = torch.cat([batch.index for batch in examples.epoch(RNG.child(0))]).tolist()
        assert again == seen[0]


def test_the_last_batch_holds_the_rest() -> None:
    sizes = [len(batch) for batch in Minibatches(Objective(mlp()), 6).epoch(RNG)]
    assert sizes == [6, 6, 5]


def test_samples_have_the_mean_of_all_on_average() -> None:
    for objective in objectives(mlp()):
        examples, generator = Minibatches(objective, 5), RNG.child("sample").torch()
        means = torch.tensor([float(examples.sample(generator).x[:, 0].mean()) for _ in range(4000)])
        true = float(torch.cat([batch.x for batch in objective.batches()])[:, 0].mean())
        error = float(means.std()) / 4000**0.5
        assert abs(float(means.mean()) - true) < 4 * error
        assert error < 0.02


def test_batches_come_in_the_dtype_of_the_objective_and_classes_stay_whole_numbers() -> None:
    batch = next(Minibatches(Objective(mlp(), dtype=torch.float64), 4).epoch(RNG))
    assert batch.x.dtype == torch.float64
    assert batch.y.dtype == torch.int64
    assert next(Minibatches(Objective(regression(), dtype=torch.float64), 4).epoch(RNG)).y.dtype == torch.float64
