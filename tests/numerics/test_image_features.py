"""Features of images against loops, closed forms of the filters, and what waves of known direction must answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.numerics.solutions import random
from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng
from vallis.numerics import image_features
from vallis.numerics.image_features import gabor_bank, gabor_features, random_convolutions, random_patches


def wave(angle: float, wavelength: float, size: int = 28) -> torch.Tensor:
    v, u = torch.meshgrid(torch.arange(size).double(), torch.arange(size).double(), indexing="ij")
    return torch.sin(2 * math.pi * (u * math.cos(angle) + v * math.sin(angle)) / wavelength)[None, None]


def test_patches_are_found_in_the_images() -> None:
    images = random(5, 2, 6, 7)
    filters = random_patches(images, 9, 3, Rng(0))
    assert filters.shape == (9, 2, 3, 3)
    windows = images.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 18)
    windows = windows - windows.mean(1, keepdim=True)
    cosines = filters.flatten(1) @ (windows / windows.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(cosines.max(1).values, torch.ones(9))
    place = cosines.argmax(1) % (4 * 5)
    assert bool((place // 5 != place % 5).any())  # rows and columns are drawn apart
    torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(9))
    assert filters.equal(random_patches(images, 9, 3, Rng(0)))
    assert not filters.equal(random_patches(images, 9, 3, Rng(1)))


def test_patches_of_one_grey_are_not_taken() -> None:
    images = torch.zeros(4, 1, 8, 8)
    images[0, 0, :, 4:] = 1.0
    assert random_patches(images, 50, 3, Rng(0)).flatten(1).norm(dim=1).allclose(torch.ones(50))
    assert random_patches(torch.zeros(2, 1, 5, 5), 4, 3, Rng(0)).isfinite().all()


def test_convolutions_are_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_features, "_CHUNK", 2)
    images, filters = random(3, 2, 6, 6).double(), random(4, 2, 3, 3, seed=1).double()
    found = random_convolutions(images, filters, grid=2, threshold=0.5).reshape(3, 4, 2, 2)
    for n in range(3):
        for f in range(4):
            answers = np.array(
                [[float((images[n, :, r : r + 3, c : c + 3] * filters[f]).sum()) for c in range(4)] for r in range(4)]
            )
            rectified = np.maximum(answers - 0.5, 0)
            expected = rectified.reshape(2, 2, 2, 2).mean((1, 3))
            np.testing.assert_allclose(found[n, f].numpy(), expected, rtol=1e-12)


def test_gabor_filters_by_their_formula() -> None:
    (bank,) = gabor_bank(4, (5.0,), width=0.4, aspect=0.7)
    assert bank.shape == (8, 1, 11, 11)
    std, angle = 2.0, math.pi / 4
    even, odd = np.empty((11, 11)), np.empty((11, 11))
    envelope = np.empty((11, 11))
    for row, v in enumerate(range(-5, 6)):
        for column, u in enumerate(range(-5, 6)):
            along, across = u * math.cos(angle) + v * math.sin(angle), v * math.cos(angle) - u * math.sin(angle)
            envelope[row, column] = math.exp(-(along**2 + 0.49 * across**2) / (2 * std**2))
            even[row, column] = envelope[row, column] * math.cos(2 * math.pi * along / 5)
            odd[row, column] = envelope[row, column] * math.sin(2 * math.pi * along / 5)
    even -= envelope * even.sum() / envelope.sum()
    np.testing.assert_allclose(bank[1, 0].numpy(), even / np.linalg.norm(even), atol=1e-14)
    np.testing.assert_allclose(bank[5, 0].numpy(), odd / np.linalg.norm(odd), atol=1e-14)
    assert bank.sum((1, 2, 3)).abs().max() < 1e-12


def test_gabor_features_see_direction_and_wavelength_and_no_grey() -> None:
    bank = gabor_bank(4, (4.0, 8.0))
    for place, angle in enumerate(math.pi * k / 4 for k in range(4)):
        for scale, wavelength in enumerate((4.0, 8.0)):
            energy = gabor_features(wave(angle, wavelength), bank, grid=1).reshape(2, 4)
            assert int(energy.argmax()) == 4 * scale + place
    assert gabor_features(torch.ones(1, 1, 28, 28), bank).abs().max() < 1e-5


def test_gabor_energy_does_not_see_where_the_wave_begins() -> None:
    bank = gabor_bank(2, (6.0,))
    one, moved = (gabor_features(wave(0.0, 6.0, 36).roll(shift, 3), bank, grid=1) for shift in (0, 2))
    # The filter across the wave answers nothing but rounding, which depends on the processor.
    torch.testing.assert_close(one, moved, rtol=0.02, atol=1e-12 * float(one.max()))


def test_shapes_and_channels() -> None:
    bank, images = gabor_bank(3, (4.0, 8.0)), random(5, 3, 8, 8)
    assert gabor_features(images, bank, grid=2).shape == (5, 3 * 2 * 3 * 4)
    grey = gabor_features(images, bank, grid=2, channels_apart=False)
    torch.testing.assert_close(grey, gabor_features(images.mean(1, keepdim=True), bank, grid=2))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(DataError, match="images"):
        random_patches(random(5, 6), 3, 2, Rng(0))
    with pytest.raises(DataError, match="at least 9x9"):
        random_convolutions(random(5, 1, 8, 8), random(2, 1, 9, 9))
    with pytest.raises(DataError, match="uint8"):
        gabor_features(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), gabor_bank(1, (4.0,)))
    with pytest.raises(SettingsError, match="filters of one pixel"):
        random_patches(random(5, 1, 6, 6), 0, 2, Rng(0))
    for settings in ((0, (4.0,)), (2, ()), (2, (-1.0,))):
        with pytest.raises(SettingsError, match="an orientation"):
            gabor_bank(*settings)


def test_filters_of_other_channels_and_grids_without_a_cell_are_refused() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=r"filters \(num_filters, 3, size, size\) were required"):
        random_convolutions(images, torch.ones(4, 1, 3, 3))
    with pytest.raises(SettingsError, match="at least one cell along each side was required, grid=0 came"):
        random_convolutions(images, torch.ones(4, 3, 3, 3), grid=0)
