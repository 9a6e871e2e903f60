"""A measurement of a whole path: how the tangent kernel turns towards the labels as a network learns.

Definition: the cosine between the centred empirical tangent kernel, summed over outputs, and the centred kernel of the
one-hot labels.
Unit: a pure number between -1 and 1.
Source: Cortes et al. 2012, Algorithms for learning kernels based on centered alignment, eq. 4.
Cost: as many gradients as there are examples times classes, at every snapshot.
Says little when: the examples are few or of one class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.functional import call
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source


@dataclass(frozen=True, kw_only=True)
class KernelAlignment:
    """Alignment of the tangent kernel with the labels at each snapshot of a path.

    Attributes:
        num_examples: how many of the training examples, from the first on.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "trajectory"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = ()

    num_examples: int = 24

    def measure(self, subject: Sequence[Solution], rng: Rng) -> Outcome:
        if any(solution.task.loss.kind != "categorical" for solution in subject):
            text = "There are no classes, so there is no kernel of labels."
            return NotApplicable(note=Note(code="not_classification", text=text))
        path = [solution for solution in subject if solution.stage == subject[-1].stage]
        found = torch.tensor([self._alignment(solution) for solution in path], dtype=torch.float64)
        steps = torch.tensor([solution.step for solution in path], dtype=torch.float64)
        along = Array(data=found.numpy(), dims=("snapshot",), coords={"snapshot": steps.numpy()})
        last = Estimate(value=float(found[-1]), stderr=0.0, n=self.num_examples, method="exact on these examples")
        return Result(values={"alignment": along, "last": last})

    def figures(self, result: Result) -> tuple[Figure, ...]:
        path = result.array("alignment")
        line = Mark(kind="line", x=path.coords["snapshot"], y=path.data)
        axes = Axis(label="step"), Axis(label="alignment")
        return (Figure(name="kernel_alignment", title="Kernel and labels", x=axes[0], y=axes[1], marks=(line,)),)

    def reading(self, result: Result) -> str:
        path = result.array("alignment").data
        return f"The kernel's alignment with the labels went from {path[0]:.2f} to {path[-1]:.2f}."

    def _alignment(self, solution: Solution) -> float:
        batch = solution.task.splits["train"].take(torch.arange(self.num_examples))
        module, buffers = solution.net.module, solution.buffers

        def outputs(params: Mapping[str, torch.Tensor]) -> torch.Tensor:
            found: torch.Tensor = call(module, params, buffers, batch.x)
            return found

        slopes = torch.func.jacrev(outputs)(dict(solution.params)).values()
        rows = torch.cat([slope.double().flatten(2) for slope in slopes], dim=2)
        kernel = torch.einsum("icp,jcp->ij", rows, rows)
        labels = F.one_hot(batch.y).double()
        return _cosine(_centred(kernel), _centred(labels @ labels.T))


def _centred(kernel: torch.Tensor) -> torch.Tensor:
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))
