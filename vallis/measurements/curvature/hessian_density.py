"""How all the eigenvalues of the Hessian are distributed: how few directions are sharp, and how flat the many are.

Definition: the distribution of the P eigenvalues of the matrix of second derivatives of the mean loss over a split, by
    all trainable parameters (or of its Gauss-Newton part). Eigenvalues that stand alone are known one by one, each with
    the residual within which there is one; the rest is known by stochastic Lanczos quadrature. The density is that of
    the spectrum smoothed by a Gaussian of a declared width, and its band is for exactly that: a 95 % interval over the
    probes around bounds of what so few steps leave open. A direction is called flat where the magnitude of its
    eigenvalue is at most `flat` times the largest.
Unit: shares of all directions; eigenvalues in nats/weight^2 (nats is the loss's own unit where it is no
    log-likelihood).
Source: Ghorbani et al. (2019), section 3; Lin, Saad and Yang (2016); Papyan (2018).
Cost: two gradients for each product; ``num_search_steps + num_probes num_steps + num_checks`` products, P products
    for up to 256 parameters; memory for as many vectors of P numbers as there are search steps.
Says little when: the bulk close to zero is asked for: what is far below the largest eigenvalue is resolved only after
    many steps, and the band says so by its width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import count, quantity, written
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Note, Outcome, Result, Solution, Source
from vallis.measurements.curvature._together import measured_together
from vallis.numerics.asking import Asking, answered
from vallis.numerics.curvature import GaussNewton, Hessian
from vallis.numerics.density import Density, spreading
from vallis.numerics.operators import Operator
from vallis.numerics.powers import Powers, squaring
from vallis.numerics.probes import Floats
from vallis.numerics.smoothing import Kernel, Scale, smoothed
from vallis.numerics.surface import Precision, Surface, surface

_NUM_POINTS = 301
_DECADES = 6  # below the largest eigenvalue
_NEARLY_ALL = 0.99
_NAMES = {"hessian": "Hessian", "gauss_newton": "Gauss-Newton matrix"}


@dataclass(frozen=True, kw_only=True)
class HessianDensity:
    """The distribution of all eigenvalues, with a band.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        matrix: whose eigenvalues: those of the Hessian, or of its Gauss-Newton part.
        num_probes: how many random vectors; one has no band.
        num_steps: products with each.
        num_search_steps: products with one more, which finds the eigenvalues that stand alone; 0 for no search.
        num_checks: products with independent vectors that check the first two moments; 0 for none.
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
        scale: the axis that the density is smoothed on: "linear", or "log", in decades on both sides of zero.
        width: the standard deviation of the smoothing, as a share of the range of eigenvalues, or in decades.
        flat: up to this share of the largest magnitude, a curvature counts as none.
    """

    version: ClassVar[int] = 5
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset()
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"full": {}}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="An investigation into neural net optimization via Hessian eigenvalue density",
            authors="B. Ghorbani, S. Krishnan, Y. Xiao",
            year=2019,
            url="https://arxiv.org/abs/1901.10159",
        ),
        Source(
            title="Approximating spectral densities of large matrices",
            authors="L. Lin, Y. Saad, C. Yang",
            year=2016,
            url="https://arxiv.org/abs/1308.5467",
        ),
        Source(
            title="The full spectrum of deepnet Hessians at scale: dynamics with SGD training and sample size",
            authors="V. Papyan",
            year=2018,
            url="https://arxiv.org/abs/1811.07062",
        ),
    )

    split: str = "train"
    max_examples: int | None = None
    matrix: Literal["hessian", "gauss_newton"] = "hessian"
    num_probes: int = 4
    num_steps: int = 20
    num_search_steps: int = 40
    num_checks: int = 4
    precision: Precision = "auto"
    scale: Scale = "linear"
    width: float | None = None
    flat: float = 1e-3

    def __post_init__(self) -> None:
        fewest = min(self.num_search_steps, self.num_checks)
        if min(self.num_probes, self.num_steps) < 1 or fewest < 0 or self.num_checks == 1:
            raise SettingsError(
                f"at least one probe and step, and no or two checks, were required, {self} came: change the counts"
            )
        if not (0 < self.flat < 1 and (self.width is None or self.width > 0)):
            raise SettingsError(f"flat between 0 and 1 and a width above 0 were required, {self} came: change them")
        if self.matrix not in _NAMES or self.scale not in ("linear", "log"):
            raise SettingsError(
                f"matrix 'hessian' or 'gauss_newton' and scale 'linear' or 'log' were required, {self.matrix!r} and "
                f"{self.scale!r} came: choose among them"
            )

    @classmethod
    def tiny(cls) -> HessianDensity:
        """The cheapest settings, for tests."""
        return cls(num_probes=2, num_steps=4, num_search_steps=8, num_checks=0)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, self.precision, self.max_examples, rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        operator = (Hessian if self.matrix == "hessian" else GaussNewton)(ground.objective)
        found = answered(self._asking(ground, operator, rng))
        operator.clear()
        return found

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        if self.matrix != "hessian":
            return [self.measure(each, rng) for each in subjects]
        grounds = [surface(each, self.split, self.precision, self.max_examples, rng) for each in subjects]
        return measured_together(self, subjects, grounds, rng, self._asking)

    def _asking(self, ground: Surface, operator: Operator, rng: Rng) -> Asking[Outcome]:
        """The answer, from what asks for products with the operator."""
        found = yield from spreading(
            operator,
            num_probes=self.num_probes,
            num_steps=self.num_steps,
            num_search_steps=self.num_search_steps,
            rng=rng.child("density"),
        )
        checked = None
        if self.num_checks and not found.exact:
            checked = yield from squaring(
                operator, num_probes=self.num_checks, rng=rng.child("checks"), known=found.pairs
            )
        return self._result(ground, found, checked, operator.num_products)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return (self._curve(result), _shares(result)) if "density" in result.values else (_shares(result),)

    def reading(self, result: Result) -> str:
        alone, size = result.estimate("num_alone"), result.estimate("num_alone").n
        largest = replace(result.estimate("largest_magnitude"), stderr=None)
        if alone.value == size:
            said = [f"All {count(size)} eigenvalues are known, the largest in magnitude {quantity(largest)}"]
        else:
            said = [
                f"{count(int(alone.value))} of {count(size)} eigenvalues stand alone; the largest in magnitude is "
                f"{quantity(largest)}"
            ]
            if "alone_square_fraction" in result.values:
                share = replace(result.estimate("alone_square_fraction"), stderr=None)
                said.append(f"they hold {quantity(share, 2)} of the squared curvature")
        return f"{'; '.join(said)}. {self._of_the_flat(result)}."

    def _of_the_flat(self, result: Result) -> str:
        low, high = result.array("flat_fraction_interval").data
        if high - low > 0.5:
            return _where_it_is_resolved(result)
        flat, down = (_share_in_words(result, name) for name in ("flat_fraction", "negative_fraction"))
        return (
            f"{flat[:1].upper()}{flat[1:]} of all directions are flat, within {self.flat:g} of the largest, and {down} "
            "bend down by more than that"
        )

    def _result(self, ground: Surface, found: Density, checked: Powers | None, num_products: int) -> Result:
        unit = f"{ground.unit}/weight^2"
        values = self._summary(found, unit)
        values["num_products"] = Estimate(value=num_products, stderr=None, unit="products", method="counted")
        ranks = {"rank": np.arange(1.0, len(found.known) + 1)}
        if len(found.known):
            values["eigenvalues_alone"] = Array(data=found.known, dims=("rank",), unit=unit, coords=ranks)
            values["residuals_alone"] = Array(data=found.residuals, dims=("rank",), unit=unit, coords=ranks)
        if found.scale > 0:
            values |= self._density(found, unit) | self._beyond(found)
        return Result(values=values, notes=(*ground.notes, *self._troubles(found, checked)))

    def _summary(self, found: Density, unit: str) -> dict[str, Estimate | Array]:
        way = "dense solver" if found.exact else "stochastic Lanczos quadrature"
        first, second = found.moment(1), found.moment(2)
        values: dict[str, Estimate | Array] = {
            "num_alone": Estimate(
                value=len(found.known), stderr=None, n=found.size, method="eigenvalues known one by one"
            ),
            "largest_magnitude": Estimate(
                value=found.scale, stderr=None, unit=unit, method=f"{way}; the true one is not smaller, up to rounding"
            ),
            "mean_eigenvalue": _estimate(first, found, unit, way),
            "mean_square_eigenvalue": _estimate(second, found, f"({unit})^2", way),
        }
        if second[0] > 0:
            part = float(np.sum(found.known**2)) / found.size / second[0]
            values["alone_square_fraction"] = _estimate(
                (part, part * second[1] / second[0]), found, "1", f"{way}; squares of those alone over squares of all"
            )
        limit = self.flat * found.scale
        below = found.cumulative([math.nextafter(-limit, -math.inf)])
        down = float(below.value[0]), float(below.low[0]), float(below.high[0])
        for name, share in (("flat_fraction", found.fraction_within(limit)), ("negative_fraction", down)):
            values |= _share(name, share, found, way)
        return values

    def _kernel(self, found: Density) -> Kernel:
        if self.scale == "log":
            return Kernel(width=self.width or 0.15, scale="log", floor=found.scale * 10.0**-_DECADES)
        low, high = found.edges
        return Kernel(width=(self.width or 0.01) * max(high - low, 1e-3 * found.scale))

    def _density(self, found: Density, unit: str) -> dict[str, Estimate | Array]:
        kernel = self._kernel(found)
        ends = kernel.coordinate(np.array(found.edges)) + 4 * kernel.width * np.array([-1.0, 1.0])
        points = kernel.values(np.linspace(ends[0], ends[1], _NUM_POINTS))
        curve = smoothed(found, points, kernel)
        per = "1/decade" if self.scale == "log" else f"1/({unit})"
        data = {"density": curve.value} | _ends("density", curve.low, curve.high)
        values: dict[str, Estimate | Array] = {
            name: Array(data=each, dims=("eigenvalue",), unit=per, coords={"eigenvalue": points})
            for name, each in data.items()
        }
        unit_of_width = "decades" if self.scale == "log" else unit
        values["kernel_width"] = Estimate(
            value=kernel.width, stderr=None, unit=unit_of_width, method="standard deviation of the Gaussian, chosen"
        )
        return values

    def _beyond(self, found: Density) -> dict[str, Estimate | Array]:
        """The share of eigenvalues above each of a row of magnitudes."""
        magnitudes = found.scale * np.logspace(-_DECADES, 0, 8 * _DECADES + 1)
        inside = np.array([found.fraction_within(float(each)) for each in magnitudes])
        data = {"share_beyond": 1 - inside[:, 0]} | _ends("share_beyond", 1 - inside[:, 2], 1 - inside[:, 1])
        return {
            name: Array(data=np.maximum(each, 0.0), dims=("magnitude",), coords={"magnitude": magnitudes})
            for name, each in data.items()
        }

    def _curve(self, result: Result) -> Figure:
        unit = result.estimate("largest_magnitude").unit
        height = "share for each decade" if self.scale == "log" else f"share for each {unit}"
        sides = (("bends up", 1.0), ("bends down", -1.0)) if self.scale == "log" else (("all, smoothed", 0.0),)
        marks = [mark for label, side in sides for mark in _side(result, label, side)]
        name = _NAMES[self.matrix]
        along = "magnitude of the eigenvalue" if self.scale == "log" else "eigenvalue"
        return Figure(
            name="eigenvalue_density",
            title=f"Density of the eigenvalues of the {name}",
            x=Axis(label=f"{along} ({unit})", scale=self.scale),
            y=Axis(label=height, scale="log"),
            marks=(*marks, *_alone(result, self.scale)),
            caption="Band: 95 % for the exact spectrum smoothed alike. Points: eigenvalues that are known one by one.",
        )

    def _troubles(self, found: Density, checked: Powers | None) -> tuple[Note, ...]:
        notes = list(found.notes)
        if not found.exact and len(found.bulk) < 2:
            notes.append(
                Note(code="no_error_bar", text="One probe tells nothing of how much probes differ: take more.")
            )
        magnitude = float(np.abs(found.measure()[0]) @ found.measure()[1])
        if found.change > 0.25 * magnitude:
            text = (
                "The last quarter of the steps moved the distribution by "
                f"{written(found.change / magnitude, digits=2)} of the mean magnitude of an eigenvalue: "
                "take more steps."
            )
            notes.append(Note(code="not_converged", text=text))
        if checked is not None:
            notes += _disagreements(found, checked)
        return tuple(notes)


def _estimate(moment: tuple[float, float], found: Density, unit: str, method: str) -> Estimate:
    # Nothing that was drawn is exact, though probes may agree.
    known = found.exact or 0 < moment[1] < math.inf
    stderr, n = moment[1] if known else None, found.size if found.exact else len(found.bulk)
    return Estimate(value=moment[0], stderr=stderr, n=n, unit=unit, method=method)


def _ends(name: str, low: Floats, high: Floats) -> dict[str, Floats]:
    """The two ends of a band, where there is one."""
    return {f"{name}_low": low, f"{name}_high": high} if np.isfinite([low, high]).all() else {}


def _share(name: str, share: tuple[float, float, float], found: Density, way: str) -> dict[str, Estimate | Array]:
    """A share with its interval, which is no symmetric error bar."""
    value, *ends = share
    # An eigenvalue at the limit, up to rounding, leaves open whether it counts.
    n, known = found.size if found.exact else len(found.bulk), 0.0 if found.exact and ends[0] == ends[1] else None
    interval = Array(data=np.array(ends), dims=("end",), coords={"end": np.array([0.025, 0.975])})
    return {
        name: Estimate(value=value, stderr=known, n=n, method=f"{way}; see the interval"),
        f"{name}_interval": interval,
    }


def _disagreements(found: Density, checked: Powers) -> list[Note]:
    """Whether independent products see the same mean and mean square, within five standard errors."""
    notes = []
    for degree, name, told in ((1, "mean", checked.first), (2, "mean square", checked.second)):
        value, stderr = found.moment(degree)
        other, error = told.value / found.size, (told.stderr or 0.0) / found.size
        rounding = 1e-5 * found.scale**degree * max(1, len(found.known)) / found.size
        if abs(value - other) > 5 * math.hypot(stderr, error) + rounding:
            text = (
                f"The {name} of the eigenvalues is {written(value)} by quadrature and {written(other)} by independent "
                "vectors, further apart than chance explains: take more probes and steps."
            )
            notes.append(Note(code="moments_disagree", text=text))
    return notes


def _side(result: Result, label: str, side: float) -> list[Mark]:
    """The density on one side of zero, over magnitudes; on both if the side is 0."""
    curve = result.array("density")
    x = curve.coords["eigenvalue"]
    # Far below the height of a single eigenvalue there is only the tail of the kernel.
    floor = 1e-2 / result.estimate("num_alone").n / (1.0 if side else max(np.ptp(x), 1e-300))
    shown = (curve.data > floor) & ((x * side > 0) | (side == 0))
    if not shown.any():
        return []
    at = np.abs(x[shown]) if side else x[shown]
    marks = [Mark(kind="line", x=at, y=curve.data[shown], label=label)]
    if "density_low" in result.values:
        low, high = (result.array(f"density_{end}").data[shown] for end in ("low", "high"))
        marks.append(Mark(kind="band", x=at, low=np.maximum(low, floor), high=high, label="95 %"))
    return marks


def _alone(result: Result, scale: Scale) -> list[Mark]:
    """A point for each eigenvalue that is known, at the height of a single one."""
    if "eigenvalues_alone" not in result.values:
        return []
    found, size = result.array("eigenvalues_alone").data, result.estimate("num_alone").n
    found = found[found != 0] if scale == "log" else found
    if not len(found):
        return []
    height = Kernel(width=result.estimate("kernel_width").value).height(np.zeros(len(found))) / size
    return [Mark(kind="scatter", x=np.abs(found) if scale == "log" else found, y=height, label="known one by one")]


def _shares(result: Result) -> Figure:
    unit = result.estimate("largest_magnitude").unit
    if "share_beyond" not in result.values:
        at, share = np.array([1.0]), np.array([0.0])
        marks = [Mark(kind="line", x=at, y=share, label="no curvature at all")]
    else:
        curve = result.array("share_beyond")
        at = curve.coords["magnitude"]
        floor = 0.5 / result.estimate("num_alone").n
        marks = [Mark(kind="line", x=at, y=np.maximum(curve.data, floor), label="share of directions")]
        if "share_beyond_low" in result.values:
            low, high = (np.maximum(result.array(f"share_beyond_{end}").data, floor) for end in ("low", "high"))
            marks.append(Mark(kind="band", x=at, low=low, high=high, label="95 %"))
    return Figure(
        name="share_beyond",
        title="How many directions bend by more",
        x=Axis(label=f"magnitude of the eigenvalue ({unit})", scale="log"),
        y=Axis(label="share of directions beyond", scale="log"),
        marks=tuple(marks),
        caption="Where the band is wide, so few steps do not resolve the eigenvalues.",
    )


def _where_it_is_resolved(result: Result) -> str:
    """For how small a curvature nearly all directions are known to bend by less."""
    if "share_beyond_high" in result.values:
        curve, largest = result.array("share_beyond_high"), result.estimate("largest_magnitude").value
        sure = curve.coords["magnitude"][curve.data <= 1 - _NEARLY_ALL]
        if len(sure) and sure[0] < 0.5 * largest:
            share = written(sure[0] / largest, digits=2)
            return (
                f"At least {_NEARLY_ALL:g} of all directions bend by less than {share} of the largest; how they are "
                "spread nearer to zero is not resolved by so few steps"
            )
    return "How the others are spread is not resolved by so few probes and steps"


def _share_in_words(result: Result, name: str) -> str:
    found = result.estimate(name)
    low, high = result.array(f"{name}_interval").data
    if found.stderr == 0.0 or high - low < 1e-3:
        return f"a share of {written(found.value, digits=2)}"
    return f"a share between {written(low, digits=2)} and {written(high, digits=2)}"
