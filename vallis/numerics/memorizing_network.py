"""A two-layer ReLU network that takes given values on given points, in closed form: finite-sample expressivity.

Along a direction a the points have different places ``z_i = <a, x_i>``. In their order, with thresholds ``b_1 < z_1 <
b_2 < ... < b_n < z_n``, the matrix ``A_ij = max(z_i - b_j, 0)`` is lower triangular with a positive diagonal, so that
``c(x) = sum_j w_j max(<a, x> - b_j, 0)`` with ``A w = y`` has the value y_i at x_i: 2n + d weights for n points in R^d.

It says nothing in float32. Neighbouring weights are large and of opposite sign, so that the answer is what remains of
numbers that cancel; the condition number of A grows from about 1e8 at n = 100 to 1e11 at n = 1000.

Source: Zhang et al. (2017), theorem 1, lemma 1 and the remark on depth that follows them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.linalg import lapack, solve_triangular
from torch import nn

from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.condition import condition_number
from vallis.numerics.duplicates import first_copies
from vallis.numerics.memory import spare_bytes

# The error of memorised values, relative to 1 + max |y|: what float64 holds up to about a thousand examples of a few
# hundred inputs.
ACCURATE = 1e-6
_CHUNK = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Memorization:
    """The construction, in float64; points and thresholds stand in the order of their places along the direction.

    Attributes:
        direction: a ``(d,)``.
        places: z ``(n,)``, ascending.
        thresholds: b ``(n,)``, ascending.
        weights: w ``(n,)``, or ``(n, C)`` for C outputs.
        residual: the largest ``|c(x_i) - y_i|`` over points and outputs, of the network that is evaluated in float64.
        condition: an estimate of the condition number of A in the 1-norm (LAPACK's trcon).
        smallest_eigenvalue: of A: the smallest ``z_i - b_i``.
    """

    direction: torch.Tensor
    places: torch.Tensor
    thresholds: torch.Tensor
    weights: torch.Tensor
    residual: float
    condition: float
    smallest_eigenvalue: float

    @property
    def num_parameters(self) -> int:
        """``2n + d`` with one output, ``n + d + nC`` with C."""
        return self.direction.numel() + self.thresholds.numel() + self.weights.numel()

    def module(self) -> nn.Module:
        """The network of two layers, with exactly `num_parameters` weights; it answers ``(N,)`` or ``(N, C)``."""
        return two_layers(self)

    def deep_module(self, depth: int) -> DeepMemorizer:
        """A network of `depth` layers with the same values on the points, of width O(n / depth)."""
        return DeepMemorizer(self, depth)


def memorize(x: torch.Tensor, y: torch.Tensor, *, rng: Rng, num_directions: int = 32) -> Memorization:
    """The network of theorem 1 for these points.

    Args:
        x: ``(n, ...)`` distinct points.
        y: ``(n,)`` or ``(n, C)`` the values to take there.
        rng: draws the directions, ``N(0, I_d)``.
        num_directions: of so many, the one with the largest smallest gap is taken, relative to its length.

    Raises:
        DataError: there is no point, not one value for each, a number that is not finite, two equal points, or points
            that are not told apart in float64; or the matrix of n^2 numbers does not fit into memory.
        SettingsError: no direction is to be drawn.
    """
    return memorize_each(x, (y,), rng=rng, num_directions=num_directions)[0]


def memorize_each(
    x: torch.Tensor, ys: Sequence[torch.Tensor], *, rng: Rng, num_directions: int = 32
) -> tuple[Memorization, ...]:
    """A network for each of several targets of the same points: one direction and one matrix for all of them.

    Args:
        x: ``(n, ...)`` distinct points.
        ys: of each network ``(n,)`` or ``(n, C)``.
        rng: see `memorize`.
        num_directions: see `memorize`.

    Raises:
        DataError: see `memorize`.
        SettingsError: see `memorize`.
    """
    must_be_rng(rng)
    if num_directions < 1:
        raise SettingsError(f"at least one direction was required, num_directions={num_directions} came: raise it")
    points, values = _checked(x, ys)
    direction = _widest(points, num_directions, rng)
    along = points @ direction
    order = along.argsort()
    z = along[order]
    thresholds = _thresholds(z)
    matrix = _hinges(z, thresholds).numpy()
    # LAPACK is given the transpose, which is in its order: in whose rows the columns of A are summed.
    reciprocal, _ = lapack.dtrcon(matrix.T, norm="I", uplo="U")
    made = []
    for wanted in values:
        weights = solve_triangular(matrix, wanted[order].numpy(), lower=True, check_finite=False)
        found = Memorization(
            direction=direction,
            places=z,
            thresholds=thresholds,
            weights=torch.from_numpy(weights),
            residual=math.nan,
            condition=condition_number(reciprocal),
            smallest_eigenvalue=float((z - thresholds).min()),
        )
        made.append(replace(found, residual=largest_error(found.module(), points, wanted)))
    return tuple(made)


def largest_error(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """The largest ``|module(x_i) - y_i|`` over all points and outputs, NaN where an answer is none.

    Args:
        module: answers ``(n, ...)`` in the shape of y.
        x: ``(n, ...)``.
        y: ``(n,)`` or ``(n, C)``.
    """
    with torch.no_grad():
        errors = [(module(some).double() - wanted.double()).abs().max() for some, wanted in _chunks(x, y)]
    return float(torch.stack(errors).max())


def two_layers(found: Memorization) -> nn.Module:
    """The places, the thresholds, the ReLU and the weights as layers, each with parameters of its own."""
    outputs = found.weights if found.weights.ndim > 1 else found.weights[:, None]
    module = nn.Sequential()
    module.add_module("flatten", nn.Flatten())
    module.add_module("direction", Direction(found.direction))
    module.add_module("thresholds", Thresholds(found.thresholds))
    module.add_module("relu", nn.ReLU())
    module.add_module("output", _linear(outputs.T))
    if found.weights.ndim == 1:
        module.add_module("scalar", nn.Flatten(0))
    return module.eval()


class Direction(nn.Linear):
    """``x (N, d) -> <a, x> (N, 1)``, in the type of a whatever the type of x: float32 loses what theorem 1 needs."""

    def __init__(self, direction: torch.Tensor) -> None:
        super().__init__(len(direction), 1, bias=False, device="meta")
        self.weight = nn.Parameter(direction[None].clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The places."""
        return super().forward(x.to(self.weight.dtype))


class Thresholds(nn.Module):
    """``z (N, 1) -> z - b (N, n)``."""

    def __init__(self, thresholds: torch.Tensor) -> None:
        super().__init__()
        self.thresholds = nn.Parameter(thresholds.clone())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """What the ReLU is given."""
        return z - self.thresholds


class DeepMemorizer(nn.Module):
    """The same points in k layers: each of k - 1 hidden layers holds ceil(n / (k - 1)) consecutive thresholds.

    Beside them a hidden layer carries on the place z and the running sum of the outputs, both kept from below 0 by an
    offset, so that a ReLU leaves them as they are on all points. Away from the points it is another function.

    Attributes:
        width: the most units of a hidden layer: ``ceil(n / (k - 1)) + 1 + C``, without the sum in the first.
    """

    def __init__(self, found: Memorization, depth: int) -> None:
        """Cuts the thresholds into layers.

        Raises:
            SettingsError: the depth is not in 2 .. n + 1.
        """
        super().__init__()
        n = len(found.thresholds)
        if not 2 <= depth <= n + 1:
            raise SettingsError(f"a depth in 2..{n + 1} was required for {n} points, {depth} came: choose another")
        outputs = found.weights if found.weights.ndim > 1 else found.weights[:, None]
        share = -(-n // (depth - 1))
        self.scalar = found.weights.ndim == 1
        self.direction = nn.Parameter(found.direction.clone())
        self.lowest = nn.Parameter(-found.places[:1])
        self.thresholds = nn.ParameterList(part.clone() for part in found.thresholds.split(share))
        self.weights = nn.ParameterList(part.clone() for part in outputs.split(share))
        self.offsets = nn.ParameterList(_offsets(found.places, list(self.thresholds), list(self.weights)))
        carried = [1 if place == 0 else 1 + outputs.shape[1] for place in range(len(self.thresholds))]
        carried[-1] -= 1  # after the last thresholds nobody needs the place
        self.width = max(len(part) + more for part, more in zip(self.thresholds, carried, strict=True))

    @property
    def num_hidden_layers(self) -> int:
        """One less than the depth, or fewer where n points fill fewer."""
        return len(self.thresholds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, ...) -> (N, C)``, or ``(N,)`` with one output."""
        z = x.flatten(1).to(self.direction.dtype) @ self.direction
        total, last = torch.zeros((), dtype=z.dtype, device=z.device), self.num_hidden_layers - 1
        for place, (thresholds, weights) in enumerate(zip(self.thresholds, self.weights, strict=True)):
            units = torch.relu(z[:, None] - thresholds)
            if place < last:
                z = torch.relu(z + self.lowest) - self.lowest  # the unit that carries z to the next layer
                total = torch.relu(total + units @ weights + self.offsets[place]) - self.offsets[place]
            else:
                total = total + units @ weights
        return total[:, 0] if self.scalar else total


def _chunks(x: torch.Tensor, y: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield from zip(x.split(_CHUNK), y.split(_CHUNK), strict=True)


def _checked(x: torch.Tensor, ys: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    for y in ys:
        if len(x) == 0 or len(x) != len(y) or y.ndim not in (1, 2):
            raise DataError(
                f"n >= 1 points with values (n,) or (n, C) were required, {tuple(x.shape)} and {tuple(y.shape)} came: "
                "give a row of values for each point"
            )
    points, *values = (given.detach().cpu().double() for given in (x.reshape(len(x), -1), *ys))
    if not all(bool(given.isfinite().all()) for given in (points, *values)):
        raise DataError("finite points and values were required, NaN or infinity came: mend them")
    first = first_copies(points)
    copies = (first != torch.arange(len(first))).nonzero().squeeze(1)
    if len(copies):
        raise DataError(
            f"distinct points were required, {len(copies)} of {len(points)} are copies of others (example "
            f"{int(copies[0])} of {int(first[copies[0]])}): drop the copies"
        )
    if 16 * len(points) ** 2 > spare_bytes(points.device):
        raise DataError(
            f"memory for two matrices of {len(points)} x {len(points)} numbers was required and is not free: take "
            "fewer points"
        )
    return points, values


def _widest(points: torch.Tensor, num_directions: int, rng: Rng) -> torch.Tensor:
    """The drawn direction whose smallest gap between neighbouring places is the largest for its length."""
    d = points.shape[1]
    drawn = torch.randn(num_directions, d, generator=rng.child("directions").torch(), dtype=torch.float64)
    if len(points) == 1:
        return drawn[0]
    gaps = torch.stack([(points @ one).sort().values.diff().min() / one.norm() for one in drawn])
    best = int(gaps.argmax())
    places = (points @ drawn[best]).sort().values
    # A threshold must fit between any two places, in float64.
    if not bool(((places[1:] > _thresholds(places)[1:]) & (_thresholds(places)[1:] > places[:-1])).all()):
        raise DataError(
            f"points that differ by more than the rounding of float64 were required, two of {len(points)} fall "
            f"together along all of {num_directions} directions: raise num_directions or drop one of them"
        )
    return drawn[best]


def _thresholds(z: torch.Tensor) -> torch.Tensor:
    """``b_1 = z_1 - 1`` and then the middles, for ascending z; b_1 is further off where rounding would eat the 1."""
    least = float(z[0].abs()) * 2**-26
    step = 1.0 if least <= 1 else max(least, float(z[-1] - z[0]) / len(z))
    return torch.cat([z[:1] - step, (z[1:] + z[:-1]) / 2])


def _hinges(z: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    return (z[:, None] - thresholds).clamp_(min=0)


def _linear(weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.clone().contiguous())
    return layer


def _offsets(
    places: torch.Tensor, thresholds: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """For each hidden layer but the last ``(C,)`` what lifts the running sum to 0 and above on all points."""
    total, offsets = torch.zeros(len(places), weights[0].shape[1], dtype=places.dtype), []
    with torch.no_grad():
        for b, w in zip(thresholds[:-1], weights[:-1], strict=False):
            total = total + _hinges(places, b) @ w
            # A little more than needed: the points may be evaluated in another order of sums.
            offsets.append((-total.min(0).values).clamp(min=0) * (1 + 1e-9) + 1e-9)
    return offsets
