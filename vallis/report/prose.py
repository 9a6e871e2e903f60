"""Words for the page: titles from names, the labelled lines of a docstring, units, sources."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vallis.core.spelling import in_words, spelled
from vallis.core.types import Source

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LABEL = re.compile(r"^(Definition|Unit|Source|Cost|Says little when):[ \t]*", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Docstring:
    """A part's docstring taken apart: the first line, and the text of each labelled line (by its label)."""

    summary: str = ""
    labelled: Mapping[str, str] = field(default_factory=dict)


def docstring(text: str | None) -> Docstring:
    """Takes a docstring apart; a labelled text goes on to the next label or the next empty line."""
    if not text or not text.strip():
        return Docstring()
    head, *rest = _LABEL.split(inspect.cleandoc(text))
    labelled = {label: _one_line(body) for label, body in zip(rest[::2], rest[1::2], strict=True)}
    return Docstring(summary=_one_line(head), labelled=labelled)


def title(name: str) -> str:
    """``ntk_spectrum`` -> ``NTK spectrum``; of ``module:Class`` the class, its words apart."""
    last = name.rpartition(":")[2].rpartition(".")[2]
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", last).replace("_", " ").split()
    # A word with capitals of its own inside (ResNet) is left as it is.
    text = spelled(" ".join(word.lower() if word[1:].islower() else word for word in words)) or name
    return text[:1].upper() + text[1:]


def words(key: str) -> str:
    """A value's key as it is read: ``top_eigenvalue`` -> ``top eigenvalue``, ``num_steps`` -> ``number of steps``."""
    said = in_words(key)
    return f"number of {said[4:]}" if said.startswith("num ") else said


def setting(value: Any) -> str:
    """A setting in few words: a part by its name and its settings, a list by its items; what is empty is seen to be."""
    if value in ("", [], ()):
        return '""' if value == "" else "()"
    if isinstance(value, Mapping):
        if "name" in value and "settings" in value:
            inner = ", ".join(f"{key}={setting(held)}" for key, held in value["settings"].items())
            return f"{value['name']}({inner})"
        return ", ".join(f"{key}={setting(held)}" for key, held in value.items())
    if isinstance(value, (list, tuple)):
        return (
            "×".join(map(str, value))
            if value and all(isinstance(v, int) for v in value)
            else ", ".join(map(setting, value))
        )
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)


def sentence(text: str) -> str:
    """The text with a capital at its start, unless what stands there is code."""
    first = text.split(" ", 1)[0]
    is_code = (len(first) == 1 and first != "a") or re.search(r"[_(^=0-9]", first) is not None
    return text if is_code else text[:1].upper() + text[1:]


def label(text: str, most: int = 72) -> str:
    """A label as a figure shows it: powers raised (``weight^2``), cut where it would push the figure aside."""
    text = raised(text)
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def lines(text: str, width: int = 44) -> list[str]:
    """A label in one line, or in two of like length where it is too long to stand beside a small figure."""
    text = label(text, max(72, width * 8 // 5))
    width = width if len(text) <= width else min(width, len(text) // 2 + 6)
    return textwrap.wrap(text, width, max_lines=2, placeholder="…") or [""]


def raised(text: str) -> str:
    """``weight^2`` -> ``weight²``."""
    return re.sub(r"\^(-?\d+)", lambda power: power[1].translate(_RAISED), text)


def source(paper: Source) -> str:
    """Authors and year, as they are quoted before the title."""
    return f"{paper.authors} ({paper.year})" if paper.authors else str(paper.year)


def safe_link(url: str) -> str:
    """The address if a browser may follow it (http or https), else nothing: a ``javascript:`` link runs code."""
    return url if re.match(r"https?://[^\s]+$", url) else ""


def slug(name: str) -> str:
    """The name as the name of a file, on any system and never outside its folder."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")
    return kept[:60] or "unnamed"  # three of them and a suffix still fit into a name of 255


def unique(name: str, taken: set[str]) -> str:
    """The name, with -2, -3 ... behind it when it is taken; it is taken from then on."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(candidate)
    return candidate


def _one_line(text: str) -> str:
    return " ".join(text.strip().split("\n\n")[0].split())
