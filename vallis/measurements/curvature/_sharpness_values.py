"""The numbers of the sharpness family: each a question of the surface, with its notes and its cost in gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from vallis.core.capture import layers_of
from vallis.core.catalog import unknown
from vallis.core.errors import LossError
from vallis.core.figures import Mark
from vallis.core.objective import Objective
from vallis.core.spelling import in_words
from vallis.core.types import Estimate, Note, Result, Solution, Source
from vallis.measurements.curvature._words import counted
from vallis.numerics.ascent import Ascent, MeanRise
from vallis.numerics.fisher_rao import fisher_rao_norm, model_fisher_rao_norm
from vallis.numerics.means import Floats
from vallis.numerics.spectra import Spectrum
from vallis.numerics.surface import Surface
from vallis.numerics.trace import Trace

SOURCES = (
    Source(
        title="Sharpness-aware minimization for efficiently improving generalization",
        authors="P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur",
        year=2021,
        url="https://arxiv.org/abs/2010.01412",
    ),
    Source(
        title="ASAM: adaptive sharpness-aware minimization for scale-invariant learning of deep neural networks",
        authors="J. Kwon, J. Kim, H. Park, I. K. Choi",
        year=2021,
        url="https://arxiv.org/abs/2102.11600",
    ),
    Source(
        title="How does sharpness-aware minimization minimize sharpness?",
        authors="K. Wen, T. Ma, Z. Li",
        year=2023,
        url="https://arxiv.org/abs/2211.05729",
    ),
    Source(
        title="Fisher-Rao metric, geometry, and complexity of neural networks",
        authors="T. Liang, T. Poggio, A. Rakhlin, J. Stokes",
        year=2019,
        url="https://arxiv.org/abs/1711.01530",
    ),
    Source(
        title="Relative flatness and generalization",
        authors="H. Petzka, M. Kamp, L. Adilova, C. Sminchisescu, M. Boley",
        year=2021,
        url="https://arxiv.org/abs/2001.00939",
    ),
    Source(
        title="Sharp minima can generalize for deep nets",
        authors="L. Dinh, R. Pascanu, S. Bengio, Y. Bengio",
        year=2017,
        url="https://arxiv.org/abs/1703.04933",
    ),
)
_WITH_WEIGHT_MATRIX = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Some of the numbers.

    Attributes:
        values: by name.
        notes: what there is to say of them.
        num_gradients: what they cost; a loss alone is a third of a gradient, a product with the Hessian two.
    """

    values: dict[str, Estimate]
    notes: tuple[Note, ...] = ()
    num_gradients: float = 0.0

    def __add__(self, other: Found) -> Found:
        return Found(
            values={**self.values, **other.values},
            notes=(*self.notes, *other.notes),
            num_gradients=self.num_gradients + other.num_gradients,
        )


def eigenvalue(found: Spectrum, unit: str) -> Found:
    """The largest eigenvalue, with its residual."""
    pair = found.largest
    method = "Hessian; the error bar is the residual, which bounds the distance to an eigenvalue"
    value = Estimate(value=float(pair.values[0]), stderr=float(pair.residuals[0]), unit=unit, method=method)
    notes = () if found.converged else (_not_converged("top eigenvalue", counted(found.num_products, "product")),)
    return Found(values={"top_eigenvalue": value}, notes=notes, num_gradients=2.0 * found.num_products)


def of_trace(name: str, found: Trace, unit: str, what: str) -> Found:
    """A trace, exact or with an error bar over probes."""
    num_probes = len(found.samples)
    method = f"{what}; exact" if found.exact else f"{what}; Hutchinson, {counted(num_probes, 'probe')}"
    value = Estimate(value=found.value, stderr=found.stderr, n=num_probes or 1, unit=unit, method=method)
    # Of the eigenvalue that was taken out it is said already whether it has converged.
    notes = tuple(note for note in found.notes if note.code != "known_not_converged")
    return Found(values={name: value}, notes=notes, num_gradients=2.0 * found.num_products)


def worst(name: str, found: Ascent, unit: str, radius: float) -> Found:
    """The highest place that an ascent found; nothing, where every start has an infinite loss."""
    notes = []
    if found.met_infinity:
        notes.append(_not_finite(name, radius))
    if found.rise != found.rise:
        return Found(values={}, notes=tuple(notes), num_gradients=found.num_gradients)
    if not found.converged:
        notes.append(_not_converged(name, counted(found.num_gradients, "gradient")))
    method = (
        f"projected gradient ascent from {counted(len(found.rises), 'start')}, radius {radius:g}; the maximum is at "
        "least this"
    )
    value = Estimate(value=found.rise, stderr=None, n=len(found.rises), unit=unit, method=method)
    return Found(values={name: value}, notes=tuple(notes), num_gradients=found.num_gradients)


