"""Learning-rate schedules, as factors of the base rate in closed form: a resumed training needs no memory of them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

SCHEDULES = ("constant", "cosine", "step", "exponential")


def factor(schedule: str, *, epoch: int, progress: float, decay: float, milestones: Sequence[int] = ()) -> float:
    """What the base learning rate is multiplied by.

    Args:
        schedule: one of `SCHEDULES`.
        epoch: how many passes over the training data are complete.
        progress: the share of all steps that is done, in [0, 1]; only "cosine" looks at it.
        decay: the factor of "exponential" at every epoch, and of "step" at every milestone.
        milestones: the epochs, rising, at which "step" decays.
    """
    if schedule == "cosine":
        return (1.0 + math.cos(math.pi * progress)) / 2.0
    if schedule == "step":
        return float(decay ** bisect_right(milestones, epoch))
    if schedule == "exponential":
        return float(decay**epoch)
    return 1.0
