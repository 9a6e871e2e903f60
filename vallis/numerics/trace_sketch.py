"""Traces by a low-rank sketch of the operator and random vectors on what the sketch leaves.

Each method spends a given number of products and returns one number a probe; their mean is unbiased for any operator.
In `xtrace` and `xnystrace` every probe is left out of the sketch that it is used to correct, so that none is wasted.

Source: Meyer, Musco, Musco and Woodruff (2021), Hutch++; Epperly, Tropp and Webber (2024), XTrace: making the most of
every sample in stochastic trace estimation; Chen and Hallman (2023), Krylov-aware stochastic trace estimation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from vallis.core.errors import UsageError
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.numerics.operators import Operator
from vallis.numerics.probes import Floats, signs, sphere, standard_error, without
from vallis.numerics.quadrature import Recurrence
from vallis.numerics.spectra import must_be_finite

# The part of the products that goes into the Krylov space. On Hessians of small networks the error is flat between a
# fifth and a half; more would leave too few probes for an honest error bar.
_KRYLOV_FRACTION = 1 / 3
_DAMPING = 0.2
_NUM_GROUPS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Sketched:
    """What a method found.

    Attributes:
        samples: ``(K,)`` what each probe says; the estimate is their mean.
        stderr: the standard error of the estimate; None where there are too few probes to know.
    """

    samples: Floats
    stderr: float | None

    @staticmethod
    def of(samples: Floats) -> Sketched:
        """Of samples that are independent, given the sketch."""
        return Sketched(samples=samples, stderr=float(standard_error(samples)) if len(samples) > 1 else None)


def krylov(operator: Operator, num_products: int, rng: Rng, known: torch.Tensor | None = None) -> Sketched:
    """The trace on a Krylov space, where it is known, plus signs on the rest: a sketch at one product a dimension.

    What the other probes saw of the rest is a second, rough sketch, by which each probe is corrected.

    Args:
        operator: A; it may be indefinite.
        num_products: at least 4.
        rng: where the vectors come from.
        known: ``(P, k)`` orthonormal vectors; the trace that is meant is that of A on what is orthogonal to them.
    """
    num_steps = max(1, int(num_products * _KRYLOV_FRACTION))
    num_probes = num_products - num_steps
    run = Recurrence(operator, sphere(operator, rng.child("start")), num_steps, known).run(num_steps)
    rows, certain = run.rows(), float(run.quadrature().nodes.sum())
    probes = torch.empty(num_probes, operator.size, dtype=operator.dtype, device=operator.device)
    products = torch.empty_like(probes)
    for place in track(range(num_probes), "trace", num_probes):
        z = without(signs(operator, rng.child("probe", place)), known).to(rows)
        probes[place] = without(z, rows.T)
        products[place] = without(without(operator.matvec(probes[place]), known), rows.T)
    forms, squares = ((each @ products.T).double().cpu().numpy() for each in (probes, products))
    must_be_finite(float(np.abs(forms).sum() + np.abs(squares).sum()))
    forms = (forms + forms.T) / 2
    corrected, plain = _corrected(forms, squares), np.diagonal(forms)
    if num_probes < 2:
        return Sketched(samples=certain + corrected, stderr=None)
    # Corrected by each other they are not independent, and scatter by less than they err. The error of the plain ones
    # is honest, and that of their correction smaller where few eigenvalues stand out; the jackknife knows of the rest.
    errors = (*(float(standard_error(each)) for each in (corrected, plain)), _jackknife(forms, squares))
    return Sketched(samples=certain + corrected, stderr=max(errors))


def hutchplusplus(operator: Operator, num_products: int, rng: Rng, known: torch.Tensor | None = None) -> Sketched:
    """Hutch++: a third of the products each for a sketch, for its trace, and for signs on the rest; see `krylov`."""
    size = max(1, num_products // 3)
    sketch = _sketch(operator, size, rng.child("sketch"), known, signs)[1]
    basis = torch.linalg.qr(sketch).Q
    certain = sum(_form(operator, column) for column in basis.unbind(1))
    num_probes = num_products - 2 * size
    samples = np.empty(num_probes)
    for probe in track(range(num_probes), "trace", num_probes):
        z = without(signs(operator, rng.child("probe", probe)), known)
        samples[probe] = certain + _form(operator, without(z, basis))
    return Sketched.of(samples)


def xtrace(operator: Operator, num_products: int, rng: Rng, known: torch.Tensor | None = None) -> Sketched:
    """XTrace: half of the products for a sketch, half for its trace, and every probe corrects the others' sketch."""
    num_probes = max(1, num_products // 2)
    probes, sketch = _sketch(operator, num_probes, rng, known, _long)
    basis, triangle = torch.linalg.qr(sketch)
    inner = torch.stack([basis.T @ _product(operator, column) for column in basis.unbind(1)], dim=1)
    forms, lengths = (probes * sketch).sum(0), (probes**2).sum(0)
    inside, dimension = basis.T @ probes, _dimension(operator, known)

    def without_probe(place: int | None) -> torch.Tensor:
        kept = _all_but(place, num_probes)
        turn, rest = torch.linalg.qr(triangle[:, kept])
        return _xtrace(turn.T @ inner @ turn, rest, turn.T @ inside[:, kept], forms[kept], lengths[kept], dimension)

    return _sketched(without_probe, num_probes)


def xnystrace(operator: Operator, num_products: int, rng: Rng, known: torch.Tensor | None = None) -> Sketched:
    """XNysTrace: all products for one Nystrom sketch, meant for positive semidefinite operators.

    Raises:
        UsageError: the operator is clearly not positive semidefinite.
    """
    probes, sketch = _sketch(operator, num_products, rng, known, _long)
    # A small shift makes it surely positive, whatever its rank; it is taken off again, without noise.
    small = max(torch.finfo(operator.dtype).eps, torch.finfo(torch.float64).eps ** 0.5)
    shift = small * float(sketch.norm()) / operator.size**0.5
    if shift == 0:
        return Sketched(samples=np.zeros(num_products), stderr=0.0)
    sketch += shift * probes
    middle, squares, lengths = probes.T @ sketch, sketch.T @ sketch, probes.T @ probes
    middle, dimension = (middle + middle.T) / 2, _dimension(operator, known)
    _must_be_positive(middle)

    def without_probe(place: int | None) -> torch.Tensor:
        kept = _all_but(place, num_products)
        chosen, squared, length = (each[kept][:, kept] for each in (middle, squares, lengths))
        return _xnystrace(chosen, squared, length, dimension).sub(shift * dimension)

    return _sketched(without_probe, num_products)


METHODS: Mapping[str, Callable[[Operator, int, Rng, torch.Tensor | None], Sketched]] = {
    "krylov": krylov,
    "hutch++": hutchplusplus,
    "xtrace": xtrace,
    "xnystrace": xnystrace,
}


def _corrected(forms: Floats, squares: Floats) -> Floats:
    """``(K,)`` what each probe says of a trace, from ``Z' A Z`` and ``Z' A^2 Z`` with Z the probes as columns.

    The others give a low-rank approximation ``A Z g(Z' A Z) Z' A`` with a damped inverse g, since the operator may be
    indefinite. Its trace is known and its part of the probe's own form is taken off, so the mean stays the trace.
    """
    count = len(forms)
    samples = np.empty(count)
    for place in range(count):
        kept = _all_but(place, count)
        values, vectors = np.linalg.eigh(forms[np.ix_(kept, kept)])
        damping = _DAMPING * np.abs(values).max(initial=0.0) + 1e-100
        damped = values / (values**2 + damping**2)
        known = float(np.sum((vectors * damped) * (squares[np.ix_(kept, kept)] @ vectors)))
        samples[place] = known + forms[place, place] - float(damped @ (vectors.T @ forms[kept, place]) ** 2)
    return samples


def _jackknife(forms: Floats, squares: Floats) -> float:
    """The standard error of the mean of `_corrected`, by leaving a tenth of the probes at a time out of everything."""
    count = len(forms)
    groups = np.array_split(np.arange(count), min(count, _NUM_GROUPS))
    means = []
    for group in groups:
        kept = np.setdiff1d(np.arange(count), group)
        means.append(float(_corrected(forms[np.ix_(kept, kept)], squares[np.ix_(kept, kept)]).mean()))
    share = (len(groups) - 1) / len(groups)
    return float(np.sqrt(share * np.sum((np.array(means) - np.mean(means)) ** 2)))


def _xtrace(
    inner: torch.Tensor,
    triangle: torch.Tensor,
    inside: torch.Tensor,
    forms: torch.Tensor,
    lengths: torch.Tensor,
    dimension: int,
) -> torch.Tensor:
    """``(K,)`` what each probe says, from ``Q' A Q``, R, ``Q' O``, ``o' A o`` and ``|o|^2``, with ``A O = Q R``.

    Leaving column i out of O takes one direction out of Q: the i-th column of the inverse of R'.
    """
    num_probes = len(forms)
    largest = triangle.diagonal().abs().max()
    small = (torch.finfo(torch.float64).eps * largest).clamp(min=1e-150)
    triangle = triangle + torch.diag(torch.where(triangle.diagonal().abs() < small, small, 0.0))
    gone = torch.linalg.solve_triangular(triangle.T, torch.eye(num_probes).to(triangle), upper=False)
    gone = gone / gone.norm(dim=0)
    inside = inside - gone * (gone * inside).sum(0)
    # The part v of each probe outside of the basis without it: v'Av from products that are there already.
    outside = forms - 2 * (inside * triangle).sum(0) + (inside * (inner @ inside)).sum(0)
    left: torch.Tensor = inner.trace() - (gone * (inner @ gone)).sum(0)
    left += (dimension - num_probes + 1) * outside / (lengths - (inside**2).sum(0))
    return left


def _xnystrace(middle: torch.Tensor, squares: torch.Tensor, lengths: torch.Tensor, dimension: int) -> torch.Tensor:
    """``(K,)`` what each probe says, from ``H = O' A O``, ``O' A^2 O`` and ``O' O``.

    With ``h_i`` the columns of the inverse of H, the sketch without probe i has a trace smaller by
    ``|A O h_i|^2 / h_ii``, and leaves ``1 / h_ii`` of the probe's own quadratic form.
    """
    inverse = torch.linalg.inv(middle)
    corner = inverse.diagonal()
    whole, removed = (inverse * squares).sum(), (inverse * (squares @ inverse)).sum(0) / corner
    alone = 1 / torch.linalg.inv(lengths).diagonal()
    found: torch.Tensor = whole - removed + (dimension - len(middle) + 1) / (alone * corner)
    return found


def _sketched(without_probe: Callable[[int | None], torch.Tensor], num_probes: int) -> Sketched:
    """The estimate from all probes, and the jackknife over them.

    Probes that correct each other's sketch are not independent, and the scatter of what they say is too small an error.
    Leaving each out of everything gives an error that is on average too large, if anything (Efron and Stein 1981).
    """
    samples = without_probe(None).cpu().numpy()
    must_be_finite(float(np.abs(samples).sum()))
    if num_probes < 3:
        return Sketched(samples=samples, stderr=None)
    left = np.array([float(without_probe(place).mean()) for place in range(num_probes)])
    return Sketched(samples=samples, stderr=float(np.sqrt(np.sum((left - left.mean()) ** 2))))


def _all_but(place: int | None, count: int) -> list[int]:
    return [each for each in range(count) if each != place]


def _sketch(
    operator: Operator,
    count: int,
    rng: Rng,
    known: torch.Tensor | None,
    draw: Callable[[Operator, Rng], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(P, count)`` float64 random columns outside of the known ones, and what the operator there makes of them."""
    probes = torch.empty(operator.size, count, dtype=torch.float64, device=operator.device)
    products = torch.empty_like(probes)
    for place in track(range(count), "trace", count):
        probe = without(draw(operator, rng.child("probe", place)), known)
        probes[:, place] = probe
        products[:, place] = without(_product(operator, probe), known)
    return probes, products


def _long(operator: Operator, rng: Rng) -> torch.Tensor:
    """Uniform on the sphere of radius root P."""
    return sphere(operator, rng).mul(operator.size**0.5)


def _product(operator: Operator, vector: torch.Tensor) -> torch.Tensor:
    return operator.matvec(vector).double()


def _form(operator: Operator, vector: torch.Tensor) -> float:
    found = float(vector.double() @ _product(operator, vector))
    must_be_finite(found)
    return found


def _dimension(operator: Operator, known: torch.Tensor | None) -> int:
    return operator.size - (0 if known is None else known.shape[1])


def _must_be_positive(matrix: torch.Tensor) -> None:
    must_be_finite(float(matrix.abs().sum()))
    values = torch.linalg.eigvalsh(matrix)
    if float(values[0]) <= 0:
        raise UsageError(
            "a positive semidefinite operator was required for xnystrace, one with a negative quadratic form "
            f"({float(values[0]):.3g}) came: use method='krylov'"
        )
