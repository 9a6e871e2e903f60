"""Cross-entropy corrected for labels that were drawn by a known transition matrix.

``T[i, j] = P(noisy label j | true label i)``, rows add up to one, and the noise does not look at the input. With p the
softmax of the logits z, forward correction asks the network for the true classes by what it says of the noisy ones, and
backward correction is the one loss of noisy labels whose mean over the noise is cross-entropy with the true labels.

Source: Patrini, Rozza, Menon, Nock, Qu (2017), Making deep neural networks robust to label noise: a loss correction
    approach, theorems 1 and 2.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from vallis.core.errors import LossError
from vallis.core.target_losses import ClassLoss

# Beyond, the inverse has no correct digit left in float64.
_LARGEST_CONDITION = 1e12
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class CorrectedCrossEntropy(ClassLoss):
    """What both corrections share: logits ``(N, C)`` or ``(N, C, T)`` beside noisy classes ``(N,)`` or ``(N, T)``.

    The scores are logits of the true classes, whatever labels they are judged against.

    Attributes:
        transition: ``(C, C)`` T, as rows of numbers.
        least_probability: p is clipped to between this and one minus it; 0 clips nothing. What is clipped has no slope.
        ignore_index: targets with this value do not count.

    Raises:
        LossError: T is no transition matrix, or the least probability is not in [0, 1/2).
    """

    transition: Sequence[Sequence[float]]
    least_probability: float = 0.0
    ignore_index: int = -100

    def __post_init__(self) -> None:
        rows = self.matrix.tolist()
        object.__setattr__(self, "transition", tuple(tuple(row) for row in rows))
        if not 0 <= self.least_probability < 0.5:
            raise LossError(
                f"a least probability in [0, 1/2) was required, {self.least_probability} came: give such as 1e-7"
            )

    @cached_property
    def matrix(self) -> torch.Tensor:
        """``(C, C)`` float64 T."""
        return checked_transition(self.transition)

    @cached_property
    def _possible(self) -> int:
        """A noisy class that can come about, to stand where none counts: any other has slopes that are no numbers."""
        return int((self.matrix > 0).any(0).int().argmax())

    @property
    def condition_number(self) -> float:
        """The ratio of the largest singular value of T to the smallest; infinite where T has no inverse."""
        return condition_number(self.matrix)

    @abstractmethod
    def _of_noisy(self, log_p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``(N, ...)`` the losses of noisy classes y ``(N, ...)`` for log-probabilities ``(N, C, ...)``."""

    def _each(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses of all targets, 0 where one does not count, and whether it does."""
        num_classes = len(self.transition)
        if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2 or outputs.shape[1] != num_classes:
            came = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise LossError(
                f"logits (N, {num_classes}) were required by the transition matrix, {came} came: match both"
            )
        counted = self._counted(outputs, y, "noisy classes {wanted} were required for a corrected loss")
        y = y.long()  # bytes would be a mask where rows are looked up
        self._must_be_possible(y, counted)
        log_p = torch.log_softmax(outputs, 1)
        if self.least_probability:
            log_p = log_p.clamp(math.log(self.least_probability), math.log1p(-self.least_probability))
        losses = self._of_noisy(log_p, torch.where(counted, y, self._possible))
        return torch.where(counted, losses, 0.0), counted.to(losses.dtype)

    def _must_be_possible(self, y: torch.Tensor, counted: torch.Tensor) -> None:
        """Refuses labels that are no class: a negative one would count from the end."""
        wrong = _first(y, counted & ((y < 0) | (y >= len(self.transition))))
        if wrong is not None:
            raise LossError(
                f"classes in 0..{len(self.transition) - 1} or {self.ignore_index} were required by the transition "
                f"matrix, {wrong} came: give it a row for each class"
            )


@dataclass(frozen=True, kw_only=True)
class ForwardCorrected(CorrectedCrossEntropy):
    """``-log (T' p)_y``: never negative, and least in the mean over the noise where p is the true posterior.

    It is no convex function of the logits: a Gauss-Newton matrix made of it may have negative eigenvalues.
    """

    def _must_be_possible(self, y: torch.Tensor, counted: torch.Tensor) -> None:
        super()._must_be_possible(y, counted)
        never = (self.matrix == 0).all(0)
        if not bool(never.any()):
            return
        wrong = _first(y, counted & never.to(y.device)[torch.where(counted, y, 0)])
        if wrong is not None:
            raise LossError(
                f"noisy labels that can come about were required for forward correction, {wrong} came, whose column in "
                "the transition matrix is zero: mend the matrix, or mix it with the identity"
            )

    def _of_noisy(self, log_p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        chances = self.matrix.to(log_p).log().T[y].movedim(-1, 1)
        return -torch.logsumexp(log_p + chances, 1)


@dataclass(frozen=True, kw_only=True)
class BackwardCorrected(CorrectedCrossEntropy):
    """``-sum_j (T^-1)_yj log p_j``: its mean over the noise is cross-entropy with the true label.

    It has no lower bound where T is not the identity, so that a network that fits everything drives it to minus
    infinity: clip p. Its variance grows with the condition number of T.

    Raises:
        LossError: T has no inverse, beside what every correction refuses.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.condition_number > _LARGEST_CONDITION:
            raise LossError(
                "a transition matrix with an inverse was required for backward correction, one of condition number "
                f"{self.condition_number:.3g} came: mix it with the identity, or correct forward"
            )

    @cached_property
    def inverse(self) -> torch.Tensor:
        """``(C, C)`` float64 the inverse of T."""
        found: torch.Tensor = torch.linalg.inv(self.matrix)
        return found

    def _of_noisy(self, log_p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -(log_p * self.inverse.to(log_p)[y].movedim(-1, 1)).sum(1)


def checked_transition(transition: Any) -> torch.Tensor:
    """``(C, C)`` float64, proved to be a transition matrix.

    Raises:
        LossError: it is no table of numbers, not square of at least two classes, an entry is negative or not finite, or
            a row does not add up to one within 1e-6.
    """
    try:
        matrix = torch.as_tensor(transition, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise LossError(
            f"a transition matrix (C, C) was required, a {type(transition).__name__} came that is none ({error}): give "
            "C rows of C numbers"
        ) from error
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise LossError(f"a transition matrix (C, C) was required, shape {tuple(matrix.shape)} came: give it C rows")
    if not bool(matrix.isfinite().all()) or bool((matrix < 0).any()):
        raise LossError("probabilities were required in a transition matrix, other numbers came: give such in [0, 1]")
    sums = matrix.sum(1)
    if bool(((sums - 1).abs() > _ROUNDING).any()):
        worst = float(sums[(sums - 1).abs().argmax()])
        raise LossError(
            f"rows that add up to one were required in a transition matrix, a sum of {worst:.6g} came: divide by it"
        )
    return matrix


def condition_number(transition: torch.Tensor) -> float:
    """The condition number of T ``(C, C)`` in the Euclidean norm; infinite where it has no inverse."""
    values = torch.linalg.svdvals(transition.double())
    return float(values[0] / values[-1]) if float(values[-1]) > 0 else math.inf


def _first(y: torch.Tensor, marked: torch.Tensor) -> int | None:
    """The first entry that is marked; None too within `torch.func.vmap`, where values cannot be looked at."""
    try:
        return int(y[marked][0]) if bool(marked.any()) else None
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        return None
