"""Random shifts, turns and mirror images of a batch of pictures, drawn from a generator that is handed in."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

from vallis.core.errors import SettingsError

AUGMENTATIONS = ("none", "shift", "flip", "crop_flip", "rotate", "flip_rotate")
_MOST_DEGREES = 25.0  # Zhang et al. (2017), section 3


def augment(x: Any, how: str, generator: torch.Generator) -> Any:
    """The batch with every picture changed at random on its own.

    "flip" mirrors left and right with probability one half. "shift" moves by up to an eighth of the height in both
    directions (4 pixels of 32), filling with zeros: the usual padded random crop. "crop_flip" does both. "rotate" turns
    about the centre by up to 25 degrees either way, between pixels linearly, filling with zeros; "flip_rotate" mirrors
    as well.

    Args:
        x: pictures ``(B, C, H, W)``.
        how: one of `AUGMENTATIONS`.
        generator: on the device of x.

    Raises:
        SettingsError: x is no batch of pictures.
    """
    if how == "none":
        return x
    if not isinstance(x, torch.Tensor) or x.ndim != 4:
        came = f"shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else f"a {type(x).__name__}"
        raise SettingsError(
            f'inputs of shape (B, C, H, W) were required by augmentation="{how}", {came} came: use augmentation="none"'
        )
    if how in ("shift", "crop_flip"):
        x = _shifted(x, max(1, x.shape[2] // 8), generator)
    if how in ("rotate", "flip_rotate"):
        x = _turned(x, generator)
    if "flip" in how:
        mirrored = torch.rand(len(x), generator=generator, device=x.device) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    return x


def _shifted(x: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    size, _, height, width = x.shape
    corner = torch.randint(0, 2 * most + 1, (2, size, 1), generator=generator, device=x.device)
    rows = corner[0] + torch.arange(height, device=x.device)
    columns = corner[1] + torch.arange(width, device=x.device)
    padded = F.pad(x, (most, most, most, most))
    each = torch.arange(size, device=x.device)[:, None, None]
    # Indices around the slice put its axis last: (B, H, W, C). One channel would pass for contiguous as it stands, and
    # convolutions choose their kernel by the layout.
    moved = padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return moved.clone(memory_format=torch.contiguous_format)


def _turned(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    size, _, height, width = x.shape
    angle = (2 * torch.rand(size, generator=generator, device=x.device) - 1) * math.radians(_MOST_DEGREES)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Coordinates run from -1 to 1 along both sides, so that an oblong picture is turned in pixels, not in those.
    rows = [torch.stack([cos, -sin * height / width, zero], 1), torch.stack([sin * width / height, cos, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1).to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
