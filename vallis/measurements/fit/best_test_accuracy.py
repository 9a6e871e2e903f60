"""How much better than at its end a training was on unseen examples on its way: what stopping early could have given.

Definition: the running best is the largest test accuracy up to a snapshot, and the best gain that of the whole
    training minus the accuracy at its end. The best was chosen by the examples that it is reported on, so it is never
    below the end and says what stopping could have given at most, not what anybody would have had. Beside it stands a
    choice that does not see what it is judged on: the test examples are cut in two at random, the step that is best on
    one half is judged on the other, both ways, and the chosen gain is its accuracy minus that at the end. Answers are
    right as in generalization_gap; of equal steps the first counts.
Unit: 1; steps for times.
Source: Zhang et al. (2017), section 3 and table 2: the best test accuracy during training, in parentheses.
Cost: one pass forward over the test examples for each snapshot, a third of a gradient each.
Says little when: snapshots are few, or the test examples so few that the best is the luckiest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.numbers import quantity
from vallis.core.objective import Objective
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import (
    Array,
    Axis,
    Estimate,
    Figure,
    Mark,
    NotApplicable,
    Note,
    Outcome,
    Result,
    Solution,
    Source,
)
from vallis.measurements._sources import ZHANG
from vallis.numerics.means import Floats, ratio
from vallis.numerics.scores import judge
from vallis.numerics.surface import surface

_ON_TEST = Note(
    code="chosen_on_test",
    text="The best step was chosen by the test examples themselves: its accuracy is an upper limit of what stopping "
    "early could have given, and no estimate for new examples.",
)


@dataclass(frozen=True, kw_only=True)
class BestTestAccuracy:
    """The test accuracy at each snapshot of a training, its running best, and what is left of it without hindsight.

    Attributes:
        test_split: the examples that were not learned.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "trajectory"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (ZHANG,)

    test_split: str = "test"

    @classmethod
    def tiny(cls) -> BestTestAccuracy:
        """The cheapest settings, for tests."""
        return cls()

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        moments: Sequence[Solution] = subject
        if self.test_split not in moments[-1].task.splits:
            text = f"There is no split {self.test_split!r}, so nothing can be said of examples that were not seen."
            return NotApplicable(note=Note(code="no_test_split", text=text))
        looks = [
            _answers(surface(moment, self.test_split).objective) for moment in track(moments, "moments", len(moments))
        ]
        found = [look for look in looks if look is not None]
        if len(found) < len(looks) or not found[0][1].any():
            text = "Nothing here is classified by scores of at least two classes, so no answer is right or wrong."
            return NotApplicable(note=Note(code="not_classification", text=text))
        steps = np.array([float(moment.step) for moment in moments])
        right, counted = np.stack([look[0] for look in found]), found[0][1]
        notes = [_ON_TEST]
        if len(moments) == 1:
            text = "There is one snapshot only, so nothing was chosen: ask for more."
            notes = [Note(code="one_moment", text=text)]
        values = _values(steps, right, counted)
        if len(counted) > 1:
            values |= _without_hindsight(right, counted, rng)
        return Result(values=values, notes=tuple(notes))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        now, best = result.array("test_accuracy"), result.array("running_best_accuracy")
        steps = now.coords["step"]
        figure = Figure(
            name="best_test_accuracy",
            title="Test accuracy along the training, and its running best",
            x=Axis(label="step"),
            y=Axis(label="share of the test examples classified rightly"),
            marks=(
                Mark(kind="line", x=steps, y=now.data, label="at this step"),
                Mark(kind="line", x=steps, y=best.data, label="best so far, chosen by the test examples"),
            ),
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        best, end, step = (result.estimate(key) for key in ("best_test_accuracy", "final_test_accuracy", "best_step"))
        said = f"At its end the network classifies a share of {quantity(end)} of {end.n:,} unseen examples rightly"
        if best.value == end.value:
            said += "; at no snapshot was it better"
        else:
            said += f", at step {step.value:,.0f} it was {best.value:.3g}, as chosen by these examples themselves"
        if "chosen_gain" not in result.values:
            return f"{said}."
        gain = result.estimate("chosen_gain")
        return f"{said}. A step that is chosen by half of them gains {quantity(gain)} on the other half."


def _answers(objective: Objective) -> tuple[Floats, Floats] | None:
    """``(N,)`` how many targets of each example are answered rightly, and how many count."""
    right, counted = [], []
    with torch.no_grad():
        for term in objective.terms():
            judged = judge(objective.loss, term.outputs(objective.origin), term.batch.y)
            if judged is None:
                return None
            rows, size = judged.rows.cpu(), len(term.batch)
            hits = (judged.margins > 0).double().cpu()
            right.append(torch.bincount(rows, weights=hits, minlength=size).numpy())
            counted.append(torch.bincount(rows, minlength=size).double().numpy())
    return (np.concatenate(right), np.concatenate(counted)) if right else None


def _values(steps: Floats, right: Floats, counted: Floats) -> dict[str, Estimate | Array]:
    accuracy = right.sum(1) / counted.sum()
    best = int(accuracy.argmax())
    end, stderr, n = ratio(right[-1], counted)
    coords = {"step": steps}
    looks = f"the largest of {len(steps)} snapshots, chosen by the test examples themselves"
    return {
        "test_accuracy": Array(data=accuracy, dims=("step",), coords=coords),
        "running_best_accuracy": Array(data=np.maximum.accumulate(accuracy), dims=("step",), coords=coords),
        "final_test_accuracy": Estimate(
            value=end, stderr=stderr, n=n, method="share of the counted targets; the error bar is over examples"
        ),
        "best_test_accuracy": Estimate(value=float(accuracy[best]), n=n, method=looks),
        "best_gain": Estimate(value=float(accuracy[best]) - end, n=n, method=f"{looks}, minus the end"),
        "best_step": Estimate(value=float(steps[best]), n=len(steps), unit="steps", method=looks),
    }


def _without_hindsight(right: Floats, counted: Floats, rng: Rng) -> dict[str, Estimate | Array]:
    """The accuracy at steps that were chosen by the other half of the examples."""
    order = torch.randperm(len(counted), generator=rng.child("halves").torch()).numpy()
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    chosen = np.empty_like(counted)
    for judges, judged in (halves, halves[::-1]):
        chosen[judged] = right[int(right[:, judges].sum(1).argmax()), judged]
    made: dict[str, Estimate | Array] = {}
    for name, each, what in (
        ("accuracy", chosen, ""),
        ("gain", chosen - right[-1], ", minus the end, example by example"),
    ):
        value, stderr, n = ratio(each, counted)
        method = f"each half of the test examples at the best step of the other half{what}"
        made[f"chosen_{name}"] = Estimate(value=value, stderr=stderr, n=n, method=method)
    return made