def average(name: str, found: MeanRise, unit: str, radius: float, is_double: bool = False) -> Found:
    """The mean over directions, each with its opposite; `is_double` says whether it was computed in float64."""
    method = f"mean over {len(found.samples)} pairs of opposite random directions, radius {radius:g}"
    cost = 2 / 3 * len(found.samples)
    if not abs(found.value) < float("inf"):
        return Found(values={}, notes=(_not_finite(name, radius),), num_gradients=cost)
    value = Estimate(value=found.value, stderr=found.stderr, n=len(found.samples), unit=unit, method=method)
    notes = []
    if abs(found.value) < 4 * found.rounding:
        way = "a larger radius" if is_double else 'precision="float64", or a larger radius'
        text = f"The {in_words(name)} is no larger than the rounding of the loss: {way} resolves more."
        notes.append(Note(code="rounding", text=text))
    return Found(values={name: value}, notes=tuple(notes), num_gradients=cost)


def no_ball(unit: str) -> Found:
    """The relative rises of a network whose weights are all zero, which no relative change moves."""
    method = "exact: all weights are zero, so the ball relative to them is a point"
    value = Estimate(value=0.0, stderr=0.0, unit=unit, method=method)
    text = "All trained weights are zero, and no change relative to their sizes moves them: the relative rises are 0."
    keys = ("worst_relative_rise", "average_relative_rise")
    return Found(values=dict.fromkeys(keys, value), notes=(Note(code="zero_weights", text=text),))


def fisher_rao(ground: Surface) -> Found:
    """Both Fisher-Rao norms, as far as the loss has them."""
    ways: dict[str, tuple[Callable[[Objective], float], str]] = {
        "fisher_rao_norm": (fisher_rao_norm, "labels of the data, exact on this split"),
        "model_fisher_rao_norm": (model_fisher_rao_norm, "labels of the model (Gauss-Newton), exact on this split"),
    }
    found = Found(values={}, num_gradients=6.0)
    for name, (norm, method) in ways.items():
        try:
            value = norm(ground.objective)
        except LossError as error:
            text = f"There is no {in_words(name)}: {error}."
            found += Found(values={}, notes=(Note(code=f"no_{name}", text=text),))
            continue
        estimate = Estimate(value=value, stderr=0.0, n=len(ground.objective.data), unit=ground.unit, method=method)
        found += Found(values={name: estimate})
    return found


def bars(result: Result, names: Mapping[str, str], keys: Sequence[str], before: str, label: str) -> Mark | None:
    """The positive ones of some values as bars; None where there is none.

    Args:
        result: it holds them.
        names: what each is called in the picture.
        keys: which of them.
        before: stands before the name of each value in the result.
        label: what all these have in common.
    """
    found = {key: result.values.get(f"{before}{key}") for key in keys}
    shown = {key: one for key, one in found.items() if isinstance(one, Estimate) and one.value > 0}
    if not shown:
        return None
    words = [names[key] for key in shown]
    heights, errors = np.array([one.value for one in shown.values()]), error_bars(shown.values())
    return Mark(kind="bar", x=words, y=heights, error=errors, label=label)


def error_bars(found: Iterable[Estimate]) -> Floats | None:
    """Half-lengths of error bars, zero where there is none; None if no value has one."""
    errors = np.array([one.stderr or 0.0 for one in found])
    return errors if errors.any() else None


def weight_of(solution: Solution, objective: Objective, layer: str) -> str | None:
    """The weight matrix of a layer, of the last that has one if none is named; None where no layer has.

    Raises:
        UnknownPart: the layer that is named has none that is trained.
    """
    parts: dict[str, Any] = dict(solution.net.module.named_modules())
    names = [
        f"{one.name}.weight" if one.name else "weight"
        for one in layers_of(solution.net.module)
        if isinstance(parts[one.name], _WITH_WEIGHT_MATRIX)
    ]
    trained = [name for name in names if name in objective.names]
    if not layer:
        return trained[-1] if trained else None
    if f"{layer}.weight" not in trained:
        raise unknown("layer with a weight matrix", layer, [name.removesuffix(".weight") for name in trained])
    return f"{layer}.weight"


def _not_converged(what: str, after: str) -> Note:
    text = f"The {in_words(what)} has not converged after {after}: it may be larger."
    return Note(code="not_converged", text=text)


def _not_finite(name: str, radius: float) -> Note:
    text = f"Within the radius {radius:g} of the {in_words(name)} there are places where the loss is no finite number."
    return Note(code="not_finite", text=text)
