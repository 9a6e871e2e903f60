"""The Hessians of K networks, whose products are made together.

A product of one network's Hessian with a vector says nothing of the other networks, so the derivative of the sum of all
``gradient_k · vector_k`` holds all K products: one pass backwards through layers that are called once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

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
        members: dict[int, Hessian | _Member] = {}
        for places, population in together(objectives, _MOST_ROWS):
            joint = None if population is None else _Joint.of(population, budget)
            for row, place in enumerate(places):
                members[place] = Hessian(objectives[place], budget=budget) if joint is None else _Member(joint, row)
        self._members = tuple(members[place] for place in range(len(objectives)))
        self.num_joint = sum(isinstance(member, _Member) for member in self._members)

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
        if not isinstance(vectors, torch.Tensor) or vectors.is_complex() or vectors.shape != (len(self), *sizes):
            came = f"{vectors.dtype} {tuple(vectors.shape)}" if isinstance(vectors, torch.Tensor) else type(vectors)
            raise UsageError(f"real vectors of shape {(len(self), *sizes)} were required, {came} came: a row a network")
        return torch.stack(self.answer(list(zip(self._members, vectors, strict=True))))

    __matmul__ = matvec

    @staticmethod
    def answer(questions: Sequence[Question]) -> list[torch.Tensor]:
        """Products of operators with vectors, those of members of a population together.

        Whoever of a population is not asked is multiplied with zeros, so that nobody's bits hang on who is.
        """
        asked: dict[_Joint, dict[int, int]] = {}
        for number, (operator, _) in enumerate(questions):
            if isinstance(operator, _Member):
                asked.setdefault(operator.joint, {})[operator.row] = number
        found: dict[int, torch.Tensor] = {}
        for joint, numbers in asked.items():
            products = joint.products({row: questions[number][1] for row, number in numbers.items()})
            for row, number in numbers.items():
                found[number] = products[row]
                questions[number][0].num_products += 1
        return [
            found[number] if number in found else operator.matvec(vector)
            for number, (operator, vector) in enumerate(questions)
        ]

    def clear(self) -> None:
        """Frees the graphs that are held."""
        for member in self._members:
            member.clear()


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
        joint = None if population is None else _Joint.of(population)
        if joint is None:
            continue
        with bar(label) as moving, unseen():

            def answer(questions: Sequence[Question], moving: Any = moving) -> list[torch.Tensor]:
                moving.update(len(questions))
                return Hessians.answer(questions)

            solvers = [ask(place, _Member(joint, row)) for row, place in enumerate(places)]
            for place, each in zip(places, answered_together(solvers, answer), strict=True):
                found[place] = each
        joint.clear()
    return found


class _Member(Operator):
    """One of several Hessians that are multiplied together."""

    def __init__(self, joint: _Joint, row: int) -> None:
        super().__init__(joint.population.num_parameters, joint.population.dtype, torch.device(joint.population.device))
        self.joint, self.row = joint, row

    def clear(self) -> None:
        """Frees the graphs, which are those of all."""
        self.joint.clear()

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return self.joint.products({self.row: vector})[self.row]


class _Joint:
    """The Hessians of a population."""

    def __init__(self, population: Population, budget: int | None) -> None:
        self.population = population
        self._graphs = Graphs(population, partial(_graph, population), budget)

    @staticmethod
    def of(population: Population, budget: int | None = None) -> _Joint | None:
        """None where products of members are others than alone, or cannot be made."""
        if _forgets_padding(population):
            return None
        made = _Joint(population, budget)
        drawn = torch.randn(population.num_parameters, generator=Rng(0).child("joint").torch(), dtype=torch.float64)
        try:
            found = made.products(dict.fromkeys(population.witnesses, drawn))
            right = all(_is_near(found[row], population.members[row], drawn) for row in population.witnesses)
        except Exception:  # some layer or loss knows no such derivative, which is said when it is asked alone
            return None
        return made if right else None

    def products(self, vectors: dict[int, torch.Tensor]) -> torch.Tensor:
        """``(K, P)`` the products of the members with these vectors, of the others with zeros."""
        population = self.population
        nothing = torch.zeros_like(next(iter(vectors.values())))
        rows = torch.stack([vectors.get(row, nothing) for row in range(len(population))])
        rows = rows.detach().to(device=population.device, dtype=population.dtype)  # as `matvec` does of one
        parts, total = population.point(rows), None
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


def _is_near(found: torch.Tensor, member: Objective, vector: torch.Tensor) -> bool:
    """Whether a product is what it is alone, up to rounding beside its largest number."""
    alone = Hessian(member, budget=0).matvec(vector)
    largest = float(alone.double().abs().max()) if alone.isfinite().all() else 0.0
    far = torch.finfo(alone.dtype).eps ** 0.5 * largest
    return torch.allclose(found.double(), alone.double(), rtol=0.0, atol=far, equal_nan=True)


def _forgets_padding(population: Population) -> bool:
    """Whether the derivative by an embedding may lack that the row of its padding stands still.

    `torch.func.vmap` remembers it of the first member alone, where each has tokens of its own.
    """
    parts = population.members[0].module.modules()
    padded = any(isinstance(part, nn.Embedding) and part.padding_idx is not None for part in parts)
    return padded and any(term.has_own_x for term in population.terms())
