"""The pictures and the words of `mode_connectivity`."""

from __future__ import annotations

from typing import Any

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity
from vallis.core.types import Result

_WORDS = {
    "straight": "straight line",
    "aligned": "straight line, units matched",
    "curve": "trained curve",
    "band": "elastic band",
}


def routes_of(result: Result) -> list[str]:
    """The ways that were walked."""
    return [route for route in _WORDS if f"{route}_losses" in result.values]


def figures(result: Result) -> tuple[Figure, ...]:
    """Loss and error along the ways, the barriers side by side, the plane."""
    unit = result.estimate(f"{routes_of(result)[0]}_barrier").unit
    found = [
        _along(
            result, "losses", "mode_connectivity", "The loss on ways between two networks", f"training loss ({unit})"
        )
    ]
    if any(f"{route}_errors" in result.values for route in routes_of(result)):
        tested = any(f"{route}_test_errors" in result.values for route in routes_of(result))
        label = f"{'test' if tested else 'training'} error"
        found.append(_along(result, "errors", "mode_connectivity_errors", "Wrong answers between them", label))
    return (*found, _bars(result, unit), *_plane(result, unit))


def reading(result: Result) -> str:
    """The barriers in words, the straight one first."""
    routes = routes_of(result)
    said = [f"{quantity(result.estimate(f'{route}_barrier'))} on the {_WORDS[route]}" for route in routes]
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    text = f"Between the two networks the loss rises above the line between its ends by {listed}"
    lowest = min(routes, key=lambda route: result.estimate(f"{route}_barrier").value)
    barrier, first = result.estimate(f"{lowest}_barrier"), result.estimate(f"{routes[0]}_barrier")
    if lowest != routes[0] and barrier.value < 0.1 * first.value:
        text += ": a low way exists, so they lie in one valley that the straight line leaves"
    elif routes[0] == "straight" and first.value <= 2 * (first.stderr or 0.0):
        text += ": no more than its error bar, so nothing lies between them"
    return f"{text}."


def _along(result: Result, what: str, name: str, title: str, label: str) -> Figure:
    marks: list[Mark] = []
    for route in routes_of(result):
        # The loss is that of the training, the errors are those of the test where there is one: a line a way.
        tested = what == "errors" and f"{route}_test_errors" in result.values
        key = f"{route}_test_{what}" if tested else f"{route}_{what}"
        if key in result.values:
            held = result.array(key)
            marks.append(Mark(kind="line", x=held.coords["moment"], y=held.data, label=_WORDS[route]))
    way = Axis(label="t: from the first network to the second")
    return Figure(name=name, title=title, x=way, y=Axis(label=label), marks=tuple(marks))


def _bars(result: Result, unit: str) -> Figure:
    found = {route: result.estimate(f"{route}_barrier") for route in routes_of(result)}
    errors = np.array([each.stderr or 0.0 for each in found.values()])
    heights = np.array([each.value for each in found.values()])
    mark = Mark(kind="bar", x=[_WORDS[route] for route in found], y=heights, error=errors)
    ways, height = Axis(label="way", scale="category"), Axis(label=f"barrier ({unit})")
    return Figure(name="loss_barriers", title="How high the barriers are", x=ways, y=height, marks=(mark,))


def _plane(result: Result, unit: str) -> tuple[Figure, ...]:
    if "plane_losses" not in result.values:
        return ()
    ground, way = result.array("plane_losses"), result.array("plane_path").data
    finite = ground.data[np.isfinite(ground.data)]
    logarithmic = finite.size > 0 and finite.min() > 0 and finite.max() > 10 * finite.min()
    grid: dict[str, Any] = {"x": ground.coords["along"], "y": ground.coords["across"], "z": ground.data}
    marks = (
        Mark(kind="heatmap", **grid),
        Mark(kind="line", x=way[:, 0], y=way[:, 1], label="trained way"),
        Mark(kind="scatter", x=way[[0, -1], 0], y=way[[0, -1], 1], label="the two networks"),
    )
    height = Axis(label=f"loss ({unit})", scale="log" if logarithmic else "linear")
    axes = Axis(label="along the straight line (weight)"), Axis(label="across it (weight)")
    title = "The plane through both networks and the trained way"
    return (Figure(name="connecting_plane", title=title, x=axes[0], y=axes[1], z=height, marks=marks),)
