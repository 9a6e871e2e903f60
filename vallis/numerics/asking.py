"""Solvers that ask for products instead of making them, so that many can be answered at once.

A solver is a generator: it yields an operator and a vector, is sent their product, and returns what it found. Run by
itself, it is answered one product after the other. Several solvers, each on a network of its own, go in step: what all
of them ask is collected and answered together, and whoever is done leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import torch

from vallis.numerics.operators import Operator

Found = TypeVar("Found")
Question = tuple[Operator, torch.Tensor]
Asking = Generator[Question, torch.Tensor, Found]


def answered(asking: Asking[Found]) -> Found:
    """What a solver finds when it is answered by each operator alone."""
    return answered_together([asking], lambda asked: [operator.matvec(vector) for operator, vector in asked])[0]


def answered_together(
    solvers: Sequence[Asking[Found]], answer: Callable[[Sequence[Question]], Sequence[torch.Tensor]]
) -> list[Found]:
    """What several solvers find when they go in step.

    Args:
        solvers: they may end after different numbers of products.
        answer: makes the products that all of those ask for that are not done, in their order.

    Raises:
        Exception: what the first solver raises that fails, or the answer to it; the others are then closed.
    """
    found: dict[int, Found] = {}
    try:
        waiting = {
            place: question for place, solver in enumerate(solvers) if (question := _next(solver, None, found, place))
        }
        while waiting:
            products = answer(list(waiting.values()))
            for place, product in zip(list(waiting), products, strict=True):
                question = _next(solvers[place], product, found, place)
                if question is None:
                    del waiting[place]
                else:
                    waiting[place] = question
    finally:
        for solver in solvers:  # whoever has not ended would leave its bar on the terminal
            solver.close()
    return [found[place] for place in range(len(solvers))]


def matrix_of(operator: Operator) -> Asking[torch.Tensor]:
    """``(P, P)`` the matrix; an operator that has none at hand is asked for P products."""
    if type(operator).dense is not Operator.dense:
        return operator.dense()
    columns = torch.empty(operator.shape, dtype=operator.dtype, device=operator.device)
    for place in range(operator.size):
        unit = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
        unit[place] = 1
        columns[:, place] = yield operator, unit
    return columns


def _next(solver: Asking[Found], product: torch.Tensor | None, found: dict[int, Found], place: int) -> Question | None:
    """What it asks next; None once it has found its answer, which is put down."""
    try:
        return next(solver) if product is None else solver.send(product)
    except StopIteration as end:
        found[place] = end.value
        return None
