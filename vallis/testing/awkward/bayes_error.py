"""A theory of nothing measured: the best possible error on two Gaussian clouds, against their distance.

Definition: the error of the classifier that knows both clouds, ``Phi(-distance / 2)`` for unit variance.
Unit: a probability.
Source: Duda, Hart and Stork 2001, Pattern Classification, section 2.6.
Cost: none.
Says little when: the clouds are not Gaussian, or not of one covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtr

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Outcome, Result, Source


@dataclass(frozen=True, kw_only=True)
class BayesError:
    """The error as a curve.

    Attributes:
        largest_distance: up to which the curve goes, from 0.
        num_points: on it.
    """

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = ()

    largest_distance: float = 6.0
    num_points: int = 25

    def compute(self, rng: Rng) -> Outcome:
        distance = np.linspace(0.0, self.largest_distance, self.num_points)
        error = ndtr(-distance / 2)
        curve = Array(data=error, dims=("distance",), coords={"distance": distance})
        last = Estimate(value=float(error[-1]), stderr=0.0, method="closed form")
        return Result(values={"error": curve, "error_at_largest_distance": last})

    def figures(self, result: Result) -> tuple[Figure, ...]:
        curve = result.array("error")
        line = Mark(kind="line", x=curve.coords["distance"], y=curve.data)
        axes = Axis(label="distance (standard deviations)"), Axis(label="error")
        return (Figure(name="bayes_error", title="The best possible error", x=axes[0], y=axes[1], marks=(line,)),)

    def reading(self, result: Result) -> str:
        at_largest = result.estimate("error_at_largest_distance")
        return f"At a distance of {self.largest_distance:g}, nobody errs less than {at_largest.value:.2g}."
