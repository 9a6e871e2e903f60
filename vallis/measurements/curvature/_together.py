"""Measurements that ask for products with the Hessians of many networks, in step where these go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vallis.core.protocols import Measurement
from vallis.core.rng import Rng
from vallis.core.spec import name_of
from vallis.core.types import Outcome, Solution
from vallis.numerics.asking import Asking
from vallis.numerics.hessians import in_step
from vallis.numerics.operators import Operator
from vallis.numerics.surface import Surface

Look = Callable[[Surface, Operator, Rng], Asking[Outcome]]


def measured_together(
    part: Measurement, subjects: Sequence[Solution], grounds: Sequence[Surface], rng: Rng, look: Look
) -> list[Outcome]:
    """The outcomes of a measurement for many solutions.

    Args:
        part: measures those that have to be looked at alone.
        subjects: the solutions.
        grounds: their loss surfaces.
        rng: the stream of each.
        look: the measurement on a surface, from what asks for products with its Hessian.
    """
    sound = [place for place, ground in enumerate(grounds) if ground.not_finite() is None]
    found = in_step(
        [grounds[place].objective for place in sound],
        lambda row, hessian: look(grounds[sound[row]], hessian, rng),
        name_of(part),
    )
    known = dict(zip(sound, found, strict=True))
    return [known.get(place) or part.measure(each, rng) for place, each in enumerate(subjects)]
