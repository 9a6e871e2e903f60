"""Random directions in weight space, drawn so that models with the same parameters can be compared along the same ones.

Source: Li et al. (2018), Visualizing the loss landscape of neural nets, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vallis.core.rng import Rng, must_be_rng

Tensors = tuple[torch.Tensor, ...]


def filter_normalised(names: Sequence[str], point: Sequence[torch.Tensor], rng: Rng) -> Tensors:
    """A Gaussian direction in which every filter is as long as the weights it belongs to.

    A filter is one index of the first axis of a weight of at least two axes: an output channel of a convolution, an
    output unit of a dense layer. Biases, parameters of normalisation layers and other scalars and vectors do not move,
    and neither does a filter of zeros. So a step of length c moves every filter by c times its norm.

    Args:
        names: of the parameters; each has a stream of its own.
        point: the parameters.
        rng: the same for models that are to be compared: the noise then is the same, whatever their weights, dtypes and
            devices, wherever name and shape are the same.
    """
    must_be_rng(rng)
    return tuple(_direction(value, rng.child(name)) for name, value in zip(names, point, strict=True))


def gaussian(shape: torch.Size, rng: Rng) -> torch.Tensor:
    """Standard normal numbers in float64, on the CPU: the same for all models."""
    must_be_rng(rng)
    return torch.randn(shape, generator=rng.torch(), dtype=torch.float64)


def _direction(value: torch.Tensor, rng: Rng) -> torch.Tensor:
    if value.ndim < 2 or value.numel() == 0:
        return torch.zeros_like(value)
    noise = gaussian(value.shape, rng).flatten(1)
    weights = value.detach().cpu().double().flatten(1)
    lengths = weights.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    direction: torch.Tensor = noise * lengths
    return direction.view(value.shape).to(value)
