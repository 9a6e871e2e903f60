"""The pictures of `zhang2017_randomization` of what is built or solved in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Row
from vallis.studies._closed_form_rules import (
    BUILT,
    CONSTRUCTED,
    EXPRESSIVITY,
    GABOR,
    KERNEL,
    LABELS,
    LINEAR,
    RANDOM_CONVOLUTIONS,
    RIDGE,
    RIDGE_ON_CONVOLUTIONS,
)
from vallis.studies._randomization_rules import RANDOM_LABELS, Variant, cell
from vallis.studies._rows import INTERVALS, Tags, by_seed, mean_and_interval, same_seeds

_TRAININGS = {
    "gradient_descent": "gradient descent",
    "stochastic": "stochastic",
    "momentum": "momentum",
    "random_start": "random start",
    "weight_decay": "weight decay",
    "adam": "Adam",
}
_FEATURES = {
    CONSTRUCTED: "pixels",
    RIDGE: "pixels, l2",
    GABOR: "Gabor features",
    RANDOM_CONVOLUTIONS: "random convolutions",
    RIDGE_ON_CONVOLUTIONS: "random convolutions, l2",
}
# What is read, of which labels, and how it is called.
_Bars = Mapping[str, tuple[str, str, Tags]]


def figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """All of them, with or without marks."""
    yield _construction(rows)
    yield _norms(rows)
    yield _linear_models(rows)
    yield _norms_by_features(rows)
    yield _errors_by_features(rows)


def _marks(rows: Sequence[Row], bars: Mapping[str, _Bars]) -> tuple[Mark, ...]:
    """A bar for each thing that there is, of each data set: each by itself, so that what failed leaves the others."""
    marks = []
    for data, asked in bars.items():
        found = {words: list(by_seed(rows, *wanted).values()) for words, wanted in asked.items()}
        held = {words: np.array(values)[:, None] for words, values in found.items() if values}
        if held:
            means, errors = zip(*map(mean_and_interval, held.values()), strict=True)
            label = f"{BUILT[data].title.removeprefix('the ')} ({_counted([len(lines) for lines in held.values()])})"
            y, error = np.concatenate(means), np.concatenate(errors)
            marks.append(Mark(kind="bar", x=list(held), y=y, error=error, label=label))
    return tuple(marks)


def _counted(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"n={least}" if least == most else f"n={least} to {most}"


def _construction(rows: Sequence[Row]) -> Figure:
    asked: Sequence[tuple[str, str, Variant]] = (
        ("true labels, float64", "largest_error", LABELS[0]),
        ("random labels, float64", "largest_error", RANDOM_LABELS),
        ("true labels, float32", "largest_error_float32", LABELS[0]),
        ("random labels, float32", "largest_error_float32", RANDOM_LABELS),
    )
    return Figure(
        name="construction",
        title="A network of n + d + 10 n weights, built in closed form: how far it misses its targets",
        x=Axis(label="labels, and numbers that it is evaluated with", scale="category"),
        y=Axis(label="largest error of a target (0 or 1)", scale="log"),
        marks=_marks(rows, _by_labels(EXPRESSIVITY, asked)),
        caption="Theorem 1 of the paper: any labels of n different examples can be represented. The weights are large "
        f"and of opposite signs, so that little or nothing is left of them in single precision. {INTERVALS}",
    )


def _norms(rows: Sequence[Row]) -> Figure:
    asked: Sequence[tuple[str, str, Variant]] = (
        ("true labels", "norm", LABELS[0]),
        ("random labels", "norm", RANDOM_LABELS),
        ("and random test labels", "test_noise_norm", LABELS[0]),
    )
    return Figure(
        name="norms_of_interpolants",
        title="The norm of functions through all training examples",
        x=Axis(label="function of least norm through", scale="category"),
        y=Axis(label="norm in the space of the Gaussian kernel"),
        marks=_marks(rows, _by_labels(KERNEL, asked)),
        caption="Compare section 5 of the paper. The third: through true labels on the training set and random ones "
        f"on the test set. {INTERVALS}",
    )


def _linear_models(rows: Sequence[Row]) -> Figure:
    keys = [f"{name}_norm_ratio" for name in _TRAININGS]
    marks = []
    for data, held in BUILT.items():
        lines = same_seeds(rows, LINEAR, keys, [cell(data, CONSTRUCTED, LABELS[0])])[:, :, 0]
        if len(lines):
            mean, error = mean_and_interval(lines)
            label = f"{held.title.removeprefix('the ')} (n={len(lines)})"
            marks.append(Mark(kind="bar", x=list(_TRAININGS.values()), y=mean, error=error, label=label))
    return Figure(
        name="norms_of_linear_models",
        title="Which linear model training finds",
        x=Axis(label="training", scale="category"),
        y=Axis(label="norm, relative to the least", scale="log"),
        marks=tuple(marks),
        caption=f"Ten true examples. Weight decay does not quite fit them. {INTERVALS}",
    )


def _norms_by_features(rows: Sequence[Row]) -> Figure:
    """Better features may have the larger norm: reported, no claim."""
    return Figure(
        name="kernel_norm_by_features",
        title="The function of least norm through all examples: its norm",
        x=Axis(label="features", scale="category"),
        y=Axis(label="norm in the space of each Gaussian kernel"),
        marks=_marks(rows, _by_features("norm", (CONSTRUCTED, GABOR))),
        caption="On MNIST the paper finds a larger norm and half the error with Gabor features, so a norm alone "
        f"does not say how well a function generalises. {INTERVALS}",
    )


def _errors_by_features(rows: Sequence[Row]) -> Figure:
    """What features and a penalty do to the error: reported, no claim."""
    return Figure(
        name="kernel_test_error_by_features",
        title="The function of least norm through all examples: its test error",
        x=Axis(label="features", scale="category"),
        y=Axis(label="test error"),
        marks=_marks(rows, _by_features("test_error", _FEATURES)),
        caption="Gaussian kernels of pixels and of Gabor features, and a linear model of random convolutions; l2: with "
        "a penalty on the norm, which fits the examples less closely. On CIFAR-10 the paper finds 0.46 for pixels, "
        f"0.17 for random convolutions and 0.15 with a penalty; on MNIST a penalty does not help. {INTERVALS}",
    )


def _by_labels(measurement: str, asked: Sequence[tuple[str, str, Variant]]) -> dict[str, _Bars]:
    return {
        data: {words: (measurement, key, cell(data, CONSTRUCTED, variant)) for words, key, variant in asked}
        for data in BUILT
    }


def _by_features(key: str, networks: Sequence[str] | Mapping[str, str]) -> dict[str, _Bars]:
    return {
        data: {_FEATURES[network]: (KERNEL, key, cell(data, network, {})) for network in networks} for data in BUILT
    }
