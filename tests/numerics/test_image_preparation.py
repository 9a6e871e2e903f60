"""Cropping and whitening against the formula in numpy, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vallis.core.errors import DataError, SettingsError
from vallis.numerics.image_preparation import centre_crop, mean_image, whiten_each


def test_whitening_is_the_papers_formula() -> None:
    images = np.random.default_rng(0).random((6, 3, 5, 7))
    images[0], images[1] = 0.0, 0.7
    images[2] = 0.7 + 1e-4 * images[2]  # nearly one grey: its deviation is replaced by 1 / sqrt(105)
    kept = images.copy()
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        given = torch.tensor(images, dtype=dtype)
        white = whiten_each(given)
        assert white.dtype == dtype and white.shape == given.shape
        for found, image in zip(white.double().numpy(), images, strict=True):
            expected = (image - image.mean()) / max(image.std(), 105**-0.5)
            np.testing.assert_allclose(found, expected, atol=tolerance)
        np.testing.assert_array_equal(given.numpy(), kept.astype(given.numpy().dtype))


@pytest.mark.parametrize(("height", "width", "side"), [(5, 8, 5), (5, 8, 2), (6, 9, 3), (4, 4, 1), (32, 32, 28)])
def test_the_crop_leaves_as_much_on_both_sides(height: int, width: int, side: int) -> None:
    """Marks each pixel by its place: what is kept is a square whose margins differ by one pixel at most."""
    places = torch.arange(height)[:, None] * 100 + torch.arange(width)
    kept = centre_crop(places[None, None].expand(2, 3, height, width), side)
    assert kept.shape == (2, 3, side, side)
    for first, last, size in (
        (int(kept[0, 0, 0, 0]) // 100, int(kept[0, 0, -1, -1]) // 100, height),
        (int(kept[0, 0, 0, 0]) % 100, int(kept[0, 0, -1, -1]) % 100, width),
    ):
        assert last - first == side - 1
        assert 0 <= (size - 1 - last) - first <= 1


def test_what_is_no_image_is_refused() -> None:
    for wrong in (torch.zeros(3, 4, 4), np.zeros((1, 1, 4, 4))):
        with pytest.raises(DataError, match=r"images \(N, C, H, W\) were required"):
            whiten_each(wrong)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=r"images \(N, C, H, W\) were required"):
            centre_crop(wrong, 2)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="divide the pixels by 255"):
        whiten_each(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))
    for side in (0, 5):
        with pytest.raises(SettingsError, match=rf"in 1\.\.4, {side} came"):
            centre_crop(torch.zeros(1, 1, 4, 6), side)


def test_the_mean_image_is_that_of_double_numbers() -> None:
    images = np.random.default_rng(1).random((5000, 2, 3, 4)).astype(np.float32) + 100
    found = mean_image(torch.from_numpy(images))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), images.astype(np.float64).mean(0).astype(np.float32))
    for wrong in (torch.zeros(0, 1, 2, 2), torch.zeros(3, 1, 2, 2, dtype=torch.uint8)):
        with pytest.raises(DataError, match=r"floating numbers of at least one image .* give the training images"):
            mean_image(wrong)


def test_images_without_a_pixel_are_refused() -> None:
    with pytest.raises(DataError, match=r"floating numbers of at least one image were required, \(3, 0, 2, 2\)"):
        whiten_each(torch.zeros(3, 0, 2, 2))
