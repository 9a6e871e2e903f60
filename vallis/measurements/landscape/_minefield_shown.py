"""The pictures of `minefield`: the path by its steps, the others by their test accuracy, the end of the path apart."""

from __future__ import annotations

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Array, Result
from vallis.numerics.embeddings import Floats


def figures(result: Result, outliers: float) -> tuple[Figure, ...]:
    """The principal components, then each t-SNE."""
    explained = result.array("explained_fraction").data
    labels = [f"component {place + 1} ({100 * share:.0f} % of the spread)" for place, share in enumerate(explained)]
    found = [_figure(result, "components", "minefield_components", "Networks on two principal components", labels, 0)]
    for key in [key for key in result.values if key.startswith("tsne_")]:
        perplexity = key.removeprefix("tsne_").replace("_", ".")
        title = f"Networks by t-SNE, perplexity {perplexity}"
        axes = ["first coordinate of t-SNE", "second coordinate of t-SNE"]
        found.append(_figure(result, key, f"minefield_{key}", title, axes, outliers))
    return tuple(found)


def drawn(points: Floats, outliers: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """``(n,)`` which points are drawn: those that are not far from their mean in both coordinates."""
    if not outliers or len(points) < 3 or not (points.std(0) > 0).all():
        return np.ones(len(points), dtype=bool)
    spread = points.std(0)
    kept: np.ndarray[tuple[int], np.dtype[np.bool_]] = ~(np.abs(points - points.mean(0)) > outliers * spread).all(1)
    return kept


def _figure(result: Result, key: str, name: str, title: str, labels: list[str], outliers: float) -> Figure:
    points, path = result.array(key).data, result.array("is_path").data == 1
    here, others = points[path], points[~path]
    shown, marks, tint, caption = drawn(others, outliers), [], None, ""
    # The path lies below, so that minima beside it are seen.
    marks.append(Mark(kind="line", x=here[:, 0], y=here[:, 1], label="path of the training"))
    if len(others):
        held = result.values.get("test_accuracies") or result.values.get("train_accuracies")
        accuracies = held.data[~path][shown] if isinstance(held, Array) else None
        split = "test" if "test_accuracies" in result.values else "training"
        tint = Axis(label=f"{split} accuracy of the other networks")
        mark = Mark(kind="scatter", x=others[shown, 0], y=others[shown, 1], z=accuracies, label="other networks")
        marks.append(mark)
        if not shown.all():
            caption = f"{int((~shown).sum())} other networks lie far outside and are not drawn."
    marks.append(Mark(kind="scatter", x=here[-1:, 0], y=here[-1:, 1], label="end of the path"))
    axes = [Axis(label=label) for label in labels]
    return Figure(name=name, title=title, x=axes[0], y=axes[1], z=tint, marks=tuple(marks), caption=caption)
