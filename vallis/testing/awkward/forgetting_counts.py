"""A measurement that watches training: how often each example was right and then wrong again.

Definition: the number of times an example was classified wrongly right after it had been classified rightly, counting
its own presentations; never learned is not forgotten, and is counted apart.
Unit: a count; a share of examples.
Source: Toneva et al. 2019, An empirical study of example forgetting, section 3.
Cost: nothing beyond training.
Says little when: training is short, because one epoch can forget nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Source, StepInfo, Task


@dataclass(frozen=True, kw_only=True)
class ForgettingCounts:
    """Forgetting events of each training example."""

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "training"
    needs: ClassVar[frozenset[str]] = frozenset()
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="An empirical study of example forgetting during deep neural network learning",
            authors="M. Toneva, A. Sordoni, R. Tachet des Combes, A. Trischler, Y. Bengio, G. Gordon",
            year=2019,
        ),
    )

    def begin(self, tasks: tuple[Task, ...]) -> dict[str, Any]:
        index = torch.cat([batch.index for task in tasks for batch in task.splits["train"]]).sort().values
        return {
            "index": index,
            "right": torch.zeros(len(index), dtype=torch.bool),
            "learned": torch.zeros(len(index), dtype=torch.bool),
            "forgotten": torch.zeros(len(index), dtype=torch.int64),
            "watched": 0,
        }

    def watch(self, memory: dict[str, Any], info: StepInfo) -> None:
        if info.index is None or info.correct is None:
            return
        rows = torch.searchsorted(memory["index"], info.index.cpu())
        right = info.correct.cpu()
        memory["forgotten"][rows] += (memory["right"][rows] & ~right).long()
        memory["right"][rows] = right
        memory["learned"][rows] |= right
        memory["watched"] += len(rows)

    def conclude(self, memory: Mapping[str, Any]) -> Outcome:
        if not memory["watched"]:
            note = Note(code="nothing_classified", text="The training told of no example whether it was right.")
            return NotApplicable(note=note)
        counts = memory["forgotten"].double()
        coords = {"example": memory["index"].double().numpy()}
        values: dict[str, Estimate | Array] = {"counts": Array(data=counts.numpy(), dims=("example",), coords=coords)}
        shares = {"forgotten_fraction": counts > 0, "never_learned_fraction": ~memory["learned"]}
        for name, chosen in shares.items():
            share, size = float(chosen.double().mean()), len(counts)
            error = (share * (1 - share) / size) ** 0.5
            values[name] = Estimate(value=share, stderr=error, n=size, method="binomial over examples")
        return Result(values=values)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        times, examples = np.unique(result.array("counts").data, return_counts=True)
        figure = Figure(
            name="forgetting_counts",
            title="How often examples are forgotten",
            x=Axis(label="forgetting events"),
            y=Axis(label="examples"),
            marks=(Mark(kind="bar", x=times, y=examples.astype(float)),),
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        forgotten, never = (result.estimate(f"{name}_fraction") for name in ("forgotten", "never_learned"))
        return (
            f"A share of {quantity(forgotten)} of the training examples was learned and forgotten again at least once; "
            f"{quantity(never)} was never learned."
        )
