"""Words that readings and notes of several measurements share: counts with their nouns, lists, names of layers."""

from __future__ import annotations

from collections.abc import Sequence

from vallis.core.numbers import count

# In tables and figures: a module whose own parameters are a layer has no name of its own.
ROOT = "(root module)"


def counted(number: int, noun: str) -> str:
    """``1 layer``, ``1,000 layers``."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str], most: int | None = None) -> str:
    """``a, b and c``; beyond the most, ``a, b and 3 more``."""
    shown = list(words)
    if most is not None and len(shown) > most:
        shown = [*shown[:most], f"{count(len(shown) - most)} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def shown_name(layer: str) -> str:
    """What a layer is called in tables and figures."""
    return layer or ROOT


def spoken_name(shown: str) -> str:
    """What the layer of this name in a table is called in a sentence."""
    return "the root module" if shown == ROOT else f"layer {shown}"
