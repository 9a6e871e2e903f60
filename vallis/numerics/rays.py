"""Rays from a point of weight space, in units of the filters, and how probable each was.

Coordinates are relative: a weight is counted in norms of its filter, one index of the first axis of a weight of at
least two axes. Biases, parameters of normalisation layers and filters of zeros are no coordinates: n counts the others,
F their filters. A direction has the length sqrt(F) in these coordinates, so that after a step of 1 the filters have
moved by their own norms: each of them ("filters"), or in the root mean square over filters ("sphere").

Directions of "sphere" are uniform on the sphere in n dimensions, as a volume needs them; those of "filters" are uniform
on each filter's own sphere, as in the literature on slices, and have no volume of their own. An ellipsoid's directions
``A g / |A g|`` of Gaussian g have the density ``1 / (|A| |A^-1 d|^n)`` relative to uniform ones, whose inverse is
their weight.

Source: Li et al. (2018), section 4 (filters); Tyler (1987) (the density of ``A g / |A g|``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import SettingsError
from vallis.core.rng import Rng, must_be_rng

Floats = NDArray[np.float64]
# One tensor a parameter, rays first; None where a parameter does not move.
Parts = tuple[torch.Tensor | None, ...]
Shape = Literal["sphere", "filters"]


class Ellipsoid(Protocol):
    """A linear map A of the relative coordinates, which makes an ellipsoid of the sphere."""

    @property
    def log_determinant(self) -> float:
        """The logarithm of ``|A|``."""
        ...

    def stretch(self, noise: Parts) -> Parts:
        """A times vectors, in the shapes of the parameters, rays first."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Some rays.

    Attributes:
        directions: ``(K, *shape)`` for each parameter that moves, None for the others.
        log_weights: ``(K,)`` the logarithm of how much more probable each direction would have been among uniform ones.
    """

    directions: Parts
    log_weights: Floats


class Frame:
    """The relative coordinates around a point.

    Args:
        point: the parameters.

    Attributes:
        scales: the norms of the filters of each parameter that moves, float64, of a shape that multiplies it.
        num_coordinates: n.
        num_filters: F.
    """

    def __init__(self, point: Sequence[torch.Tensor]) -> None:
        self.shapes = [value.shape for value in point]
        self.like = [torch.empty(0, dtype=value.dtype, device=value.device) for value in point]
        self.scales = [_scales(value) for value in point]
        found = [(scale, shape) for scale, shape in zip(self.scales, self.shapes, strict=True) if scale is not None]
        alive = [(int((scale > 0).sum()), math.prod(shape[1:])) for scale, shape in found]
        self.num_filters = sum(count for count, _ in alive)
        self.num_coordinates = sum(count * size for count, size in alive)
        self.num_bytes = sum(scale.numel() * math.prod(shape[1:]) * 8 for scale, shape in found)

    def noise(self, rng: Rng) -> Parts:
        """Standard normal numbers, zero in filters of zeros; float64 on the CPU, so that they are the same everywhere.

        A filter of zeros takes its numbers all the same, and so does a weight of zeros: networks with the same shapes
        get the same noise.
        """
        generator = rng.torch()
        drawn = [
            torch.randn(shape, generator=generator, dtype=torch.float64) if len(shape) > 1 else None
            for shape in self.shapes
        ]
        return tuple(
            None if scale is None or noise is None else noise * (scale > 0)
            for scale, noise in zip(self.scales, drawn, strict=True)
        )

    def moved(self, vectors: Parts) -> Parts:
        """Relative coordinates as changes of the weights."""
        return tuple(
            None if vector is None or scale is None else (vector * scale).to(like)
            for vector, scale, like in zip(vectors, self.scales, self.like, strict=True)
        )


class Rays:
    """Directions from a point, each with a random stream of its own.

    Args:
        frame: the coordinates.
        rng: the same for networks that are to be compared.
        shape: what the directions are uniform on.
        ellipsoid: what the sphere is stretched to.

    Raises:
        SettingsError: the shape is none of the two, or an ellipsoid is to be made of other directions than a sphere.
    """

    def __init__(self, frame: Frame, rng: Rng, shape: Shape = "sphere", ellipsoid: Ellipsoid | None = None) -> None:
        must_be_rng(rng)
        if shape not in ("sphere", "filters"):
            raise SettingsError(f'shape="sphere" or shape="filters" was required, {shape!r} came: choose one')
        if ellipsoid is not None and shape != "sphere":
            raise SettingsError('rays on a sphere were required for an ellipsoid, "filters" came: say shape="sphere"')
        self.frame, self.rng, self.shape, self.ellipsoid = frame, rng, shape, ellipsoid

    def draw(self, first: int, count: int) -> Drawn:
        """The rays ``first .. first + count - 1``."""
        drawn = [self.frame.noise(self.rng.child("ray", place)) for place in range(first, first + count)]
        noise: Parts = tuple(
            None if parts[0] is None else torch.stack([part for part in parts if part is not None])
            for parts in zip(*drawn, strict=True)
        )
        if self.shape == "filters":
            units = tuple(None if part is None else _units(part) for part in noise)
            return Drawn(directions=self.frame.moved(units), log_weights=np.zeros(count))
        stretched = noise if self.ellipsoid is None else self.ellipsoid.stretch(noise)
        lengths = _lengths(stretched, count)
        scaled = tuple(
            None if part is None else part * _along(math.sqrt(self.frame.num_filters) / lengths, part)
            for part in stretched
        )
        return Drawn(directions=self.frame.moved(scaled), log_weights=self._log_weights(noise, lengths))

    def _log_weights(self, noise: Parts, lengths: torch.Tensor) -> Floats:
        if self.ellipsoid is None:
            return np.zeros(len(lengths))
        ratios = (lengths / _lengths(noise, len(lengths))).log()
        found: Floats = (self.ellipsoid.log_determinant - self.frame.num_coordinates * ratios).numpy()
        return found


def _scales(value: torch.Tensor) -> torch.Tensor | None:
    """``(m, 1, ...)`` the norms of the filters; None where nothing moves."""
    if value.ndim < 2 or not value.numel():
        return None
    norms = value.detach().cpu().double().flatten(1).norm(dim=1)
    return norms.view(-1, *[1] * (value.ndim - 1)) if bool(norms.any()) else None


def _units(noise: torch.Tensor) -> torch.Tensor:
    """``(K, m, ...)`` every filter scaled to length one; zeros stay."""
    lengths = noise.flatten(2).norm(dim=2).clamp(min=1e-300)
    scaled: torch.Tensor = noise / lengths.view(*lengths.shape, *[1] * (noise.ndim - 2))
    return scaled


def _lengths(parts: Parts, count: int) -> torch.Tensor:
    """``(K,)`` the lengths of vectors in the shapes of parameters."""
    squares = torch.zeros(count, dtype=torch.float64)
    for part in parts:
        if part is not None:
            squares += part.flatten(1).square().sum(1)
    return squares.sqrt()


def _along(factors: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    return factors.view(-1, *[1] * (part.ndim - 1))
