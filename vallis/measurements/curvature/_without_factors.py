"""What is said of the layers that have no Kronecker factors."""

from __future__ import annotations

from collections.abc import Mapping

from vallis.core.types import Note
from vallis.measurements.curvature._words import listed

_NAMED = 3  # layers of one reason, and reasons


def without_factors(reasons: Mapping[str, str], num_layers: int) -> tuple[Note, ...]:
    """A note that says which of the layers have no factors, and why; none where all have some.

    Args:
        reasons: why, as half a sentence, by the name of the layer.
        num_layers: how many layers were looked at.
    """
    if not reasons:
        return ()
    by_reason: dict[str, list[str]] = {}
    for name, why in reasons.items():
        by_reason.setdefault(why, []).append(name or "the network")
    if len(by_reason) == 1 and len(reasons) == num_layers:
        text = f"No layer has Kronecker factors, because {next(iter(by_reason))}."
    else:
        named = [f"{listed(names, _NAMED)} ({why})" for why, names in by_reason.items()]
        have = "has" if len(reasons) == 1 else "have"
        text = f"{len(reasons)} of {num_layers} layers {have} no Kronecker factors: {'; '.join(named)}."
    return (Note(code="no_kronecker_form", text=text),)
