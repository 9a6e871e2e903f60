"""AutoNEB: a chain of pivots between two networks, pulled down into the valley between them.

Each pivot goes down the part of the gradient that is across the chain, the chain is laid out anew at its spacing after
every step (a spring of infinite strength, so there is no spring force), and where the loss between two pivots rises
far above the line between theirs a pivot is inserted. The saddle on the path is then its highest point.

Source: Draxler et al. (2018), Essentially no barriers in neural network energy landscape, sections 3.1 to 3.3; the
    tangent is that of Henkelman and Jonsson (2000).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from vallis.core.errors import SettingsError
from vallis.core.progress import track
from vallis.numerics.path_slopes import Slope
from vallis.numerics.paths import Floats, Path, chain

# So many steps at this learning rate.
Cycle = tuple[int, float]


@dataclass(frozen=True, eq=False)
class Band:
    """The chain after all cycles.

    Attributes:
        path: through the pivots.
        highest: the highest loss on the chain before the first cycle, and after each.
        num_pivots: how many there were in each cycle.
        num_diverged: cycles whose steps led to no finite numbers; the chain stayed as it was before them.
    """

    path: Path
    highest: tuple[float, ...]
    num_pivots: tuple[int, ...]
    num_diverged: int = 0


def auto_neb(
    slopes: Callable[[], Slope],
    loss: Callable[[torch.Tensor], float],
    start: torch.Tensor,
    end: torch.Tensor,
    *,
    cycles: Sequence[Cycle],
    num_first: int = 3,
    most_new: int = 2,
    num_between: int = 9,
    rise: float = 0.1,
    momentum: float = 0.9,
) -> Band:
    """The minimum-energy path between two networks.

    Args:
        slopes: gives the loss and gradient at a vector, on new examples at every call; all pivots of a step share them.
        loss: at a vector, on all examples that count.
        start: one end ``(P,)``.
        end: the other.
        cycles: steps and learning rate of each, between which pivots are inserted.
        num_first: pivots before the first cycle, equally far apart on the straight line.
        most_new: pivots inserted after a cycle, where the loss rises most.
        num_between: points at which the loss between two pivots is looked at.
        rise: a pivot is inserted where the loss lies above the line between two pivots by more than this share of the
            range of losses on the chain.
        momentum: of the descent.

    Raises:
        SettingsError: there is no cycle or no first pivot.
    """
    if not cycles or num_first < 1 or num_between < 1:
        raise SettingsError(
            "a cycle, a first pivot and a point between pivots were required, "
            f"{len(cycles)}, {num_first} and {num_between} came: raise them"
        )
    shares = np.linspace(0, 1, num_first + 2)
    pivots = [start, *(start + (end - start) * float(share) for share in shares[1:-1]), end]
    highest, counts, diverged = [], [], 0
    for number, (steps, rate) in enumerate(track(cycles, "elastic band", len(cycles))):
        dense, losses = _between(loss, pivots, num_between)
        highest.append(float(dense.max()))
        if number:
            pivots, shares = _inserted(pivots, shares, dense, most_new, rise)
            losses = np.array([loss(pivot) for pivot in pivots])
        before = list(pivots)
        if not _descend(slopes, pivots, shares, (float(losses[0]), float(losses[-1])), steps, rate, momentum):
            pivots, diverged = before, diverged + 1
        counts.append(len(pivots) - 2)
    dense, _ = _between(loss, pivots, num_between)
    return Band(chain(pivots), (*highest, float(dense.max())), tuple(counts), diverged)


def across(
    gradient: torch.Tensor, before: torch.Tensor, here: torch.Tensor, after: torch.Tensor, up: bool
) -> torch.Tensor:
    """The part of a gradient that is across the chain, whose tangent points to the neighbour of the higher loss.

    Args:
        gradient: at a pivot ``(P,)``.
        before: the pivot before it.
        here: the pivot.
        after: the pivot behind it.
        up: whether the one behind it has the higher loss.
    """
    tangent = after - here if up else here - before
    size = tangent.norm()
    if not float(size) > 0:
        return gradient
    tangent = tangent / size
    return gradient.sub(tangent, alpha=float(gradient @ tangent))


def _descend(
    slopes: Callable[[], Slope],
    pivots: list[torch.Tensor],
    shares: Floats,
    ends: tuple[float, float],
    steps: int,
    rate: float,
    momentum: float,
) -> bool:
    """So many steps of all inner pivots, in place of the list; whether they went on to the end in finite numbers."""
    speeds = [torch.zeros_like(pivot) for pivot in pivots[1:-1]]
    for _ in range(steps):
        slope = slopes()
        found = [slope(pivot) for pivot in pivots[1:-1]]
        losses = [ends[0], *(value for value, _ in found), ends[1]]
        moved = []
        for place, (speed, (_, gradient)) in enumerate(zip(speeds, found, strict=True), start=1):
            up = losses[place + 1] > losses[place - 1]
            before, here, after = pivots[place - 1 : place + 2]
            speed.mul_(momentum).add_(across(gradient, before, here, after, up))
            moved.append(pivots[place] - rate * speed)
        pivots[1:-1] = moved
        if not all(bool((after - before).isfinite().all()) for before, after in pairwise(pivots)):
            return False
        laid = chain(pivots)
        pivots[1:-1] = [laid.write(float(share), torch.empty_like(pivots[0])) for share in shares[1:-1]]
    return True


def _between(loss: Callable[[torch.Tensor], float], pivots: list[torch.Tensor], count: int) -> tuple[Floats, Floats]:
    """``(K - 1, count + 2)`` the losses on each segment, its ends among them, and ``(K,)`` those of the pivots."""
    losses = np.array([loss(pivot) for pivot in pivots])
    inside = np.linspace(0, 1, count + 2)[1:-1]
    rows = [
        [losses[k], *(loss(torch.lerp(pivots[k], pivots[k + 1], float(t))) for t in inside), losses[k + 1]]
        for k in range(len(pivots) - 1)
    ]
    return np.array(rows), losses


def _inserted(
    pivots: list[torch.Tensor], shares: Floats, dense: Floats, most_new: int, rise: float
) -> tuple[list[torch.Tensor], Floats]:
    """The chain with pivots at the highest places between two that lie too far above the line between them."""
    along = np.linspace(0, 1, dense.shape[1])
    above = dense - ((1 - along) * dense[:, :1] + along * dense[:, -1:])
    spread = float(dense.max() - dense.min())
    wanted = [k for k in np.argsort(-above.max(1))[:most_new].tolist() if above[k].max() > rise * spread > 0]
    for k in sorted(wanted, reverse=True):
        t = float(along[int(above[k].argmax())])
        pivots = [*pivots[: k + 1], torch.lerp(pivots[k], pivots[k + 1], t), *pivots[k + 1 :]]
        shares = np.insert(shares, k + 1, (1 - t) * shares[k] + t * shares[k + 1])
    return pivots, shares
