"""From stored images to a task: choosing, cropping, scaling, whitening, centring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.data import Arrays
from vallis.core.losses import CrossEntropy
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.numerics.image_preparation import centre_crop as middle
from vallis.numerics.image_preparation import mean_image, whiten_each
from vallis.problems._choose import choose

Whiten = Literal["none", "per_image"]


def image_task(
    name: str,
    stored: Mapping[str, NDArray[np.uint8]],
    rng: Rng,
    *,
    num_train: int | None,
    num_test: int | None,
    whiten: Whiten,
    centre_crop: int | None = None,
    subtract_mean_image: bool = False,
) -> Task:
    """A classification task with splits "train" and "test" out of stored images.

    Args:
        name: of the task.
        stored: ``x_train`` and ``x_test``, ``(N, H, W)`` or ``(N, C, H, W)``; ``y_train`` and ``y_test``, ``(N,)``.
        rng: chooses the examples when not all are wanted.
        num_train: how many to keep; None for all.
        num_test: likewise.
        whiten: see `prepare`.
        centre_crop: see `prepare`.
        subtract_mean_image: after that, take the mean of the training images that were kept from every image.

    Raises:
        DataError: more examples are wanted than there are.
    """
    splits, first = {}, 0
    for split, number in (("train", num_train), ("test", num_test)):
        y = torch.from_numpy(stored[f"y_{split}"].astype(np.int64))
        chosen = choose(y, number, rng.child("choice", split), f"{name}.num_{split}")
        x = stored[f"x_{split}"][chosen.numpy()]
        # The identity of an example is its place in the whole data set, whatever else was chosen beside it.
        splits[split] = Arrays(x=prepare(x, whiten, centre_crop), y=y[chosen], index=chosen + first)
        first += len(y)
    if subtract_mean_image:
        mean = mean_image(splits["train"].x)
        splits = {split: replace(held, x=held.x - mean) for split, held in splits.items()}
    return Task(name=name, splits=splits, loss=CrossEntropy())


def prepare(images: NDArray[np.uint8], whiten: Whiten = "none", centre_crop: int | None = None) -> torch.Tensor:
    """``(N, C, H, W)`` float32 images in [0, 1], cropped, then whitened.

    Args:
        images: ``(N, H, W)`` or ``(N, C, H, W)``.
        whiten: "per_image" subtracts from each image its mean and divides it by max(std, 1/sqrt(number of values)),
            over all its pixels and channels.
        centre_crop: the side of the square that is cut out of the middle; None keeps the whole image.

    Raises:
        SettingsError: the square is larger than the images.
    """
    if images.ndim == 3:
        images = images[:, None]
    x = torch.from_numpy(images.astype(np.float32, order="C"))
    if centre_crop is not None:
        x = middle(x, centre_crop).contiguous()
    x.div_(255)
    return whiten_each(x) if whiten == "per_image" else x
