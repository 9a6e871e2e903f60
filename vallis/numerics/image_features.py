"""Fixed features of images, before any learning: random convolutions and a bank of Gabor filters, both pooled.

Source: Zhang et al. (2017), section 5, where both feed a linear system; Coates and Ng (2012), section 2, for random
patches as filters; Daugman (1985), equation 1, for the filters of Gabor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng, must_be_rng

_CHUNK = 500


def random_patches(images: torch.Tensor, num_filters: int, size: int, rng: Rng) -> torch.Tensor:
    """``(num_filters, C, size, size)`` patches from random places of random images.

    From each its mean is taken off, and it is given length 1. Patches of one grey are drawn again; where a whole round
    brings nothing else, Gaussian noise takes their place.

    Args:
        images: ``(N, C, H, W)``.
        num_filters: how many.
        size: of their sides.
        rng: chooses images and places.

    Raises:
        DataError: these are no images, or smaller than the filters.
        SettingsError: no filter is asked for.
    """
    must_be_rng(rng)
    _must_be_images(images, size)
    if num_filters < 1 or size < 1:
        raise SettingsError(
            f"filters of one pixel or more were required, {num_filters} of side {size} came: raise them"
        )
    generator, found, missing = rng.child("patches").torch(), [], num_filters
    height, width = images.shape[2] - size + 1, images.shape[3] - size + 1
    while missing:
        which = torch.randint(len(images), (missing,), generator=generator)
        rows = torch.randint(height, (missing,), generator=generator)[:, None] + torch.arange(size)
        columns = torch.randint(width, (missing,), generator=generator)[:, None] + torch.arange(size)
        drawn = images[which[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).float()
        drawn = drawn - drawn.mean((1, 2, 3), keepdim=True)
        lengths = drawn.flatten(1).norm(dim=1)
        told = lengths > 1e-3
        if not bool(told.any()):
            drawn = torch.randn(drawn.shape, generator=generator)
            lengths, told = drawn.flatten(1).norm(dim=1), torch.ones_like(told)
        found.append((drawn / lengths[:, None, None, None])[told])
        missing -= int(told.sum())
    return torch.cat(found)


def random_convolutions(
    images: torch.Tensor, filters: torch.Tensor, *, grid: int = 4, threshold: float = 0.0
) -> torch.Tensor:
    """``(N, num_filters * grid^2)`` features: convolution, ReLU, and the mean over each cell of a grid.

    Args:
        images: ``(N, C, H, W)``.
        filters: ``(num_filters, C, size, size)``.
        grid: cells along each side.
        threshold: is subtracted before the ReLU.

    Raises:
        DataError: these are no images, or smaller than the filters, or of other channels.
        SettingsError: the grid has no cell.
    """
    _must_be_images(images, filters.shape[-1])
    if filters.ndim != 4 or filters.shape[1] != images.shape[1]:
        raise DataError(
            f"filters (num_filters, {images.shape[1]}, size, size) were required for these images, "
            f"{tuple(filters.shape)} came: draw them from images of as many channels"
        )
    if grid < 1:
        raise SettingsError(f"at least one cell along each side was required, grid={grid} came: raise it")

    def features(some: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(torch.relu(F.conv2d(some, filters.to(some)) - threshold), grid)

    return _in_chunks(images, features)


def gabor_bank(
    num_orientations: int, wavelengths: Sequence[float], *, width: float = 0.5, aspect: float = 0.5
) -> tuple[torch.Tensor, ...]:
    """For each wavelength the filters ``(2 * num_orientations, 1, S, S)``, even ones before odd ones.

    ``g(u, v) = exp(-(u'^2 + aspect^2 v'^2) / (2 s^2)) exp(2 pi i u' / wavelength)`` with ``u' = u cos t + v sin t``,
    ``v' = v cos t - u sin t``, ``s = width * wavelength`` and ``t = pi k / num_orientations``. The mean of each even
    filter is taken off under its envelope, so that one grey gives 0; filters have length 1.

    Args:
        num_orientations: how many t, evenly over half a turn.
        wavelengths: in pixels.
        width: s in wavelengths; 0.5 is a bandwidth of about one octave.
        aspect: how much narrower than long the envelope is.

    Raises:
        SettingsError: there is no orientation or wavelength, or one is not positive.
    """
    if num_orientations < 1 or not wavelengths or min(*wavelengths, width, aspect, 1.0) <= 0:
        raise SettingsError(
            f"an orientation, a wavelength and positive widths were required, {num_orientations} orientations and "
            f"wavelengths {tuple(wavelengths)} came: raise them"
        )
    return tuple(_gabors(num_orientations, wavelength, width * wavelength, aspect) for wavelength in wavelengths)


def gabor_features(
    images: torch.Tensor, bank: Sequence[torch.Tensor], *, grid: int = 7, channels_apart: bool = True
) -> torch.Tensor:
    """``(N, D)`` features: the length of the even and the odd answer (the energy model), averaged over a grid of cells.

    Args:
        images: ``(N, C, H, W)``; at the border they go on as they end.
        bank: see `gabor_bank`; filters may be wider than the images.
        grid: cells along each side.
        channels_apart: each channel has features of its own; otherwise their mean is filtered.

    Raises:
        DataError: these are no images.
    """
    _must_be_images(images, 1)
    if not channels_apart:
        images = images.mean(1, keepdim=True)
    channels = images.shape[1]

    def features(some: torch.Tensor) -> torch.Tensor:
        grey = some.flatten(0, 1)[:, None]
        answers = []
        for filters in bank:
            margin = filters.shape[-1] // 2
            even, odd = F.conv2d(F.pad(grey, (margin,) * 4, mode="replicate"), filters.to(grey)).chunk(2, dim=1)
            answers.append(F.adaptive_avg_pool2d(torch.hypot(even, odd), grid))
        return torch.cat(answers, dim=1).reshape(len(some), channels, -1)

    return _in_chunks(images, features)


def _gabors(num_orientations: int, wavelength: float, std: float, aspect: float) -> torch.Tensor:
    reach = max(1, math.ceil(2.5 * std))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    evens, odds = [], []
    for turn in range(num_orientations):
        angle = math.pi * turn / num_orientations
        along = u * math.cos(angle) + v * math.sin(angle)
        across = v * math.cos(angle) - u * math.sin(angle)
        envelope = torch.exp(-(along**2 + aspect**2 * across**2) / (2 * std**2))
        wave = 2 * math.pi * along / wavelength
        even, odd = envelope * wave.cos(), envelope * wave.sin()
        evens.append(even - envelope * (even.sum() / envelope.sum()))
        odds.append(odd)
    filters = torch.stack([*evens, *odds])[:, None]
    lengths: torch.Tensor = filters.flatten(1).norm(dim=1)[:, None, None, None]
    return filters / lengths


def _must_be_images(images: torch.Tensor, least: int) -> None:
    if images.ndim != 4 or min(images.shape[2:]) < least or not images.is_floating_point() or len(images) == 0:
        raise DataError(
            f"images (N, C, H, W) of at least {least}x{least} pixels, as floating numbers, were required, "
            f"{tuple(images.shape)} of {images.dtype} came: reshape them"
        )


def _in_chunks(images: torch.Tensor, features: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([features(some).flatten(1) for some in images.split(_CHUNK)])
