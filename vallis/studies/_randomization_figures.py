"""The pictures of `zhang2017_randomization`: curves of corruption, bars of regularisers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.spelling import in_words
from vallis.core.types import Row
from vallis.studies import _closed_form_figures, _randomization_curves
from vallis.studies._closed_form_rules import LABELS
from vallis.studies._randomization_rules import DATA_SETS, RANDOM_LABELS, Fractions, Variant, numbers, steps_to_fit
from vallis.studies._regularization_rules import REGULARIZED, REGULARIZERS
from vallis.studies._rows import INTERVALS, mean_and_interval

KINDS: dict[str, Variant] = {
    "true": {},
    "shuffled pixels": {"pixels": "shuffled"},
    "random pixels": {"pixels": "random"},
    "Gaussian pixels": {"pixels": "gaussian_iid"},
    "random labels": RANDOM_LABELS,
}
_GAPS = "Nothing is drawn where a seed did not fit everything within its steps."


def figures(rows: Sequence[Row], shares: Fractions) -> list[Figure]:
    """Those for which there are rows."""
    drawn = [_randomization_curves.of_losses(rows, data, network, KINDS) for data, network in _trained()]
    drawn += [_time_by_share(rows, shares), _error_by_share(rows, shares), _time_by_kind(rows)]
    drawn += [_regularizers(rows, data, labels) for data in REGULARIZED for labels in LABELS]
    drawn += [_randomization_curves.of_accuracies(rows, data) for data in REGULARIZED]
    drawn += _closed_form_figures.figures(rows)
    return [figure for figure in drawn if figure.marks]


def _trained() -> Iterator[tuple[str, str]]:
    """The networks that are trained on everything, with their data."""
    yield from ((data, network) for data, held in DATA_SETS.items() for network in held.networks)


def _marks(
    rows: Sequence[Row], key: str, variants: Sequence[Variant], x: Sequence[float | str], relative: bool = False
) -> tuple[Mark, ...]:
    """A mark for each network that has all variants; relative to the first variant, seed by seed, if so wished."""
    kind: Literal["bar", "line"] = "bar" if isinstance(x[0], str) else "line"
    marks = []
    for data, network in _trained():
        lines = (
            steps_to_fit(rows, data, [network], variants)
            if key == "steps"
            else numbers(rows, key, data, [network], variants)
        )[:, 0]
        lines = np.where(np.isfinite(lines).all(axis=0), lines, np.nan)  # a cell that was not always fitted has no mean
        if np.isfinite(lines).any():
            mean, error = mean_and_interval(lines / lines[:, :1] if relative else lines)
            label = f"{DATA_SETS[data].title.removeprefix('the ')}, {network} (n={len(lines)})"
            marks.append(Mark(kind=kind, x=list(x), y=mean, error=error, label=label))
    return tuple(marks)


def _time_by_share(rows: Sequence[Row], shares: Fractions) -> Figure:
    return Figure(
        name="time_to_fit",
        title="How much longer labels take to fit as they become random",
        x=Axis(label="share of random labels"),
        y=Axis(label="steps until all training examples are right, relative to true labels"),
        marks=_marks(rows, "steps", [{"labels": share} for share in shares], shares, relative=True),
        caption=f"Compare figure 1b of the paper. {_GAPS} {INTERVALS}",
    )


def _error_by_share(rows: Sequence[Row], shares: Fractions) -> Figure:
    variants: list[Variant] = [{"labels": share} for share in shares]
    accuracies = _marks(rows, "test_accuracy", variants, shares)
    fitted = all((mark.y == 1).all() for mark in _marks(rows, "train_accuracy", variants, shares))
    gap = (
        "All training examples are right, so this is the generalization gap as well"
        if fitted
        else "Not all training examples are right everywhere, so the generalization gap is smaller than this"
    )
    return Figure(
        name="test_error",
        title="The test error as labels become random",
        x=Axis(label="share of random labels"),
        y=Axis(label="test error"),
        marks=tuple(replace(mark, y=1 - mark.y) for mark in accuracies),
        caption=f"Compare figure 1c of the paper. {gap}; guessing gives 0.9. {INTERVALS}",
    )


def _time_by_kind(rows: Sequence[Row]) -> Figure:
    return Figure(
        name="time_by_kind",
        title="How long each kind of noise takes to fit",
        x=Axis(label="what was made random", scale="category"),
        y=Axis(label="steps until all training examples are right", scale="log"),
        marks=_marks(rows, "steps", list(KINDS.values()), list(KINDS)),
        caption=f"Compare figure 1a of the paper. {_GAPS} {INTERVALS}",
    )


def _regularizers(rows: Sequence[Row], data: str, labels: Variant) -> Figure:
    """A bar for each regulariser: the test accuracy on true labels, or the training accuracy on random ones."""
    held, noise = REGULARIZED[data], labels == RANDOM_LABELS
    key, name = ("train_accuracy", "fitted_with") if noise else ("test_accuracy", "learned_with")
    # Each bar by itself, so that a cell that failed leaves the others.
    bars: list[tuple[str, str, NDArray[np.float64]]] = []
    for network in dict.fromkeys((*held.networks, held.plain, held.normalized)):
        for regularizer, variant in {"none": {}, **REGULARIZERS}.items():
            lines = numbers(rows, key, data, [network], [{**variant, **labels}])[:, :, 0]
            bars += [(network, regularizer, lines)] if len(lines) else []
    marks = []
    for network in dict.fromkeys(bar[0] for bar in bars):
        mine = [(regularizer, lines) for shown, regularizer, lines in bars if shown == network]
        means, errors = zip(*(mean_and_interval(lines) for _, lines in mine), strict=True)
        least, most = (chosen(len(lines) for _, lines in mine) for chosen in (min, max))
        words = in_words(network)
        label = f"{words} (n={least})" if least == most else f"{words} (n={least} to {most})"
        names = [in_words(regularizer) for regularizer, _ in mine]
        marks.append(Mark(kind="bar", x=names, y=np.concatenate(means), error=np.concatenate(errors), label=label))
    return Figure(
        name=f"{name}_{data}",
        title=f"Regularisers on {'random' if noise else 'true'} labels: {held.title}",
        x=Axis(label="regulariser", scale="category"),
        y=Axis(label=in_words(key)),
        marks=tuple(marks),
        caption=f"Compare table {4 if noise else 1} of the paper. {INTERVALS}",
    )
