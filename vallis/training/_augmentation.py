"""Random shifts, mirror images, rotations and colours of a batch of pictures, from a generator that is handed in."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

from vallis.core.errors import SettingsError

AUGMENTATIONS = ("none", "shift", "flip", "crop_flip", "rotate", "flip_rotate", "colour")
MOST_DEGREES = 25.0
# How far "colour" goes: the distortion of the Inception networks, with pixels in [0, 1] and hues in turns.
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 32 / 255, 0.5, 0.5, 0.2
# From red, green and blue to brightness and two axes of colour (NTSC): there, a hue is an angle.
_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def augment(x: Any, how: str, generator: torch.Generator) -> Any:
    """The batch with every picture changed at random on its own.

    "flip" mirrors left and right with probability one half. "shift" moves by up to an eighth of the height in both
    directions (4 pixels of 32), filling with zeros: the usual padded random crop. "crop_flip" does both. "rotate" turns
    by an angle drawn uniformly from -25 to 25 degrees (see `rotated`), and "flip_rotate" mirrors as well: the
    augmentation of Zhang et al. (2017), table 4. "colour" adds to all pixels a number within 32/255, multiplies the
    saturation by a factor in [1/2, 3/2], turns the hue by up to a fifth of a circle, and then multiplies what differs
    from the picture's mean in each channel by a factor in [1/2, 3/2]; without three channels there is neither hue nor
    saturation. All of it is drawn uniformly and nothing is clipped, so pictures may be whitened.

    Args:
        x: pictures ``(B, C, H, W)`` of floating numbers.
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
    if how in ("rotate", "flip_rotate", "colour") and not x.is_floating_point():
        raise SettingsError(
            f'floating numbers were required by augmentation="{how}", {x.dtype} came: convert the pictures to float32'
        )
    if how in ("shift", "crop_flip"):
        x = _shifted(x, max(1, x.shape[2] // 8), generator)
    if how in ("flip", "crop_flip", "flip_rotate"):
        mirrored = torch.rand(len(x), generator=generator, device=x.device) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    if how in ("rotate", "flip_rotate"):
        x = rotated(x, MOST_DEGREES * _between_signs(len(x), generator))
    return _coloured(x, generator) if how == "colour" else x


def rotated(x: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Each picture turned around its middle, counter-clockwise as it is looked at (row 0 on top).

    A pixel is the bilinear mean of the four around the place that it comes from, where what lies outside of the picture
    is zero: `scipy.ndimage.rotate` with ``order=1, reshape=False, mode="grid-constant"``.

    Args:
        x: ``(B, C, H, W)``; bfloat16 and float16 are computed in float32.
        degrees: ``(B,)``.
    """
    work = x if x.dtype in (torch.float32, torch.float64) else x.float()
    height, width = x.shape[2:]
    angle = (degrees.to(work) * (math.pi / 180))[:, None, None]
    down = torch.arange(height, dtype=work.dtype, device=x.device)[:, None] - (height - 1) / 2
    right = torch.arange(width, dtype=work.dtype, device=x.device) - (width - 1) / 2
    from_right, from_down = right * angle.cos() - down * angle.sin(), right * angle.sin() + down * angle.cos()
    # Of grid_sample without align_corners: -1 and 1 are the outer edges of the first and of the last pixel.
    grid = torch.stack([from_right * (2 / width), from_down * (2 / height)], dim=-1)
    return F.grid_sample(work, grid, mode="bilinear", padding_mode="zeros", align_corners=False).to(x.dtype)


def _between_signs(count: int, generator: torch.Generator) -> torch.Tensor:
    """``(count,)`` uniform between -1 and 1."""
    return 2 * torch.rand(count, generator=generator, device=generator.device) - 1


def _coloured(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    brightness, contrast, saturation, hue = (
        _between_signs(len(x), generator).to(x)[:, None, None, None] for _ in range(4)
    )
    x = x + _BRIGHTNESS * brightness
    if x.shape[1] == 3:
        x = _tinted(x, 1 + _SATURATION * saturation[:, 0], 2 * math.pi * _HUE * hue[:, 0])
    mean = x.mean((2, 3), keepdim=True)
    return mean + (1 + _CONTRAST * contrast) * (x - mean)


def _tinted(x: torch.Tensor, factor: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Red, green and blue with the saturation times a factor and the hue turned by an angle, ``(B, 1, 1)`` each."""
    there = torch.tensor(_YIQ, dtype=x.dtype, device=x.device)
    bright, first, second = torch.einsum("dc,bchw->dbhw", there, x)
    cos, sin = factor * angle.cos(), factor * angle.sin()
    turned = torch.stack([bright, cos * first - sin * second, sin * first + cos * second])
    back = torch.linalg.inv(torch.tensor(_YIQ, dtype=torch.float64)).to(x)
    return torch.einsum("cd,dbhw->bchw", back, turned).contiguous()


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
