"""What a network that was trained on noisy labels says of the noise, and how many wrong labels it learned by heart.

Definition: the transition matrix T, ``T[i, j] = P(noisy label j | true label i)``, is estimated by the probabilities
    that the network gives the example that is surest to be of class i, row by row, or of the one whose probability of i
    is the largest below a percentile. Where the true labels are known, a wrong label is memorized when the network
    answers with it and recovered when it answers with the true one, and the realised matrix counts how often each true
    label became each noisy one. Intervals are percentiles of the estimate over resampled examples.
Unit: 1.
Source: Patrini et al. (2017), the estimation of the noise.
Cost: one pass forward over the split, and a percentile of N probabilities for each class and resample.
Says little when: no example is certain of its class, the network has memorized the noisy labels (then its
    probabilities are those of single labels; stop early), or the noise depends on the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.corrected_losses import condition_number
from vallis.core.errors import SettingsError
from vallis.core.numbers import quantity
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
from vallis.numerics.means import ratio
from vallis.numerics.transition_matrix import (
    TransitionEstimate,
    estimate_transition,
    frequencies,
    predicted_probabilities,
)

_AXES = ("true_class", "noisy_class")
# Beyond, an error of a thousandth in T is one of the order of one in its inverse.
_ILL_CONDITIONED = 1e3


@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """The transition matrix by the network's own probabilities, beside what became of the labels that are wrong.

    Attributes:
        split: the examples with noisy labels.
        true_split: the same examples with the true ones, row for row; without such a split the second half is missing.
        percentile: which examples are left out as outliers, in percent; None takes the surest of all.
        num_resamples: of the examples, for the intervals.
        coverage: of the intervals.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Making deep neural networks robust to label noise: a loss correction approach",
            authors="G. Patrini, A. Rozza, A. K. Menon, R. Nock, L. Qu",
            year=2017,
            url="https://arxiv.org/abs/1609.03683",
        ),
    )

    split: str = "train"
    true_split: str = "true_labels"
    percentile: float | None = 97.0
    num_resamples: int = 100
    coverage: float = 0.95

    def __post_init__(self) -> None:
        for name, possible, wanted in (
            ("percentile", self.percentile is None or 0 < self.percentile < 100, "in (0, 100), or None"),
            ("num_resamples", self.num_resamples >= 1, "at least 1"),
            ("coverage", 0 < self.coverage < 1, "in (0, 1)"),
        ):
            if not possible:
                raise SettingsError(f"label_noise.{name} must be {wanted}, {getattr(self, name)} came: change it")

    @classmethod
    def tiny(cls) -> LabelNoise:
        """The cheapest settings, for tests."""
        return cls(num_resamples=5)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solution: Solution = subject
        y = _classes(solution, self.split)
        if y is None:
            text = "There is no label noise to speak of: an example has no single class among at least two here."
            return NotApplicable(note=Note(code="not_classification", text=text))
        probabilities = predicted_probabilities(solution, self.split)
        if not bool(probabilities.isfinite().all()):
            text = "The network's probabilities are no finite numbers: the training has diverged."
            return NotApplicable(note=Note(code="not_finite", text=text))
        found = estimate_transition(
            probabilities,
            percentile=self.percentile,
            num_resamples=self.num_resamples,
            coverage=self.coverage,
            rng=rng.child("resamples"),
        )
        values, notes = self._estimated(found, len(probabilities))
        true = _classes(solution, self.true_split) if self.true_split in solution.task.splits else None
        if true is not None and len(true) == len(y):
            values |= _outcomes(probabilities, y, true, found)
            if not np.isfinite(values["realised_transition"].data).all():  # type: ignore[union-attr]
                text = "A class has no examples, so nothing is realised of its noise: its row is not a number."
                notes.append(Note(code="missing_class", text=text))
        else:
            text = f"There is no split {self.true_split!r}, so nobody knows which labels are wrong."
            notes.append(Note(code="no_true_labels", text=text))
        return Result(values=values, notes=tuple(notes))

    def _estimated(
        self, found: TransitionEstimate, num_examples: int
    ) -> tuple[dict[str, Estimate | Array], list[Note]]:
        condition, notes = condition_number(found.matrix), []
        which = "the surest example" if self.percentile is None else f"the example below percentile {self.percentile:g}"
        values: dict[str, Estimate | Array] = {
            "transition": _array(found.matrix),
            "transition_low": _array(found.low),
            "transition_high": _array(found.high),
        }
        if np.isfinite(condition):
            method = f"largest by smallest singular value; each row is that of {which}"
            values["condition_number"] = Estimate(value=condition, n=num_examples, method=method)
        if condition > _ILL_CONDITIONED:
            text = f"The estimated matrix has condition number {condition:.2g}: its inverse says nothing of the noise."
            notes.append(Note(code="ill_conditioned", text=text))
        return values, notes

    def figures(self, result: Result) -> tuple[Figure, ...]:
        names = {"transition": "Estimated transition matrix", "realised_transition": "What became of the labels"}
        return tuple(
            _heatmap(name, title, result.array(name)) for name, title in names.items() if name in result.values
        )

    def reading(self, result: Result) -> str:
        matrix = result.array("transition").data
        diagonal = float(np.diagonal(matrix).mean())
        said = (
            f"By the network's own account a label is right with probability {diagonal:.2f}, in the mean over classes"
        )
        if "largest_error" not in result.values:
            return f"{said}; nothing is known of the true labels."
        error = result.estimate("largest_error").value
        said += f"; its transition matrix is off by at most {error:.2f} from what became of the labels"
        if "memorized_fraction" not in result.values:
            return f"{said}. No label is wrong."
        memorized, recovered = (quantity(result.estimate(f"{word}_fraction")) for word in ("memorized", "recovered"))
        return f"{said}. Of the wrong labels it learned a share of {memorized}, and saw through {recovered}."


