"""Fisher matrices as they are defined: gradients of single targets written out in float64, and summed up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from vallis.core import tree
from vallis.core.functional import arguments, twice_differentiable
from vallis.core.types import Solution

Target = tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]  # scores (C,), Jacobian (C, P), target, example


def targets(solution: Solution, ignored: int = -100) -> Iterator[Target]:
    """Every counted target; those of a regression or of single logits one by one, with C = 1."""
    shapes = {name: value.shape for name, value in solution.params.items()}
    flat = torch.cat([value.double().reshape(-1) for value in solution.params.values()])
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in solution.buffers.items()}
    loss = solution.task.loss
    for batch in solution.task.splits["train"]:
        x, y = tree.to(batch.x, dtype=torch.float64), tree.to(batch.y, dtype=torch.float64)

        def scores(vector: torch.Tensor, x: Any = x) -> torch.Tensor:
            parts = vector.split([shape.numel() for shape in shapes.values()])
            point = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
            args, kwargs = arguments(solution.net.module, x)
            with twice_differentiable(solution.net.module):
                returned = torch.func.functional_call(solution.net.module, {**point, **buffers}, args, kwargs)
            found = loss.scores(returned)
            assert found is not None
            return found.movedim(1, -1) if loss.kind == "categorical" else found.unsqueeze(-1)

        at = scores(flat).detach()
        jacobian = torch.autograd.functional.jacobian(scores, flat).reshape(-1, at.shape[-1], len(flat))
        example = batch.index.repeat_interleave(len(jacobian) // len(batch))
        for z, J, t, n in zip(at.reshape(-1, at.shape[-1]), jacobian, y.reshape(-1), example, strict=True):
            if loss.kind != "categorical" or int(t) != ignored:
                yield z, J, t, int(n)


def slope(loss: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    at = z.detach().requires_grad_()
    return torch.autograd.grad(loss(at), at)[0]


def outcomes(kind: str, z: torch.Tensor) -> list[tuple[float, torch.Tensor]]:
    """Probability and slope of ``-log p`` of every target that the network holds possible.

    A normal distribution of variance 1/2 is replaced by two points that have its mean and its variance.
    """
    if kind == "categorical":
        p = z.softmax(0)
        return [(float(p[c]), slope(lambda s, c=c: -s.log_softmax(0)[c], z)) for c in range(len(z))]
    if kind == "binary":
        p = z.sigmoid()
        chances = [(1 - float(p), 0.0), (float(p), 1.0)]
        return [
            (q, slope(lambda s, y=y: -(y * F.logsigmoid(s) + (1 - y) * F.logsigmoid(-s)).sum(), z)) for q, y in chances
        ]
    return [(0.5, slope(lambda s, d=d: ((s - z - d) ** 2).sum(), z)) for d in (-(0.5**0.5), 0.5**0.5)]


def dense_fisher(solution: Solution) -> torch.Tensor:
    """``mean_u sum_y p(y) g_uy g_uy'``."""
    found = []
    for z, J, _, _ in targets(solution):
        gradients = [(p, J.T @ s) for p, s in outcomes(solution.task.loss.kind, z)]
        found.append(sum(p * torch.outer(g, g) for p, g in gradients))
    return torch.stack(found).mean(0)  # type: ignore[arg-type]


def single_gradients(
    solution: Solution, single: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(U, P)`` the gradient of the loss `single` of every counted target, and ``(U,)`` its example."""
    found = [(J.T @ slope(lambda s, t=t: single(s, t), z), n) for z, J, t, n in targets(solution)]
    return torch.stack([g for g, _ in found]), torch.tensor([n for _, n in found])
