"""What is common to the Hessians of neural networks, layer by layer, and what their structure is good for.

The claims are the assertions on the paper's structure results and on its bounds, each about one data set, those on
structure on true and on random labels apart. They are about the first layer, whose inputs are the images: without
normalisation they are not negative; with batch normalisation before each matrix they are centred. Each seed, and each
pair of networks from two seeds that no other pair has, meets the written rule or does not, and the claim holds where an
exact binomial test rejects that no more than half of all would meet it (five must all do so, eight may miss it once).
Each seed has examples, initial weights and, where they are random, labels of its own. The thresholds were written
before the networks were trained; a few of the claims are arithmetic, and are computed on every network all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from vallis.core.figures import Figure
from vallis.core.types import Claim, Job, Row, Source, Verdict
from vallis.studies import _dissecting_rules as rules
from vallis.studies._dissecting_cells import DATA_SETS, LABELS, laptop, paper, smoke
from vallis.studies._dissecting_figures import figures


@dataclass(frozen=True, kw_only=True)
class Wu2020DissectingHessian:
    """Trains small networks in pairs, with and without batch normalisation, and takes their layers apart."""

    version: ClassVar[int] = 1
    source: ClassVar[Source] = Source(
        title="Dissecting Hessian: understanding common structure of Hessian in neural networks",
        authors="Y. Wu, X. Zhu, C. Wu, A. Wang, R. Ge",
        year=2020,
        url="https://arxiv.org/abs/2010.04261",
    )

    def jobs(self, scale: str) -> Sequence[Job]:
        settings, num_seeds = {"smoke": (smoke, 2), "laptop": (laptop, 8), "paper": (paper, 5)}[scale]
        return [job for seed in range(num_seeds) for setting in settings() for job in setting.jobs(seed)]

    def claims(self) -> Sequence[Claim]:
        return [claim for data in DATA_SETS for claim in _claims(data)]

    def figures(self, rows: Sequence[Row]) -> Sequence[Figure]:
        return figures(rows)


Said = dict[str, tuple[Callable[..., Verdict], str, str, str]]
_LOW_RANK = "abstract: low rank structure of over-parametrised two-layer networks at random initialisation"

# On true and on random labels.
STRUCTURE: Said = {
    "d2_rank_one": (
        rules.of_rank_one,
        "without normalisation at least 5 of the 9 top eigenvectors of the first layer, as matrices, have a rank-one "
        "energy of at least 0.9",
        "abstract: top eigenvectors form matrices of low rank",
        "of the 9 those of rank one, median over seeds",
    ),
    "d2_not_rank_one_if_centred": (
        rules.not_of_rank_one,
        "with batch normalisation the median rank-one energy of the 9 top eigenvectors of the first layer is at most "
        "0.8",
        "abstract: structures become weaker with batch normalisation",
        "median energy of the 9, median over seeds",
    ),
    "d3_kronecker_eigenvalues": (
        rules.eigenvalues_agree,
        "without normalisation the 3 largest eigenvalues of E[M] ⊗ E[x x'] are within 15 % of those of the Hessian of "
        "the first layer",
        "abstract: decoupling conjecture, Kronecker factorisation",
        "largest relative difference, median over seeds",
    ),
    "d3_kronecker_eigenspace": (
        rules.eigenspaces_agree,
        "without normalisation the spaces of the 3 top eigenvectors of E[M] ⊗ E[x x'] and of the Hessian of the first "
        "layer overlap by at least 0.6",
        "abstract: decoupling conjecture, Kronecker factorisation",
        "overlap, median over seeds",
    ),
    "d3_mean_input": (
        rules.along_the_mean,
        "without normalisation the right factor of the top eigenvector of the first layer has a cosine of at least "
        "0.95 with the mean input",
        "why E[x x'] has one dominating direction",
        "cosine, median over seeds",
    ),
    "d4_overlap_above_chance": (
        rules.overlap_is_large,
        "without normalisation the spaces of the m top eigenvectors of the first layers, of m outputs, of two networks "
        "overlap by at least 3 times chance",
        "abstract: top eigenspaces of different models overlap",
        "overlap over that of chance, median over pairs",
    ),
    "d4_overlap_peak": (
        rules.overlap_peaks,
        "without normalisation the overlap of the first layers of two networks is larger at k = m, the number of "
        "outputs, than at k = 2m",
        "the overlap curve and where it peaks",
        "overlap at m less that at 2m, median over pairs",
    ),
    "d4_chance_if_centred": (
        rules.overlap_is_chance,
        "with batch normalisation the overlap of the first layers of two networks at k = m is at most 2.5 times chance",
        "abstract: structures become weaker with batch normalisation",
        "overlap over that of chance, median over pairs",
    ),
    "d4_no_peak_if_centred": (
        rules.overlap_rises,
        "with batch normalisation the overlap of the first layers of two networks is no smaller at k = 2m than at k = "
        "m",
        "abstract: structures become weaker with batch normalisation",
        "overlap at m less that at 2m, median over pairs",
    ),
}

ALL_LABELS: Said = {
    "d1_block_is_a_mean": (
        rules.block_is_a_mean,
        "the Hessian of each weight matrix is E[M ⊗ x x'] to 1e-8 of its Frobenius norm and has no eigenvalue below "
        "-1e-8 of its largest: with and without normalisation, on true and on random labels",
        "layer-wise Hessians of piecewise linear networks",
        "largest relative difference, median over seeds",
    ),
    "d5_few_directions_at_start": (
        rules.few_directions_at_start,
        "before training E[M] of the first layer has at most 9 eigenvalues above 5 % of its largest",
        _LOW_RANK,
        "eigenvalues above 5 %, median over seeds",
    ),
    "d5_few_directions_at_random": (
        rules.few_directions_at_random,
        "before training, in a network with one hidden layer as narrow as the others, E[M] of this layer has at most 9 "
        "eigenvalues above 5 % of its largest",
        _LOW_RANK,
        "eigenvalues above 5 %, median over seeds",
    ),
    "d5_few_directions_if_wide": (
        rules.few_directions_if_wide,
        "before training, in a network with one wide hidden layer, E[M] of this layer has at most 9 eigenvalues above "
        "5 % of its largest",
        _LOW_RANK,
        "eigenvalues above 5 %, median over seeds",
    ),
    "d5_few_directions_with_one_layer": (
        rules.few_directions_with_one_layer,
        "in a trained network with one hidden layer, without normalisation, E[M] of this layer has at most 9 "
        "eigenvalues above 5 % of its largest",
        _LOW_RANK,
        "eigenvalues above 5 %, median over seeds",
    ),
    "d5_few_directions_if_centred": (
        rules.few_directions_if_centred,
        "in a trained network with one hidden layer, with batch normalisation, E[M] of this layer has at most 9 "
        "eigenvalues above 5 % of its largest",
        _LOW_RANK,
        "eigenvalues above 5 %, median over seeds",
    ),
    "d6_overlap_is_sound": (
        rules.overlap_is_sound,
        "the overlap of a space with itself is 1 and no overlap depends on the axes of the spaces, to 1e-9, and that "
        "with random spaces of k in D dimensions is k / D within 4 standard errors",
        "definition of the overlap",
        "largest deviation from 1 or change by other axes, median over pairs",
    ),
    "d7_curvature_axes_help": (
        rules.curvature_axes_help,
        "with equal budgets the bound along the axes of the curvature at the solution is at most that along the "
        "standard axes plus 0.01",
        "abstract: better explicit generalisation bounds (APPR against BASE)",
        "bound along the curvature less that along standard axes, median over seeds",
    ),
    "d7_random_labels_are_vacuous": (
        rules.random_labels_are_vacuous,
        "after training on random labels the smallest bound is no better than guessing, and larger than after true "
        "labels",
        "bounds of networks that learned random labels",
        "smallest bound after random labels less that after true ones, median over seeds",
    ),
    "d7_bound_covers_the_test": (
        rules.bound_covers_the_test,
        "the test error of drawn networks is at most the bound along all three kinds of axes, on true and on random "
        "labels",
        "what a bound is",
        "least room between bound and test error, median over seeds",
    ),
    "d7_axes_are_a_rotation": (
        rules.axes_are_a_rotation,
        "the axes of the curvature are orthonormal, Q Q' = I, and the divergence along them is that of dense "
        "Gaussians, to 1e-9",
        "posteriors in another basis",
        "largest error, median over seeds",
    ),
    "d8_inverse_of_the_divergence": (
        rules.inverse_is_one,
        "the inverse of the binary divergence returns q for no divergence, solves its equation and has its closed form "
        "for q = 0, to 1e-9, and never falls",
        "the certificate of the bound",
        "largest error, median over seeds",
    ),
}


def _claims(data: str) -> list[Claim]:
    title = DATA_SETS[data]
    found = [
        Claim(
            id=f"{name}_{data}",
            says=f"On {title}: {says}.",
            where=where,
            test=partial(rule, data=data),
            about=title,
            shows=shows,
        )
        for name, (rule, says, where, shows) in ALL_LABELS.items()
    ]
    found += [
        Claim(
            id=f"{name}_{labels}_labels_{data}",
            says=f"On {title} with {labels} labels: {says}.",
            where=where,
            test=partial(rule, data=data, labels=labels),
            about=title,
            shows=shows,
        )
        for labels in LABELS
        for name, (rule, says, where, shows) in STRUCTURE.items()
    ]
    return sorted(found, key=lambda claim: claim.id[:2])
