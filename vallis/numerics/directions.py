"""Random directions in weight space, the same for all models with the same parameters, so that they can be compared.

A direction is a tensor a parameter, as in `Objective.origin`; `Objective.vector` and `Objective.point` go between it
and a flat vector ``(P,)``. Directions that are not random are in `eigen_directions` (of the Hessian) and `spans` (along
a trajectory, between solutions).

Source: Li et al. (2018), Visualizing the loss landscape of neural nets, section 4; Huang et al. (2019), Understanding
    generalization through visualizations, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from vallis.core.rng import Rng, must_be_rng

Tensors = tuple[torch.Tensor, ...]
_NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
Normalisation = Literal["filter", "filter_scaled", "layer", "none"]


def random_direction(
    names: Sequence[str], point: Sequence[torch.Tensor], rng: Rng, normalisation: Normalisation = "filter"
) -> Tensors:
    """A Gaussian direction, normalised in one of four ways.

    Only weights of at least two axes move: biases, parameters of normalisation layers and other scalars and vectors
    have zeros (for normalisation over several axes see `without_normalisation`). So has a filter of zeros where filters
    are normalised, not where layers are or nothing is.

    Args:
        names: of the parameters; each has a stream of its own.
        point: the parameters.
        rng: the same for models that are to be compared: the noise then is the same, whatever their weights, dtypes and
            devices, wherever name and shape are the same.
        normalisation: "filter", see `filter_normalised`; "filter_scaled", see `filter_scaled`; "layer" makes the part
            of each weight as long as the weight; "none" leaves standard normal numbers.
    """
    return _KINDS[normalisation](names, point, rng)


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

    def normalised(noise: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return noise.mul(lengths / noise.norm(dim=1, keepdim=True))

    return _drawn(names, point, rng, normalised)


def filter_scaled(names: Sequence[str], point: Sequence[torch.Tensor], rng: Rng) -> Tensors:
    """A direction uniform on the unit sphere of coordinates measured in norms of their filters: ``d = u |theta_f|``.

    With u uniform on the sphere S^(n-1) of the n numbers that move (`num_moving`), a step of length c covers the
    distance c in these coordinates, so that volumes of balls apply. Its filters have ``c |u_f|`` of their norm, about
    ``c / sqrt(F)`` with F filters of one size.

    Args:
        names: as in `filter_normalised`.
        point: the parameters.
        rng: as in `filter_normalised`.
    """
    noise = _drawn(names, point, rng, lambda noise, lengths: noise * (lengths > 0))
    length = float(sum(float(part.double().square().sum()) for part in noise)) ** 0.5
    if length == 0:
        return noise
    return tuple(part * (norm / length) for part, norm in zip(noise, filter_lengths(point), strict=True))


def layer_normalised(names: Sequence[str], point: Sequence[torch.Tensor], rng: Rng) -> Tensors:
    """A Gaussian direction in which the part of every weight is as long as the whole weight.

    Args:
        names: as in `filter_normalised`; the same parameters move.
        point: the parameters.
        rng: as in `filter_normalised`.
    """
    return _drawn(names, point, rng, lambda noise, lengths: noise * (lengths.norm() / noise.norm()))


def raw(names: Sequence[str], point: Sequence[torch.Tensor], rng: Rng) -> Tensors:
    """A Gaussian direction as it is drawn: independent standard normal numbers for every weight.

    Args:
        names: as in `filter_normalised`; the same parameters move, a filter of zeros, too.
        point: the parameters.
        rng: as in `filter_normalised`.
    """
    return _drawn(names, point, rng, lambda noise, _: noise)


def without_normalisation(module: nn.Module, names: Sequence[str], point: Sequence[torch.Tensor]) -> Tensors:
    """The point with zeros for the parameters of normalisation layers, whatever their shape.

    A normalisation over several axes, as of whole pictures, has parameters that look like weights with filters. Where
    they are zero, no normalised direction moves them, nor counts them.

    Args:
        module: the network.
        names: of its parameters.
        point: the parameters.
    """
    still = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if isinstance(part, _NORMALISATIONS)
        for name, _ in part.named_parameters(recurse=False)
    }
    return tuple(torch.zeros_like(v) if name in still else v for name, v in zip(names, point, strict=True))


def filter_lengths(point: Sequence[torch.Tensor]) -> Tensors:
    """For every number the norm of the filter it belongs to, in its parameter's shape; zero where it does not move."""
    return tuple(_broadcast_lengths(value) for value in point)


def num_moving(point: Sequence[torch.Tensor]) -> int:
    """n, how many numbers a normalised direction moves: the weights without biases, normalisation and dead filters."""
    return sum(int((lengths > 0).sum()) for lengths in filter_lengths(point))


def gaussian(shape: torch.Size, rng: Rng) -> torch.Tensor:
    """Standard normal numbers in float64, on the CPU: the same for all models."""
    must_be_rng(rng)
    return torch.randn(shape, generator=rng.torch(), dtype=torch.float64)


def _drawn(
    names: Sequence[str],
    point: Sequence[torch.Tensor],
    rng: Rng,
    normalise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Tensors:
    """A direction from noise ``(F, n)`` and the norms of the F filters ``(F, 1)`` of each weight that moves."""
    must_be_rng(rng)
    found = []
    for name, value in zip(names, point, strict=True):
        if not _moves(value):
            found.append(torch.zeros_like(value))
            continue
        noise = gaussian(value.shape, rng.child(name)).flatten(1)
        found.append(normalise(noise, _lengths(value)).view(value.shape).to(value))
    return tuple(found)


def _moves(value: torch.Tensor) -> bool:
    return value.ndim > 1 and value.numel() > 0


def _lengths(value: torch.Tensor) -> torch.Tensor:
    lengths: torch.Tensor = value.detach().cpu().double().flatten(1).norm(dim=1, keepdim=True)
    return lengths


def _broadcast_lengths(value: torch.Tensor) -> torch.Tensor:
    if not _moves(value):
        return torch.zeros_like(value)
    return _lengths(value).expand(len(value), value[0].numel()).reshape(value.shape).to(value)


_KINDS: Mapping[str, Callable[[Sequence[str], Sequence[torch.Tensor], Rng], Tensors]] = {
    "filter": filter_normalised,
    "filter_scaled": filter_scaled,
    "layer": layer_normalised,
    "none": raw,
}
