"""The pictures of `zhang2017_randomization`: curves of corruption, bars of regularisers, norms of interpolants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vallis.core.spelling import in_words
from vallis.core.types import Axis, Figure, Mark, Row
from vallis.studies import _randomization_curves
from vallis.studies._closed_form_rules import BUILT, CONSTRUCTED, GABOR, KERNEL, LABELS, LINEAR, found
from vallis.studies._randomization_rules import DATA_SETS, RANDOM_LABELS, Fractions, Variant, numbers, steps_to_fit
from vallis.studies._regularization_rules import REGULARIZED, REGULARIZERS
from vallis.studies._rows import mean_and_interval

KINDS: dict[str, Variant] = {
    "true": {},
    "shuffled pixels": {"pixels": "shuffled"},
    "random pixels": {"pixels": "random"},
    "Gaussian pixels": {"pixels": "gaussian_iid"},
    "random labels": RANDOM_LABELS,
}
_GAPS = "Nothing is drawn where a seed did not fit everything within its steps."
_INTERVALS = "Error bars: Student's 95 % interval over the seeds."


def figures(rows: Sequence[Row], shares: Fractions) -> list[Figure]:
    """Those for which there are rows."""
    drawn = [_randomization_curves.of_losses(rows, data, network, KINDS) for data, network in _trained()]
    drawn += [_time_by_share(rows, shares), _error_by_share(rows, shares), _time_by_kind(rows)]
    drawn += [_regularizers(rows, data, labels) for data in REGULARIZED for labels in LABELS]
    drawn += [_randomization_curves.of_accuracies(rows, data) for data in REGULARIZED]
    drawn += [_norms(rows), _linear_models(rows), *_norm_and_error(rows)]
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
        caption=f"Compare figure 1b of the paper. {_GAPS} {_INTERVALS}",
    )


def _error_by_share(rows: Sequence[Row], shares: Fractions) -> Figure:
    accuracies = _marks(rows, "test_accuracy", [{"labels": share} for share in shares], shares)
    return Figure(
        name="test_error",
        title="The test error as labels become random",
        x=Axis(label="share of random labels"),
        y=Axis(label="test error"),
        marks=tuple(replace(mark, y=1 - mark.y) for mark in accuracies),
        caption="Compare figure 1c of the paper. All training examples are right, so this is the generalization gap as "
        f"well; guessing gives 0.9. {_INTERVALS}",
    )


def _time_by_kind(rows: Sequence[Row]) -> Figure:
    return Figure(
        name="time_by_kind",
        title="How long each kind of noise takes to fit",
        x=Axis(label="what was made random", scale="category"),
        y=Axis(label="steps until all training examples are right", scale="log"),
        marks=_marks(rows, "steps", list(KINDS.values()), list(KINDS)),
        caption=f"Compare figure 1a of the paper. {_GAPS} {_INTERVALS}",
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
        caption=f"Compare table {4 if noise else 1} of the paper. {_INTERVALS}",
    )


def _norms(rows: Sequence[Row]) -> Figure:
    asked = (
        ("true labels", "norm", LABELS[0]),
        ("random labels", "norm", RANDOM_LABELS),
        ("and random test labels", "test_noise_norm", LABELS[0]),
    )
    marks = []
    for data, held in BUILT.items():
        columns = [found(rows, KERNEL, key, data, [variant]) for _, key, variant in asked]
        if _alike(columns):
            mean, error = mean_and_interval(np.concatenate(columns, axis=1))
            label = f"{held.title.removeprefix('the ')} (n={len(columns[0])})"
            marks.append(Mark(kind="bar", x=[words for words, _, _ in asked], y=mean, error=error, label=label))
    return Figure(
        name="norms_of_interpolants",
        title="The norm of functions through all training examples",
        x=Axis(label="function of least norm through", scale="category"),
        y=Axis(label="norm in the space of the Gaussian kernel"),
        marks=tuple(marks),
        caption="Compare section 5 of the paper. The third: through true labels on the training set and random ones "
        f"on the test set. {_INTERVALS}",
    )


def _alike(columns: Sequence[NDArray[np.float64]]) -> bool:
    """Whether there are as many seeds in each, and any."""
    return len(columns[0]) > 0 and len({len(column) for column in columns}) == 1


def _linear_models(rows: Sequence[Row]) -> Figure:
    names = ("gradient_descent", "stochastic", "momentum", "random_start", "weight_decay", "adam")
    marks = []
    for data, held in BUILT.items():
        columns = [found(rows, LINEAR, f"{name}_norm_ratio", data, [LABELS[0]]) for name in names]
        if _alike(columns):
            mean, error = mean_and_interval(np.concatenate(columns, axis=1))
            words = [in_words(name) for name in names]
            label = f"{held.title.removeprefix('the ')} (n={len(columns[0])})"
            marks.append(Mark(kind="bar", x=words, y=mean, error=error, label=label))
    return Figure(
        name="norms_of_linear_models",
        title="Which linear model training finds",
        x=Axis(label="training", scale="category"),
        y=Axis(label="norm, relative to the least", scale="log"),
        marks=tuple(marks),
        caption=f"Ten true examples. Weight decay does not quite fit them. {_INTERVALS}",
    )


def _norm_and_error(rows: Sequence[Row]) -> Iterator[Figure]:
    """Better features may have the larger norm: reported, no claim."""
    for key, label in (("norm", "norm in the space of each kernel"), ("test_error", "test error")):
        marks = []
        for data, held in BUILT.items():
            lines = numbers(rows, key, data, [CONSTRUCTED, GABOR], [{}], KERNEL)[:, :, 0]
            if len(lines):
                mean, error = mean_and_interval(lines)
                words = f"{held.title.removeprefix('the ')} (n={len(lines)})"
                marks.append(Mark(kind="bar", x=["pixels", "Gabor features"], y=mean, error=error, label=words))
        yield Figure(
            name=f"kernel_{key}_by_features",
            title=f"The function of least norm through all examples: its {key.replace('_', ' ')}",
            x=Axis(label="features", scale="category"),
            y=Axis(label=label),
            marks=tuple(marks),
            caption="On MNIST the paper finds a larger norm and half the error with Gabor features, so a norm alone "
            f"does not say how well a function generalises. {_INTERVALS}",
        )
