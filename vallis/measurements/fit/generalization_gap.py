"""How much worse a network does on examples that it has not seen.

Definition: the loss gap is the mean test loss minus the mean training loss; the accuracy gap is the training accuracy
    minus the test accuracy. Both are positive when the test goes worse. An answer is right when the true class has the
    largest score by itself (a tie is wrong), or when the sign of a single score is that of the label; targets that are
    no class do not count. Guessing is always naming the commonest class of the split.
Unit: nats for the loss (its own unit where it is no log-likelihood), 1 for accuracies.
Source: Zhang et al. (2017), section 2.
Cost: one pass forward over both splits, a third of a gradient each.
Says little when: the test examples come from elsewhere than the training examples, or were used to choose the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.errors import LossError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity
from vallis.core.objective import Objective, Term
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Note, Outcome, Result, Solution, Source
from vallis.measurements._sources import ZHANG
from vallis.numerics.joint_passes import passes
from vallis.numerics.means import Floats, minus, ratio
from vallis.numerics.proportions import share_by_example
from vallis.numerics.scores import Judged, judge
from vallis.numerics.surface import loss_unit, surface

_EXAMPLES = "mean over examples; the error bar is over their choice"
_CLUSTERS = "share of the counted targets; the error bar is over the choice of examples, of none or all Wilson's"


@dataclass(frozen=True, kw_only=True)
class GeneralizationGap:
    """Loss and accuracy on two splits, and the differences.

    Attributes:
        split: the examples that were learned.
        test_split: the examples that were not; when the task has no such split, only the first is measured.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {}, "full": {}}
    sources: ClassVar[tuple[Source, ...]] = (ZHANG,)

    split: str = "train"
    test_split: str = "test"

    @classmethod
    def tiny(cls) -> GeneralizationGap:
        """The cheapest settings, for tests."""
        return cls()

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        return self.measure_many((subject,), rng)[0]

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        tested = [place for place, each in enumerate(subjects) if self.test_split in each.task.splits]
        train = _sides([surface(each, self.split).objective for each in subjects])
        found = _sides([surface(subjects[place], self.test_split).objective for place in tested])
        test = dict(zip(tested, found, strict=True))
        return [self._result(each, train[place], test.get(place)) for place, each in enumerate(subjects)]

    def _result(self, solution: Solution, train: _Side, test: _Side | None) -> Result:
        sides = {"train": train} if test is None else {"train": train, "test": test}
        notes = []
        if test is None:
            text = f"There is no split {self.test_split!r}, so nothing can be said of examples that were not seen."
            notes.append(Note(code="no_test_split", text=text))
        values: dict[str, Estimate | Array] = {}
        for name, side in sides.items():
            values |= {f"{name}_{key}": value for key, value in side.values.items()}
            notes += [note for note in side.notes if note not in notes]
        if len(sides) == 2:
            values |= _gaps(sides["train"].values, sides["test"].values)
        values["steps"] = Estimate(value=solution.step, stderr=0.0, unit="steps", method="steps of training, counted")
        return Result(values=values, notes=tuple(notes))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        figures = [_bars(result, "loss", result.values["train_loss"].unit)]
        if "train_accuracy" in result.values:
            figures.append(_bars(result, "accuracy", "1"))
        return tuple(figures)

    def reading(self, result: Result) -> str:
        said = f"The training loss is {_plain(result, 'train_loss')}"
        if "loss_gap" in result.values:
            said += f" and the test loss {_plain(result, 'test_loss')}, a gap of {_plain(result, 'loss_gap')}"
        if "train_accuracy" not in result.values:
            return f"{said}."
        if "accuracy_gap" not in result.values:
            chance = result.estimate("train_chance").value
            said += f". A share of {_plain(result, 'train_accuracy')} is classified rightly"
            return f"{said}; always naming the commonest class gives {chance:.3g}."
        test, chance = result.estimate("test_accuracy"), result.estimate("test_chance").value
        said += f". Of the unseen examples a share of {_plain(result, 'test_accuracy')} is classified rightly, of the "
        said += f"seen ones {_plain(result, 'train_accuracy')}; always naming the commonest class gives {chance:.3g}"
        clear = test.stderr is not None and test.value - chance > 3 * test.stderr
        return f"{said}." if clear else f"{said}, so nothing that generalises was learned for certain."


@dataclass(frozen=True)
class _Side:
    """What one split says: its values without the name of the split, and its notes."""

    values: dict[str, Estimate]
    notes: list[Note]


def _sides(objectives: Sequence[Objective]) -> list[_Side]:
    seen = [_Seen(objective) for objective in objectives]
    with torch.no_grad():
        for place, term, outputs in track(passes(objectives), "examples"):
            seen[place].add(term, outputs)
    return [each.side() for each in seen]


