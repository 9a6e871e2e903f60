"""The diagonal of an operator from a few products with random vectors, with an error bar for every entry.

Source: Bekas, Kokiopoulou and Saad (2007), An estimator for the diagonal of a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vallis.core.errors import SettingsError
from vallis.core.progress import track
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.operators import Operator, must_be_symmetric
from vallis.numerics.probes import chance_of_agreement, same_up_to_rounding, signs, t_quantile, without
from vallis.numerics.spectra import Eigenpairs, must_be_finite

EXACT_SIZE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagonal:
    """An estimate of a diagonal.

    Attributes:
        value: ``(P,)`` float64.
        stderr: ``(P,)`` the standard error of each entry over the choice of probes; zeros when exact, None with a
            single probe. It is 0.0 also where all probes agree on an entry, as they do by luck if they are few; the
            interval knows.
        num_probes: K; 0 when exact.
        num_products: how many products it took.
    """

    value: torch.Tensor
    stderr: torch.Tensor | None
    num_probes: int
    num_products: int

    @property
    def exact(self) -> bool:
        """Whether it was written out, and nothing was left to chance."""
        return not self.num_probes

    def interval(self, level: float = 0.95) -> tuple[torch.Tensor, torch.Tensor]:
        """``(P,)`` the ends of each entry's confidence interval by Student's t; infinite with a single probe.

        Where all probes agree it is a point if they would do so by luck in fewer than ``1 - level`` of all cases at
        most (from 12 probes on for 0.95), and infinite with fewer.
        """
        if self.exact:
            return self.value, self.value
        if self.stderr is None:
            return torch.full_like(self.value, -torch.inf), torch.full_like(self.value, torch.inf)
        width = self.stderr * t_quantile(0.5 + level / 2, self.num_probes - 1)
        if chance_of_agreement(self.num_probes) > 1 - level:
            width = torch.where(self.stderr == 0, torch.inf, width)
        return self.value - width, self.value + width


def diagonal(
    operator: Operator,
    *,
    num_probes: int,
    rng: Rng,
    known: Eigenpairs | None = None,
    exact_size: int = EXACT_SIZE,
) -> Diagonal:
    """The mean of ``z * (A z)``, entry by entry, over vectors z of random signs.

    The variance of an entry is the sum of the squares of its row off the diagonal, over K.

    Args:
        operator: A; it must be symmetric.
        num_probes: K.
        rng: where the signs come from.
        known: orthonormal vectors, e.g. Ritz pairs, whose part is computed (by a product each) and not sampled; they
            need not have converged.
        exact_size: an operator of at most this size is written out instead.

    Raises:
        SettingsError: no probe is asked for.
        UsageError: the operator promises no symmetry, or a product is not finite.
    """
    must_be_rng(rng)
    if num_probes < 1:
        raise SettingsError(f"at least one probe was required, num_probes={num_probes} came: raise it")
    must_be_symmetric(operator)
    before = operator.num_products
    if operator.size <= exact_size:
        found = operator.dense().double().diagonal().clone()
        must_be_finite(float(found.abs().sum()))
        return Diagonal(value=found, stderr=torch.zeros_like(found), num_probes=0, num_products=operator.size)
    vectors = None if known is None or not len(known) else known.vectors.to(operator.device)
    mean = torch.zeros(operator.size, dtype=torch.float64, device=operator.device)
    squares = torch.zeros_like(mean)
    for probe in track(range(num_probes), "diagonal", num_probes):
        z = without(signs(operator, rng.child("probe", probe)), vectors)
        sample = z * without(operator.matvec(z).double(), vectors)
        must_be_finite(float(sample.abs().sum()))
        step = sample - mean  # Welford's recurrence: no sample is kept
        mean += step / (probe + 1)
        squares += step * (sample - mean)
    if vectors is not None:
        mean += _inside(operator, vectors)
    stderr = None
    if num_probes > 1:
        stderr = (squares / (num_probes * (num_probes - 1))).sqrt()
        stderr[stderr <= same_up_to_rounding(operator.dtype) * mean.abs()] = 0.0
    return Diagonal(value=mean, stderr=stderr, num_probes=num_probes, num_products=operator.num_products - before)


def _inside(operator: Operator, vectors: torch.Tensor) -> torch.Tensor:
    """``(P,)`` the diagonal of ``A - (1 - U U') A (1 - U U')``, for vectors U that need not be eigenvectors."""
    products = (operator @ vectors).double()
    inner = vectors.T @ products
    return 2 * (products * vectors).sum(1) - ((vectors @ inner) * vectors).sum(1)
