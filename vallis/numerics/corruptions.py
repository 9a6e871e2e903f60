"""Random labels and random pixels, drawn once from a stream: the randomisation tests on tensors of your own.

Source: Zhang et al. (2017), Understanding deep learning requires rethinking generalization, section 2.1.
"""

from __future__ import annotations

import numpy as np
import torch

from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.class_labels import checked_classes

_CHUNK = 4096


def relabel(y: torch.Tensor, fraction: float, num_classes: int, rng: Rng) -> torch.Tensor:
    """Classes ``(N,)`` of which each was replaced, with this probability, by one drawn uniformly.

    A new class may be the old one by chance, so that the expected share of wrong ones is ``fraction * (1 - 1 / C)``. At
    a larger fraction what was replaced at a smaller one is replaced by the same.

    Args:
        y: the true classes, in 0..C-1.
        fraction: the probability of each to be replaced; 1 makes all labels random.
        num_classes: C.
        rng: the stream that draws; the same one draws the same, whatever becomes of the inputs.

    Raises:
        DataError: y is no tensor of one whole number an example in 0..C-1, or of numbers too short for C classes.
        SettingsError: the fraction is not in [0, 1], or there is no whole number of at least two classes.
    """
    must_be_rng(rng)
    if not 0 <= fraction <= 1:
        raise SettingsError(f"a fraction in [0, 1] was required, {fraction} came: give such as 0.3")
    if num_classes < 2 or num_classes % 1:
        raise SettingsError(
            f"a whole number of at least 2 classes was required, {num_classes} came: a label must have another to be"
        )
    num_classes = int(num_classes)  # 10.0 is 10
    checked_classes(y, num_classes)
    replaced = torch.rand(len(y), generator=rng.child("which").torch(), dtype=torch.float64) < fraction
    drawn = torch.randint(num_classes, (len(y),), generator=rng.child("class").torch(), dtype=y.dtype)
    return torch.where(replaced.to(y.device), drawn.to(y.device), y)


def shuffle(x: torch.Tensor, rng: Rng) -> torch.Tensor:
    """Inputs with their places moved by one permutation; the same stream moves others of this shape alike.

    Args:
        x: ``(N, C, H, W)``, whose channels stay together, or ``(N, ...)``.
        rng: the stream that draws.

    Raises:
        DataError: x is no tensor of examples with more than one number each.
    """
    flat = _places(x, rng)
    return flat[:, :, torch.randperm(flat.shape[2], generator=rng.torch()).to(x.device)].reshape(x.shape)


def shuffle_each(x: torch.Tensor, rng: Rng) -> torch.Tensor:
    """Inputs of which the places of each are moved by a permutation of its own.

    Args:
        x: ``(N, C, H, W)``, whose channels stay together, or ``(N, ...)``.
        rng: the stream that draws.

    Raises:
        DataError: x is no tensor of examples with more than one number each.
    """
    generator, parts = rng.numpy(), []
    for part in _places(x, rng).split(_CHUNK):
        places = np.tile(np.arange(part.shape[2]), (len(part), 1))
        generator.permuted(places, axis=1, out=places)
        parts.append(part.gather(2, torch.from_numpy(places).to(x.device)[:, None].expand_as(part)))
    return torch.cat(parts).reshape(x.shape)


def gaussian(x: torch.Tensor, train: torch.Tensor, rng: Rng) -> torch.Tensor:
    """Independent Gaussians of the shape of x, with the mean and variance of each place over the training inputs.

    Args:
        x: ``(N, ...)`` floating numbers.
        train: ``(M, ...)``; of training values in one row ``(M,)``, as ``train.flatten()``, all places have the mean
            and variance of the row, as in the paper.
        rng: the stream that draws.

    Raises:
        DataError: these are no floating numbers, or the training inputs have another shape.
    """
    must_be_rng(rng)
    for given in (x, train):
        if not (isinstance(given, torch.Tensor) and given.is_floating_point() and len(given)):
            came = f"{given.dtype} {tuple(given.shape)}" if isinstance(given, torch.Tensor) else type(given).__name__
            raise DataError(f"inputs of floating numbers were required, {came} came: convert them to float32")
    if train.ndim > 1 and train.shape[1:] != x.shape[1:]:
        raise DataError(
            f"training inputs of shape {tuple(x.shape[1:])} each were required, {tuple(train.shape[1:])} came: give "
            "those of the same problem, or train.flatten() for one mean and variance of all places"
        )
    std, mean = torch.std_mean(train, dim=0, correction=0)
    return torch.randn(x.shape, generator=rng.torch(), dtype=x.dtype).to(x.device).mul_(std).add_(mean)


def _places(x: torch.Tensor, rng: Rng) -> torch.Tensor:
    # (N, C, places): images of four axes have channels, anything else has one.
    must_be_rng(rng)
    if not isinstance(x, torch.Tensor) or x.ndim < 2 or x.numel() == 0:
        came = f"shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else f"a {type(x).__name__}"
        raise DataError(f"images (N, C, H, W) or vectors (N, D) were required, {came} came: give a tensor of these")
    return x.flatten(2) if x.ndim > 3 else x.flatten(1)[:, None]
