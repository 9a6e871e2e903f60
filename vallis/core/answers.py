"""What a step of training tells of each of its examples: computed when somebody asks, so that nobody else pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Answers(Protocol):
    """What the network said of the B examples of a step, before the update; None where there is no such thing.

    They are to be read before the next step is made, and never to be changed: tensors in them may be borrowed.

    Attributes:
        losses: ``(B,)`` the loss of each.
        correct: ``(B,)`` bool, whether each was classified rightly (with several targets: all that count).
        scores: what the loss judges, detached: ``(B, C)``, ``(B, C, T)`` or ``(B,)``.
        targets: what the loss judges them against.
    """

    @property
    def losses(self) -> torch.Tensor | None: ...

    @property
    def correct(self) -> torch.Tensor | None: ...

    @property
    def scores(self) -> torch.Tensor | None: ...

    @property
    def targets(self) -> Any: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """Answers that are there already. Attributes as in `Answers`."""

    losses: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    targets: Any = None
