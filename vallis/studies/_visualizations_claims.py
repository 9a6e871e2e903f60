"""The claims of `huang2019_visualizations`: what each says, where the paper says it, and the rule that decides it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from vallis.core.types import Claim, Row, Verdict
from vallis.studies import _circles_cells as circles
from vallis.studies import _circles_rules, _minefield_cells
from vallis.studies import _visualizations_rules as rules
from vallis.studies._visualizations_rules import DATA_SETS, OPTIMIZERS

Rule = Callable[[Sequence[Row]], Verdict]

_COMPARISONS = frozenset({"optimizers_agree", "network_beats_linear"})
RULES: Mapping[str, tuple[Callable[..., Verdict], str, str, str]] = {
    "bad_minima_exist": (
        rules.bad_minima_exist,
        "with the largest poison factor all training examples are right and the test accuracy is at most that of "
        "guessing",
        "section 3",
        "test accuracy, median over seeds",
    ),
    "training_avoids_them": (
        rules.training_avoids_them,
        "without poison all training examples are right, too, and the gap of accuracies is smaller by at least 0.3",
        "section 3, figure 1",
        "how much smaller, median over seeds",
    ),
    "radius_is_larger": (
        rules.radius_is_larger,
        "the basin of the good minimum has at least 3 times the mean radius of the bad one's",
        "section 5",
        "ratio of the radii, median over seeds",
    ),
    "volume_is_larger": (
        rules.volume_is_larger,
        "its volume is larger by at least 1,000 powers of ten",
        "section 5",
        "powers of ten, median over seeds",
    ),
    "accuracy_follows_radius": (
        rules.accuracy_follows_radius,
        "over the poison factors, the rank correlation of test accuracy and mean radius exceeds 0.6",
        "section 5, the figure of gaps and radii",
        "rank correlation, median over seeds",
    ),
    "accuracy_follows_volume": (
        rules.accuracy_follows_volume,
        "over the poison factors, the rank correlation of test accuracy and log-volume exceeds 0.6",
        "section 5, the figure of gaps and volumes",
        "rank correlation, median over seeds",
    ),
    "gap_falls_with_volume": (
        rules.gap_falls_with_volume,
        "over the poison factors, the gap of accuracies falls from every basin to the next larger one",
        "section 5, the figure of gaps and volumes",
        "share of the seeds",
    ),
    "optimizers_agree": (
        rules.optimizers_agree,
        f"all of {len(OPTIMIZERS)} optimizers get every training example right, and the worst is less than 0.1 in test "
        "accuracy below the best",
        "section 2, table 1",
        "best less worst test accuracy, median over seeds",
    ),
    "network_beats_linear": (
        rules.network_beats_linear,
        "the network is more accurate on the test set than a linear model on second-order features",
        "section 2, figure 2",
        "mean difference of test accuracies",
    ),
}
MINEFIELD_RULES: Mapping[str, tuple[Rule, str, str, str]] = {
    "path_is_mined": (
        rules.path_is_mined,
        "training ends at a test accuracy of at least 0.9, and from each of ten points of its path training with "
        "poison leads to at least 0.95 of the training examples right and a test accuracy of at most 0.6",
        "figure 1",
        "best test accuracy of these minima, median over seeds",
    ),
    "mines_are_near": (
        rules.mines_are_near,
        "these minima are on the mean nearer to the path than its beginning is to its end",
        "section 1, figure 1",
        "ratio of the distances, median over seeds",
    ),
}
CIRCLES_RULES: Mapping[str, tuple[Rule, str, str, str]] = {
    "accuracy_falls_with_gap": (
        _circles_rules.accuracy_falls,
        "as the gap shrinks from 0.3 to 0.001, the training accuracy never rises, and ends lower than it began",
        "figure 8",
        "training accuracy at the gap 0.001, median over seeds",
    ),
    "margin_within_gap": (
        _circles_rules.margin_within_gap,
        "at the gap 0.001 the decision boundary passes a training point at no more than that",
        "figure 8",
        "nearest distance over the gap, median over seeds",
    ),
    "margin_falls_with_gap": (
        _circles_rules.margin_falls,
        "with every smaller gap the boundary comes nearer to the training point that it is nearest to",
        "figure 8",
        "nearest distance at the gap 0.3 over that at 0.001, median over seeds",
    ),
}


def claims() -> Iterator[Claim]:
    """All of them, data set by data set."""
    for data, held in DATA_SETS.items():
        for name, (rule, says, where, shows) in RULES.items():
            if held.compared or name not in _COMPARISONS:
                yield _claim(f"{name}_{data}", held.title, partial(rule, data=data), says, where, shows)
    for title, found in ((_minefield_cells.TITLE, MINEFIELD_RULES), (circles.TITLE, CIRCLES_RULES)):
        for name, (rule, says, where, shows) in found.items():
            yield _claim(name, title, rule, says, where, shows)


def _claim(name: str, title: str, rule: Rule, says: str, where: str, shows: str) -> Claim:
    return Claim(id=name, says=f"On {title}: {says}.", where=where, test=rule, about=title, shows=shows)
