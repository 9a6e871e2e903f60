"""Mean losses of K members in one call, where that has the bits of K calls (see `vallis.numerics.same_bits`)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

# torch sums so many losses in a row before it goes on in another sum, to lose fewer digits.
_IN_A_ROW = 16


def _means_each(picked: torch.Tensor, out: torch.Tensor) -> None:
    first = torch.zeros(picked.shape[1], dtype=torch.int64, device=picked.device)
    for scores, place in zip(picked.unsqueeze(2).unbind(), out.unbind(), strict=True):
        place.copy_(F.nll_loss(scores, first))


def _means_in_columns(picked: torch.Tensor, out: torch.Tensor) -> None:
    # In torch's own order: from the second on, sum by sum, and the first is added last.
    columns = picked.t().contiguous().unbind()
    low, high = torch.zeros_like(columns[0]), None
    for place in range(1, len(columns)):
        low = low.sub_(columns[place])
        if place % _IN_A_ROW == 0:
            high = low if high is None else high.add_(low)
            low = torch.zeros_like(low)
    low = low if high is None else low.add_(high)
    torch.div(low.sub_(columns[0]), len(columns), out=out)


# Log-probabilities of the targets ``(K, B)``, then their negated means ``(K,)``.
NLL_MEANS = (_means_each, _means_in_columns)
