"""What is proved and what is seen of the global landscape of neural networks: ten checks, A to J.

The proved statements are put to constructions and to trained networks: bad local minima that exist at any width and
dead plateaus (A, B), ways out of every basin of a wide network (C), an exponential unit that removes bad minima or
leaves for infinity (D), decreasing paths to infinity (E), and points where training ends (F). The empirical ones are
put to pairs of networks and to pruned ones: curves and elastic bands without a barrier (G, H), slices (I), lottery
tickets (J). A seed meets the written rule or it does not, and a claim holds where an exact binomial test rejects that
no more than half of all seeds would meet it (five seeds must all do so). The thresholds were written before the run,
save that of the exponential unit beside a fresh network (see its rule).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from vallis.core.figures import Figure
from vallis.core.types import Claim, Job, Row, Source, Verdict
from vallis.studies import _global_landscape_rules as rules
from vallis.studies._global_landscape_cells import DATA_SETS, SCALES
from vallis.studies._global_landscape_figures import figures

Said = dict[str, tuple[Callable[..., Verdict], str, str, str]]


@dataclass(frozen=True, kw_only=True)
class Sun2020GlobalLandscape:
    """Constructs bad points, leaves basins, follows weights to infinity, joins networks and draws lottery tickets."""

    version: ClassVar[int] = 1
    source: ClassVar[Source] = Source(
        title="The global landscape of neural networks: an overview",
        authors="R. Sun, D. Li, S. Liang, T. Ding, R. Srikant",
        year=2020,
        url="https://arxiv.org/abs/2007.01429",
    )

    def jobs(self, scale: str) -> Sequence[Job]:
        return list(SCALES[scale].jobs())

    def claims(self) -> Sequence[Claim]:
        proved = [
            Claim(id=id_, says=f"{says}.", where=where, test=rule, shows=shows)
            for id_, (rule, says, where, shows) in PROVED.items()
        ]
        seen = [
            Claim(
                id=f"{id_}_{data}",
                says=f"On {title}: {says}.",
                where=where,
                test=partial(rule, data=data),
                about=title,
                shows=shows,
            )
            for id_, (rule, says, where, shows) in SEEN.items()
            for data, title in DATA_SETS.items()
        ]
        return [*proved, *seen, *TICKETS]

    def figures(self, rows: Sequence[Row]) -> Sequence[Figure]:
        return figures(rows)


PROVED: Said = {
    "a_bad_minimum_at_any_width": (
        rules.minimum_is_bad,
        "On two spirals with squared loss, at each width: the constructed ReLU network has the loss of the "
        "affine fit to 1e-10, no curvature and no random direction leads down, and another network of the same width "
        "has at most half of its loss",
        "section III: bad local minima exist for wide networks",
        "least ratio of the better loss to that of the minimum, median over seeds",
    ),
    "a_descent_stays_there": (
        rules.descent_stays,
        "Gradient descent from beside the constructed minimum ends within 1 % of its loss, and not below",
        "section III",
        "largest share by which descent ends above it, median over seeds",
    ),
    "b_dead_plateau": (
        rules.plateau_is_dead,
        "Without a unit that fires the loss is the variance of the targets to 1e-10, and the gradient below 1e-10",
        "section III",
        "largest norm of the gradient, median over seeds",
    ),
    "c_no_bad_basin": (
        rules.no_bad_basin,
        "From a trained network of 128 units on 100 examples a way leads to a hundredth of the loss on which it rises "
        "by less than 1e-3 nats",
        "section III: no bad basins from as many units on as examples",
        "rise on the way at the smallest shake in nats, median over seeds",
    ),
    "c_narrow_is_not_certified": (
        rules.narrow_is_not_certified,
        "With 20 units and 100 examples the same construction certifies nothing",
        "section III: the condition of the theorem",
        "rank over the number of examples, median over seeds",
    ),
    "d_exponential_unit_dies": (
        rules.neuron_dies,
        "Beside a network at its start the coefficient of an exponential unit falls below half of its largest, and the "
        "own loss of the network below 0.05 (this rule was written anew after a first run)",
        "section III: adding one neuron",
        "coefficient over its largest, median over seeds",
    ),
    "d_exponential_unit_leaves": (
        rules.neuron_leaves,
        "Beside a dead network the own loss stays above half of its start while the weights of the exponential unit "
        "grow",
        "section III: the caveat of decreasing paths to infinity",
        "growth of the norm as a power of the steps, median over seeds",
    ),
    "e_path_to_infinity": (
        rules.goes_to_infinity,
        "On two classes that can be told apart the norm of the weights grows while loss and gradient fall, over the "
        "last decade of steps",
        "section II: decreasing paths to infinity",
        "growth of the norm as a power of the steps, median over seeds",
    ),
    "e_decay_removes_it": (
        rules.decay_holds_back,
        "On two classes that can be told apart, with a weight decay of 0.01, it is not so that the norm of the weights "
        "grows while loss and gradient fall",
        "section III: a suitable regulariser removes them",
        "growth of the norm as a power of the steps, median over seeds",
    ),
    "f_no_strict_saddle": (
        rules.no_strict_saddle,
        "Where the training without weight decay ends, the smallest eigenvalue of the Hessian is at least -0.05 of the "
        "largest",
        "section IV: descent avoids strict saddles",
        "smallest over largest eigenvalue, median over seeds",
    ),
}
SEEN: Said = {
    "g_straight_line_climbs": (
        rules.straight_line_climbs,
        "the loss on the straight line between two networks rises by more than 0.3 nats",
        "section III: mode connectivity",
        "barrier in nats, median over pairs",
    ),
    "g_curve_is_low": (
        rules.curve_is_low,
        "the loss on a trained Bezier curve between two networks rises by less than 0.05 nats",
        "section III: mode connectivity",
        "barrier in nats, median over pairs",
    ),
    "h_band_is_low": (
        rules.band_is_low,
        "the barrier on an elastic band between two networks is below a tenth of that on the straight line",
        "section III: essentially no barriers",
        "barrier over that of the straight line, median over pairs",
    ),
    "h_matching_lowers": (
        rules.matching_lowers,
        "with the units of the second network matched to those of the first the straight line's barrier is below half",
        "permutation symmetry: a straight barrier says little by itself",
        "barrier over that before, median over pairs",
    ),
    "i_loss_rises_around": (
        rules.loss_rises_around,
        "along two filter-normalised directions the loss rises by 0.1 nats within the norms of the filters",
        "section III: visualisation",
        "larger of both rise radii, median over networks",
    ),
}
TICKETS = tuple(
    Claim(
        id=f"j_ticket_beats_{control}",
        says=f"On handwritten digits a lottery ticket is by at least 0.01 more accurate than {words}.",
        where="section III: lottery tickets",
        test=partial(rules.ticket_wins, control=control),
        about=DATA_SETS["digits"],
        shows="how much more accurate, median over seeds",
    )
    for control, words in (
        ("reinitialise", "the same mask with other initial values"),
        ("random_mask", "a mask of random places with the same initial values"),
    )
)