def _classes(solution: Solution, split: str) -> torch.Tensor | None:
    """``(N,)`` the classes of a split, None where an example has not one among at least two."""
    if solution.task.loss.kind != "categorical" or split not in solution.task.splits:
        return None
    found = [batch.y for batch in solution.task.splits[split]]
    if any(not isinstance(y, torch.Tensor) or y.ndim != 1 or y.is_floating_point() for y in found):
        return None
    return torch.cat(found).cpu()


def _outcomes(
    probabilities: torch.Tensor, y: torch.Tensor, true: torch.Tensor, found: TransitionEstimate
) -> dict[str, Estimate | Array]:
    num_classes = probabilities.shape[1]
    counted = (y >= 0) & (y < num_classes) & (true >= 0) & (true < num_classes)  # others are marked to be ignored
    y, true, answers = y[counted], true[counted], probabilities.argmax(1)[counted]
    realised, wrong = frequencies(true, y, num_classes), y != true
    known = realised.isfinite().all(1)  # of a class without examples nothing was realised
    values: dict[str, Estimate | Array] = {
        "realised_transition": _array(realised),
        "wrong_fraction": _share(wrong, torch.ones_like(wrong), "share of the labels that are wrong"),
        "largest_error": Estimate(
            value=float((found.matrix - realised)[known].abs().max()),
            n=len(y),
            method="largest difference of an entry of the estimated matrix and of the realised one",
        ),
    }
    if bool(wrong.any()):
        values["memorized_fraction"] = _share(answers == y, wrong, "share of the wrong labels that are answered")
        values["recovered_fraction"] = _share(answers == true, wrong, "share of the wrong labels answered truly")
    return values


def _share(met: torch.Tensor, among: torch.Tensor, what: str) -> Estimate:
    counted = among.double().numpy()
    value, stderr, n = ratio((met.double() * among).numpy(), counted)
    return Estimate(value=value, stderr=stderr, n=n, method=f"{what}; the error bar is over the choice of examples")


def _array(matrix: torch.Tensor) -> Array:
    return Array(data=matrix.numpy(), dims=_AXES)


def _heatmap(name: str, title: str, found: Array) -> Figure:
    places = np.arange(float(len(found.data)))
    return Figure(
        name=name,
        title=title,
        x=Axis(label="noisy class"),
        y=Axis(label="true class"),
        z=Axis(label="probability"),
        marks=(Mark(kind="heatmap", x=places, y=places, z=found.data),),
        caption="Row i, column j: the probability that an example of class i is labelled j.",
    )
