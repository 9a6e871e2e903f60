"""The rules by which the claims of `wu2020_dissecting_hessian` are decided.

Each looks at one seed after the other, or at one pair of networks after the other, and asks whether the written rule is
met there; the claim holds where an exact binomial test rejects that no more than half of all would meet it. NaN, where
there is no such direction, meets no rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vallis.core.types import Result, Row, Verdict
from vallis.studies._dissecting_cells import FIRST, LABELS, NORMS, NUM_CLASSES, Tags, cell
from vallis.studies._rows import Look, judged, results

Floats = NDArray[np.float64]
TOP = NUM_CLASSES - 1
_AXES = ("standard", "curvature", "refreshed")


def of_layer(found: Result, key: str, layer: str = FIRST) -> Floats:
    """The numbers of one layer: an array's line, or its entry."""
    array = found.array(key)
    (place,) = np.flatnonzero(array.coords["layer"] == layer)
    return np.asarray(array.data[place], dtype=np.float64)


# ------------------------------------------------------------------------------------------- D1: the block is a mean


def block_is_a_mean(rows: Sequence[Row], data: str) -> Verdict:
    """|H - E[M ⊗ xx']| is at most 1e-8 of |H| and no eigenvalue is below -1e-8 of the largest, in all layers."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        distances = np.concatenate([each.array("factorised_distances").data for each in found])
        lowest = np.concatenate([each.array("smallest_ratios").data for each in found])
        worst = float(distances.max())
        return worst <= 1e-8 and bool((lowest >= -1e-8).all()), worst

    cells = [cell(data, norm=norm, labels=labels) for norm in NORMS for labels in LABELS]
    convolutional = [{**tags, "network": "convnet"} for tags in cells]
    if any(results(rows, "kronecker_structure", tags) for tags in convolutional):
        cells += convolutional
    return judged(rows, "kronecker_structure", cells, look)


# ---------------------------------------------------------------------------------------------- D2, D3: eigenvectors


def of_rank_one(rows: Sequence[Row], data: str, labels: str) -> Verdict:
    """Inputs not negative: of the top c - 1 eigenvectors at least five have a rank-one energy of at least 0.9."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        number = int((of_layer(found[0], "rank_one_energies")[:TOP] >= 0.9).sum())
        return number >= 5, float(number)

    return judged(rows, "kronecker_structure", [cell(data, labels=labels)], look)


def not_of_rank_one(rows: Sequence[Row], data: str, labels: str) -> Verdict:
    """Centred inputs: the median of these energies is at most 0.8."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        energies = of_layer(found[0], "rank_one_energies")[:TOP]
        median = float(np.median(energies[np.isfinite(energies)])) if np.isfinite(energies).any() else np.nan
        return median <= 0.8, median

    return judged(rows, "kronecker_structure", [cell(data, norm="batch", labels=labels)], look)


def eigenvalues_agree(rows: Sequence[Row], data: str, labels: str) -> Verdict:
    """Inputs not negative: the three largest Kronecker eigenvalues are within 15 % of those of the Hessian."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        own, near = (of_layer(found[0], key)[:3] for key in ("eigenvalues", "kronecker_eigenvalues"))
        worst = float(np.abs(near / own - 1).max())
        return worst <= 0.15, worst

    return judged(rows, "kronecker_structure", [cell(data, labels=labels)], look)


def eigenspaces_agree(rows: Sequence[Row], data: str, labels: str) -> Verdict:
    """Inputs not negative: the spaces of the three top eigenvectors overlap by at least 0.6."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        overlap = float(of_layer(found[0], "kronecker_overlaps")[2])
        return overlap >= 0.6, overlap

    return judged(rows, "kronecker_structure", [cell(data, labels=labels)], look)


def along_the_mean(rows: Sequence[Row], data: str, labels: str) -> Verdict:
    """Inputs not negative: the top eigenvector's right factor has |cos| of at least 0.95 with E[x]."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        cosine = float(of_layer(found[0], "mean_input_alignments")[0])
        return cosine >= 0.95, cosine

    return judged(rows, "kronecker_structure", [cell(data, labels=labels)], look)


# --------------------------------------------------------------------------------------- D4: overlap of two networks


def _at(found: Sequence[Result]) -> tuple[float, float, float]:
    """The overlaps for k = m and for k = 2m, and what chance gives for k = m."""
    one, two, chance = (
        float(of_layer(found[0], key))
        for key in ("overlaps_at_outputs", "overlaps_at_twice_outputs", "random_at_outputs")
    )
    return one, two, chance


def overlap_is_large(rows: Sequence[Row], data: str, labels: str) -> Verdict:
    """Inputs not negative: at k = m the overlap is at least 3 times chance."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        at, _, chance = _at(found)
        return at >= 3 * chance, at / chance

    return judged(rows, "eigenspace_overlap", [cell(data, labels=labels)], look)


def overlap_peaks(rows: Sequence[Row], data: str, labels: str) -> Verdict:
    """Inputs not negative: the overlap at k = m is larger than at k = 2m."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        at, later, _ = _at(found)
        return at > later, at - later

    return judged(rows, "eigenspace_overlap", [cell(data, labels=labels)], look)


