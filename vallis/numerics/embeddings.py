"""Points of many dimensions on a picture: principal components, t-SNE, and how far networks are apart.

Source: van der Maaten and Hinton (2008), Visualizing data using t-SNE; Huang et al. (2019), figure 1 (the pipeline and
    the distance, which is written here as it was meant: both networks over the norms of the rows of one of them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import SettingsError, UsageError
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Solution

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of n points.

    Attributes:
        coordinates: ``(n, k)`` along each component; the largest number of each is positive.
        explained: ``(k,)`` each component's share of the squared distances to the centre.
        axes: ``(k, D)`` of length one.
        centre: ``(D,)``.
    """

    coordinates: Floats
    explained: Floats
    axes: Floats
    centre: Floats


def principal_components(points: Floats, num: int, centre: Floats | None = None) -> Components:
    """The num directions in which points ``(n, D)`` scatter most around their mean, or around another centre.

    Raises:
        SettingsError: there are not so many: at most n, and at most D.
    """
    if not 1 <= num <= min(points.shape):
        raise SettingsError(f"between 1 and {min(points.shape)} components were required, {num} came: change it")
    middle = points.mean(0) if centre is None else centre
    away = points - middle
    # By the small matrix of inner products: D may be millions.
    squares, sides = np.linalg.eigh(away @ away.T)
    squares, sides = np.clip(squares[::-1], 0, None), sides[:, ::-1]
    found = sides[:, :num] * np.sqrt(squares[:num])
    signs = np.sign(found[np.abs(found).argmax(0), np.arange(num)])
    signs[signs == 0] = 1.0
    lengths = np.sqrt(squares[:num])
    lengths[lengths == 0] = np.inf
    axes = signs[:, None] * (sides[:, :num] / lengths).T @ away
    total = float(squares.sum())
    return Components(found * signs, squares[:num] / total if total else np.zeros(num), axes, middle)


def tsne(points: Floats, perplexity: float, rng: Rng) -> Floats:
    """``(n, 2)`` the t-SNE embedding of points ``(n, D)`` from a random start, in exact arithmetic of all pairs.

    Raises:
        UsageError: the perplexity is not between 1 and n.
    """
    must_be_rng(rng)
    if not 1 <= perplexity < len(points):
        raise UsageError(
            f"a perplexity from 1 to below the {len(points)} points was required, {perplexity} came: lower it"
        )
    from sklearn.manifold import TSNE

    seed = int(rng.seed % (2**32))
    found = TSNE(perplexity=perplexity, init="random", method="exact", random_state=seed).fit_transform(points)
    return np.asarray(found, dtype=np.float64)


def kernels_of(solution: Solution) -> Mapping[str, torch.Tensor]:
    """The weights with at least two axes by name: biases and normalisations are left out."""
    return {name: value.detach() for name, value in solution.params.items() if value.ndim > 1}


def stacked(solutions: Sequence[Solution]) -> Floats:
    """``(n, D)`` the flattened kernels of each."""
    rows = [
        torch.cat([value.reshape(-1).double().cpu() for value in kernels_of(each).values()]).numpy()
        for each in solutions
    ]
    return np.stack(rows)


def kernel_distance(one: Solution, other: Solution) -> float:
    """The mean over kernels of ``|W / r - W' / r|`` with r the norms of the rows (filters) of the one.

    A row of zeros in the one counts as it stands in the other.
    """
    distances = []
    theirs = kernels_of(other)
    for name, value in kernels_of(one).items():
        own, beside = value.flatten(1).double().cpu(), theirs[name].flatten(1).double().cpu()
        sizes = own.norm(dim=1, keepdim=True)
        sizes = torch.where(sizes > 0, sizes, torch.ones_like(sizes))
        distances.append(float(((own - beside) / sizes).norm()))
    return float(np.mean(distances))
