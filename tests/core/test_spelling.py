"""Names as the field writes them, and everything else left alone."""

from __future__ import annotations

import pytest

from vallis.core.spelling import in_words, spelled


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("fisher_rao_norm", "Fisher-Rao norm"),
        ("model_fisher_rao_norm", "model Fisher-Rao norm"),
        ("pac_bayes_identities", "PAC-Bayes identities"),
        ("ntk_spectrum", "NTK spectrum"),
        ("layer_hessians", "layer Hessians"),
        ("kronecker_distances", "Kronecker distances"),
        ("gauss_newton_trace", "Gauss-Newton trace"),
        ("asam_rise", "ASAM rise"),
        ("sam", "SAM"),
        ("fashion_mnist", "Fashion-MNIST"),
        ("cifar10", "CIFAR-10"),
        ("resnet20", "ResNet20"),
        ("entropy_sgd", "Entropy-SGD"),
        ("mlp", "MLP"),
        ("median_rank_one_energy", "median rank-one energy"),
    ],
)
def test_names(key: str, says: str) -> None:
    assert in_words(key) == says
    assert spelled(says) == says


@pytest.mark.parametrize("text", ["same sample", "klein", "top eigenvalue", "", "fishery raoul", "cifar100"])
def test_other_words_are_left_alone(text: str) -> None:
    assert spelled(text) == text
