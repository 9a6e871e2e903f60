from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.training._augmentation import augment


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


@pytest.mark.parametrize("shape", [(9, 9), (8, 13)])
def test_rotate_turns_in_pixels_about_the_centre(shape: tuple[int, int]) -> None:
    """Against scipy, on pictures that are not square too."""
    x = torch.rand(50, 2, *shape, generator=Rng(0).child("pictures").torch())
    degrees = (2 * torch.rand(50, generator=Rng(0).child("a").torch()) - 1) * 25
    for picture, before, angle in zip(drawn(x, "rotate"), x, degrees.tolist(), strict=True):
        expected = ndimage.rotate(before.numpy(), angle, axes=(1, 2), reshape=False, order=1, mode="grid-constant")
        np.testing.assert_allclose(picture.numpy(), expected, atol=1e-5)
    assert 15 < float(degrees.abs().max()) <= 25


def test_flip_rotate_does_both() -> None:
    x = pictures(16, 200)
    found = drawn(x, "flip_rotate")
    rising = [bool(row[4] < row[11]) for row in found[:, 0, 8]]
    assert 70 < sum(rising) < 130, "half of them are mirrored: a turn by 25 degrees hides no mirror"
    assert len({float(value) for value in found[:, 0, 3, 8]}) > 150, "and all are turned"


def test_same_stream_same_pictures() -> None:
    x = pictures()
    assert torch.equal(drawn(x, "crop_flip"), drawn(x, "crop_flip"))
    assert not torch.equal(drawn(x, "crop_flip"), drawn(x, "crop_flip", "b"))
    assert torch.equal(x, pictures()), "the inputs are not changed in place"


@pytest.mark.parametrize("how", ["shift", "flip", "crop_flip", "rotate", "flip_rotate"])
def test_only_pictures(how: str) -> None:
    with pytest.raises(SettingsError, match=r"\(3, 4\)"):
        drawn(torch.zeros(3, 4), how)
    with pytest.raises(SettingsError, match="a list"):
        drawn([1, 2], how)  # type: ignore[arg-type]
