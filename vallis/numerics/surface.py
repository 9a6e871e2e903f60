"""The loss surface that a measurement computes on: in eval mode, and in a floating type that resolves what is asked."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from vallis.core.data import subset
from vallis.core.errors import DataError, ModelError, SettingsError
from vallis.core.losses import Loss
from vallis.core.objective import Objective
from vallis.core.own_loss import Picked
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Note, Solution
from vallis.numerics.operations import gradient_operations

Precision = Literal["auto", "float32", "float64"]
# Up to this many parameters float64 is cheap (2 to 3 times the time of very little), and resolves eigenvalues to 1e-8.
CHEAP_SIZE = 10_000
# Fewer examples say too little of a loss, whatever a network costs; and so many are enough to count what it costs.
LEAST_EXAMPLES, _COUNTED = 100, 16
# Of the quick panel, for each measurement of curvature or landscape: one to five minutes of a core.
QUICK = 3e12
# An accelerator does so many times as much in the time of one core.
_ACCELERATED = 100


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a measurement may cost.

    Attributes:
        gradients: how many gradients of each example it takes; a Hessian product is two, a loss a third.
        max_operations: the most floating-point operations on a CPU, a hundred times as many elsewhere; None for no
            limit. A core of a CPU does some 1e10 to 5e10 in a second.

    Raises:
        SettingsError: no operation is allowed.
    """

    gradients: float
    max_operations: float | None

    def __post_init__(self) -> None:
        if self.max_operations is not None and not 0 < self.max_operations < math.inf:
            came = f"max_operations={self.max_operations} came"
            raise SettingsError(f"a number of operations above 0 was required, {came}: raise it, or leave it out")

    def examples(self, solution: Solution, split: str, rng: Rng) -> int | None:
        """For how many examples that is enough, by a count of what the network costs; at least a hundred."""
        if self.max_operations is None:
            return None
        few = subset(solution.task.splits[split], _COUNTED, rng.child("cost"))
        objective = Objective(solution, split).over(few)
        most = self.max_operations * (1 if objective.origin[0].device.type == "cpu" else _ACCELERATED)
        return max(LEAST_EXAMPLES, int(most / (self.gradients * gradient_operations(objective))))


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """An objective, and what there is to say about how it is computed."""

    objective: Objective
    notes: tuple[Note, ...] = ()

    @property
    def is_part(self) -> bool:
        """Whether a random part of the examples stands for all."""
        return any(note.code == "part_of_the_data" for note in self.notes)

    @property
    def unit(self) -> str:
        """The unit of the loss."""
        return loss_unit(self.objective.loss)

    def not_finite(self) -> NotApplicable | None:
        """Why nothing can be asked of the surroundings of this point, when its loss is NaN or infinite."""
        loss = self.objective.value()
        if abs(loss) < float("inf"):
            return None
        text = f"The loss at this solution is {loss}, so there is no surface around it: the training has diverged."
        return NotApplicable(note=Note(code="not_finite", text=text))


def surface(
    solution: Solution,
    split: str = "train",
    precision: Precision | None = None,
    max_examples: int | None = None,
    rng: Rng | None = None,
    budget: Budget | None = None,
) -> Surface:
    """The loss of a solution over a split.

    Args:
        solution: whose network, weights and task.
        split: over which examples.
        precision: None computes in the model's own type, half precision raised to float32. "auto" takes float64 where
            that is cheap and the network can.
        max_examples: of a larger split a random part of this size stands for the whole, and a note says so.
        rng: chooses the part.
        budget: likewise of a split for which it is not enough.

    Raises:
        UnknownPart: there is no such split.
        SettingsError: not even one example is allowed.
        ModelError: the network cannot compute in the precision that was asked for.
    """
    ready, notes = _in_part(in_eval_mode(solution), split, max_examples, rng or Rng(), budget)
    if precision is None or (precision == "auto" and solution.num_parameters > CHEAP_SIZE):
        return Surface(objective=Objective(ready, split), notes=notes)
    wanted = torch.float32 if precision == "float32" else torch.float64
    objective = Objective(ready, split, wanted)
    trouble = _trouble(objective)
    if trouble is None:
        return Surface(objective=objective, notes=notes)
    if precision != "auto":
        raise ModelError(
            f"a network that computes in {precision} was required, it raised {type(trouble).__name__}: "
            f'{str(trouble).partition(chr(10))[0]}; use precision="auto"'
        ) from trouble
    text = "The network cannot compute in float64, so its own floating type was used and small numbers are less sure."
    return Surface(objective=Objective(ready, split), notes=(*notes, Note(code="own_precision", text=text)))


def _in_part(
    solution: Solution, split: str, max_examples: int | None, rng: Rng, budget: Budget | None
) -> tuple[Solution, tuple[Note, ...]]:
    """The solution with a random part of a split that is larger than allowed, and the note that says so."""
    if max_examples is not None and max_examples < 1:
        raise SettingsError(f"at least one example was required, max_examples={max_examples} came: raise it")
    task = solution.task
    if split not in task.splits:
        return solution, ()
    num_examples, why = len(task.splits[split]), "max_examples sets how many"
    most = num_examples if max_examples is None else max_examples
    affordable = None if budget is None else budget.examples(solution, split, rng)
    if budget is not None and affordable is not None and affordable < most:
        most = affordable
        why = f"max_operations={budget.max_operations:.2g} pays for so many, {LEAST_EXAMPLES} at least"
    if num_examples <= most:
        return solution, ()
    part = subset(task.splits[split], most, rng.child("examples", split))
    text = (
        f"Measured on {len(part):,} of {num_examples:,} examples, chosen at random: the surface of a part "
        f"is rougher than that of the whole ({why})."
    )
    splits = {**task.splits, split: part}
    return replace(solution, tasks=(replace(task, splits=splits),)), (Note(code="part_of_the_data", text=text),)


def in_eval_mode(solution: Solution) -> Solution:
    """The solution with a template in eval mode: itself, or one with a copy of its template."""
    module = solution.net.module
    if not any(part.training for part in module.modules()):
        return solution
    return replace(solution, net=replace(solution.net, module=copy.deepcopy(module).eval()))


def loss_unit(loss: Loss) -> str:
    """Log-likelihoods are in nats; of any other loss the unit is its own."""
    own = getattr(loss.loss if isinstance(loss, Picked) else loss, "unit", None)
    return str(own) if own else "nats" if loss.kind in ("categorical", "binary") else "1"


def _trouble(objective: Objective) -> Exception | None:
    """What the network raises in this floating type, if anything: constants in its code may be of another."""
    try:
        with torch.no_grad():
            for term in objective.terms():
                term.loss(objective.origin)
                break
    except DataError:
        raise
    except Exception as error:
        return error
    return None
