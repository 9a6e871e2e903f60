from __future__ import annotations

import numpy as np
import pytest
import torch

from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng
from vallis.problems._images import image_task, prepare

GENERATOR = np.random.default_rng(0)
STORED = {
    "x_train": GENERATOR.integers(0, 256, (60, 3, 9, 8), dtype=np.uint8),
    "y_train": np.arange(60, dtype=np.uint8) % 5,
    "x_test": GENERATOR.integers(0, 256, (20, 3, 9, 8), dtype=np.uint8),
    "y_test": np.arange(20, dtype=np.uint8) % 5,
}


def test_images_are_scaled_and_get_their_channel_axis() -> None:
    x = prepare(np.array([[[0, 255], [51, 102]]], dtype=np.uint8))
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.tensor([[[[0.0, 1.0], [0.2, 0.4]]]]))


def test_whitening_is_the_papers_formula() -> None:
    images = STORED["x_train"].copy()
    images[0] = 7  # a flat image: its deviation is replaced by 1/sqrt(number of values)
    images[1] = 0
    images[1, 0, 0, 0] = 1
    x = prepare(images, "per_image").double()
    raw = torch.tensor(images, dtype=torch.float64) / 255
    size = raw[0].numel()
    for i in range(3):
        deviation = max(float(raw[i].std(correction=0)), size**-0.5)
        torch.testing.assert_close(x[i], (raw[i] - raw[i].mean()) / deviation, atol=1e-5, rtol=1e-4)
    assert x[0].abs().max() < 1e-6


def test_the_crop_is_central() -> None:
    images = STORED["x_train"]
    torch.testing.assert_close(prepare(images, centre_crop=4) * 255, torch.tensor(images[:, :, 2:6, 2:6]).float())
    with pytest.raises(SettingsError, match=r"in 1..8, 9 came"):
        prepare(images, centre_crop=9)


def test_the_split_and_the_identities() -> None:
    whole = image_task("toys", STORED, Rng(0), num_train=None, num_test=None, whiten="none")
    assert whole.splits["train"].index.tolist() == list(range(60))  # type: ignore[attr-defined]
    assert whole.splits["test"].index.tolist() == list(range(60, 80))  # type: ignore[attr-defined]

    part = image_task("toys", STORED, Rng(0), num_train=20, num_test=5, whiten="none")
    train, test = part.splits["train"], part.splits["test"]
    index = torch.cat([train.index, test.index])  # type: ignore[attr-defined]
    x = torch.cat([torch.tensor(STORED["x_train"]), torch.tensor(STORED["x_test"])]).float() / 255
    torch.testing.assert_close(torch.cat([train.x, test.x]), x[index])  # type: ignore[attr-defined]
    assert torch.bincount(train.y).tolist() == [4] * 5  # type: ignore[attr-defined]
    assert torch.bincount(test.y).tolist() == [1] * 5  # type: ignore[attr-defined]


def test_too_many_examples() -> None:
    with pytest.raises(DataError, match=r"toys\.num_test must be at most 20"):
        image_task("toys", STORED, Rng(0), num_train=None, num_test=21, whiten="none")


def test_the_mean_image_of_the_training_images_is_taken_from_all() -> None:
    task = image_task("toys", STORED, Rng(0), num_train=20, num_test=5, whiten="none", subtract_mean_image=True)
    plain = image_task("toys", STORED, Rng(0), num_train=20, num_test=5, whiten="none")
    mean = STORED["x_train"][plain.splits["train"].index.numpy()].astype(np.float64).mean(0) / 255  # type: ignore[attr-defined]
    for split, held in task.splits.items():
        x = plain.splits[split].x.double()  # type: ignore[attr-defined]
        torch.testing.assert_close(held.x.double(), x - torch.from_numpy(mean), atol=1e-6, rtol=0)  # type: ignore[attr-defined]
        assert held.index.equal(plain.splits[split].index)  # type: ignore[attr-defined]
