"""How much better a training was on its way than at its end: what stopping early could have gained.

Definition: at each moment of a training the loss and the accuracy on the examples that are learned and on others, and
    the best test accuracy up to there. The potential is the best test accuracy over all moments minus that of the last:
    never negative, and chosen by looking at the test examples, so an upper bound of what a rule could gain. Beside it
    stands a choice that does not see what it is judged on: the test examples are cut in two at random, the moment that
    is best on one half is judged on the other, both ways, and the chosen gain is its accuracy minus that of the last.
Unit: nats for losses (the loss's own unit where it is no log-likelihood), 1 for accuracies; steps.
Source: Zhang et al. (2017), section 3: table 2 in brackets, figure 2.
Cost: at each moment one pass forward over both splits, a third of a gradient each.
Says little when: moments lie far apart, or the test split is small: the best of many noisy numbers is too good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements import _stages
from vallis.measurements._sources import ZHANG
from vallis.numerics.means import Floats, ratio
from vallis.numerics.proportions import share_by_example
from vallis.numerics.scores import judge
from vallis.numerics.surface import loss_unit, surface

_ON_TEST = Note(
    code="chosen_on_test",
    text="The best moment was chosen by the test examples themselves: its accuracy is an upper limit of what stopping "
    "early could have given, and no estimate for new examples.",
)


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingPotential:
    """Losses and accuracies along a training, and by how much the best test accuracy exceeds the last.

    Attributes:
        split: the examples that are learned.
        test_split: the others.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "trajectory"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (ZHANG,)

    split: str = "train"
    test_split: str = "test"

    @classmethod
    def tiny(cls) -> EarlyStoppingPotential:
        """The cheapest settings, for tests."""
        return cls()

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        moments, of_stages = _stages.last_of(subject)
        lacking = _lacking(moments[0], self.test_split)
        if lacking is not None:
            return NotApplicable(note=lacking)
        seen = {"train": self.split, "test": self.test_split}
        looks = [[_look(moment, split) for split in seen.values()] for moment in track(moments, "moments")]
        if any(look.accuracy is None for pair in looks for look in pair):
            text = "Nothing is classified here, so there is no accuracy that could have been better."
            return NotApplicable(note=Note(code="nothing_classified", text=text))
        steps = np.array([float(moment.step) for moment in moments])
        unit = loss_unit(moments[0].task.loss)
        values: dict[str, Estimate | Array] = {}
        for place, name in enumerate(seen):
            for key, of in (("loss", unit), ("accuracy", "1")):
                data = np.array([getattr(pair[place], key) for pair in looks], dtype=np.float64)
                values[f"{name}_{key}"] = Array(data=data, dims=("step",), unit=of, coords={"step": steps})
        accuracies = values["test_accuracy"].data  # type: ignore[union-attr]
        best = np.maximum.accumulate(accuracies)
        values["running_best"] = Array(data=best, dims=("step",), coords={"step": steps})
        values |= _potential(accuracies, steps, looks[-1][1])
        right, counted = np.stack([pair[1].right for pair in looks]), looks[-1][1].counted
        if len(counted) > 1:
            values |= _without_hindsight(right, counted, rng)
        return Result(values=values, notes=(*_notes(values, len(moments)), *of_stages))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        names = {"train_accuracy": "train", "test_accuracy": "test", "running_best": "test, the best so far"}
        marks = tuple(
            Mark(kind="line", x=result.array(key).coords["step"], y=result.array(key).data, label=label)
            for key, label in names.items()
        )
        return (
            Figure(
                name="accuracies_along_training",
                title="Accuracy along the training",
                x=Axis(label="steps"),
                y=Axis(label="accuracy"),
                marks=marks,
                caption="Between the moments that were looked at nothing is known.",
            ),
        )

    def reading(self, result: Result) -> str:
        best, last = (quantity(result.estimate(f"{which}_test_accuracy")) for which in ("best", "last"))
        step = result.estimate("best_step").value
        if result.estimate("potential").value == 0:
            return f"The test accuracy ends at its best, {last}: to stop early would have gained nothing."
        gain = quantity(result.estimate("potential"))
        said = f"The test accuracy is best at step {step:,.0f} with {best} and ends at {last}, lower by {gain}"
        if "chosen_gain" not in result.values:
            return f"{said}."
        chosen = quantity(result.estimate("chosen_gain"))
        return f"{said}; a moment that is chosen by half of the examples gains {chosen} on the other half."


