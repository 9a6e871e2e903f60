"""What a page is made of: the examined network, and a section for each measurement; a part that crashes loses none."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from vallis.core import spec
from vallis.core.figures import Figure
from vallis.core.numbers import is_exact
from vallis.core.types import Estimate, Failed, Note, Outcome, Result, Source
from vallis.report import prose
from vallis.report.clean import coerced

Status = Literal["ok", "not_applicable", "failed"]
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was examined.

    Attributes:
        problem: its name; empty for a theory, which examines nothing.
        model: its name, or that of the theory.
        parameters: P, how many trainable ones.
        digest: the name of the solution.
        facts: everything else the caller knows, in the order to show it: losses, accuracies, settings, a date.
    """

    problem: str
    model: str
    parameters: int | None = None
    digest: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(solution_facts: Mapping[str, Any]) -> Examined:
        """From a plain mapping with at least "problem" and "model"."""
        rest = dict(solution_facts)
        problem = rest.pop("problem", "unnamed problem")
        return Examined(
            problem=prose.setting(problem) if problem else "",
            model=prose.setting(rest.pop("model", "unnamed model")),
            parameters=rest.pop("parameters", None),
            digest=str(rest.pop("digest", None) or ""),
            facts=rest,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """One measurement on the page.

    Attributes:
        name: unique on the page.
        doc: its module's docstring, taken apart.
        reading: the result in plain words; empty unless there is one.
        remarks: what the report itself has to say, e.g. that a figure could not be drawn.
        settings: the part's settings, as plain JSON.
    """

    name: str
    title: str
    doc: prose.Docstring
    outcome: Outcome
    figures: tuple[Figure, ...] = ()
    reading: str = ""
    sources: tuple[Source, ...] = ()
    remarks: tuple[Note, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """How it went."""
        return status(self.outcome)

    @property
    def notes(self) -> tuple[Note, ...]:
        """All notes: the measurement's own, then the report's."""
        return (*self.outcome.notes, *self.remarks)


def sections(measured: Sequence[tuple[Any, Outcome]]) -> list[Section]:
    """A section for each part (a measurement or a theory) and its outcome, in their order.

    A part whose `figures` or `reading` raises gets a note that says so; its numbers are shown all the same.
    """
    taken_names: set[str] = set()
    taken_figures: set[str] = set()
    return [_section(part, outcome, taken_names, taken_figures) for part, outcome in measured]


def status(outcome: Outcome) -> Status:
    """The word that stands for the kind of outcome."""
    if isinstance(outcome, Result):
        return "ok"
    return "failed" if isinstance(outcome, Failed) else "not_applicable"


def certainty(section: Section) -> str:
    """How sure the numbers of a section are, in a few words; empty when it has none."""
    values = section.outcome.values.values() if isinstance(section.outcome, Result) else ()
    estimates = [value for value in values if isinstance(value, Estimate)]
    if not estimates:
        return ""
    errors = [math.nan if e.stderr is None else float(e.stderr) for e in estimates]
    unknown = sum(not math.isfinite(error) for error in errors)
    if unknown:
        return f"{unknown} of {len(estimates)} without error bar" if unknown < len(estimates) else "no error bars"
    bars = [(abs(e.value), error) for e, error in zip(estimates, errors, strict=True) if error]
    if not bars:
        return "exact" if all(map(is_exact, estimates)) else "error bars of 0"
    # Beside nothing every bar is large: no error among so many examples says nothing of the other numbers.
    worst = max((error / value for value, error in bars if value), default=math.inf)
    if worst < 1e-4:
        return "error bars below 0.01 %"
    if worst >= 1:
        return "an error bar as large as its value"
    return f"error bars up to {100 * worst:.{0 if worst >= 0.0995 else 1}f} %"


def _section(part: Any, outcome: Outcome, names: set[str], figure_names: set[str]) -> Section:
    remarks: list[Note] = []
    figures: tuple[Figure, ...] = ()
    reading = ""
    if isinstance(outcome, Result):
        made: tuple[Figure, ...] = _guarded(lambda: tuple(_asked(part, "figures", outcome, ())), (), "figures", remarks)
        figures = tuple(figure for figure in made if _drawable(figure, remarks))
        reading = _guarded(lambda: str(_asked(part, "reading", outcome, "")), "", "reading", remarks)
    nothing: dict[str, Any] = {}
    plain = _guarded(lambda: spec.to_spec(part), nothing, "settings", remarks)
    name = plain.get("name") or type(part).__name__
    return Section(
        name=prose.unique(name, names),
        title=prose.title(name),
        doc=prose.docstring(_doc(part)),
        outcome=outcome,
        figures=tuple(_renamed(figure, figure_names) for figure in figures),
        reading=reading,
        sources=tuple(getattr(part, "sources", ())),
        remarks=tuple(remarks),
        settings=plain.get("settings", {}),
    )


def _asked(part: Any, what: str, result: Result, instead: Any) -> Any:
    # A watcher has neither figures nor a reading, and need not.
    return getattr(part, what)(result) if hasattr(part, what) else instead


def _guarded(make: Callable[[], Made], instead: Made, what: str, remarks: list[Note]) -> Made:
    try:
        return make()
    except Exception as error:  # whatever a part's code does wrong, the other sections are still worth reading
        text = f"The {what} could not be made ({type(error).__name__}: {error})."
        remarks.append(Note(code=f"{what.split()[0]}_failed", text=text))
        return instead


def _drawable(figure: Figure, remarks: list[Note]) -> bool:
    name = getattr(figure, "name", "without a name")
    return _guarded(lambda: coerced(figure) is not None, False, f"figure {name}", remarks)


def _renamed(figure: Figure, taken: set[str]) -> Figure:
    name = prose.unique(figure.name, taken)
    return figure if name == figure.name else replace(figure, name=name)


def _doc(part: Any) -> str | None:
    # One file, one part: the module's docstring is the part's. A class defined elsewhere speaks for itself.
    cls = type(part)
    module = sys.modules.get(cls.__module__)
    if module is not None and prose.docstring(module.__doc__).labelled:
        return module.__doc__
    generated = (cls.__doc__ or "").startswith(f"{cls.__name__}(")  # by @dataclass
    return None if generated else cls.__doc__
