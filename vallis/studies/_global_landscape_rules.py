"""The rules by which the claims of `sun2020_global_landscape` are decided: a seed meets the written rule, or does not.

A claim holds where an exact binomial test rejects that no more than half of all seeds would meet its rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from vallis.core.types import Result, Row, Verdict
from vallis.numerics.stationary_points import KINDS
from vallis.studies._global_landscape_cells import Tags, construction, exit_of, lottery, modes, neuron, separable
from vallis.studies._rows import judged


def _number(found: Result, key: str) -> float:
    return found.estimate(key).value


# ---------------------------------------------------------------------------- A, B: points that are written down


def _widths(rows: Sequence[Row]) -> list[Tags]:
    found = {int(row.tags["width"]) for row in rows if row.tags.get("check") == "construction"}
    return [construction(width) for width in sorted(found)]


def minimum_is_bad(rows: Sequence[Row]) -> Verdict:
    """At every width: loss and residual agree to 1e-10, no direction goes down, and a better point is below a half."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        met, ratios = [], []
        for each in found:
            loss, residual, better = (_number(each, key) for key in ("minimum_loss", "affine_residual", "better_loss"))
            flat = float(each.array("lowest_changes").data.min()) >= -1e-12
            kind = KINDS[int(_number(each, "minimum_kind"))] in ("degenerate_minimum", "strict_minimum")
            met.append(abs(loss - residual) <= 1e-10 and flat and kind)
            ratios.append(better / loss)
        return all(met) and min(ratios) <= 0.5, min(ratios)

    return judged(rows, "constructed_minimum", _widths(rows), look)


def descent_stays(rows: Sequence[Row]) -> Verdict:
    """Gradient descent from beside the minimum ends within 1 % of its loss, and not below it."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        shares = [_number(each, "descent_end") / _number(each, "minimum_loss") - 1 for each in found]
        return all(-1e-9 <= share <= 0.01 for share in shares), max(shares)

    return judged(rows, "constructed_minimum", _widths(rows), look)


def plateau_is_dead(rows: Sequence[Row]) -> Verdict:
    """Without a firing unit the loss is the variance to 1e-10 and the gradient below 1e-10."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        apart = [abs(_number(each, "plateau_loss") - _number(each, "target_variance")) for each in found]
        slopes = [_number(each, "plateau_gradient") for each in found]
        return max(apart) <= 1e-10 and max(slopes) <= 1e-10, max(slopes)

    return judged(rows, "constructed_minimum", _widths(rows), look)


# ------------------------------------------------------------------------------------------------ C: no bad basins


def no_bad_basin(rows: Sequence[Row]) -> Verdict:
    """Certified; the barrier is below 1e-3 nats at the smallest shake; the end is below a hundredth of the start."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        (each,) = found
        barrier = float(each.array("barriers").data[-1])
        low = _number(each, "end_loss") <= 0.01 * _number(each, "start_loss")
        return _number(each, "certified") == 1 and barrier < 1e-3 and low, barrier

    return judged(rows, "basin_exit", [exit_of("wide")], look)


def narrow_is_not_certified(rows: Sequence[Row]) -> Verdict:
    """With fewer units than examples the rank is too low."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        return _number(found[0], "certified") == 0, _number(found[0], "rank_fraction")

    return judged(rows, "basin_exit", [exit_of("narrow")], look)


# ------------------------------------------------------------------------------- D, E: the unit and paths to infinity


def neuron_dies(rows: Sequence[Row]) -> Verdict:
    """From a fresh network the coefficient falls below a half of its largest, and the own loss below 0.05.

    At first this was asked of a trained network, with half of its start as the bound of the loss: a run showed that it
    starts at zero, below half of which nothing lies.
    """

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        (each,) = found
        share = _number(each, "coefficient") / max(_number(each, "largest_coefficient"), 1e-300)
        return share < 0.5 and _number(each, "own_loss") < 0.05, share

    return judged(rows, "exponential_neuron", [neuron("fresh")], look)


def neuron_leaves(rows: Sequence[Row]) -> Verdict:
    """From a dead network the own loss stays above half its start while (w, b) still grows."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        (each,) = found
        stuck = _number(each, "own_loss") > 0.5 * _number(each, "start_loss")
        return stuck and _number(each, "norm_growth") > 0, _number(each, "norm_growth")

    return judged(rows, "exponential_neuron", [neuron("dead")], look)


def goes_to_infinity(rows: Sequence[Row]) -> Verdict:
    """Without decay the norm grows while loss and gradient fall."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        return _number(found[0], "to_infinity") == 1, _number(found[0], "norm_growth")

    return judged(rows, "path_to_infinity", [separable("without")], look)


def decay_holds_back(rows: Sequence[Row]) -> Verdict:
    """With decay it does not."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        return _number(found[0], "to_infinity") == 0, _number(found[0], "norm_growth")

    return judged(rows, "path_to_infinity", [separable("with")], look)


# --------------------------------------------------------------------------------------------- F: no strict saddles


def no_strict_saddle(rows: Sequence[Row]) -> Verdict:
    """After training without decay the smallest eigenvalue is at least -0.05 of the largest."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        ratio = _number(found[0], "smallest_eigenvalue") / _number(found[0], "largest_eigenvalue")
        return ratio >= -0.05, ratio

    return judged(rows, "stationary_point", [separable("without")], look)


# ------------------------------------------------------------------------------- G, H, I: between and around minima


def straight_line_climbs(rows: Sequence[Row], data: str) -> Verdict:
    """The barrier of the segment is above 0.3 nats."""
    return _barrier(rows, data, "straight", lambda height, _: (height > 0.3, height))


def curve_is_low(rows: Sequence[Row], data: str) -> Verdict:
    """The barrier of the trained curve is below 0.05 nats."""
    return _barrier(rows, data, "curve", lambda height, _: (height < 0.05, height))


def band_is_low(rows: Sequence[Row], data: str) -> Verdict:
    """The barrier of the band is below a tenth of that of the segment."""
    return _barrier(rows, data, "band", lambda height, straight: (height < 0.1 * straight, _ratio(height, straight)))


def matching_lowers(rows: Sequence[Row], data: str) -> Verdict:
    """The barrier of the segment after units were matched is below half of that before."""
    return _barrier(rows, data, "aligned", lambda height, straight: (height < 0.5 * straight, _ratio(height, straight)))


def _barrier(rows: Sequence[Row], data: str, route: str, rule: Callable[[float, float], tuple[bool, float]]) -> Verdict:
    """A rule of the barrier of a way and that of the segment."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        height, straight = (_number(found[0], f"{name}_barrier") for name in (route, "straight"))
        return rule(height, straight)

    return judged(rows, "mode_connectivity", [modes(data)], look)


def _ratio(height: float, straight: float) -> float:
    return height / straight if straight > 0 else math.nan


def loss_rises_around(rows: Sequence[Row], data: str) -> Verdict:
    """Along both filter-normalised directions the loss rises by 0.1 within the norm of the filters."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        radii = [_number(found[0], f"rise_radius_{name}") for name in ("first", "second")]
        return max(radii) < 1, max(radii)

    return judged(rows, "loss_slice", [modes(data)], look)


# --------------------------------------------------------------------------------------------------- J: the lottery


def ticket_wins(rows: Sequence[Row], control: str) -> Verdict:
    """The test accuracy of the ticket is at least 0.01 above that of the control."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        ahead = _number(found[0], "test_accuracy") - _number(found[1], "test_accuracy")
        return ahead >= 0.01, ahead

    return judged(rows, "generalization_gap", [lottery("rewind"), lottery(control)], look)
