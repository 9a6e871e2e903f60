"""The pictures of `wu2020_dissecting_hessian`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Array, Row
from vallis.studies._dissecting_cells import DATA_SETS, LABELS, NORMS, NUM_CLASSES, cell
from vallis.studies._dissecting_rules import Floats, of_layer
from vallis.studies._rows import mean_and_error, results

_NORM = {"none": "no norm", "batch": "batch norm"}
_WORD = {"digits": "digits", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
_METHODS = {
    "standard": "weights (BASE)",
    "curvature": "curvature (APPR)",
    "refreshed": "curvature, renewed (ITER)",
}
_SHARES = {"input_shares": ("E[x x']", "inputs"), "output_shares": ("E[M]", "outputs")}
_SHOWN = 12


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Everything that there are rows for."""
    found: list[Figure | None] = []
    for data in DATA_SETS:
        found += [_overlaps(rows, data), _rank_one(rows, data), *_spectra(rows, data), *_shares(rows, data)]
    found += [_bounds(rows, labels) for labels in LABELS]
    return [figure for figure in found if figure is not None and figure.marks]


def _overlaps(rows: Sequence[Row], data: str) -> Figure | None:
    marks: list[Mark] = []
    chance: Floats | None = None
    for norm in NORMS:
        for labels in LABELS:
            held = results(rows, "eigenspace_overlap", cell(data, norm=norm, labels=labels))
            curves = _lines([of_layer(found, "overlaps") for found in held.values()])
            if not len(curves):
                continue
            counts, mean = np.arange(1.0, curves.shape[1] + 1), curves.mean(0)
            spread = curves.std(0, ddof=1) if len(curves) > 1 else np.zeros(len(mean))
            label = f"{_NORM[norm]}, {labels} labels (n={len(curves)})"
            marks.append(Mark(kind="band", x=counts, low=np.maximum(mean - spread, 0), high=mean + spread))
            marks.append(Mark(kind="line", x=counts, y=mean, label=label))
            width = min(len(counts), len(chance)) if chance is not None else len(counts)
            chance = of_layer(next(iter(held.values())), "random_overlaps")[:width]
            num_outputs = int(of_layer(next(iter(held.values())), "num_outputs"))
    if chance is None:
        return None
    marks.append(Mark(kind="line", x=np.arange(1.0, len(chance) + 1), y=chance, label="random spaces"))
    return Figure(
        name=f"overlap_{data}",
        title=f"Overlap of the top spaces of two networks: {_WORD[data]}",
        x=Axis(label="number of top eigenvectors k"),
        y=Axis(label="overlap of the two spaces"),
        marks=tuple(marks),
        caption=f"First layer, {num_outputs} outputs, of independently trained pairs; batch norm stands before each "
        "layer. Line: mean, band: one standard deviation over pairs. One is the same space.",
    )


def _rank_one(rows: Sequence[Row], data: str) -> Figure | None:
    marks = []
    for norm in NORMS:
        for labels in LABELS:
            held = results(rows, "kronecker_structure", cell(data, norm=norm, labels=labels))
            lines = _lines([of_layer(found, "rank_one_energies")[: NUM_CLASSES - 1] for found in held.values()])
            if len(lines):
                mean, error = mean_and_error(lines)
                label = f"{_NORM[norm]}, {labels} labels (n={len(lines)})"
                marks.append(Mark(kind="line", x=np.arange(1.0, len(mean) + 1), y=mean, error=error, label=label))
    return Figure(
        name=f"rank_one_{data}",
        title=f"Rank-one energy of the top eigenvectors: {_WORD[data]}",
        x=Axis(label="eigenvector of the Hessian"),
        y=Axis(label="rank-one energy"),
        marks=tuple(marks),
        caption="First layer, largest eigenvalue first. The energy is the share of the largest singular value of an "
        "eigenvector, as a matrix, in the sum of all squares; one is rank one. Error bars: one standard error over the "
        "seeds.",
    )


