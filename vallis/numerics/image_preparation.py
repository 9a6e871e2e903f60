"""Cropping and whitening of images, one by one, where nothing is learned from the others; and their mean.

Source: Zhang et al. (2017), appendix A: the middle of 28 x 28 pixels of each image of CIFAR-10, then whitened. Patrini
et al. (2017): the mean image taken from all.
"""

from __future__ import annotations

import torch

from vallis.core.errors import DataError, SettingsError


def centre_crop(images: torch.Tensor, side: int) -> torch.Tensor:
    """``(N, C, side, side)`` the middle of each image; of an odd margin one pixel more is cut off below and right.

    Args:
        images: ``(N, C, H, W)`` of any type.
        side: of the square that is kept.

    Raises:
        DataError: these are no images.
        SettingsError: the square is larger than the images.
    """
    _must_be_images(images)
    height, width = images.shape[2:]
    if not 1 <= side <= min(height, width):
        raise SettingsError(f"centre_crop must be in 1..{min(height, width)}, {side} came: crop less")
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, :, top : top + side, left : left + side]


def whiten_each(images: torch.Tensor) -> torch.Tensor:
    """Each image minus its mean and divided by max(std, 1/sqrt(number of values)), over all its pixels and channels.

    The lower limit leaves an image of one grey at 0.

    Args:
        images: ``(N, C, H, W)`` floating numbers.

    Raises:
        DataError: these are no images of floating numbers, or there is none of them, or no pixel.
    """
    _must_be_images(images)
    if not images.is_floating_point() or not images[:1].numel():
        raise DataError(
            f"floating numbers of at least one image were required, {tuple(images.shape)} of {images.dtype} came: "
            "divide the pixels by 255"
        )
    rows = images.flatten(1)
    smallest = rows.shape[1] ** -0.5
    white = rows - rows.mean(1, keepdim=True)
    return white.div_(white.std(1, keepdim=True, correction=0).clamp_(min=smallest)).reshape(images.shape)


def mean_image(images: torch.Tensor) -> torch.Tensor:
    """``(C, H, W)`` the mean of each pixel over the images, added up in float64; take it from training images alone.

    Args:
        images: ``(N, C, H, W)`` floating numbers.

    Raises:
        DataError: these are no images, or there is none of them.
    """
    _must_be_images(images)
    if not len(images) or not images.is_floating_point():
        raise DataError(
            f"floating numbers of at least one image were required, {len(images)} of {images.dtype} came: give the "
            "training images, their pixels divided by 255"
        )
    return images.mean(0, dtype=torch.float64).to(images.dtype)


def _must_be_images(images: torch.Tensor) -> None:
    if not isinstance(images, torch.Tensor) or images.ndim != 4:
        came = f"shape {tuple(images.shape)}" if isinstance(images, torch.Tensor) else f"a {type(images).__name__}"
        raise DataError(f"images (N, C, H, W) were required, {came} came: reshape them")
