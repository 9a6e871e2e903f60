"""The pictures of example dynamics: data map, forgetting, the order of learning, the hardest examples by name."""

from __future__ import annotations

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Result
from vallis.numerics.means import Floats

_MOST_DOTS = 2000
_MOST_BARS = 30
_WORDS = ("never right", "right up to half of the time", "right more often", "always right")


def figures(result: Result) -> tuple[Figure, ...]:
    """All of them, in the order in which they are looked at."""
    return (_data_map(result), _forgetting(result), _learning(result), _hardest(result))


def _data_map(result: Result) -> Figure:
    confidence, variability, correctness = (
        result.array(name).data for name in ("confidence", "variability", "correctness")
    )
    step = -(-len(confidence) // _MOST_DOTS)
    shown = slice(None, None, step)
    groups = _groups(correctness[shown])
    marks = [
        Mark(kind="scatter", x=variability[shown][chosen], y=confidence[shown][chosen], label=words)
        for words, chosen in groups
        if chosen.any()
    ]
    caption = "Top left is easy to learn, the right ambiguous, bottom left hard to learn or mislabelled."
    if step > 1:
        caption += f" One of {step} examples is shown."
    return Figure(
        name="data_map",
        title="Data map",
        x=Axis(label="variability: standard deviation of the probability of its label"),
        y=Axis(label="confidence: its mean over the presentations"),
        marks=tuple(marks),
        caption=caption,
    )


def _groups(correctness: Floats) -> list[tuple[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]]:
    never, always = correctness == 0, correctness == 1
    some = ~never & ~always
    chosen = (never, some & (correctness <= 0.5), some & (correctness > 0.5), always)
    return list(zip(_WORDS, chosen, strict=True))


def _forgetting(result: Result) -> Figure:
    events, right = result.array("forgetting_events").data, result.array("correctness").data
    learned = events[right > 0]
    counts = np.bincount(learned.astype(np.int64), minlength=1).astype(np.float64)
    words = [str(count) for count in range(len(counts))]
    if len(counts) > _MOST_BARS:
        counts = np.append(counts[:_MOST_BARS], counts[_MOST_BARS:].sum())
        words = [*words[:_MOST_BARS], f"{_MOST_BARS} or more"]
    never = float((right == 0).sum())
    return Figure(
        name="forgetting_events",
        title="How often examples are forgotten",
        x=Axis(label="forgetting events: right, and wrong the next time", scale="category"),
        y=Axis(label="training examples"),
        marks=(Mark(kind="bar", x=[*words, "never learned"], y=np.append(counts, never)),),
    )


def _learning(result: Result) -> Figure:
    names = {
        "right_fraction": "right",
        "learned_fraction": "right from here on",
        "clean_right_fraction": "right, clean labels",
        "noisy_right_fraction": "right, noisy labels",
    }
    held = {words: result.array(key) for key, words in names.items() if key in result.values}
    marks = [
        Mark(kind="line", x=found.coords["presentation"], y=found.data, label=words) for words, found in held.items()
    ]
    return Figure(
        name="learning_order",
        title="How many examples are learned, and when",
        x=Axis(label="presentation of the example, from 0"),
        y=Axis(label="share of the examples"),
        marks=tuple(marks),
        caption=_who_is_shown(result.array("presentations").data),
    )


def _who_is_shown(times: Floats) -> str:
    """Not all examples need have had the last presentations: the curves are then not of the same examples."""
    if times.min() == times.max():
        return ""
    return (
        f"From presentation {times.min():.0f} on, the shares that are right are of those examples alone that were "
        "presented so often; what is right from here on is a share of all."
    )


def _hardest(result: Result) -> Figure:
    found = result.array("hardest_examples")
    known = dict(
        zip(result.array("area_under_margin").coords["example"], result.array("area_under_margin").data, strict=True)
    )
    return Figure(
        name="hardest_examples",
        title="The examples with the smallest margins",
        x=Axis(label="identity of the example", scale="category"),
        y=Axis(label="area under the margin (nats)"),
        marks=(Mark(kind="bar", x=[f"{name:.0f}" for name in found.data], y=np.array([known[n] for n in found.data])),),
        caption="Below 0 another class had the larger score on average: the label may be wrong.",
    )
