"""The Hessians of K networks, whose products are made together.

A product of one network's Hessian with a vector says nothing of the other networks, so the derivative of the sum of all
``gradient_k · vector_k`` holds all K products: one pass backwards through layers that are called once for all.

Measured on one thread, microseconds a product and network, together and one by one: see `docs/decisions/0006`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from vallis.core.errors import UsageError
from vallis.core.functional import differentiating, full_precision
from vallis.core.objective import Objective
from vallis.core.progress import bar, unseen
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.asking import Asking, Found, Question, answered_together
from vallis.numerics.at import objective_of
from vallis.numerics.curvature import Hessian
from vallis.numerics.derivatives import Tensors, pull
from vallis.numerics.graphs import Graphs
from vallis.numerics.operators import Operator
from vallis.numerics.population import JointTerm, Population, together

# On larger batches 32 networks together take as long as one by one (benchmark P2): 784-50-50-10 0.7 of it on 128, 0.9
# on 400; 64-32-32-10 0.3 on 128, 0.6 on 400.
_MOST_ROWS = 512
# Of the largest number of a product: how far rounding may take the product of a member from what it is alone.
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class _JointGraph:
    """The gradients of all members' losses of a batch as functions of their parameters."""

    leaves: Tensors
    gradients: Tensors


class Hessians:
    """The Hessians of K objectives, each an operator of its own, too.

    Those of networks that are alike (see `vallis.numerics.population.together`) are multiplied together; a product then
    differs from one made alone by rounding.

    Args:
        objectives: the loss surfaces, at their origins.
        budget: bytes that graphs may take, for each population; see `vallis.numerics.graphs.Graphs`.

    Attributes:
        num_joint: how many of them are multiplied together with others.
    """

    def __init__(self, objectives: Sequence[Objective], budget: int | None = None) -> None:
        self._alone: dict[int, Hessian] = {}
        self._joint: list[tuple[tuple[int, ...], _Joint]] = []
        for places, population in together(objectives, _MOST_ROWS):
            made = None if population is None else _Joint.of(population, budget)
            if made is None:
                self._alone |= {place: Hessian(objectives[place], budget=budget) for place in places}
            else:
                self._joint.append((places, made))
        self.num_joint = len(objectives) - len(self._alone)
        self._members = tuple(
            self._alone.get(place) or _Member(self, place, objective) for place, objective in enumerate(objectives)
        )

    @staticmethod
    def of(solutions: Sequence[Solution], split: str = "train", dtype: torch.dtype | None = None) -> Hessians:
        """The Hessians around solutions.

        Args:
            solutions: at least one.
            split: over whose examples.
            dtype: compute in this floating type; None keeps each model's own, half precision raised to float32.

        Raises:
            UsageError: there is none, or something else came.
            UnknownPart: a solution has no such split.
        """
        if not solutions or not all(isinstance(each, Solution) for each in solutions):
            raise UsageError(f"at least one solution was required, {solutions!r:.100} came: give a list of them")
        return Hessians([objective_of(each, split=split, dtype=dtype) for each in solutions])

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, place: int) -> Operator:
        """The Hessian of one network."""
        return self._members[place]

    def matvec(self, vectors: torch.Tensor) -> torch.Tensor:
        """``(K, P)`` the product of each Hessian with its own vector ``(K, P)``; `@` is the same.

        Raises:
            UsageError: the vectors have another shape, or the networks have different numbers of parameters.
        """
        sizes = {member.size for member in self._members}
        if len(sizes) > 1:
            raise UsageError(
                f"networks of one number of parameters were required, those of {sorted(sizes)} came: "
                "multiply each alone, hessians[k] @ vector"
            )
        if vectors.shape != (len(self), *sizes):
            raise UsageError(
                f"vectors of shape {(len(self), *sizes)} were required, {tuple(vectors.shape)} came: a row a network"
            )
        return torch.stack(self.answer([(member, row) for member, row in zip(self._members, vectors, strict=True)]))

    __matmul__ = matvec

    def answer(self, questions: Sequence[Question]) -> list[torch.Tensor]:
        """Products of operators with vectors, those of members of this together.

        Whoever of a population is not asked is multiplied with zeros, so that nobody's bits hang on who is.
        """
        asked = {
            place: number for number, (operator, _) in enumerate(questions) if (place := self._place(operator)) >= 0
        }
        found: dict[int, torch.Tensor] = {}
        for places, joint in self._joint:
            numbers = {row: asked[place] for row, place in enumerate(places) if place in asked}
            if numbers:
                products = joint.products({row: questions[number][1] for row, number in numbers.items()})
                found |= {number: products[row] for row, number in numbers.items()}
                for number in numbers.values():
                    questions[number][0].num_products += 1
        return [
            found[number] if number in found else operator.matvec(vector)
            for number, (operator, vector) in enumerate(questions)
        ]

    def clear(self) -> None:
        """Frees the graphs that are held."""
        for hessian in self._alone.values():
            hessian.clear()
        for _, joint in self._joint:
            joint.clear()

    def _place(self, operator: Operator) -> int:
        """Where among the members that are multiplied together, or -1."""
        return operator.place if isinstance(operator, _Member) and operator.company is self else -1

    def _alone_with(self, place: int, vector: torch.Tensor) -> torch.Tensor:
        places, joint = next(each for each in self._joint if place in each[0])
        return joint.products({places.index(place): vector})[places.index(place)]


