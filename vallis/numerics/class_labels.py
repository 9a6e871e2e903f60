"""Labels as they may be given, in any type of whole numbers, proved to be classes and turned into int64.

Torch takes bytes for a mask where something is looked up by them, refuses shorter types there, and wraps around what
they cannot hold.
"""

from __future__ import annotations

import torch

from vallis.core.errors import DataError


def checked_classes(y: torch.Tensor, num_classes: int) -> torch.Tensor:
    """``(N,)`` int64 the classes.

    Args:
        y: ``(N,)`` of any type of whole numbers.
        num_classes: C.

    Raises:
        DataError: y is no tensor of one whole number an example in 0..C-1, or of numbers too short for C classes.
    """
    whole = isinstance(y, torch.Tensor) and not (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool)
    if not whole or y.ndim != 1:
        came = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, torch.Tensor) else f"a {type(y).__name__}"
        raise DataError(f"one integer class an example was required, {came} came: give a whole number each")
    if num_classes - 1 > torch.iinfo(y.dtype).max:
        raise DataError(f"numbers that hold {num_classes} classes were required, {y.dtype} came: give y.long()")
    classes = y.long()
    if len(y) and not (int(classes.min()) >= 0 and int(classes.max()) < num_classes):
        raise DataError(
            f"classes in 0..{num_classes - 1} were required, {int(classes.min())}..{int(classes.max())} came: renumber "
            "them, or have a place for each class"
        )
    return classes
