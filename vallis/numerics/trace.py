"""The trace of an operator from a few products with random vectors, with an error bar.

Source: Hutchinson (1990), A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import SettingsError
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.numerics.operators import Operator
from vallis.numerics.spectra import Eigenpairs, must_be_finite

EXACT_SIZE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """An estimate of a trace.

    Attributes:
        value: the estimate.
        stderr: its standard error over the choice of probes; 0.0 when exact, None with a single probe.
        samples: ``(K,)`` what each probe said; empty when exact.
        num_products: how many products it took.
    """

    value: float
    stderr: float | None
    samples: NDArray[np.float64]
    num_products: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The confidence interval by Student's t; infinite with a single probe."""
        if self.stderr == 0.0 or self.stderr is None:
            width = 0.0 if self.stderr == 0.0 else math.inf
        else:
            width = self.stderr * t_quantile(0.5 + level / 2, len(self.samples) - 1)
        return self.value - width, self.value + width


def trace(
    operator: Operator,
    *,
    num_probes: int,
    rng: Rng,
    known: Eigenpairs | None = None,
    exact_size: int = EXACT_SIZE,
) -> Trace:
    """Hutchinson's estimate: the mean of ``z' A z`` over vectors z of random signs.

    Args:
        operator: A.
        num_probes: K, how many vectors; the number is fixed beforehand, because a rule that stops when the error bar
            looks small stops where it is too small.
        rng: where the signs come from.
        known: Ritz pairs of the operator, orthonormal: their part of the trace is taken exactly and the probes see the
            rest only. It pays where few eigenvalues hold most of it.
        exact_size: an operator of at most this size is summed up by P unit vectors instead.

    Raises:
        SettingsError: no probe is asked for.
        UsageError: a product is not finite.
    """
    if num_probes < 1:
        raise SettingsError(f"at least one probe was required, num_probes={num_probes} came: raise it")
    if operator.size <= exact_size:
        return _exact(operator)
    vectors = None if known is None else known.vectors.to(device=operator.device)
    offset = 0.0 if known is None else float(np.sum(known.values))
    samples = np.empty(num_probes)
    for probe in track(range(num_probes), "trace", num_probes):
        z = _signs(operator, rng.child("probe", probe))
        if vectors is not None:
            z = z - vectors @ (vectors.T @ z)
        samples[probe] = offset + float(z @ operator.matvec(z).double())
        must_be_finite(samples[probe])
    stderr = float(samples.std(ddof=1) / math.sqrt(num_probes)) if num_probes > 1 else None
    return Trace(value=float(samples.mean()), stderr=stderr, samples=samples, num_products=num_probes)


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def _exact(operator: Operator) -> Trace:
    value = float(operator.dense().double().trace())
    must_be_finite(value)
    return Trace(value=value, stderr=0.0, samples=np.empty(0), num_products=operator.size)


def _signs(operator: Operator, rng: Rng) -> torch.Tensor:
    """``(P,)`` float64 random signs; drawn on the CPU, so that they are the same for every device and dtype."""
    drawn = torch.randint(0, 2, (operator.size,), generator=rng.torch(), dtype=torch.int8)
    return drawn.to(device=operator.device, dtype=torch.float64) * 2 - 1
