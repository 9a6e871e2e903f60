"""Kernels against scipy's distances and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import rbf_kernel

from tests.numerics.solutions import random
from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng
from vallis.numerics.kernel_functions import Gaussian, Linear, median_gamma, squared_distances


def test_against_other_libraries() -> None:
    one, other = random(7, 5).double(), 3 + random(11, 5, seed=2).double()
    np.testing.assert_allclose(squared_distances(one, other), cdist(one, other, "sqeuclidean"), rtol=1e-12)
    np.testing.assert_allclose(Gaussian(gamma=0.3).block(one, other), rbf_kernel(one, other, 0.3), rtol=1e-12)
    np.testing.assert_allclose(Linear().block(one, other), one.numpy() @ other.numpy().T)


def test_distances_far_from_the_origin_are_not_lost() -> None:
    near = 1e6 + random(6, 3).double()
    np.testing.assert_allclose(squared_distances(near, near), cdist(near, near, "sqeuclidean"), rtol=1e-7, atol=1e-8)
    assert (squared_distances(near, near) >= 0).all()


def test_the_bandwidth_is_from_the_median() -> None:
    x = random(31, 4)
    assert median_gamma(x, Rng(0)) == pytest.approx(2 / np.median(pdist(x.double().numpy(), "sqeuclidean")), rel=0.01)
    with pytest.raises(DataError, match="give gamma"):
        median_gamma(torch.ones(3, 2), Rng(0))
    with pytest.raises(DataError, match="give gamma"):
        median_gamma(torch.ones(1, 2), Rng(0))


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_bandwidths_are_refused(gamma: float) -> None:
    with pytest.raises(SettingsError, match="positive gamma"):
        Gaussian(gamma=gamma)


def test_the_bandwidth_of_images_is_that_of_their_pixels() -> None:
    images = random(12, 2, 3, 3)
    assert median_gamma(images, Rng(0)) == median_gamma(images.flatten(1), Rng(0))
