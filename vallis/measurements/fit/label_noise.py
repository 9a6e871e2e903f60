"""What a network that was trained on noisy labels says of the noise, and how many of them it learned by heart.

Definition: the transition matrix T, ``T[i, j] = P(noisy label j | true label i)``, is estimated by the probabilities
    that the network gives the example that is surest to be of class i, row by row, or of the one whose probability of i
    is the largest below a percentile. Where the true labels are known, a label that is not the true one is noisy; it is
    memorized when the network answers with it and recovered when it answers with the true one, as memorization_gap has
    it. The realised matrix counts how often each true label became each noisy one. Intervals are percentiles of the
    estimate over resampled examples.
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
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.losses import Loss
from vallis.core.numbers import quantity
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.numerics.noisy_labels import fates, noisy_marks, true_targets
from vallis.numerics.presentations import presentations
from vallis.numerics.scores import ignored_target
from vallis.numerics.transition_matrix import (
    TransitionEstimate,
    estimate_transition,
    frequencies,
    labelled,
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

    version: ClassVar[int] = 4
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
            text = "No transition matrix can be read off: an example has no scores of classes, or no single label."
            return NotApplicable(note=Note(code="not_classification", text=text))
        probabilities = predicted_probabilities(solution, self.split)
        if not bool(probabilities.isfinite().all()):
            text = "The network's probabilities are no finite numbers: the training has diverged."
            return NotApplicable(note=Note(code="not_finite", text=text))
        there = labelled(y, probabilities.shape[1])
        if not bool(there.any()):
            text = "No example has a label that counts."
            return NotApplicable(note=Note(code="no_labels", text=text))
        found = estimate_transition(
            probabilities,
            labels=y,
            percentile=self.percentile,
            num_resamples=self.num_resamples,
            coverage=self.coverage,
            rng=rng.child("resamples"),
        )
        values, notes = self._estimated(found, len(probabilities))
        values["labelled"] = Array(data=there.double().numpy(), dims=("class",))
        if not bool(there.all()):
            missing = (~there).nonzero()[:, 0].tolist()
            text = (
                f"{len(missing)} of {len(there)} classes, such as {missing[0]}, label no example: nothing is known of "
            )
            notes.append(Note(code="unlabelled_class", text=f"{text}their noise, and their rows are the identity's."))
        true = true_targets(solution.task, self.split, self.true_split)
        known = true if isinstance(true, Note) else _outcomes(probabilities, y, true, found, solution.task.loss)
        if isinstance(known, Note):
            notes.append(known)
        else:
            values |= known
            if not np.isfinite(values["realised_transition"].data).all():  # type: ignore[union-attr]
                text = "A class has no examples, so nothing is realised of its noise: its row is not a number."
                notes.append(Note(code="missing_class", text=text))
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
        diagonal = float(np.diagonal(matrix)[result.array("labelled").data > 0].mean())
        said = (
            f"By the network's own account a label is right with probability {diagonal:.2f}, in the mean over classes"
        )
        if "largest_error" not in result.values:
            return f"{said}; nothing is known of the true labels."
        error = result.estimate("largest_error").value
        said += f"; its transition matrix is off by at most {error:.2f} from what became of the labels"
        if "memorized_fraction" not in result.values:
            return f"{said}. No label is noisy."
        memorized, recovered = (quantity(result.estimate(f"{word}_fraction")) for word in ("memorized", "recovered"))
        return f"{said}. Of the noisy labels it learned a share of {memorized}, and saw through {recovered}."


def _classes(solution: Solution, split: str) -> torch.Tensor | None:
    """``(N,)`` the classes of a split, None where an example has not one among at least two."""
    if solution.task.loss.kind != "categorical" or split not in solution.task.splits:
        return None
    found = [batch.y for batch in solution.task.splits[split]]
    if any(not isinstance(y, torch.Tensor) or y.ndim != 1 or y.is_floating_point() for y in found):
        return None
    return torch.cat(found).cpu()


def _outcomes(
    probabilities: torch.Tensor, y: torch.Tensor, true: torch.Tensor, found: TransitionEstimate, loss: Loss
) -> dict[str, Estimate | Array] | Note:
    num_classes = probabilities.shape[1]
    how = ("categorical", -100 if ignored_target(loss) is None else ignored_target(loss))
    # Probabilities are as good as logits here: only their order is asked for.
    by_given, by_truth = (presentations(probabilities, labels, *how) for labels in (y, true))  # type: ignore[arg-type]
    counted = by_given.counted & by_truth.counted
    if not bool(counted.any()):
        return Note(code="no_true_labels", text="No example has both a label and a true one that count.")
    realised = frequencies(true[counted], y[counted], num_classes)
    known = realised.isfinite().all(1)  # of a class without examples nothing was realised
    became = fates(noisy_marks(y, true, loss)[counted], by_given.correct[counted], by_truth.correct[counted])
    return {
        "realised_transition": _array(realised),
        "largest_error": Estimate(
            value=float((found.matrix - realised)[known].abs().max()),
            n=int(counted.sum()),
            method="largest difference of an entry of the estimated matrix and of the realised one",
        ),
        **became.estimates(),
    }


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
