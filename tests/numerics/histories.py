"""Examples one by one in plain Python: what the recorder must agree with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class History:
    """One example: its presentations in order."""

    correct: list[bool] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    error_norms: list[float] = field(default_factory=list)

    @property
    def forgetting_events(self) -> int:
        events, last = 0, False
        for right in self.correct:
            if last and not right:
                events += 1
            last = right
        return events

    @property
    def never_learned(self) -> bool:
        return bool(self.correct) and True not in self.correct

    @property
    def first_right(self) -> int:
        return self.correct.index(True) if True in self.correct else -1

    @property
    def first_learned(self) -> int:
        for start in range(len(self.correct)):
            if all(self.correct[start:]):
                return start
        return -1

    @property
    def area_under_margin(self) -> float:
        return _mean(self.margins)

    def error_norm(self, start: int, stop: int | None) -> float:
        return _mean(self.error_norms[start:stop])

    @property
    def confidence(self) -> float:
        return _mean(self.probabilities)

    @property
    def variability(self) -> float:
        middle = self.confidence
        return math.sqrt(_mean([(value - middle) ** 2 for value in self.probabilities])) if self.correct else math.nan

    @property
    def correctness(self) -> float:
        return _mean([float(right) for right in self.correct])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
