"""Examines your own network: every measurement of a panel, and the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vallis import __version__
from vallis.core import catalog, files, own, spec
from vallis.core.errors import UsageError
from vallis.core.protocols import Measurement
from vallis.core.types import Estimate, Outcome, Result, Solution
from vallis.report.page import write_examination
from vallis.run.measure import measure_all

PANELS = ("quick", "full")


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """What was found.

    Attributes:
        results: the outcome of each measurement by its name.
        reading: the results in plain sentences.
        page: the written report, or None when no folder was given.
    """

    solution: Solution
    results: Mapping[str, Outcome]
    reading: tuple[str, ...]
    page: Path | None = None

    def __str__(self) -> str:
        lines = [*self.reading]
        failed = [
            f"{name}: {note.text}" for name, o in self.results.items() if not isinstance(o, Result) for note in o.notes
        ]
        if failed:
            lines += ["", *failed]
        if self.page is not None:
            lines += ["", f"report: {self.page}"]
        return "\n".join(lines)

    def value(self, measurement: str, key: str) -> Estimate:
        """One number, e.g. ``value("hessian_spectrum", "top_eigenvalue")``.

        Raises:
            UnknownPart: no such measurement was made.
            UsageError: it gave no result; the message says why.
        """
        if measurement not in self.results:
            raise catalog.unknown("measurement made here", measurement, self.results)
        outcome = self.results[measurement]
        if not isinstance(outcome, Result):
            raise UsageError(f"a result of {measurement} was required, there is none: {outcome.notes[0].text}")
        return outcome.estimate(key)


def examine(
    module: torch.nn.Module,
    loss: Callable[..., Any],
    *,
    train: Any,
    test: Any = None,
    other_splits: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    panel: str = "quick",
    measurements: Sequence[str | Measurement] | None = None,
    **how: Any,
) -> Examination:
    """Measures the ground your network stands on, and writes a report.

    Args:
        module: your trained network; it comes back exactly as it was.
        loss: ``(outputs, targets) -> mean``, a torch loss or a function of your own.
        train: ``(x, y)``, a dict of tensors, a Dataset, a DataLoader, or a list of batches.
        test: the same, or None.
        other_splits: more data by the name of their split, e.g. "true_labels" beside noisy ones in train.
        out: the folder that gets ``report.html`` and ``report.json``; None writes nothing.
        panel: which measurements: "quick" or "full".
        measurements: names of measurements, or measurements with settings of yours, in place of the panel.
        how: ``inputs=``, ``targets=``, ``outputs=``, ``weight=``, ``batch_size=`` and ``name=`` say how batches are
            taken apart and what the loss counts; see `vallis.core.own.solution_of`.

    Returns:
        All outcomes; printing it shows the reading.

    Raises:
        UsageError: the network, the loss, the data or the folder cannot be used; `vallis.core.errors` lists its kinds.
        KeyboardInterrupt: after the report of what was finished has been written.
    """
    parts = chosen(panel) if measurements is None else [named(item) for item in measurements]
    folder = None if out is None else files.ensure_folder(Path(out))
    solution = own.solution_of(module, loss, train=train, test=test, other_splits=other_splits, **how)
    measured: list[tuple[Measurement, Outcome]] = []
    page: Path | None = None
    try:
        measure_all(solution, parts, on_result=lambda part, outcome: measured.append((part, outcome)))
    finally:  # Ctrl-C keeps what is finished
        page = (
            None
            if folder is None
            else write_examination(folder, facts_of(solution), measured, vallis_version=__version__)
        )
    return Examination(
        solution=solution,
        results={spec.name_of(part): outcome for part, outcome in measured},
        reading=readings(measured),
        page=page,
    )


def chosen(panel: str, takes: str = "solution") -> list[Measurement]:
    """The measurements of a panel, in the order of their names.

    Raises:
        UnknownPart: there is no such panel.
    """
    if panel not in PANELS:
        raise catalog.unknown("panel", panel, PANELS)
    classes = [catalog.load("measurements", name) for name in catalog.names("measurements")]
    return [spec.build(part, part.panels[panel]) for part in classes if panel in part.panels and part.takes == takes]


def named(item: str | Measurement) -> Measurement:
    """A measurement by its name, with its default settings; a measurement is itself."""
    part: Measurement = spec.build(catalog.load("measurements", item), {}) if isinstance(item, str) else item
    return part


def readings(measured: Sequence[tuple[Measurement, Outcome]]) -> tuple[str, ...]:
    """What each result says in plain words."""
    return tuple(part.reading(outcome) for part, outcome in measured if isinstance(outcome, Result))


def facts_of(solution: Solution) -> dict[str, Any]:
    """What the report says of a network from outside."""
    first = next(iter(solution.params.values()))
    return {
        "problem": solution.task.name,
        "model": type(solution.net.module).__name__,
        "parameters": solution.num_parameters,
        "digest": own.digest(solution),
        **{f"num_{name}": len(data) for name, data in solution.task.splits.items()},
        "dtype": str(first.dtype).removeprefix("torch."),
        "device": str(first.device),
    }
