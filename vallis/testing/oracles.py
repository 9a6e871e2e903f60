"""Dense answers to what is otherwise estimated: slow, in float64, and made of plain autograd alone.

Nothing here is shared with the numerics that it is to check.
"""

from __future__ import annotations

import torch

from vallis.core import tree
from vallis.core.functional import arguments, twice_differentiable
from vallis.core.types import Solution


def dense_loss(solution: Solution, vector: torch.Tensor, split: str = "train") -> torch.Tensor:
    """The mean loss over a split, as a scalar that can be differentiated, with all weights in one float64 vector.

    Args:
        solution: whose net, buffers and task.
        vector: ``(P,)`` the trainable parameters in the order of ``solution.params``.
        split: over which examples.
    """
    values, place = {}, 0
    for name, like in solution.params.items():
        values[name] = vector[place : place + like.numel()].view(like.shape)
        place += like.numel()
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in solution.buffers.items()}
    module, loss = solution.net.module, solution.task.loss
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    with twice_differentiable(module):
        for batch in solution.task.splits[split]:
            x, y = tree.to(batch.x, dtype=torch.float64), tree.to(batch.y, dtype=torch.float64)
            args, kwargs = arguments(module, x)
            outputs = torch.func.functional_call(module, {**values, **buffers}, args, kwargs)
            counted = loss.weight(y)
            if counted > 0:
                total = total + counted * loss.mean(outputs, y)
                weight += counted
    return total / weight


def dense_vector(solution: Solution) -> torch.Tensor:
    """``(P,)`` float64, the weights of a solution."""
    return torch.cat([value.detach().double().reshape(-1) for value in solution.params.values()])


def dense_gradient(solution: Solution, split: str = "train") -> torch.Tensor:
    """``(P,)`` float64, the gradient of the mean loss at the solution."""
    at = dense_vector(solution).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(dense_loss(solution, at, split), at)
    return slope


def dense_hessian(solution: Solution, split: str = "train") -> torch.Tensor:
    """``(P, P)`` float64, the Hessian of the mean loss at the solution, row by row."""
    at = dense_vector(solution).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(dense_loss(solution, at, split), at, create_graph=True)
        if not slope.requires_grad:  # the loss is linear in the weights
            return torch.zeros(len(at), len(at), dtype=torch.float64)
        rows = [
            torch.autograd.grad(entry, at, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            for entry in slope
        ]
    return torch.stack(rows)
