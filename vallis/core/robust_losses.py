"""Losses of classes that suffer less from noisy labels than cross-entropy, and know nothing of the noise.

The margin losses look at each class by itself: of the margin ``m_k = s_k z_k``, with z the scores and ``s_k`` 1 for the
label's class and -1 for others, they are the mean over classes of ``l(m_k)``. Where ``l(m) + l(-m)`` is a constant
(unhinged, sigmoid, ramp), symmetric noise leaves the best scores of two classes what they are. Soft bootstrapping is
cross-entropy with targets that the network's own probabilities have a share in.

Source: Patrini et al. (2017), whose baselines they are; van Rooyen, Menon, Williamson (2015), Learning with symmetric
    label noise, for unhinged; Ghosh, Manwani, Sastry (2015), Making risk minimization tolerant to label noise, for
    sigmoid and ramp; Masnadi-Shirazi and Vasconcelos (2009), On the design of loss functions for classification, for
    savage; Reed et al. (2015), Training deep neural networks on noisy labels with bootstrapping, equation 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from vallis.core.errors import LossError
from vallis.core.target_losses import ClassLoss

Robust = Literal["unhinged", "sigmoid", "ramp", "savage", "bootstrap"]

_MARGIN_LOSSES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "unhinged": lambda m: 1 - m,
    "sigmoid": lambda m: torch.sigmoid(-m),
    "ramp": lambda m: ((1 - m) / 2).clamp(0, 1),
    "savage": lambda m: torch.sigmoid(-2 * m).square(),
}


@dataclass(frozen=True, kw_only=True)
class RobustLoss(ClassLoss):
    """A loss of scores ``(N, C)`` or ``(N, C, T)`` beside classes ``(N,)`` or ``(N, T)``.

    Attributes:
        name: "unhinged" ``1 - m``, which has no lower bound; "sigmoid" ``1 / (1 + e^m)``; "ramp" ``(1 - m) / 2`` within
            [0, 1]; "savage" ``1 / (1 + e^2m)^2``; or "bootstrap".
        label_share: of the label in the targets of "bootstrap"; the rest is the network's own probability.
        ignore_index: targets with this value do not count.

    Raises:
        LossError: there is no such loss, or the share is not in [0, 1].
    """

    name: Robust
    label_share: float = 0.95
    ignore_index: int = -100

    def __post_init__(self) -> None:
        if self.name not in (*_MARGIN_LOSSES, "bootstrap"):
            raise LossError(
                f"one of {', '.join(_MARGIN_LOSSES)}, bootstrap was required, {self.name!r} came: choose one"
            )
        if not 0 <= self.label_share <= 1:
            raise LossError(f"a share of the label in [0, 1] was required, {self.label_share} came: give such as 0.95")

    @property
    def unit(self) -> str:
        """Nats of "bootstrap", which is a cross-entropy; a margin loss is a pure number."""
        return "nats" if self.name == "bootstrap" else "1"

    def _each(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses of all targets, 0 where one does not count, and whether it does."""
        if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2 or outputs.shape[1] < 2:
            came = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise LossError(f"scores (N, C) of at least 2 classes were required, {came} came: choose another network")
        counted = self._counted(outputs, y, "classes {wanted} were required")
        classes = torch.where(counted, y, 0).long()
        if _is_any((classes < 0) | (classes >= outputs.shape[1])):
            raise LossError(
                f"classes in 0..{outputs.shape[1] - 1} or {self.ignore_index} were required, others came: match them "
                "to the network"
            )
        every = torch.arange(outputs.shape[1], device=classes.device)
        truth = (classes.unsqueeze(-1) == every).movedim(-1, 1).to(outputs.dtype)
        losses = self._bootstrap(outputs, truth) if self.name == "bootstrap" else self._margins(outputs, truth)
        return torch.where(counted, losses, 0.0), counted.to(losses.dtype)

    def _margins(self, outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return _MARGIN_LOSSES[self.name]((2 * truth - 1) * outputs).mean(1)

    def _bootstrap(self, outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """The probabilities in the targets have slopes, too, as in the equation."""
        log_p = torch.log_softmax(outputs, 1)
        targets = self.label_share * truth + (1 - self.label_share) * log_p.exp()
        return -(targets * log_p).sum(1)


def _is_any(marked: torch.Tensor) -> bool:
    """Whether any is marked; within `torch.func.vmap`, where values cannot be looked at, none is known to be."""
    try:
        return bool(marked.any())
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        return False
