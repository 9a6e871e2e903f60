"""Embeddings: components against the covariance, t-SNE keeps clusters apart, distances by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.numerics.solutions import batch_norm, mlp
from vallis.core.errors import SettingsError, UsageError
from vallis.core.rng import Rng
from vallis.numerics.embeddings import kernel_distance, kernels_of, principal_components, stacked, tsne

POINTS = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 1, 1, 0.5, 0.1] + 7


def test_components_are_those_of_the_covariance() -> None:
    found = principal_components(POINTS, 3)
    values, vectors = np.linalg.eigh(np.cov(POINTS.T, bias=True))
    np.testing.assert_allclose(found.explained, values[::-1][:3] / values.sum(), rtol=1e-8)
    np.testing.assert_allclose(np.abs(found.axes @ vectors[:, ::-1][:, :3]), np.eye(3), atol=1e-7)
    np.testing.assert_allclose(found.coordinates, (POINTS - found.centre) @ found.axes.T, atol=1e-9)
    assert (found.coordinates[np.abs(found.coordinates).argmax(0), range(3)] > 0).all()


def test_around_another_centre_and_of_one_point() -> None:
    found = principal_components(POINTS, 2, centre=POINTS[-1])
    np.testing.assert_allclose(found.coordinates[-1], 0, atol=1e-9)
    same = principal_components(np.ones((3, 4)), 2)
    assert same.explained.tolist() == [0.0, 0.0] and same.coordinates.tolist() == [[0.0, 0.0]] * 3
    with pytest.raises(SettingsError, match="between 1 and 6"):
        principal_components(POINTS, 7)


def test_clusters_stay_clusters_and_the_stream_decides() -> None:
    generator = np.random.default_rng(1)
    points = np.concatenate([generator.normal(size=(15, 8)), generator.normal(size=(15, 8)) + 20])
    first, again, other = tsne(points, 5, Rng(0)), tsne(points, 5, Rng(0)), tsne(points, 5, Rng(1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    within = max(np.ptp(part, axis=0).max() for part in (first[:15], first[15:]))
    assert np.linalg.norm(first[:15].mean(0) - first[15:].mean(0)) > within / 2
    with pytest.raises(UsageError, match="below the 30 points"):
        tsne(points, 30, Rng(0))


def test_kernels_and_their_distance() -> None:
    one = mlp(double=True)
    assert list(kernels_of(one)) == ["0.weight", "2.weight", "4.weight"]
    assert list(kernels_of(batch_norm())) == ["0.weight", "4.weight"]
    assert stacked([one, one]).shape == (2, 12 + 24 + 12)
    other = replace(
        one, params={**one.params, "0.weight": 3 * one.params["0.weight"], "0.bias": one.params["0.bias"] + 9}
    )
    # Six rows that are each twice their own norm away, two kernels that are the same.
    assert kernel_distance(one, other) == pytest.approx(2 * 6**0.5 / 3)
    assert kernel_distance(one, one) == 0.0
    dead = replace(one, params={**one.params, "0.weight": torch.zeros(6, 2, dtype=torch.float64)})
    assert kernel_distance(dead, one) == pytest.approx(float(one.params["0.weight"].norm()) / 3)
