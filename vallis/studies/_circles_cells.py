"""The circles of `huang2019_visualizations`: what becomes of a network when no wide margin is left.

Points, network and training at "laptop" and "paper" are the paper's: 40 points on a circle, 10 of the other class just
beyond it, nine layers of 100 units, 10,000 steps of Adam over all points. The gap between circle and close points is
what varies; the paper's is the smallest. Nothing was tried on these networks before the claims were written;
that `input_margins` looks for the boundary on further ways, too, came after first runs and changed no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vallis.core.protocols import Measurement, Watcher
from vallis.core.types import Job
from vallis.measurements.curvature.sharpness import Sharpness
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.measurements.landscape.decision_boundary import DecisionBoundary
from vallis.measurements.landscape.input_margins import InputMargins
from vallis.models.mlp import Mlp
from vallis.problems.concentric_circles import ConcentricCircles
from vallis.training.gradient_descent import GradientDescent

TITLE = "concentric circles"
GAPS = (0.3, 0.1, 0.03, 0.01, 0.001)


def tags(gap: float) -> Mapping[str, str | float]:
    """Of a network at a gap."""
    return {"data": "circles", "part": "circles", "gap": gap}


def circles(scale: str, seed: int, *, drawn: bool) -> Iterator[Job]:
    """A network for each gap; `drawn` asks for its map, too."""
    small = scale == "smoke"
    rate, steps = (2e-2, 200) if small else (1e-3, 10_000)
    training = GradientDescent(optimizer="Adam", learning_rate=rate, batch_size=None, max_steps=steps)
    asked: tuple[Measurement | Watcher, ...] = (GeneralizationGap(), InputMargins())
    if not small:
        asked = (*asked, Sharpness(rescaled=False))
    if drawn:
        asked = (*asked, DecisionBoundary(num_points=40 if small else 160, margin=0.05))
    for gap in GAPS[::4] if small else GAPS:
        yield Job(
            problem=ConcentricCircles(gap=gap),
            model=Mlp(widths=(16,) if small else (100,) * 9),
            training=training,
            measurements=asked,
            seed=seed,
            tags=tags(gap),
        )