def _spectra(rows: Sequence[Row], data: str) -> Iterator[Figure]:
    for norm in NORMS:
        held = results(rows, "kronecker_structure", cell(data, norm=norm))
        marks = []
        for key, label in (("eigenvalues", "Hessian"), ("kronecker_eigenvalues", "E[M] ⊗ E[x x']")):
            lines = _lines([of_layer(found, key) for found in held.values()])
            lines = lines[:, (lines > 0).all(0)] if len(lines) else lines
            if lines.size:
                ranks = np.arange(1.0, lines.shape[1] + 1)
                shown = np.exp(np.log(lines).mean(0))
                marks.append(Mark(kind="scatter", x=ranks, y=shown, label=f"{label} (n={len(lines)})"))
        yield Figure(
            name=f"spectrum_{data}_{norm}",
            title=f"Eigenvalues, true and Kronecker: {_WORD[data]}, {_NORM[norm]}",
            x=Axis(label="rank"),
            y=Axis(label="eigenvalue [nats/weight^2]", scale="log"),
            marks=tuple(marks),
            caption="First layer, true labels; geometric mean over the seeds.",
        )


def _shares(rows: Sequence[Row], data: str) -> Iterator[Figure]:
    for key, (matrix, what) in _SHARES.items():
        for norm in NORMS:
            held = results(rows, "kronecker_structure", cell(data, norm=norm))
            tables = [_table(found.array(key)) for found in held.values()]
            whole = [table for table in tables if np.isfinite(table).all()]
            if not whole:
                continue
            mean = np.mean(whole, axis=0)
            across, down = (np.arange(1.0, size + 1) for size in (mean.shape[1], mean.shape[0]))
            yield Figure(
                name=f"{key}_{data}_{norm}",
                title=f"Eigenvectors along those of {matrix}: {_WORD[data]}, {_NORM[norm]}",
                x=Axis(label=f"eigenvector of {matrix}, of the {what}"),
                y=Axis(label="eigenvector of the Hessian"),
                z=Axis(label="share"),
                marks=(Mark(kind="heatmap", x=across, y=down, z=mean),),
                caption=f"First layer, true labels, largest eigenvalues first; mean over {len(whole)} seeds. Over all "
                f"{what} a row adds up to one.",
            )


def _bounds(rows: Sequence[Row], labels: str) -> Figure:
    marks = []
    for data in DATA_SETS:
        held = results(rows, "pac_bayes", cell(data, network="bound", labels=labels))
        for kind, word in (("bound", "bound"), ("test_error", "test error")):
            lines = [[found.estimate(f"{kind}_{axes}").value for axes in _METHODS] for found in held.values()]
            if lines:
                mean, error = mean_and_error(np.array(lines))
                label = f"{_WORD[data]}, {word} (n={len(lines)})"
                marks.append(Mark(kind="bar", x=list(_METHODS.values()), y=mean, error=error, label=label))
    return Figure(
        name=f"bounds_{labels}",
        title=f"PAC-Bayes bounds and test errors: {labels} labels",
        x=Axis(label="axes of the posterior", scale="category"),
        y=Axis(label="error of drawn networks"),
        marks=tuple(marks),
        caption="PAC-Bayes bounds with equal budgets; with two classes guessing errs on 0.5. Error bars: one standard "
        "error over the seeds.",
    )


def _table(array: Array) -> Floats:
    return np.asarray(array.data[0][:_SHOWN, :_SHOWN], dtype=np.float64)


def _lines(curves: Sequence[Floats]) -> Floats:
    """``(n, k)`` the curves as far as all of them go."""
    if not curves:
        return np.empty((0, 0))
    width = min(int(np.isfinite(curve).cumprod().sum()) for curve in curves)
    return np.array([curve[:width] for curve in curves]) if width else np.empty((0, 0))
