"""Convolutions as matrices: the patches that a convolution multiplies with its weight, position by position.

With patches, ``z[i, :, s] = W x[i, s] + b`` for every position s of the output, W ``(m, n)`` the weight flattened from
its second axis on. So whatever is known of linear layers that are used at many positions holds for convolutions.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

Convolution = nn.Conv1d | nn.Conv2d


def why_not(module: Convolution) -> str | None:
    """Why a convolution is no one matrix on patches; None where it is."""
    if module.groups != 1:
        return f"it is a convolution in {module.groups} groups, each with a matrix of its own"
    return None


def patches(module: Convolution, x: torch.Tensor) -> torch.Tensor:
    """``(N, S, n)`` the patches of inputs ``(N, channels, ...)``, in the order of the weight's axes.

    Stride, dilation, padding of any amount and mode are the module's own. S runs over the positions of the output, row
    by row, and n over channels, then rows, then columns of the kernel.
    """
    before_after = module._reversed_padding_repeated_twice
    if any(before_after):
        x = F.pad(x, before_after, mode="constant" if module.padding_mode == "zeros" else module.padding_mode)
    flat = isinstance(module, nn.Conv1d)
    if flat:
        x = x[:, :, None, :]
    kernel, stride, dilation = (_pair(flat, size) for size in (module.kernel_size, module.stride, module.dilation))
    return F.unfold(x, kernel, dilation=dilation, stride=stride).transpose(1, 2)


def positions(z: torch.Tensor) -> torch.Tensor:
    """``(N, S, m)`` the outputs ``(N, m, ...)`` of a convolution in the same order."""
    return z.flatten(2).transpose(1, 2)


def _pair(flat: bool, size: tuple[int, ...]) -> tuple[int, int]:
    return (1, size[0]) if flat else (size[0], size[1])
