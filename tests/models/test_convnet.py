from __future__ import annotations

import pytest

from tests.models.expect import ALL_SIZES, DIGIT, a_good_net, num_parameters, tasks
from vallis.core.errors import ModelError, SettingsError
from vallis.core.rng import Rng
from vallis.models.convnet import Convnet


@pytest.mark.parametrize("shape", ALL_SIZES)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_images_of_any_size(shape: tuple[int, ...], batch_norm: bool) -> None:
    a_good_net(Convnet(channels=(4, 6), batch_norm=batch_norm), shape)


def test_the_count() -> None:
    count = (9 + 1) * 16 + (16 * 9 + 1) * 32 + (32 * 2 * 2 + 1) * 10
    assert num_parameters(a_good_net(Convnet(), DIGIT)) == count
    assert num_parameters(a_good_net(Convnet(batch_norm=True), DIGIT)) == count + 2 * (16 + 32)


@pytest.mark.parametrize(("shape", "height", "width"), [((1, 8, 8), 1, 1), ((3, 9, 15), 1, 2), ((1, 28, 28), 3, 3)])
def test_a_stride_halves_once_more(shape: tuple[int, ...], height: int, width: int) -> None:
    """9 becomes 5 and 15 becomes 8 under the stride, and then both are pooled twice."""
    count = (9 * shape[0] + 1) * 4 + (4 * 9 + 1) * 6 + (6 * height * width + 1) * 10
    assert num_parameters(a_good_net(Convnet(channels=(4, 6), stride=2), shape)) == count
    with pytest.raises(ModelError, match="at least 7x7 pixels, 6x7 came"):
        Convnet(channels=(4, 6), stride=2).build(tasks((1, 6, 7)), Rng(0))


def test_traits() -> None:
    plain = Convnet().build(tasks(DIGIT), Rng(0)).traits
    smooth = Convnet(activation="tanh", pool="average").build(tasks(DIGIT), Rng(0)).traits
    normed = Convnet(batch_norm=True).build(tasks(DIGIT), Rng(0)).traits
    assert {"convolutional", "homogeneous", "feedforward"} <= plain
    assert "smooth" in smooth
    assert "normalised" in normed


def test_images_that_are_too_small_or_none() -> None:
    with pytest.raises(ModelError, match="at least 16x16 pixels, 8x8 came"):
        Convnet(channels=(2, 2, 2, 2)).build(tasks(DIGIT), Rng(0))
    with pytest.raises(ModelError, match="convnet requires images"):
        Convnet().build(tasks((64,)), Rng(0))


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": ()},
        {"channels": (0,)},
        {"kernel_size": 4},
        {"stride": 0},
        {"pool": "min"},
        {"dropout": 2.0},
        {"activation": ""},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"convnet.{next(iter(settings))}"):
        Convnet(**settings)  # type: ignore[arg-type]
