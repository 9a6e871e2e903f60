"""The log-determinant of a shifted operator, by stochastic Lanczos quadrature between rigorous bounds.

For each probe, Gauss quadrature of the logarithm is too large and Gauss-Radau quadrature with a node at a lower end of
the spectrum is too small, so that what so few steps leave open is part of the interval.

Source: Ubaru, Chen and Saad (2017), Fast estimation of tr(f(A)) via stochastic Lanczos quadrature; Golub and Meurant
(2010), section 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vallis.core.errors import SettingsError, UsageError
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.numerics.operators import Operator, must_be_symmetric
from vallis.numerics.probes import Floats, band, sphere, standard_error
from vallis.numerics.quadrature import Quadrature, Recurrence
from vallis.numerics.spectra import Eigenpairs, must_be_finite

EXACT_SIZE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class LogDeterminant:
    """An estimate of ``log det(A + shift)``.

    Attributes:
        value: the middle of the means of the bounds.
        stderr: its standard error over the choice of probes; 0.0 when exact, None with a single probe.
        low: ``(K,)`` a lower bound for each probe; empty when exact.
        high: ``(K,)`` an upper one.
        lower_end: where the spectrum of A was taken to begin.
        is_certain: whether the caller vouched for that end; else it is the smallest that was seen.
        num_products: how many products with the operator it took.
    """

    value: float
    stderr: float | None
    low: Floats
    high: Floats
    lower_end: float
    is_certain: bool
    num_products: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The confidence interval: Student's t around the bounds; infinite with a single probe."""
        if self.stderr == 0.0 and not len(self.low):
            return self.value, self.value
        low, high = band(self.low, self.high, level)
        return float(low), float(high)


def log_determinant(
    operator: Operator,
    *,
    shift: float,
    num_probes: int,
    num_steps: int,
    rng: Rng,
    known: Eigenpairs | None = None,
    lower_end: float | None = None,
    exact_size: int = EXACT_SIZE,
) -> LogDeterminant:
    """``log det(A + shift) = sum log(eigenvalue + shift)``, natural, for a shift that makes all of them positive.

    Args:
        operator: A; it must be symmetric.
        shift: what is added to every eigenvalue.
        num_probes: K, how many random vectors.
        num_steps: products with each.
        rng: where they come from.
        known: converged eigenpairs: their part is exact, and the probes see the rest only.
        lower_end: a number that no eigenvalue lies below, e.g. 0.0 for a Gauss-Newton matrix. None takes the smallest
            that the probes see, less its residual, which is no proof.
        exact_size: an operator of at most this size is written out and solved.

    Raises:
        SettingsError: no probe or no step is asked for.
        UsageError: some eigenvalue plus the shift is not positive; the operator promises no symmetry, or a product is
            not finite.
    """
    if min(num_probes, num_steps) < 1:
        raise SettingsError(
            f"at least one probe and one step were required, num_probes={num_probes}, num_steps={num_steps} came: "
            "raise them"
        )
    must_be_symmetric(operator)
    if lower_end is not None:
        _must_be_positive(lower_end, shift)
    if operator.size <= exact_size:
        return _exact(operator, shift)
    before = operator.num_products
    values = np.empty(0) if known is None else known.values
    if len(values):
        _must_be_positive(float(values.min()), shift)
    runs = []
    for probe in track(range(num_probes), "determinant", num_probes):
        start, vectors = sphere(operator, rng.child("probe", probe)), None if known is None else known.vectors
        runs.append(Recurrence(operator, start, num_steps, vectors).run(num_steps))
    seen = [run.quadrature() for run in runs]
    end = min(float((each.nodes - each.residuals).min()) for each in seen) if lower_end is None else lower_end
    _must_be_positive(min(end, *(float(each.nodes.min()) for each in seen)), shift)
    certain, rest = float(np.log(values + shift).sum()), operator.size - len(values)
    low = certain + rest * np.array([_mean_log(run.radau(end), shift) for run in runs])
    high = certain + rest * np.array([_mean_log(each, shift) for each in seen])
    middle = (low + high) / 2
    return LogDeterminant(
        value=float(middle.mean()),
        stderr=float(standard_error(middle)) if num_probes > 1 else None,
        low=low,
        high=high,
        lower_end=end,
        is_certain=lower_end is not None,
        num_products=operator.num_products - before,
    )


def _mean_log(seen: Quadrature, shift: float) -> float:
    return float(seen.weights @ np.log(seen.nodes + shift))


def _must_be_positive(smallest: float, shift: float) -> None:
    if not smallest + shift > 0:
        raise UsageError(
            f"a shift that makes every eigenvalue positive was required, {shift:g} came and the spectrum reaches "
            f"{smallest:.3g}: take a shift above {-smallest:.3g}"
        )


def _exact(operator: Operator, shift: float) -> LogDeterminant:
    matrix = operator.dense().double()
    must_be_finite(float(matrix.abs().sum()))
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2).cpu().numpy()
    _must_be_positive(float(values[0]), shift)
    return LogDeterminant(
        value=float(np.log(values + shift).sum()),
        stderr=0.0,
        low=np.empty(0),
        high=np.empty(0),
        lower_end=float(values[0]),
        is_certain=True,
        num_products=operator.size,
    )
