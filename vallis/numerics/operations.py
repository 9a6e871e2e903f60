"""What a network costs: the floating-point operations of a gradient, counted by torch and not by a clock.

A count is the same on every machine, however busy, and so is what is decided by it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vallis.core.functional import differentiating
from vallis.core.objective import Objective

# Two passes back, by the inputs and by the weights, for one forward; and of a product the adding up is counted, too.
_PASSES, _A_WEIGHT = 3, 2


def gradient_operations(objective: Objective) -> float:
    """Floating-point operations of the loss and its gradient, for one example: three times those of the loss.

    Products of matrices and convolutions are counted, on the first batch; all else is small beside them. Where torch
    can count none, every weight is taken to be used once.
    """
    from torch.utils.flop_counter import FlopCounterMode

    term = next(iter(objective.terms()))
    with _in_single_steps(), FlopCounterMode(display=False) as counter:
        term.loss(objective.origin)
    counted = counter.get_total_flops() / len(term.batch)
    return _PASSES * (counted or float(_A_WEIGHT * sum(part.numel() for part in objective.origin)))


@contextmanager
def _in_single_steps() -> Iterator[None]:
    """Without the fused kernels of whole layers, of which torch counts nothing: recurrent ones and encoders."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setting this flag warns of graphics cards that are not there
        with torch.backends.mkldnn.flags(enabled=False), differentiating():
            yield
