"""The network of 2n + d weights that takes the n training examples' targets on them, in closed form.

It is a model and no training because architecture and weights come of one construction: the width is the number of
examples, and where the thresholds lie hangs on the direction that was drawn, so that there is nothing to go through
step by step. With ``GradientDescent(max_steps=0)`` it is a solution as it stands; with more steps one sees what
training makes of it. Weights are float64, because in float32 nothing is left of what they memorise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vallis.core.capture import layers_of, traits_of
from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.models._build import example_shape
from vallis.numerics.memorizing_network import memorize
from vallis.numerics.regression_targets import regression_targets
from vallis.problems._checks import check_number
from vallis.problems._choose import whole


@dataclass(frozen=True, kw_only=True)
class MemorizingNetwork:
    """The construction of theorem 1 of Zhang et al. 2017 on the train split of the first task.

    Classes become one output each with the target 1 for the true class and 0 for others (n + d + nC weights, direction
    and thresholds shared); two classes with one score become 1 and -1; numbers stay as they are. A depth above 2 has
    the same answers on the examples with layers of a width of about n / (depth - 1).

    Attributes:
        depth: how many layers of weights.
        num_directions: of so many random directions, the one is taken that holds the examples furthest apart.
    """

    depth: int = 2
    num_directions: int = 32

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("memorizing_network.depth", self.depth, least=2)
        check_number("memorizing_network.num_directions", self.num_directions)

    @classmethod
    def tiny(cls) -> MemorizingNetwork:
        """The cheapest settings, for tests."""
        return cls(num_directions=4)

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        example_shape(tasks, "memorizing_network", dtype=None)
        task = tasks[0]
        examples = {name: whole(split) for name, split in task.splits.items()}
        values = dict(
            zip(examples, regression_targets(task.loss, [held.y for held in examples.values()]), strict=True)
        )["train"]
        # A single number is answered in the shape in which it is asked for.
        wanted = values[:, 0] if task.loss.kind != "categorical" and examples["train"].y.ndim == 1 else values
        found = memorize(
            examples["train"].x, wanted, rng=rng.child("memorizing_network"), num_directions=self.num_directions
        )
        module = found.module() if self.depth == 2 else found.deep_module(self.depth)
        return Net(module=module.eval(), layers=layers_of(module), traits=traits_of(module))
