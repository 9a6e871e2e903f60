"""What Wu et al. (2020) say of the Hessians of layers, on a net of 24-16-16-10 units with ten overlapping classes.

The inputs of one kind are not negative and have a large mean; those of the other are the same, standardised, as batch
normalisation would make them. The thresholds were written down before: see the assertions of each test.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.solutions import built, held
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.eigenspaces import (
    dominance,
    overlap_curve,
    random_overlap,
    rank_one_energy,
    reshaped,
    right_alignment,
    trace_overlap,
)
from vallis.numerics.kronecker import Factors, factors
from vallis.numerics.kronecker_operators import Kronecker
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.layer_curvature import LayerGaussNewton
from vallis.numerics.spectra import Eigenpairs

NUM_TOP, SHAPE, NUM_CLASSES = 64, (16, 24), 10


@dataclass(frozen=True)
class Seen:
    """The top of the first layer's Hessian, and its factors."""

    objective: Objective
    pairs: Eigenpairs
    factors: Factors


@cache
def data(standardised: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = 0.5 * torch.randn(NUM_CLASSES, 24, generator=generator, dtype=torch.float64)
    y = torch.randint(NUM_CLASSES, (1000,), generator=generator)
    x = (centres[y] + 0.6 * torch.randn(1000, 24, generator=generator, dtype=torch.float64) + 1.5).clamp(min=0)
    return ((x - x.mean(0)) / x.std(0) if standardised else x), y


@cache
def seen(standardised: bool, seed: int) -> Seen:
    x, y = data(standardised)
    module = built(
        lambda: nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, NUM_CLASSES)),
        seed,
    ).double()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(1500):
        chosen = torch.randint(len(x), (64,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x[chosen]), y[chosen]).backward()
        optimizer.step()
    module.requires_grad_(True).zero_grad()
    objective = Objective(held(module, x, y, batch_size=300))
    hessian = Hessian(objective, only=["0.weight"])
    pairs = eigenpairs(hessian, largest=NUM_TOP, rng=Rng(0), tolerance=1e-6).largest
    return Seen(objective, pairs, factors(objective, ["0"])["0"])


@pytest.mark.parametrize("standardised", [False, True])
def test_the_layers_hessian_is_the_mean_of_kronecker_products(standardised: bool) -> None:
    """D1, at the end of training: the products of both agree, whatever the inputs."""
    found = seen(standardised, 0)
    block, exact = Hessian(found.objective, only=["0"]), LayerGaussNewton(found.objective, "0")
    vectors = torch.randn(block.size, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = block @ vectors
    assert float((exact @ vectors - truth).norm() / truth.norm()) <= 1e-8


@pytest.mark.parametrize("seed", [0, 1])
def test_eigenvectors_have_rank_one_where_inputs_have_a_mean(seed: int) -> None:
    """D2: at least five of the top C - 1 have an energy of 0.9; standardised, their median is 0.8 at most."""
    with_mean, without = (
        rank_one_energy(reshaped(seen(kind, seed).pairs.vectors[:, : NUM_CLASSES - 1], SHAPE)) for kind in (False, True)
    )
    assert (with_mean >= 0.9).sum() >= 5
    assert np.median(without) <= 0.8


@pytest.mark.parametrize("seed", [0, 1])
def test_kronecker_factors_tell_the_top_where_inputs_have_a_mean(seed: int) -> None:
    """D3: the top three eigenvalues to 15 %, their space to an overlap of 0.6, and E[x] as their right factor."""
    found = seen(False, seed)
    made = Kronecker(found.factors.outputs, found.factors.inputs).largest(3)
    np.testing.assert_allclose(made.values, found.pairs.values[:3], rtol=0.15)
    assert trace_overlap(found.pairs.vectors[:, :3], made.vectors) >= 0.6
    first = reshaped(found.pairs.vectors[:, :1], SHAPE)
    assert right_alignment(first, found.factors.mean_input)[0] >= 0.95
    assert dominance(found.factors.inputs) > 10 > 2 > dominance(seen(True, seed).factors.inputs)


def test_networks_share_top_spaces_where_inputs_have_a_mean() -> None:
    """D4: at k = m the overlap of seeds is three times that of chance, and more than at 2 m; else near chance.

    On the mean over the six pairs of four seeds: between pairs the second lies at 1.5 to 2.3 times chance.
    """

    def mean_curve(standardised: bool) -> np.ndarray:
        spaces = [seen(standardised, seed).pairs.vectors for seed in range(4)]
        return np.mean([overlap_curve(one, other) for one, other in combinations(spaces, 2)], axis=0)

    with_mean, without, m = mean_curve(False), mean_curve(True), SHAPE[0]
    chance, _ = random_overlap(m, SHAPE[0] * SHAPE[1])
    assert with_mean[m - 1] >= 3 * chance
    assert with_mean[m - 1] > with_mean[2 * m - 1]
    assert without[m - 1] <= 2.5 * chance
    assert without[m - 1] < without[2 * m - 1] < without[4 * m - 1]  # no peak inside


@pytest.mark.parametrize("seed", range(3))
def test_the_outputs_of_a_hidden_layer_have_as_many_directions_as_there_are_classes(seed: int) -> None:
    """D5, at the start, for one wide hidden layer: at most C - 1 eigenvalues of E[M] above 5 % of the largest.

    The theory is for large width: what masks of units add to the diagonal is about (C - 1) / width of the largest, so
    at 64 units it stays above 5 %.
    """
    x, y = data(False)
    module = built(lambda: nn.Sequential(nn.Linear(24, 600), nn.ReLU(), nn.Linear(600, NUM_CLASSES)), seed).double()
    outputs = factors(Objective(held(module, x, y, batch_size=300)), ["0"])["0"].outputs
    values = torch.linalg.eigvalsh(outputs)
    assert int((values > 0.05 * values[-1]).sum()) <= NUM_CLASSES - 1