class _Seen:
    """What was seen of a split."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._losses = _Losses()
        self._answers: _Answers | None = _Answers()

    def add(self, term: Term, outputs: Any) -> None:
        loss, y = self._objective.loss, term.batch.y
        self._losses.add(self._objective, term.share, outputs, y, term.loss_of_outputs(outputs))
        judged = judge(loss, outputs, y)
        if self._answers is not None and judged is not None:
            self._answers.add(judged, len(term.batch))
        else:
            self._answers = None

    def side(self) -> _Side:
        values = {"loss": self._losses.estimate(loss_unit(self._objective.loss), len(self._objective.data))}
        if self._answers is not None and self._answers.num_targets:
            values |= self._answers.estimates()
        return _Side(values, self._losses.notes())


class _Losses:
    """The mean loss of a split, and what each example adds to it where that can be told."""

    def __init__(self) -> None:
        self.mean = 0.0
        self.weighted: list[Floats] = []
        self.weights: list[Floats] = []
        self.apart = True

    def add(self, objective: Objective, share: float, outputs: Any, y: Any, loss: torch.Tensor) -> None:
        self.mean += share * loss.double().item()
        if not self.apart:
            return
        try:
            each, weights = (part.double().cpu() for part in objective.loss.per_example(outputs, y))
        except LossError:
            self.apart = False
            return
        self.weights.append(weights.numpy())
        self.weighted.append((each * weights).numpy())
        # A loss that compares examples with each other is no mean over them.
        whole = (each * weights).sum() / weights.sum()
        self.apart = bool(torch.isclose(whole, loss.double().cpu(), rtol=1e-3, atol=1e-6, equal_nan=True))

    def estimate(self, unit: str, num_examples: int) -> Estimate:
        if not self.apart:
            return Estimate(value=self.mean, stderr=None, n=num_examples, unit=unit, method="mean loss of the split")
        _, stderr, n = ratio(np.concatenate(self.weighted), np.concatenate(self.weights))
        return Estimate(value=self.mean, stderr=stderr, n=n, unit=unit, method=_EXAMPLES)

    def notes(self) -> list[Note]:
        notes = []
        if not self.apart:
            text = "The loss is no mean of what each example costs alone, so it has no error bar over examples."
            notes.append(Note(code="loss_not_separable", text=text))
        if not np.isfinite(self.mean):
            text = f"A mean loss is {self.mean}: the training has diverged, or an answer was infinitely wrong."
            notes.append(Note(code="not_finite", text=text))
        return notes


class _Answers:
    """How many counted targets each example has, how many are right, and how common each class is."""

    def __init__(self) -> None:
        self.right: list[Floats] = []
        self.counted: list[Floats] = []
        self.classes = torch.zeros(0, dtype=torch.long)

    def add(self, judged: Judged, num_examples: int) -> None:
        rows = judged.rows.cpu()
        self.counted.append(torch.bincount(rows, minlength=num_examples).double().numpy())
        right = (judged.margins > 0).double().cpu()
        self.right.append(torch.bincount(rows, weights=right, minlength=num_examples).numpy())
        found = torch.bincount(judged.classes.cpu(), minlength=judged.num_classes)
        before = torch.nn.functional.pad(self.classes, (0, len(found) - len(self.classes)))
        self.classes = before + found

    @property
    def num_targets(self) -> int:
        return int(self.classes.sum())

    def estimates(self) -> dict[str, Estimate]:
        value, stderr, n = share_by_example(np.concatenate(self.right), np.concatenate(self.counted))
        chance = float(self.classes.max()) / self.num_targets
        method = "share of the commonest class, which is what guessing gives"
        return {
            "accuracy": Estimate(value=value, stderr=stderr, n=n, method=_CLUSTERS),
            "chance": Estimate(value=chance, stderr=0.0, n=self.num_targets, method=method),
        }


def _gaps(train: dict[str, Estimate], test: dict[str, Estimate]) -> dict[str, Estimate | Array]:
    gaps: dict[str, Estimate | Array] = {"loss_gap": minus(test["loss"], train["loss"], "test minus train")}
    if "accuracy" in train and "accuracy" in test:
        gaps["accuracy_gap"] = minus(train["accuracy"], test["accuracy"], "train minus test")
    return gaps


def _plain(result: Result, key: str) -> str:
    return quantity(result.estimate(key))


def _bars(result: Result, what: str, unit: str) -> Figure:
    names = [name for name in ("train", "test") if f"{name}_{what}" in result.values]
    found = [result.estimate(f"{name}_{what}") for name in names]
    mark = Mark(
        kind="bar", x=names, y=np.array([e.value for e in found]), error=np.array([e.stderr or 0.0 for e in found])
    )
    label = what if unit == "1" else f"{what} ({unit})"
    return Figure(
        name=f"train_and_test_{what}",
        title=f"{what.capitalize()} on seen and unseen examples",
        x=Axis(label="split", scale="category"),
        y=Axis(label=label),
        marks=(mark,),
        caption="Error bars: one standard error over the choice of examples.",
    )