def in_step(
    objectives: Sequence[Objective], ask: Callable[[int, Operator], Asking[Found]], label: str
) -> list[Found | None]:
    """What solvers find on the Hessians of several objectives that are multiplied together, all in step.

    Args:
        objectives: the loss surfaces.
        ask: makes the solver of one, from its place and its Hessian.
        label: of the progress.

    Returns:
        What each found; None for those that have to be looked at alone.
    """
    found: list[Found | None] = [None] * len(objectives)
    for places, population in together(objectives, _MOST_ROWS):
        hessians = None if population is None else Hessians([objectives[place] for place in places])
        if hessians is None or hessians.num_joint < len(places):
            continue
        with bar(label) as moving, unseen():

            def answer(
                questions: Sequence[Question], hessians: Hessians = hessians, moving: Any = moving
            ) -> list[torch.Tensor]:
                moving.update(len(questions))
                return hessians.answer(questions)

            solvers = [ask(place, hessians[row]) for row, place in enumerate(places)]
            for place, each in zip(places, answered_together(solvers, answer), strict=True):
                found[place] = each
        hessians.clear()
    return found


class _Member(Operator):
    """One of several Hessians that are multiplied together."""

    def __init__(self, company: Hessians, place: int, objective: Objective) -> None:
        super().__init__(objective.num_parameters, objective.dtype, torch.device(objective.device))
        self.company, self.place = company, place

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return self.company._alone_with(self.place, vector)


class _Joint:
    """The Hessians of a population."""

    def __init__(self, population: Population, budget: int | None) -> None:
        self._population = population
        self._graphs = Graphs(population, partial(_graph, population), budget)

    @staticmethod
    def of(population: Population, budget: int | None) -> _Joint | None:
        """None where a product of the first member is another than alone, or cannot be made."""
        made, first = _Joint(population, budget), population.members[0]
        drawn = torch.randn(first.num_parameters, generator=Rng(0).child("joint").torch(), dtype=torch.float64)
        vector = drawn.to(first.origin[0])
        alone = Hessian(first, budget=0).matvec(vector)  # what it raises is to be said
        try:
            found = made.products({0: vector})[0]
        except Exception:  # some layer or loss knows no such derivative for several at once
            return None
        largest = float(alone.double().abs().max()) if alone.isfinite().all() else 0.0
        near = torch.allclose(found.double(), alone.double(), rtol=0.0, atol=_ROUNDING * largest, equal_nan=True)
        return made if near else None

    def products(self, vectors: dict[int, torch.Tensor]) -> torch.Tensor:
        """``(K, P)`` the products of the members with these vectors, of the others with zeros."""
        population = self._population
        nothing = torch.zeros_like(next(iter(vectors.values())))
        rows = torch.stack([vectors.get(row, nothing) for row in range(len(population))])
        parts, total = population.point(rows.detach()), None
        with full_precision():
            for share, found in self._graphs.map(lambda graph: pull(graph.gradients, graph.leaves, parts)):
                part = population.vectors(found).mul_(share.to(rows)[:, None])
                total = part if total is None else total.add_(part)
        assert total is not None  # an objective without a batch has no mean
        return total

    def clear(self) -> None:
        """Frees the graphs."""
        self._graphs.clear()


def _graph(population: Population, term: JointTerm) -> _JointGraph:
    with differentiating():
        leaves = tuple(value.detach().requires_grad_() for value in population.origin)
        losses = term.losses(leaves)  # each hangs on its own parameters alone
        return _JointGraph(leaves, pull((losses,), leaves, (torch.ones_like(losses),), differentiable=True))
