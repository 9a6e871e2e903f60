"""Scores of examples from their presentations: forgetting, learning, area under the margin, EL2N, cartography.

Every function takes what was recorded as ``(T, N)``, of T presentations of N examples, and how often each example was
seen, ``(N,)``: an example's own presentations are the first `seen` of its column, the rest is not looked at. A
presentation is counted from 0. What needs a presentation is NaN, or -1, for an example that was never seen.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch

from vallis.core.errors import SettingsError


@dataclass(frozen=True, kw_only=True, eq=False)
class Cartography:
    """The data map of Swayamdipta et al. (2020), section 2: three coordinates of each example ``(N,)``, float64.

    Attributes:
        confidence: the mean probability of the true class.
        variability: its standard deviation (around that mean, divided by the number of presentations).
        correctness: the share of the presentations at which it was right.
    """

    confidence: torch.Tensor
    variability: torch.Tensor
    correctness: torch.Tensor


def forgetting_events(correct: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """``(N,)`` int64: how often an example was wrong right after it had been right, at its own presentations.

    Toneva et al. (2019), section 3. What was never right was never forgotten and has 0 here: see `never_learned`.
    """
    if len(correct) < 2:
        return torch.zeros_like(seen)
    return (correct[:-1] & ~correct[1:] & within(correct, seen)[1:]).sum(0)


def never_learned(correct: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """``(N,)`` bool: seen, and never right (Toneva et al., 2019, section 3, count them as forgotten most)."""
    return ~(correct & within(correct, seen)).any(0) & (seen > 0)


def first_right(correct: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """``(N,)`` int64: the first presentation at which it was right; -1 if there is none.

    The first learning event of Toneva et al. (2019), section 3.
    """
    right = correct & within(correct, seen)
    if not len(right):
        return torch.full_like(seen, -1)
    return right.byte().argmax(0).masked_fill(~right.any(0), -1)


def first_learned(correct: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """``(N,)`` int64: the first presentation from which on it was right to the end; -1 if it is wrong at the end.

    The learned time of Hacohen et al. (2020), Let's agree to agree, and the iteration learned of Baldock et al. (2021),
    Deep learning through the lens of example difficulty, at the presentations of training.
    """
    wrong = ~correct & within(correct, seen)
    places = torch.arange(1, len(correct) + 1, device=correct.device).unsqueeze(1)
    after = (wrong * places).amax(0) if len(wrong) else torch.zeros_like(seen)
    return after.masked_fill(after >= seen, -1)


def area_under_margin(margins: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """``(N,)`` float64, AUM: the mean margin over the presentations, in nats; low for what is mislabelled or hard.

    Pleiss et al. (2020), Identifying mislabeled data using the area under the margin ranking, equation 2.
    """
    return mean_of(margins, seen)


def error_norm(norms: torch.Tensor, seen: torch.Tensor, start: int = 0, stop: int | None = None) -> torch.Tensor:
    """``(N,)`` float64, EL2N: the mean of ``|softmax - one_hot|_2`` over presentations start to stop - 1.

    Paul et al. (2021), Deep learning on a data diet, definition 2.2: there it is taken early, and averaged over several
    trainings, which is left to the caller. NaN where an example has no presentation among these.

    Raises:
        SettingsError: they are no whole numbers with 0 <= start < stop.
    """
    first, last = _place(start), None if stop is None else _place(stop)
    if first < 0 or (last is not None and last <= first):
        raise SettingsError(
            f"presentations from start to before stop, counted from 0, were required, start={start!r} and "
            f"stop={stop!r} came: give such as start=0, stop=10"
        )
    norms = norms[first:last]
    return mean_of(norms, (seen - first).clamp(min=0, max=len(norms)))


def cartography(probabilities: torch.Tensor, correct: torch.Tensor, seen: torch.Tensor) -> Cartography:
    """Where each example lies on the data map."""
    mean = mean_of(probabilities, seen)
    spread = (probabilities.double() - mean).square()
    return Cartography(
        confidence=mean, variability=mean_of(spread, seen).sqrt(), correctness=mean_of(correct.double(), seen)
    )


def _place(value: Any) -> int:
    """A whole number of any kind; below 0 for what is none."""
    try:
        return -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return -1


def within(recorded: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """``(T, N)`` bool: which entries are presentations."""
    return torch.arange(len(recorded), device=seen.device).unsqueeze(1) < seen


def mean_of(values: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """``(N,)`` float64, the mean over the presentations of each example."""
    held = values.double().masked_fill(~within(values, seen), 0.0)
    return held.sum(0) / seen  # 0 / 0 is NaN
