"""Two classes on circles in the plane, told apart only by fingers as thin as one likes: a task without a wide margin.

One class lies on a circle. Of the other most points lie far outside, and a few between the points of the circle, beyond
it by a gap. A classifier that is right everywhere must pass between neighbours of both classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from vallis.core.data import Arrays
from vallis.core.errors import SettingsError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.problems._checks import check_choice, check_number

Losses = Literal["cross_entropy", "binary_cross_entropy"]
_LOSSES: Mapping[str, type[Loss]] = {"cross_entropy": CrossEntropy, "binary_cross_entropy": BinaryCrossEntropy}


@dataclass(frozen=True, kw_only=True)
class ConcentricCircles:
    """Points ``(N, 2)``: class 1 on the inner circle, class 0 on the outer one and just beyond the inner one.

    The defaults are the counter-example of Huang et al. 2019 (40, 80 and 10 points). Nothing is drawn at random.

    Attributes:
        gap: how far beyond the inner circle the close points lie; they stand in the middle between two of its points.
        num_inner: points of class 1.
        num_outer: points of class 0 on the outer circle.
        num_close: points of class 0 beside the inner circle; at most as many as it has points.
        inner_radius: of the inner circle.
        outer_radius: of the outer one.
        loss: "cross_entropy" (two logits) or "binary_cross_entropy" (one).
    """

    gap: float = 0.001
    num_inner: int = 40
    num_outer: int = 80
    num_close: int = 10
    inner_radius: float = 0.4
    outer_radius: float = 0.95
    loss: Losses = "cross_entropy"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name, least in (("num_inner", 1), ("num_outer", 1), ("num_close", 0)):
            check_number(f"concentric_circles.{name}", getattr(self, name), least)
        check_choice("concentric_circles.loss", self.loss, Losses)
        if self.num_close > self.num_inner:
            raise SettingsError(
                f"concentric_circles.num_close must be at most num_inner={self.num_inner}, {self.num_close} came: "
                "no more fit between its points"
            )
        if not (self.gap > 0 and 0 < self.inner_radius < self.inner_radius + self.gap <= self.outer_radius):
            raise SettingsError(
                "concentric_circles.gap must be above 0 and keep the close points within the outer circle, "
                f"{self.gap} came between radii {self.inner_radius} and {self.outer_radius}: change them"
            )

    @classmethod
    def tiny(cls) -> ConcentricCircles:
        """The cheapest settings, for tests."""
        return cls(num_inner=8, num_outer=8, num_close=4)

    @property
    def closest(self) -> float:
        """The distance between the two nearest points of different classes: no boundary is further from both than half.

        It does not vanish with the gap: the close points stand between those of the circle.
        """
        return math.hypot(
            (self.inner_radius + self.gap) * math.cos(math.pi / self.num_inner) - self.inner_radius,
            (self.inner_radius + self.gap) * math.sin(math.pi / self.num_inner),
        )

    def build(self, rng: Rng) -> tuple[Task, ...]:
        close = circle(self.inner_radius + self.gap, self.num_close, math.pi / self.num_inner, self._strides)
        x = torch.cat([circle(self.inner_radius, self.num_inner), circle(self.outer_radius, self.num_outer), close])
        y = torch.zeros(len(x), dtype=torch.int64)
        y[: self.num_inner] = 1
        split = Arrays(x=x.to(torch.float32), y=y, index=torch.arange(len(x)))
        return (Task(name="concentric_circles", splits={"train": split}, loss=_LOSSES[self.loss]()),)

    @property
    def _strides(self) -> list[float]:
        """The angles of the close points before they are turned into the gaps: evenly chosen points of the circle."""
        step = 2 * math.pi / self.num_inner
        return [step * (place * self.num_inner // self.num_close) for place in range(self.num_close)]


def circle(radius: float, num_points: int, turn: float = 0.0, angles: list[float] | None = None) -> torch.Tensor:
    """``(num_points, 2)`` float64 points on a circle, equally spaced unless their angles are given, turned."""
    spaced = [2 * math.pi * place / num_points for place in range(num_points)] if angles is None else angles
    at = torch.tensor(spaced, dtype=torch.float64) + turn
    return radius * torch.stack([at.cos(), at.sin()], dim=1)