def overlap_is_chance(rows: Sequence[Row], data: str, labels: str) -> Verdict:
    """Centred inputs: at k = m the overlap is at most 2.5 times chance."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        at, _, chance = _at(found)
        return at <= 2.5 * chance, at / chance

    return judged(rows, "eigenspace_overlap", [cell(data, norm="batch", labels=labels)], look)


def overlap_rises(rows: Sequence[Row], data: str, labels: str) -> Verdict:
    """Centred inputs: the overlap at k = 2m is no smaller than at k = m."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        at, later, _ = _at(found)
        return later >= at, at - later

    return judged(rows, "eigenspace_overlap", [cell(data, norm="batch", labels=labels)], look)


# ------------------------------------------------------------------------------------------------- D5: outputs, D6


def _few_directions(rows: Sequence[Row], cells: Sequence[Tags]) -> Verdict:
    def look(found: Sequence[Result]) -> tuple[bool, float]:
        most = max(float(of_layer(each, "num_output_directions")) for each in found)
        return most <= TOP, most

    return judged(rows, "kronecker_structure", cells, look)


def few_directions_at_start(rows: Sequence[Row], data: str) -> Verdict:
    """Before training E[M] of the first layer has at most c - 1 eigenvalues above 5 % of its largest."""
    return _few_directions(rows, [cell(data, trained=False)])


def few_directions_at_random(rows: Sequence[Row], data: str) -> Verdict:
    """So has that of a network with one hidden layer before training."""
    return _few_directions(rows, [cell(data, network="one_hidden", trained=False)])


def few_directions_if_wide(rows: Sequence[Row], data: str) -> Verdict:
    """And that of one with many more hidden units than classes."""
    return _few_directions(rows, [cell(data, network="one_wide", trained=False)])


def few_directions_with_one_layer(rows: Sequence[Row], data: str) -> Verdict:
    """So has that of a network with one hidden layer after training."""
    return _few_directions(rows, [cell(data, network="one_hidden")])


def few_directions_if_centred(rows: Sequence[Row], data: str) -> Verdict:
    """Centred inputs: so has that of this network."""
    return _few_directions(rows, [cell(data, network="one_hidden", norm="batch")])


def overlap_is_sound(rows: Sequence[Row], data: str) -> Verdict:
    """One for the same span, unmoved by other axes (both to 1e-9); of random spaces k/D within four standard errors."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        worst, met = 0.0, True
        for each in found:
            size, counts = each.array("num_weights").data, each.array("drawn_counts").data
            exact = max(np.abs(each.array("own_overlaps").data - 1).max(), each.array("turning_changes").data.max())
            apart = np.abs(each.array("drawn_overlaps").data - counts / size) / each.array("drawn_errors").data
            worst = max(worst, float(exact))
            met = met and bool(exact <= 1e-9) and bool((apart <= 4).all())
        return met, worst

    cells = [cell(data, norm=norm, labels=labels) for norm in NORMS for labels in LABELS]
    return judged(rows, "eigenspace_overlap", cells, look)


# ------------------------------------------------------------------------------------------------- D7, D8: the bound


def curvature_axes_help(rows: Sequence[Row], data: str) -> Verdict:
    """With equal budgets the bound along axes of the curvature is at most that along standard ones plus 0.01."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        base, curved = (found[0].estimate(f"bound_{axes}").value for axes in _AXES[:2])
        return curved <= base + 0.01, curved - base

    return judged(rows, "pac_bayes", [cell(data, network="bound")], look)


def random_labels_are_vacuous(rows: Sequence[Row], data: str) -> Verdict:
    """After random labels even the smallest bound is no better than guessing, and larger than after true ones."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        true, random = (min(each.estimate(f"bound_{axes}").value for axes in _AXES) for each in found)
        return random >= found[1].estimate("guessing_error").value and random > true, random - true

    return judged(rows, "pac_bayes", [cell(data, network="bound", labels=labels) for labels in LABELS], look)


def bound_covers_the_test(rows: Sequence[Row], data: str) -> Verdict:
    """The test error of drawn networks is at most the bound: all axes, after true and after random labels."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        room = min(
            each.estimate(f"bound_{axes}").value - each.estimate(f"test_error_{axes}").value
            for each in found
            for axes in _AXES
        )
        return room >= 0, room

    return judged(rows, "pac_bayes", [cell(data, network="bound", labels=labels) for labels in LABELS], look)


def _identities(rows: Sequence[Row], data: str, look: Look) -> Verdict:
    cells = [cell(data, norm=norm, labels=labels) for norm in NORMS for labels in LABELS]
    return judged(rows, "pac_bayes_identities", cells, look)


def axes_are_a_rotation(rows: Sequence[Row], data: str) -> Verdict:
    """Q Q' = I to 1e-9, and the divergence along Q is that of dense Gaussians, to 1e-9 of it."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        keys = ("orthogonality_error", "divergence_error")
        worst = max(each.estimate(key).value for each in found for key in keys)
        return worst <= 1e-9, worst

    return _identities(rows, data, look)


def inverse_is_one(rows: Sequence[Row], data: str) -> Verdict:
    """kl^-1(q, 0) = q, it inverts and has its closed form at q = 0, all to 1e-9; and it never falls."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        keys = ("zero_error", "inverse_error", "closed_form_error")
        worst = max(each.estimate(key).value for each in found for key in keys)
        return worst <= 1e-9 and all(each.estimate("smallest_rise").value >= 0 for each in found), worst

    return _identities(rows, data, look)
