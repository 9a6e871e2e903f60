from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.training._augmentation import _tinted, augment, rotated


def pictures(size: int = 8, count: int = 400) -> torch.Tensor:
    """Two channels, the second of them the first with the sign turned; no value appears twice in a picture."""
    one = torch.arange(1.0, size * size + 1).view(1, 1, size, size)
    return torch.cat([one, -one], dim=1).repeat(count, 1, 1, 1)


def drawn(x: torch.Tensor, how: str, name: str = "a") -> torch.Tensor:
    return augment(x, how, Rng(0).child(name).torch())


def test_none_changes_nothing() -> None:
    x = pictures()
    assert drawn(x, "none") is x
    words = ["no", "pictures"]
    assert drawn(words, "none") is words  # type: ignore[arg-type, comparison-overlap]


def test_flip_mirrors_about_half_of_the_pictures() -> None:
    x = pictures()
    found = drawn(x, "flip")
    mirrored = (found == x.flip(3)).flatten(1).all(1)
    kept = (found == x).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 150 < int(mirrored.sum()) < 250  # binomial, 400 at one half: five standard deviations


def test_shift_moves_by_up_to_an_eighth_and_fills_with_zeros() -> None:
    x = pictures()
    seen = set()
    for picture, before in zip(drawn(x, "shift"), x, strict=True):
        expected = {(dy, dx): moved(before, dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
        (shift,) = [key for key, value in expected.items() if torch.equal(value, picture)]
        seen.add(shift)
    assert len(seen) == 9


def moved(picture: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    size = picture.shape[1]
    out = torch.zeros_like(picture)
    for row in range(size):
        for column in range(size):
            if 0 <= row + dy < size and 0 <= column + dx < size:
                out[:, row, column] = picture[:, row + dy, column + dx]
    return out


def test_crop_flip_does_both() -> None:
    x = pictures(32, 60)
    found = drawn(x, "crop_flip")
    rising = [bool((row[row > 0].diff() > 0).all()) for row in found[:, 0, 16]]
    assert 10 < sum(rising) < 50, "some are mirrored"
    corner = found[:, 0, 4:28, 4:28]  # within four pixels, nothing of the middle is lost
    assert bool((corner > 0).all())
    assert len({float(value) for value in found[:, 0, 16, 16]}) > 20, "and they are shifted"
    assert torch.equal(found[:, 1], -found[:, 0]), "all channels alike"


def test_same_stream_same_pictures() -> None:
    x = pictures()
    assert torch.equal(drawn(x, "crop_flip"), drawn(x, "crop_flip"))
    assert not torch.equal(drawn(x, "crop_flip"), drawn(x, "crop_flip", "b"))
    assert torch.equal(x, pictures()), "the inputs are not changed in place"


@pytest.mark.parametrize("shape", [(7, 7), (8, 8), (6, 11), (1, 5)])
@pytest.mark.parametrize("degrees", [0.0, 25.0, -25.0, 7.3, 90.0, 131.0, -180.0])
def test_rotation_is_that_of_scipy(shape: tuple[int, int], degrees: float) -> None:
    picture = np.random.default_rng(0).normal(size=(2, *shape))
    found = rotated(torch.from_numpy(picture)[None], torch.tensor([degrees], dtype=torch.float64))[0]
    expected = [
        scipy.ndimage.rotate(one, degrees, reshape=False, order=1, mode="grid-constant", cval=0.0) for one in picture
    ]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-12)


def test_a_quarter_turn_in_closed_form_each_picture_by_its_own_angle() -> None:
    x = torch.arange(2 * 3 * 5 * 5, dtype=torch.float32).view(2, 3, 5, 5).repeat(2, 1, 1, 1)
    found = rotated(x, torch.tensor([90.0, -90.0, 180.0, 0.0]))
    expected = [torch.rot90(x[place], turns, (1, 2)) for place, turns in enumerate((1, 3, 2, 0))]
    torch.testing.assert_close(found, torch.stack(expected), atol=2e-4, rtol=0)
    assert torch.equal(found[3], x[3]), "an angle of zero changes no bit"
    assert rotated(x.bfloat16(), torch.zeros(4)).dtype == torch.bfloat16


def test_angles_are_uniform_up_to_25_degrees() -> None:
    """A lone bright pixel right of the middle: where it goes says the angle."""
    x = torch.zeros(500, 1, 65, 65)
    x[:, 0, 32, 62] = 1
    found = drawn(x, "rotate")[:, 0]
    share = found / found.sum((1, 2), keepdim=True)
    places = torch.arange(65.0) - 32
    down, right = (share * places[:, None]).sum((1, 2)), (share * places).sum((1, 2))
    angles = torch.rad2deg(torch.atan2(-down, right))
    assert 24.0 < angles.max() < 25.5 and -25.5 < angles.min() < -24.0
    # Kolmogorov and Smirnov at 500: below 0.073 with 99 %.
    ordered = (angles.sort().values + 25) / 50
    assert float((ordered - (torch.arange(500) + 0.5) / 500).abs().max()) < 0.073


def test_flip_rotate_mirrors_half_of_the_pictures_as_well() -> None:
    x = torch.zeros(400, 1, 17, 17)
    x[:, 0, 8, 14] = 1
    found = drawn(x, "flip_rotate")
    left, right = found[..., :8].sum((1, 2, 3)), found[..., 9:].sum((1, 2, 3))
    assert 150 < int((left > right).sum()) < 250  # binomial, 400 at one half: five standard deviations


def test_colour_without_three_channels_is_brightness_and_contrast() -> None:
    x = torch.randn(300, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = drawn(x, "colour")
    mean, before = found.mean((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)
    rise = (mean - before).flatten(1)
    assert torch.allclose(rise[:, 0], rise[:, 1]), "the same for both channels"
    assert 0.11 < rise.max() < 32 / 255 and -32 / 255 < rise.min() < -0.11
    factor = (found - mean) / (x - before)
    assert torch.allclose(factor, factor[:, :1, :1, :1].expand_as(factor))
    assert 0.5 < factor.min() < 0.52 and 1.48 < factor.max() < 1.5


def test_hue_and_saturation_leave_grey_and_the_brightness_alone() -> None:
    x = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factor, angle = torch.full((20, 1, 1), 1.3, dtype=torch.float64), torch.full((20, 1, 1), 0.7, dtype=torch.float64)
    found = _tinted(x, factor, angle)
    for pixel, before in zip(found.movedim(1, -1).reshape(-1, 3), x.movedim(1, -1).reshape(-1, 3), strict=True):
        y, i, q = _yiq(before)
        expected = (y, 1.3 * (i * np.cos(0.7) - q * np.sin(0.7)), 1.3 * (i * np.sin(0.7) + q * np.cos(0.7)))
        assert _yiq(pixel) == pytest.approx(expected, abs=1e-3)
    grey = torch.full((1, 3, 2, 2), 0.4, dtype=torch.float64)
    torch.testing.assert_close(_tinted(grey, factor[:1], angle[:1]), grey, atol=1e-6, rtol=0)
    same = _tinted(x, torch.ones_like(factor), torch.zeros_like(angle))
    torch.testing.assert_close(same, x)


def _yiq(pixel: torch.Tensor) -> tuple[float, float, float]:
    red, green, blue = pixel.tolist()
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    i, q = 0.736 * (red - y) - 0.268 * (blue - y), 0.478 * (red - y) + 0.413 * (blue - y)
    return y, i, q


@pytest.mark.parametrize("how", ["rotate", "flip_rotate", "colour"])
def test_the_layout_is_what_it_was_and_the_stream_decides(how: str) -> None:
    x = torch.rand(5, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    found = drawn(x, how)
    assert found.is_contiguous() and found.dtype == x.dtype and torch.equal(x, before)
    assert torch.equal(found, drawn(x, how)) and not torch.equal(found, drawn(x, how, "b"))
    with pytest.raises(SettingsError, match=r"floating numbers .*uint8 came"):
        drawn(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), how)


@pytest.mark.parametrize("how", ["shift", "flip", "crop_flip", "rotate", "flip_rotate", "colour"])
def test_only_pictures(how: str) -> None:
    with pytest.raises(SettingsError, match=r"\(3, 4\)"):
        drawn(torch.zeros(3, 4), how)
    with pytest.raises(SettingsError, match="a list"):
        drawn([1, 2], how)  # type: ignore[arg-type]
