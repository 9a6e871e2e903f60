"""What a regression is to answer so that its loss calls the answer right: classes become vectors, numbers stay."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vallis.core.errors import DataError
from vallis.core.losses import Loss
from vallis.numerics.means import ratio
from vallis.numerics.proportions import share_by_example


def regression_targets(loss: Loss, targets: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """For the targets of each split float64 values ``(N, C)``: one-hot classes, -1 and 1, or the numbers themselves.

    Args:
        loss: how answers are judged; its kind decides.
        targets: of each split, ``(N,)`` or ``(N, C)``; C classes are as many as the largest of all asks for.

    Raises:
        DataError: they are no classes ``(N,)`` and no numbers ``(N,)`` or ``(N, C)``.
    """
    for y in targets:
        classes = loss.kind in ("categorical", "binary")
        if not isinstance(y, torch.Tensor) or y.ndim not in (1, 2) or (classes and y.numel() != len(y)):
            came = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
            raise DataError(
                f"a class (N,) or numbers (N,) or (N, C) an example were required, {came} came: change them"
            )
        if loss.kind == "categorical" and (y.is_floating_point() or int(y.min()) < 0):
            raise DataError(f"classes 0..C-1 were required, {y.dtype} from {float(y.min()):g} on came: renumber them")
    if loss.kind == "categorical":
        num_classes = max(2, 1 + max(int(y.max()) for y in targets))
        return tuple(torch.eye(num_classes, dtype=torch.float64)[y.reshape(-1).long()] for y in targets)
    numbers = tuple(y.double().reshape(len(y), -1) for y in targets)
    return tuple(2 * y - 1 for y in numbers) if loss.kind == "binary" else numbers


def mean_error(loss: Loss, answers: torch.Tensor, values: torch.Tensor) -> tuple[float, float | None, int]:
    """The share of wrong answers, or for numbers the mean squared error; its standard error; the number of examples.

    Args:
        loss: how answers are judged.
        answers: ``(N, C)``.
        values: ``(N, C)`` as `regression_targets` gives them.
    """
    if loss.kind == "categorical":
        wanted = values.argmax(1, keepdim=True)
        # A tie is an error: of a kernel far from all examples every answer is 0.
        others = answers.scatter(1, wanted, -torch.inf).amax(1)
        each = (~(answers.gather(1, wanted)[:, 0] > others)).double()
    elif loss.kind == "binary":
        each = (~(answers * values > 0)).double()[:, 0]
    else:
        each = (answers.double() - values).square().mean(1)
    mean = share_by_example if loss.kind in ("categorical", "binary") else ratio
    return mean(each.numpy(), torch.ones(len(each), dtype=torch.float64).numpy())