@dataclass(frozen=True, kw_only=True)
class _Look:
    """A split at a moment.

    Attributes:
        loss: the mean.
        right: ``(N,)`` how many targets of each example are answered rightly; 0 where nothing is classified.
        counted: ``(N,)`` how many count.
    """

    loss: float
    right: Floats
    counted: Floats

    @property
    def accuracy(self) -> float | None:
        """The share of right answers; None where nothing is classified."""
        return float(self.right.sum() / self.counted.sum()) if self.counted.any() else None


def _lacking(first: Solution, split: str) -> Note | None:
    if split in first.task.splits:
        return None
    text = f"There is no split {split!r}, so nothing can be said of examples that were not seen."
    return Note(code="no_test_split", text=text)


def _look(moment: Solution, split: str) -> _Look:
    objective, loss = surface(moment, split).objective, 0.0
    right, counted = [np.zeros(0)], [np.zeros(0)]
    with torch.no_grad():
        for term in objective.terms():
            outputs = term.outputs(objective.origin)
            loss += term.share * term.loss_of_outputs(outputs).double().item()
            judged = judge(objective.loss, outputs, term.batch.y)
            if judged is not None:
                rows, hits = judged.rows.cpu(), (judged.margins > 0).double().cpu()
                right.append(torch.bincount(rows, weights=hits, minlength=len(term.batch)).numpy())
                counted.append(torch.bincount(rows, minlength=len(term.batch)).double().numpy())
    return _Look(loss=loss, right=np.concatenate(right), counted=np.concatenate(counted))


def _potential(accuracies: Floats, steps: Floats, last: _Look) -> dict[str, Estimate]:
    """The best, the last and their difference. The best of many is too good by an amount that nobody knows."""
    place = int(accuracies.argmax())
    end, stderr, n = share_by_example(last.right, last.counted)
    most = f"largest of {len(steps)} moments, chosen by the test examples themselves"
    method = "the first of the moments with the best test accuracy"
    return {
        "best_test_accuracy": Estimate(value=float(accuracies[place]), n=n, method=most),
        "last_test_accuracy": Estimate(
            value=end, stderr=stderr, n=n, method="share of the counted targets; the error bar is over examples"
        ),
        "potential": Estimate(value=float(accuracies[place]) - end, n=n, method=f"{most}, minus the last"),
        "best_step": Estimate(value=float(steps[place]), stderr=0.0, n=1, unit="steps", method=method),
    }


def _without_hindsight(right: Floats, counted: Floats, rng: Rng) -> dict[str, Estimate]:
    """The accuracy at moments that were chosen by the other half of the examples.

    Args:
        right: ``(T, N)`` how many targets of each example are answered rightly at each moment.
        counted: ``(N,)`` how many count.
        rng: cuts the examples in two.
    """
    order = torch.randperm(len(counted), generator=rng.child("halves").torch()).numpy()
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    chosen = np.empty_like(counted)
    for judges, judged in (halves, halves[::-1]):
        chosen[judged] = right[int(right[:, judges].sum(1).argmax()), judged]
    method = "each half of the test examples at the best moment of the other half"
    made = {}
    gain = chosen - right[-1]
    for name, (value, stderr, n), end in (
        ("accuracy", share_by_example(chosen, counted), ""),
        ("gain", ratio(gain, counted), ", minus the last, one by one"),
    ):
        made[f"chosen_{name}"] = Estimate(value=value, stderr=stderr, n=n, method=f"{method}{end}")
    return made


def _notes(values: Mapping[str, Estimate | Array], num_moments: int) -> tuple[Note, ...]:
    notes = [_ON_TEST]
    if num_moments == 1:
        text = "One moment shows no way: keep snapshots of the training."
        notes = [Note(code="one_moment", text=text)]
    if not all(np.isfinite(value.data).all() for value in values.values() if isinstance(value, Array)):
        text = "Some losses are not finite: the training has diverged, or an answer was infinitely wrong."
        notes.append(Note(code="not_finite", text=text))
    return tuple(notes)
