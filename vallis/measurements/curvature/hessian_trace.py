"""How much the loss bends on average over all directions: the trace of its Hessian.

Definition: the sum of all eigenvalues of the Hessian of the mean loss over a split, by all trainable parameters; it is
    the mean of z' H z over vectors z of random signs (Hutchinson), or over those that a sketch of H corrects. The mean
    eigenvalue is the trace over P.
Unit: nats/weight^2 (nats is the loss's own unit where it is no log-likelihood).
Source: Hutchinson (1990); Yao et al. (2020), section III; Chen and Hallman (2023); Epperly et al. (2024).
Cost: two gradients for each product; P products for up to 256 parameters, which is exact. All methods but
    "hutchinson" hold a vector of P numbers for each product.
Says little when: networks of different scale or size are compared, because rescaling the layers of a ReLU network
    changes the trace and not the function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, get_args

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Note, Outcome, Result, Solution, Source
from vallis.measurements.curvature._together import measured_together
from vallis.numerics.asking import Asking, answered
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import finding
from vallis.numerics.operators import Operator
from vallis.numerics.spectra import Eigenpairs
from vallis.numerics.surface import QUICK, Budget, Precision, Surface, surface
from vallis.numerics.trace import EXACT_SIZE, Method, Trace, tracing

_WORDS = {
    "exact": "sum of the diagonal, exact",
    "hutchinson": "Hutchinson with random signs",
    "krylov": "random signs on what a Krylov space leaves",
    "hutch++": "Hutch++",
    "xtrace": "XTrace, jackknife error",
    "xnystrace": "XNysTrace, jackknife error",
}


@dataclass(frozen=True, kw_only=True)
class HessianTrace:
    """The trace of the Hessian with an error bar.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        max_operations: the most floating-point operations, by a count of what the network costs; of more examples than
            they are enough for a random part is taken, at least a hundred. None does not count.
        num_probes: how many random vectors, those that a sketch takes for itself included: one product each.
        method: how, see `vallis.numerics.trace.trace`; "auto" takes a Krylov sketch from 18 products on, whose error is
            smaller by several times where few eigenvalues stand out, and larger by some 5 to 13 % where none does,
            as long as its vectors take less than a gibibyte.
        num_known: how many of the largest eigenvalues are computed first (to a residual of 1 %) and taken out, in
            products of their own; it pays for "hutchinson" alone, the other methods find them by themselves.
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset()
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"max_examples": 5000, "max_operations": QUICK},
        "full": {"num_probes": 100},
    }
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines",
            authors="M. F. Hutchinson",
            year=1990,
        ),
        Source(
            title="PyHessian: neural networks through the lens of the Hessian",
            authors="Z. Yao, A. Gholami, K. Keutzer, M. W. Mahoney",
            year=2020,
            url="https://arxiv.org/abs/1912.07145",
        ),
        Source(
            title="Krylov-aware stochastic trace estimation",
            authors="T. Chen, E. Hallman",
            year=2023,
            url="https://arxiv.org/abs/2205.01736",
        ),
        Source(
            title="XTrace: making the most of every sample in stochastic trace estimation",
            authors="E. N. Epperly, J. A. Tropp, R. J. Webber",
            year=2024,
            url="https://arxiv.org/abs/2301.07825",
        ),
    )

    split: str = "train"
    max_examples: int | None = None
    max_operations: float | None = field(default=None, metadata={"was": None})
    num_probes: int = 32
    precision: Precision = "auto"
    method: Method = field(default="auto", metadata={"was": "hutchinson"})
    num_known: int = field(default=0, metadata={"was": 0})

    def __post_init__(self) -> None:
        if self.num_probes < 1:
            raise SettingsError(f"at least one probe was required, num_probes={self.num_probes} came: raise it")
        if self.method not in get_args(Method) or self.num_known < 0:
            names = ", ".join(get_args(Method))
            raise SettingsError(
                f"a method among {names} and no negative number of known eigenvalues were required, {self} came: "
                "change them"
            )
        self._budget()  # complains of what makes no sense

    @classmethod
    def tiny(cls) -> HessianTrace:
        """The cheapest settings, for tests."""
        return cls(num_probes=4)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, self.precision, self.max_examples, rng, self._budget())
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        hessian = Hessian(ground.objective)
        found = answered(self._asking(ground, hessian, rng))
        hessian.clear()
        return found

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        grounds = [
            surface(each, self.split, self.precision, self.max_examples, rng, self._budget()) for each in subjects
        ]
        return measured_together(self, subjects, grounds, rng, self._asking)

    def _asking(self, ground: Surface, hessian: Operator, rng: Rng) -> Asking[Outcome]:
        """The answer, from what asks for products with the Hessian."""
        known = yield from self._known(hessian, rng)
        found = yield from tracing(
            hessian, num_probes=self.num_probes, rng=rng.child("probes"), known=known, method=self.method
        )
        values = _values(found, hessian.size, f"{ground.unit}/weight^2")
        values["num_products"] = Estimate(value=hessian.num_products, stderr=None, unit="products", method="counted")
        return Result(values=values, notes=(*ground.notes, *_troubles(found)))

    def _known(self, hessian: Operator, rng: Rng) -> Asking[Eigenpairs | None]:
        # What is written out needs no eigenpairs, and rough ones would do: the estimate is unbiased with any.
        if not self.num_known or hessian.size <= EXACT_SIZE:
            return None
        found = yield from finding(hessian, largest=self.num_known, rng=rng.child("known"), tolerance=1e-2)
        return found.largest

    def _budget(self) -> Budget:
        return Budget(gradients=2 * (self.num_probes + 4 * self.num_known), max_operations=self.max_operations)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        if "samples" not in result.values:
            return ()
        found, samples = result.estimate("trace"), result.array("samples").data
        running = np.cumsum(samples) / np.arange(1, len(samples) + 1)
        probes = np.arange(1.0, len(samples) + 1)
        figure = Figure(
            name="hessian_trace",
            title="The trace, probe by probe",
            x=Axis(label="probes"),
            y=Axis(label=f"trace ({found.unit})"),
            marks=(
                Mark(kind="scatter", x=probes, y=samples, label="a single probe"),
                Mark(kind="line", x=probes, y=running, label="mean so far"),
            ),
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        found, mean = result.estimate("trace"), result.estimate("mean_eigenvalue")
        if "samples" not in result.values:
            sure = "exactly"
        elif "interval" not in result.values:
            what = "one probe" if found.n == 1 else f"{found.n} probes that agree, which so few can do by chance"
            sure = f"from {what}, so nobody knows how surely"
        else:
            low, high = result.array("interval").data
            sure = f"with 95 % confidence between {low:.4g} and {high:.4g}"
        return (
            f"The eigenvalues of the Hessian add up to {quantity(replace(found, stderr=None), 4)}, {sure}; "
            f"a random direction has a curvature of {quantity(replace(mean, unit='1'), 2)} on average."
        )


def _values(found: Trace, size: int, unit: str) -> dict[str, Estimate | Array]:
    num_probes = len(found.samples)
    method = f"{_WORDS[found.method]}, {found.num_products} products" if num_probes else _WORDS["exact"]
    mean_error = None if found.stderr is None else found.stderr / size
    n = num_probes or size
    values: dict[str, Estimate | Array] = {
        "trace": Estimate(value=found.value, stderr=found.stderr, n=n, unit=unit, method=method),
        "mean_eigenvalue": Estimate(
            value=found.value / size, stderr=mean_error, n=n, unit=unit, method=f"{method}, over {size} parameters"
        ),
    }
    ends = np.array(found.interval())
    if np.isfinite(ends).all():
        values["interval"] = Array(data=ends, dims=("end",), unit=unit, coords={"end": np.array([0.025, 0.975])})
    if num_probes:
        probes = {"probe": np.arange(1.0, num_probes + 1)}
        values["samples"] = Array(data=found.samples, dims=("probe",), unit=unit, coords=probes)
    return values


def _troubles(found: Trace) -> tuple[Note, ...]:
    low, high = found.interval()
    if found.agree:
        luck = "take 12 or more, to know that it is not by chance"
        sure = ", which they would hardly do by chance" if high == low else f": {luck}"
        text = f"All {len(found.samples)} probes say the same{sure}."
        return (*found.notes, Note(code="probes_agree", text=text))
    if found.stderr is None:
        return (
            *found.notes,
            Note(code="no_error_bar", text="So few probes tell nothing of how much they differ: take more."),
        )
    if found.stderr > 0.25 * abs(found.value):
        text = "The error bar is more than a quarter of the trace: take more probes."
        return (*found.notes, Note(code="wide_error_bar", text=text))
    return found.notes
