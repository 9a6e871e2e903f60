"""Which units of work wait and which are done: what every way of running them has in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from vallis.core.types import Failed
from vallis.run.work import Report, Unit


@dataclass
class Board:
    """Hands out units, each once the trainings it looks at are in the store.

    Attributes:
        waiting: the units that nobody has taken.
        failed: the measurements that failed, by digest.
        troubles: the reports of trainings that failed, by digest.
        num_done: how many units are done, or will never be because a training failed.
    """

    waiting: list[Unit]
    failed: dict[str, Failed] = field(default_factory=dict)
    troubles: dict[str, Report] = field(default_factory=dict)
    num_done: int = 0

    def __post_init__(self) -> None:
        self._untrained = {node.digest for unit in self.waiting for node in unit.train}

    def take(self) -> Unit | None:
        """A unit that can be done now; None when there is none, or none yet."""
        for place, unit in enumerate(self.waiting):
            if not any(node.digest in self._untrained for node in unit.on):
                return self.waiting.pop(place)
        return None

    def settle(self, report: Report) -> None:
        """Takes note of a unit that is done; what looks at a training that failed is never begun."""
        self.num_done += 1
        for part in (report, *report.beside):
            self._settle(part)

    def _settle(self, report: Report) -> None:
        self._untrained.discard(report.unit)
        self.failed.update(report.failed)
        if report.trouble is not None:
            self.troubles[report.unit] = report
            hopeless = [unit for unit in self.waiting if any(node.digest == report.unit for node in unit.on)]
            self.waiting = [unit for unit in self.waiting if unit not in hopeless]
            self.num_done += len(hopeless)
