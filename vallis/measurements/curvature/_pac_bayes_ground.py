"""What a PAC-Bayes bound stands on: the examples, a prior that did not see them, and whether that is so.

A bound holds if the prior did not depend on the examples. Weights at random, before the first step, did not; zero never
does. Whatever else the network computes with must not have seen them either: running statistics of batch normalisation
are a part of the function that no bound on the weights covers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from vallis.core.errors import LossError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Solution
from vallis.measurements.curvature._words import counted, listed
from vallis.numerics.axes import Axes, kronecker_axes
from vallis.numerics.certificate import wrong
from vallis.numerics.kronecker import factors
from vallis.numerics.means import Floats
from vallis.numerics.scores import judge
from vallis.numerics.surface import surface

# From the last quarter of the epochs but one to the last, the objective must have fallen by less than this share.
_SETTLED = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """A solution with a prior.

    Attributes:
        solution: the network.
        split: the name of the examples that it learned.
        objective: its loss over the examples of the bound.
        prior_mean: ``(P,)`` w_0.
        class_counts: ``(C,)`` how many examples each class has.
        valid: whether nothing speaks against the prior's not having seen the data.
        notes: what there is to say of all this.
    """

    solution: Solution
    split: str
    objective: Objective
    prior_mean: torch.Tensor
    class_counts: torch.Tensor
    valid: bool
    notes: tuple[Note, ...]

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_counts)

    @property
    def majority_error(self) -> float:
        """The error of always answering the most frequent class of these examples."""
        return 1 - float(self.class_counts.max()) / float(self.class_counts.sum())

    @property
    def factor(self) -> float:
        """Of the loss: with two classes it is then 1 where the answer changes, so nowhere below the error."""
        return 1 / math.log(2) if self.num_classes == 2 else 1.0

    def axes_at_mean(self, mean: torch.Tensor) -> Axes:
        """The axes of the curvature at other weights ``(P,)``."""
        params = dict(zip(self.objective.names, self.objective.point(mean.clone()), strict=True))
        task = replace(self.solution.task, splits={self.split: self.objective.data})
        net = replace(self.solution.net, module=self.objective.module)
        moved = replace(self.solution, net=net, params=params, tasks=(task,))
        objective = Objective(moved, self.split, self.objective.dtype)
        return kronecker_axes(objective, factors(objective))


def prepare(path: Sequence[Solution], split: str, max_examples: int | None, rng: Rng) -> Ground | NotApplicable:
    """The ground of the last solution of a path, with the first one as the prior if it is where training began.

    Raises:
        UnknownPart: there is no such split.
    """
    solution = path[-1]
    found = surface(solution, split, None, max_examples, rng)
    diverged = found.not_finite()
    if diverged is not None:
        return diverged
    counts = _class_counts(found.objective)
    if counts is None:
        text = "There is no error to bound: the loss does not put every example in one of at least two classes."
        return NotApplicable(note=Note(code="not_classification", text=text))
    if len(found.objective.data) < 2:
        return NotApplicable(note=Note(code="too_few_examples", text="A bound needs at least two examples."))
    mean, notes = _prior(path, found.objective)
    trouble = _not_covered(path)
    return Ground(
        solution=solution,
        split=split,
        objective=found.objective,
        prior_mean=mean,
        class_counts=counts,
        valid=not trouble,
        notes=(*found.notes, *notes, *trouble),
    )


def axes_at(ground: Ground, basis: str) -> Axes:
    """The axes at the network itself."""
    return Axes() if basis == "standard" else kronecker_axes(ground.objective, factors(ground.objective))


def unseen(solution: Solution, split: str, train_split: str) -> Objective | None:
    """The loss on unseen examples, where there are any."""
    if split not in solution.task.splits or split == train_split:
        return None
    return surface(solution, split).objective


def of_the_network(ground: Ground) -> Mapping[str, Estimate]:
    """The error of the network in the middle, on the same examples."""
    objective = ground.objective
    total = sum(float(wrong(objective, objective.origin, batch).sum()) for batch in objective.batches())
    m = len(objective.data)
    error = Estimate(value=total / m, stderr=0.0, n=m, method="the network in the middle, exact on these examples")
    return {"network_train_error": error}


def judged(ground: Ground, smallest: float) -> tuple[dict[str, Estimate | Array], tuple[Note, ...]]:
    """Whether the bounds are valid, and whether all of them are vacuous: no better than guessing.

    Guessing draws the answer among the classes, all alike. Where they are not equally frequent, to answer always the
    most frequent one errs less, so a bound may be below the former and still say little: a note says so.
    """
    guessing, majority = 1 - 1 / ground.num_classes, ground.majority_error
    vacuous, m = smallest >= guessing, len(ground.objective.data)
    values: dict[str, Estimate | Array] = {
        "guessing_error": Estimate(
            value=guessing, stderr=0.0, method=f"1 - 1/{ground.num_classes}: answers drawn among the classes, all alike"
        ),
        "majority_error": Estimate(
            value=majority, stderr=0.0, n=m, method="always the most frequent class, exact on these examples"
        ),
        "valid": Estimate(
            value=float(ground.valid),
            stderr=0.0,
            method="1 where nothing that the network computes with, save its weights, can have seen the examples",
        ),
        "vacuous": Estimate(
            value=float(vacuous), stderr=None, method="1 where the smallest bound is no better than guessing_error"
        ),
    }
    begin = f"The smallest bound of {smallest:.3g} is no better than"
    if vacuous:
        text = f"{begin} drawing the answer among the classes, which errs on {guessing:.3g}: vacuous."
        return values, (Note(code="vacuous", text=text),)
    if smallest >= majority:
        text = f"{begin} to answer always the most frequent class, which errs on {majority:.3g} of these examples."
        return values, (Note(code="no_better_than_majority", text=text),)
    return values, ()


def settling(objectives: Mapping[str, Floats]) -> tuple[Note, ...]:
    """Which posteriors were still getting better at the end: their bounds hold, and could be smaller."""
    moving = []
    for basis, values in objectives.items():
        quarter = max(1, len(values) // 4)
        last = values[-quarter:].mean() if len(values) else 0.0
        if len(values) < 4 or values[-2 * quarter : -quarter].mean() - last > _SETTLED * abs(last):
            moving.append(basis)
    if not moving:
        return ()
    text = (
        f"The posterior along {listed(moving)} axes was still improving at the end: the bound holds, and more "
        "epochs may lower it."
    )
    return (Note(code="not_converged", text=text),)


def without_axes(lost: Mapping[str, LossError]) -> tuple[Note, ...]:
    """Along which axes there is no bound, and why."""
    if not lost:
        return ()
    why = str(next(iter(lost.values()))).partition(":")[0]
    text = f"There is no bound along {listed(list(lost))} axes, because the loss has no Kronecker factors: {why}."
    return (Note(code="no_kronecker_form", text=text),)


def _prior(path: Sequence[Solution], objective: Objective) -> tuple[torch.Tensor, tuple[Note, ...]]:
    """The centre of the prior: where training began, if the path shows it, or zero."""
    first = path[0]
    if len(path) < 2 or first.step != 0 or list(first.params) != list(objective.names):
        text = (
            "The path does not show where training began, so the prior is centred at zero; the bound is mostly smaller "
            "around the weights at random (keep the snapshot at step 0)."
        )
        return torch.zeros_like(objective.vector(objective.origin)), (Note(code="prior_at_zero", text=text),)
    mean = objective.vector([value.to(objective.device, objective.dtype) for value in first.params.values()])
    if first.origin is not None:
        return mean, ()
    text = (
        "The first solution of the path is taken for the weights at random: the bound holds only if no training "
        "example had a part in them."
    )
    return mean, (Note(code="prior_as_given", text=text),)


def _not_covered(path: Sequence[Solution]) -> tuple[Note, ...]:
    """What the network computes with beside its weights, where the data may have had a part in it."""
    first, last = path[0], path[-1]
    known = len(path) > 1 and first.step == 0
    seen = [
        name
        for name, value in last.buffers.items()
        if value.is_floating_point() and not (known and torch.equal(first.buffers.get(name, value[..., :0]), value))
    ]
    if not seen:
        return ()
    text = (
        f"The network also computes with {counted(len(seen), 'tensor')} that no bound on its weights covers, such as "
        f"{seen[0]}: if the training data had a part in that, the bounds are not valid."
    )
    return (Note(code="not_valid", text=text),)


def _class_counts(objective: Objective) -> torch.Tensor | None:
    """``(C,)`` how many examples each class has; None where examples are not classified once each."""
    counts = None
    for batch in objective.batches():
        with torch.no_grad():
            judged_here = judge(objective.loss, objective.outputs_at(objective.origin, batch), batch.y)
        if judged_here is None or len(judged_here.margins) != len(batch):
            return None
        here = torch.bincount(judged_here.classes.cpu(), minlength=judged_here.num_classes)
        counts = here if counts is None else counts + here
    return counts
