"""How sharp the minimum is, by every common measure side by side, because they disagree.

Definition: nine numbers at one point w of the mean loss L over a split.
    top_eigenvalue and trace are of the Hessian. worst_rise is the maximum of L(w + e) - L(w) over |e| <= radius (SAM),
    average_rise its mean over |e| = radius, all directions alike. worst_relative_rise and average_relative_rise are the
    same with |e / |w|| in place of |e|, elementwise: the operator that normalises (ASAM) is the diagonal matrix of all
    |w_i|, biases included. fisher_rao_norm is sqrt(E <dl/dw, w>^2) over the examples with their labels,
    model_fisher_rao_norm sqrt(w'Gw) with G the Gauss-Newton matrix: for cross-entropy, and for squared error up to a
    factor, the same with labels drawn from the network. A loss that is not convex in the scores may have none.
    relative_flatness is sum over units s, t of <w_s, w_t> Tr(H_st) of one layer's weights.
    Rescaling the layers of a ReLU network, which changes no output, changes the first four and none of the other five;
    the relative rises and the Fisher-Rao norms do not see single units rescaled either. No measure sees the units of a
    layer in another order. rescaled_... are those of a copy of a ReLU network, with the same outputs for all inputs and
    the output of every hidden layer multiplied by a random number between 1/e and e, which the next divides out.
Unit: nats/weight^2 for top_eigenvalue and trace, nats for all others (nats is the loss's own unit where it is no
    log-likelihood).
Source: Foret et al. (2021), eq. 1; Kwon et al. (2021), definition 1; Wen, Ma and Li (2023), section 2; Liang et al.
    (2019), definition 2; Petzka et al. (2021), definition 3; Dinh et al. (2017), section 4 (rescaling).
Cost: two gradients for each product with the Hessian (tens for the eigenvalue, one a probe for the trace), one for each
    step of an ascent, two thirds for each direction of an average, some six for the Fisher-Rao norms; all that twice
    with a rescaled copy.
Says little when: networks of different scale are compared by a measure that rescaling changes. An ascent finds a lower
    bound of the maximum. Where all labels are fitted, the Fisher-Rao norm vanishes whatever lies around.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.figures import Axis, Figure
from vallis.core.numbers import quantity, written
from vallis.core.rng import Rng
from vallis.core.spelling import in_words
from vallis.core.types import Array, Estimate, Note, Outcome, Result, Solution, Source
from vallis.measurements.curvature import _sharpness_values as family
from vallis.measurements.curvature._settings import must_be_at_least, must_be_positive
from vallis.measurements.curvature._words import listed
from vallis.numerics.ascent import mean_rise, worst_rise
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.relative_flatness import relative_flatness
from vallis.numerics.surface import Precision, Surface, surface
from vallis.numerics.trace import EXACT_SIZE, Trace, trace
from vallis.testing.symmetries import layer_rescaling

_KEYS = (
    *("top_eigenvalue", "trace", "worst_rise", "average_rise", "worst_relative_rise", "average_relative_rise"),
    *("fisher_rao_norm", "model_fisher_rao_norm", "relative_flatness"),
)
_NAMES = {key: in_words(key) for key in _KEYS}
_SEEN = ("top_eigenvalue", "trace", "worst_rise", "average_rise")
_NOT_SEEN = tuple(key for key in _NAMES if key not in _SEEN)
_NORMS = ("fisher_rao_norm", "relative_flatness")


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """The family of sharpness measures at one point.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        radius: of the ball for worst_rise and average_rise, a Euclidean distance of weights.
        relative_radius: of the ball for the relative ones, a pure number.
        layer: of the relative flatness; the last one with a weight matrix if empty.
        num_starts: random directions in which ascents begin, beside that of the gradient and, where it makes sense, of
            the top eigenvector.
        max_steps: gradients for each ascent.
        num_directions: pairs of opposite directions for the averages.
        num_probes: random vectors for the trace and the relative flatness, where they are not exact.
        tolerance: of the eigenvalue's residual and of the first-order rise that an ascent may leave, both relative.
        max_products: the most products with the Hessian for the top eigenvalue.
        rescaled: measure a copy, too, whose layers are rescaled at random without a change of any output, where the
            architecture is known to allow it (ReLU networks of dense and convolutional layers).
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[Mapping[str, frozenset[str]]] = {
        **dict.fromkeys(_SEEN, frozenset({"unit_permutation"})),
        **dict.fromkeys(_NOT_SEEN, frozenset({"layer_rescaling", "unit_permutation"})),
    }
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"full": {"max_examples": 10_000}}
    sources: ClassVar[tuple[Source, ...]] = family.SOURCES

    split: str = "train"
    max_examples: int | None = None
    radius: float = 0.05
    relative_radius: float = 0.5
    layer: str = ""
    num_starts: int = 2
    max_steps: int = 30
    num_directions: int = 20
    num_probes: int = 16
    tolerance: float = 1e-3
    max_products: int = 300
    rescaled: bool = True
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        must_be_positive(self, "radius", "relative_radius", "tolerance")
        must_be_at_least(0, self, "num_starts")
        must_be_at_least(1, self, "max_steps", "num_directions", "num_probes", "max_products")

    @classmethod
    def tiny(cls) -> Sharpness:
        """The cheapest settings, for tests."""
        return cls(num_starts=0, max_steps=8, num_directions=3, num_probes=3, max_products=60, rescaled=False)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, self.precision, self.max_examples, rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        found = self._family(subject, ground, rng)
        values: dict[str, Estimate | Array] = {key: found.values[key] for key in _NAMES if key in found.values}
        twin = layer_rescaling(subject, rng.child("rescaling")) if self.rescaled else None
        if twin is not None and _is_elsewhere(twin, subject):
            other = self._family(twin, surface(twin, self.split, self.precision, self.max_examples, rng), rng)
            values |= {f"rescaled_{key}": other.values[key] for key in _NAMES if key in other.values}
            found = replace(found, num_gradients=found.num_gradients + other.num_gradients)
        values["num_gradients"] = Estimate(
            value=found.num_gradients, stderr=None, unit="gradients", method="counted; another start may need others"
        )
        return Result(values=values, notes=(*ground.notes, *found.notes))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        groups = {
            "rescaling layers changes it": (_SEEN, ""),
            "rescaling layers does not": (_NOT_SEEN, ""),
            "the same function, its layers rescaled": (tuple(_NAMES), "rescaled_"),
        }
        marks = [family.bars(result, _NAMES, keys, before, label) for label, (keys, before) in groups.items()]
        shown = tuple(mark for mark in marks if mark is not None)
        if not shown:
            return ()
        hidden = [name for key, name in _NAMES.items() if key in result.values and result.estimate(key).value <= 0]
        unit = result.estimate("top_eigenvalue").unit.removesuffix("/weight^2")
        below = f" Not positive, so not drawn: {', '.join(hidden)}." if hidden else ""
        figure = Figure(
            name="sharpness",
            title="Measures of sharpness",
            x=Axis(label="measure", scale="category"),
            y=Axis(label="value, each in its unit", scale="log"),
            marks=shown,
            caption=f"The first two are in {unit}/weight^2, all others in {unit}. The worst rise is that of SAM, the "
            f"worst relative rise that of ASAM. Compare one measure between networks, never two of one network.{below}",
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        rises = [_of_rises(result, "", f"within a distance of {self.radius:g}")]
        if not any(note.code == "zero_weights" for note in result.notes):
            where = f"within {self.relative_radius:g} in units of the weights' own sizes"
            rises.append(_of_rises(result, "relative_", where))
        top = result.estimate("top_eigenvalue")
        text = "; ".join([*filter(None, rises), _of_curvature(top, self.radius)])
        text = f"{text[:1].upper()}{text[1:]}. {_of_scale(result)}"
        if any(note.code == "not_converged" for note in result.notes):
            text += " Not everything has converged, and may be larger."
        return text

    def _family(self, solution: Solution, ground: Surface, rng: Rng) -> family.Found:
        found, top = self._curvatures(ground, rng)
        found += self._rises(ground, top, rng)
        found += family.fisher_rao(ground)
        return found + self._flatness(solution, ground, rng)

    def _curvatures(self, ground: Surface, rng: Rng) -> tuple[family.Found, torch.Tensor]:
        """The top eigenvalue and the trace, and the direction of the former."""
        unit, hessian = f"{ground.unit}/weight^2", Hessian(ground.objective)
        # Where all eigenvalues are at hand, so is their sum.
        most = min(EXACT_SIZE, self.max_products)
        wanted = hessian.size if hessian.size <= most else 1
        spectrum = eigenpairs(
            hessian, largest=wanted, rng=rng.child("top"), tolerance=self.tolerance, max_products=self.max_products
        )
        whole = Trace(value=float(spectrum.largest.values.sum()), stderr=0.0, samples=np.empty(0), num_products=0)
        if wanted < hessian.size:
            whole = trace(
                hessian,
                num_probes=self.num_probes,
                rng=rng.child("trace"),
                known=spectrum.largest,
                exact_size=most,
            )
        hessian.clear()
        found = family.eigenvalue(spectrum, unit) + family.of_trace("trace", whole, unit, "Hessian")
        return found, spectrum.largest.vectors[:, 0]

    def _rises(self, ground: Surface, top: torch.Tensor, rng: Rng) -> family.Found:
        found = family.Found(values={})
        is_zero = not any(bool(value.any()) for value in ground.objective.origin)
        for relative, key, radius in ((False, "", self.radius), (True, "relative_", self.relative_radius)):
            if relative and is_zero:
                found += family.no_ball(ground.unit)
                continue
            stream = rng.child("rises", key)
            highest = worst_rise(
                ground.objective,
                radius,
                rng=stream.child("worst"),
                relative=relative,
                starts=() if relative else (top,),
                # The top eigenvector is not the steepest in units of the weights: random ones stand in for it.
                num_starts=self.num_starts + 2 * relative,
                max_steps=self.max_steps,
                tolerance=self.tolerance,
            )
            mean = mean_rise(
                ground.objective,
                radius,
                num_directions=self.num_directions,
                rng=stream.child("average"),
                relative=relative,
            )
            found += family.worst(f"worst_{key}rise", highest, ground.unit, radius)
            is_double = ground.objective.dtype == torch.float64
            found += family.average(f"average_{key}rise", mean, ground.unit, radius, is_double)
        return found

    def _flatness(self, solution: Solution, ground: Surface, rng: Rng) -> family.Found:
        weight = family.weight_of(solution, ground.objective, self.layer)
        if weight is None:
            text = "There is no relative flatness: no layer that is trained has a weight matrix."
            return family.Found(values={}, notes=(Note(code="no_relative_flatness", text=text),))
        found = relative_flatness(ground.objective, weight, num_probes=self.num_probes, rng=rng.child("flatness"))
        return family.of_trace("relative_flatness", found, ground.unit, f"of {weight}")


def _is_elsewhere(one: Solution, other: Solution) -> bool:
    """Whether any weight differs: weights of zero stay where they are."""
    return any(not torch.equal(value, other.params[name]) for name, value in one.params.items())


def _of_rises(result: Result, key: str, where: str) -> str:
    worst, mean = (result.values.get(f"{kind}_{key}rise") for kind in ("worst", "average"))
    if not isinstance(worst, Estimate) or not isinstance(mean, Estimate):
        return ""
    if worst.value == 0:
        return f"{where} no place was found where the loss is higher"
    return f"{where} the loss rises by at least {quantity(worst)} at worst, and by {quantity(mean, 2)} on average"


def _of_curvature(top: Estimate, radius: float) -> str:
    """What the ascent would find were there no slope, and no curvature but the largest."""
    if top.value <= 0:
        return f"no direction was found in which the loss bends up (the largest eigenvalue is {quantity(top)})"
    rise = written(top.value * radius**2 / 2, digits=2)
    return f"the largest curvature of {quantity(top)} alone, without a slope, makes for a rise of {rise} at {radius:g}"


def _of_scale(result: Result) -> str:
    """Which of the numbers can be compared between networks, shown on two that are one function."""
    safe = ["the relative rises" for key in ("worst_relative_rise",) if key in result.values]
    safe += [f"the {_NAMES[key]} of {quantity(result.estimate(key), 2)}" for key in _NORMS if key in result.values]
    factors = []
    for key in ("top_eigenvalue", "worst_rise", "worst_relative_rise"):
        one, other = (result.values.get(f"{before}{key}") for before in ("", "rescaled_"))
        if isinstance(one, Estimate) and isinstance(other, Estimate) and one.value > 0:
            factors.append(f"the {_NAMES[key]} by {written(other.value / one.value, digits=3)}")
    if not factors:
        save = f", save {listed(safe)}" if safe else ""
        return f"Where layers can be rescaled without a change of any output (ReLU networks), that changes them{save}."
    only = f": only {listed(safe)} can be compared between networks" if safe else ""
    return f"Rescaling the layers, which changes no output, multiplies {listed(factors)}{only}."
