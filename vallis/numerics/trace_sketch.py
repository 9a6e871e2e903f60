"""Traces by a low-rank sketch of the operator and random vectors on what the sketch leaves.

Each method spends a given number of products and returns one number a probe; their mean is unbiased for any operator
(that of `krylov` up to a small part of its error).
In all but Hutch++ every probe is left out of the sketch that it is used to correct, so that none is wasted.

Source: Meyer, Musco, Musco and Woodruff (2021), Hutch++; Epperly, Tropp and Webber (2024), XTrace: making the most of
every sample in stochastic trace estimation; Chen and Hallman (2023), Krylov-aware stochastic trace estimation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import UsageError
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.numerics.asking import Asking
from vallis.numerics.operators import Operator
from vallis.numerics.probes import Floats, signs, sphere, standard_error, without
from vallis.numerics.quadrature import Quadrature, Recurrence
from vallis.numerics.sign_variance import SignVariance
from vallis.numerics.spectra import must_be_finite

# Steps of a Krylov space: so many before it is asked whether they pay, which is asked of the mean of the last few; and
# never more than a third of the products, because the probes are a sketch of what is left, too.
_LEAST_STEPS, _WINDOW = 4, 5
_SHARE_OF_LEAST, _SHARE_OF_MOST = 1 / 9, 1 / 3
# A Ritz value whose residual is below this part of its distance from the mean stands for a single eigenvalue.
_ISOLATED = 0.1
# How the probes correct each other: about their mean eigenvalue or not, and the damping, in units of the root of K
# times the scatter of the forms between probes. Forms of nothing but noise have eigenvalues up to 2 (the semicircle).
_CORRECTIONS = ((True, 2.0), (False, 1.0))
_MOST_GROUPS = 64


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
    def of(samples: Floats, variance: float = 0.0) -> Sketched:
        """Of samples that are independent, given the sketch.

        Args:
            samples: ``(K,)``.
            variance: what is known of that of one of them, for the error bar where it is more than their scatter says.
        """
        if len(samples) < 2:
            return Sketched(samples=samples, stderr=None)
        known = (variance / len(samples)) ** 0.5
        return Sketched(samples=samples, stderr=max(float(standard_error(samples)), known))


def krylov(operator: Operator, num_products: int, rng: Rng, known: torch.Tensor | None = None) -> Asking[Sketched]:
    """The trace on a Krylov space, where it is known, plus signs on the rest: a sketch at one product a dimension.

    The space grows for as long as a dimension more takes away more of the variance than a probe more, which is decided
    by the space alone, before any probe is drawn. What the probes see of the rest is a second, rough sketch, by which
    each probe is corrected (see `_corrected`): in one way that is safe where the rest has no structure, and in one that
    gains more where eigenvalues of one sign fall off slowly. That of the smaller error by the jackknife is taken.

    Args:
        operator: A; it may be indefinite.
        num_products: at least 4.
        rng: where the vectors come from.
        known: ``(P, k)`` orthonormal vectors; the trace that is meant is that of A on what is orthogonal to them.
    """
    run = yield from _krylov_space(operator, num_products, rng.child("start"), known)
    rows, certain = run.rows(), float(run.quadrature().nodes.sum())
    num_probes = num_products - run.size
    probes = torch.empty(num_probes, operator.size, dtype=torch.float64, device=operator.device)
    products = torch.empty_like(probes)
    for place in track(range(num_probes), "trace", num_probes):
        z = without(signs(operator, rng.child("probe", place)), known)
        z = without(without(z.to(rows), rows.T), rows.T)
        probes[place] = z
        product = yield operator, z
        products[place] = without(without(product, known).to(rows), rows.T)
    forms, squares, lengths = (
        (one @ other.T).cpu().numpy() for one, other in ((probes, products), (products, products), (probes, probes))
    )
    must_be_finite(float(np.abs(forms).sum() + np.abs(squares).sum()))
    seen = _Seen((forms + forms.T) / 2, squares, lengths, _dimension(operator, known) - run.size)
    found = [_by_jackknife(seen, is_centred, damping) for is_centred, damping in _CORRECTIONS]
    best = min(found, key=lambda each: np.inf if each.stderr is None else each.stderr)
    return Sketched(samples=certain + best.samples, stderr=best.stderr)


def hutchplusplus(
    operator: Operator, num_products: int, rng: Rng, known: torch.Tensor | None = None
) -> Asking[Sketched]:
    """Hutch++: a third of the products each for a sketch, for its trace, and for signs on the rest; see `krylov`."""
    size = max(1, num_products // 3)
    _, sketch = yield from _sketch(operator, size, rng.child("sketch"), known, signs)
    basis = torch.linalg.qr(sketch).Q
    certain = 0.0
    for column in basis.unbind(1):
        certain += yield from _form(operator, column)
    num_probes = num_products - 2 * size
    samples, variance = np.empty(num_probes), SignVariance()
    for probe in track(range(num_probes), "trace", num_probes):
        drawn = signs(operator, rng.child("probe", probe))
        z = without(without(drawn, known), basis)
        product = yield from _product(operator, z)
        samples[probe] = certain + float(z @ product)
        must_be_finite(samples[probe])
        variance.add(drawn, without(without(product, basis), known))
    return Sketched.of(samples, variance.value())


def xtrace(operator: Operator, num_products: int, rng: Rng, known: torch.Tensor | None = None) -> Asking[Sketched]:
    """XTrace: half of the products for a sketch, half for its trace, and every probe corrects the others' sketch."""
    num_probes = max(1, num_products // 2)
    probes, sketch = yield from _sketch(operator, num_probes, rng, known, _long)
    basis, triangle = torch.linalg.qr(sketch)
    columns = []
    for column in basis.unbind(1):
        columns.append(basis.T @ (yield from _product(operator, column)))
    inner = torch.stack(columns, dim=1)
    forms, lengths = (probes * sketch).sum(0), (probes**2).sum(0)
    inside, dimension = basis.T @ probes, _dimension(operator, known)

    def without_probe(place: int | None) -> torch.Tensor:
        kept = _all_but(place, num_probes)
        turn, rest = torch.linalg.qr(triangle[:, kept])
        return _xtrace(turn.T @ inner @ turn, rest, turn.T @ inside[:, kept], forms[kept], lengths[kept], dimension)

    return _sketched(without_probe, num_probes)


def xnystrace(operator: Operator, num_products: int, rng: Rng, known: torch.Tensor | None = None) -> Asking[Sketched]:
    """XNysTrace: all products for one Nystrom sketch, meant for positive semidefinite operators.

    Raises:
        UsageError: the operator is clearly not positive semidefinite.
    """
    probes, sketch = yield from _sketch(operator, num_products, rng, known, _long)
    # A small shift makes it surely positive, whatever its rank; it is taken off again, without noise.
    small = max(torch.finfo(operator.dtype).eps, torch.finfo(torch.float64).eps ** 0.5)
    shift = small * float(sketch.norm()) / operator.size**0.5
    if shift == 0:
        return Sketched(samples=np.zeros(num_products), stderr=None)
    sketch += shift * probes
    middle, squares, lengths = probes.T @ sketch, sketch.T @ sketch, probes.T @ probes
    middle, dimension = (middle + middle.T) / 2, _dimension(operator, known)
    _must_be_positive(middle)

    def without_probe(place: int | None) -> torch.Tensor:
        kept = _all_but(place, num_products)
        chosen, squared, length = (each[kept][:, kept] for each in (middle, squares, lengths))
        return _xnystrace(chosen, squared, length, dimension).sub(shift * dimension)

    return _sketched(without_probe, num_products)


METHODS: Mapping[str, Callable[[Operator, int, Rng, torch.Tensor | None], Asking[Sketched]]] = {
    "krylov": krylov,
    "hutch++": hutchplusplus,
    "xtrace": xtrace,
    "xnystrace": xnystrace,
}


def _krylov_space(operator: Operator, num_products: int, rng: Rng, known: torch.Tensor | None) -> Asking[Recurrence]:
    """A Krylov space of as many dimensions as pay, where the rest of the products goes into probes."""
    most = max(1, int(num_products * _SHARE_OF_MOST))
    least = max(_LEAST_STEPS, int(num_products * _SHARE_OF_LEAST))
    # All rows are needed, or the probes would see once more what is summed up already.
    room = most * operator.size * operator.dtype.itemsize
    run = Recurrence(operator, sphere(operator, rng), most, known, row_bytes=room)
    while not run.ended and run.size < most:
        yield from run.asking()
        if run.size >= least and not _pays(run, num_products - run.size, _dimension(operator, known)):
            break
    return run


def _pays(run: Recurrence, num_probes: int, dimension: int) -> bool:
    """Whether another step takes away more of the variance than another probe.

    The variance is twice the squared Frobenius norm of what the space leaves, about its mean, over the number of
    probes. What there is altogether is known of the Ritz values that stand for one eigenvalue each, and estimated by
    the weights of the others.
    """
    now, before = run.quadrature(), run.quadrature(max(0, run.size - _WINDOW))
    isolated = now.residuals < _ISOLATED * np.abs(now.nodes - now.moment(1))
    weights = np.where(isolated, 0.0, now.weights)
    centre = float(weights @ now.nodes) / max(float(weights.sum()), 1e-300)
    squares = (now.nodes - centre) ** 2
    rest = float(squares[isolated].sum() + dimension * (weights @ squares)) - _taken(now, centre)
    gain = (_taken(now, centre) - _taken(before, centre)) / (len(now) - len(before))
    return gain * num_probes > rest


def _taken(space: Quadrature, centre: float) -> float:
    """The squared Frobenius norm, about a centre, of the rows and columns of A that belong to a Krylov space."""
    # The residuals of all pairs together are the coupling of the space to what lies outside.
    return float(np.sum((space.nodes - centre) ** 2) + 2 * np.sum(space.residuals**2))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What K probes Z, as columns, see of B: ``Z' B Z``, ``Z' B^2 Z`` and ``Z' Z``, each ``(K, K)``.

    The dimension is that of the space that the probes are drawn from.
    """

    forms: Floats
    squares: Floats
    lengths: Floats
    dimension: int

    def of(self, kept: NDArray[np.int64]) -> _Seen:
        """Of these probes alone."""
        forms, squares, lengths = (each[np.ix_(kept, kept)] for each in (self.forms, self.squares, self.lengths))
        return _Seen(forms, squares, lengths, self.dimension)


def _corrected(seen: _Seen, is_centred: bool, damping: float) -> Floats:
    """``(K,)`` what each probe says of the trace of B, corrected by a sketch that the other probes make.

    With W the others and ``M = W' B W + i d``, the sketch is the real part of ``B W M^-1 W' B``: that of Nystrom, made
    safe for an indefinite B by a shift into the complex plane, which damps an eigenvalue w of ``W' B W`` to
    ``w / (w^2 + d^2)``. With N the inverse for all probes and ``S = Z' B^2 Z``, leaving probe i out takes
    ``(N S N)_ii / N_ii`` off the trace of the sketch, ``tr(N S)``, and leaves ``1 / N_ii`` of the probe's own form. If
    centred, B is taken about the mean eigenvalue, so that a multiple of the identity is no structure. The damping and
    the mean are of all probes, which makes a sample biased by a part of the order of ``1 / K`` of its correction.
    """
    forms, squares, lengths = seen.forms, seen.squares, seen.lengths
    own, length = np.diagonal(forms), np.diagonal(lengths)
    count, mean = len(forms), own.sum() / length.sum() if is_centred else 0.0
    # Each as if the squared length of its probe were what it is on average, by the mean eigenvalue of the others.
    others = np.maximum(length.sum() - length, 1e-300)
    lengthened = own + (own.sum() - own) / others * (seen.dimension - length)
    centred = forms - mean * lengths
    beside = centred[~np.eye(count, dtype=bool)]
    scatter = float(np.sqrt(np.mean(beside**2))) if count > 1 else 0.0
    if scatter == 0:
        return np.asarray(lengthened)
    squares = squares - mean * (2 * forms - mean * lengths)
    inverse = np.linalg.inv(centred + 1j * damping * scatter * np.sqrt(count) * np.eye(count))
    corner, taken = np.diagonal(inverse), inverse @ squares
    left = np.trace(taken) - np.sum(taken * inverse.T, axis=1) / corner + 1 / corner
    return np.asarray(lengthened + left.real - np.diagonal(centred))


def _by_jackknife(seen: _Seen, is_centred: bool, damping: float) -> Sketched:
    """`_corrected`, and the error of the mean by leaving groups of probes, mostly of one, out of everything.

    Samples that correct each other scatter by less than their mean errs; the jackknife errs to the other side, if at
    all (Efron and Stein 1981).
    """
    samples, count = _corrected(seen, is_centred, damping), len(seen.forms)
    if count < 3:
        return Sketched.of(samples)
    groups = np.array_split(np.arange(count), min(count, _MOST_GROUPS))
    rest = [seen.of(np.setdiff1d(np.arange(count), group)) for group in groups]
    means = np.array([_corrected(each, is_centred, damping).mean() for each in rest])
    share = (len(groups) - 1) / len(groups)
    return Sketched(samples=samples, stderr=float(np.sqrt(share * np.sum((means - means.mean()) ** 2))))


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
) -> Asking[tuple[torch.Tensor, torch.Tensor]]:
    """``(P, count)`` float64 random columns outside of the known ones, and what the operator there makes of them."""
    probes = torch.empty(operator.size, count, dtype=torch.float64, device=operator.device)
    products = torch.empty_like(probes)
    for place in track(range(count), "trace", count):
        probe = without(draw(operator, rng.child("probe", place)), known)
        probes[:, place] = probe
        products[:, place] = without((yield from _product(operator, probe)), known)
    return probes, products


def _long(operator: Operator, rng: Rng) -> torch.Tensor:
    """Uniform on the sphere of radius root P."""
    return sphere(operator, rng).mul(operator.size**0.5)


def _product(operator: Operator, vector: torch.Tensor) -> Asking[torch.Tensor]:
    product = yield operator, vector
    return product.double()


def _form(operator: Operator, vector: torch.Tensor) -> Asking[float]:
    found = float(vector.double() @ (yield from _product(operator, vector)))
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
