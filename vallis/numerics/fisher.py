"""Fisher matrices of an objective as operators: exact, with drawn targets, and the empirical one.

All are ``mean_u J_u' A_u J_u`` over the counted targets u (examples, or tokens), with J the derivative of the scores z
by the parameters. They differ in A alone, the mean of ``s s'`` over slopes s of ``-log p(y | z)`` by the scores of one
target. A product is one ``J v``, one product with the A of all targets at once, and one ``J' u``; no gradient of a
single example is ever made.

Squared error is read as a normal distribution with variance 1/2, of which ``(z - y)²`` is the negative log-likelihood
up to a constant; each element of the targets is a target. So for cross-entropy and squared error alike the exact Fisher
matrix is the Gauss-Newton matrix, without a factor. With unit variance it would be half of that.

A target of class weight w counts w times. Label smoothing changes the slopes at the true targets (the empirical matrix)
and not what the network says of them (the exact matrix and the drawn one).

Source: Kunstner, Balles and Hennig (2019), Limitations of the empirical Fisher approximation; Amari (1998).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from vallis.core import tree
from vallis.core.errors import LossError, SettingsError
from vallis.core.functional import differentiating
from vallis.core.likelihood import (
    described,
    has_class_weights,
    likelihood_of,
    mean_of_scores,
    needed_likelihood,
    uniforms,
)
from vallis.core.objective import Objective, Term
from vallis.core.own_loss import OwnLoss
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.curvature import Curvature
from vallis.numerics.cut import Forward, Linear
from vallis.numerics.derivatives import Tensors, pull

Bend = Callable[[Tensors], Tensors]
Per = Literal["target", "example"]


@dataclass(frozen=True, eq=False)
class FisherGraph:
    """A batch's network as a linear map, and A: what becomes of directions in its outputs."""

    network: Linear
    bend: Bend


class _Fisher(Curvature[FisherGraph]):
    """``mean_u J_u' A_u J_u``; what A is, the builder says."""

    def _times(self, graph: FisherGraph, parts: Tensors) -> Tensors:
        return graph.network.back(graph.bend(graph.network.forward(parts)))


class Fisher(_Fisher):
    """The Fisher matrix ``(P, P)``: A is the mean of ``s s'`` over the targets that the network itself expects.

    It needs targets only to see which count. Also called type 2 or true Fisher.

    Raises:
        LossError: the loss is not known to be a log-likelihood.
    """

    def __init__(self, objective: Objective, only: Sequence[str] = (), budget: int | None = None) -> None:
        needed_likelihood(objective.loss)
        super().__init__(objective, only, budget)

    def _builder(self, chosen: tuple[bool, ...]) -> Callable[[Term], FisherGraph]:
        return partial(_likely_graph, chosen=chosen, draw=None)


class SampledFisher(_Fisher):
    """An unbiased estimate of the Fisher matrix: A is the mean of ``s s'`` over a few targets that are drawn.

    Drawn once, from a stream for each example (`Batch.index`), targets are the same at every product, however the
    examples are batched or shared out. Neither time nor memory of a product grows with their number.

    Args:
        objective: the loss surface, at its origin.
        rng: where targets are drawn from.
        num_draws: how many for each counted target.
        only: see `Curvature`.
        budget: see `Curvature`.

    Raises:
        LossError: the loss is not known to be a log-likelihood; or (at the first product) the scores do not have one
            row an example.
        SettingsError: not even one draw is asked for.
    """

    def __init__(
        self,
        objective: Objective,
        rng: Rng,
        num_draws: int = 1,
        only: Sequence[str] = (),
        budget: int | None = None,
    ) -> None:
        must_be_rng(rng)
        if num_draws < 1:
            raise SettingsError(f"at least one draw was required, num_draws={num_draws} came: raise it")
        needed_likelihood(objective.loss)
        self.num_draws = num_draws
        self._rng = rng
        super().__init__(objective, only, budget)

    def _builder(self, chosen: tuple[bool, ...]) -> Callable[[Term], FisherGraph]:
        return partial(_likely_graph, chosen=chosen, draw=partial(_drawn, rng=self._rng, num_draws=self.num_draws))


class EmpiricalFisher(_Fisher):
    """The mean of ``g g'`` over the gradients g of single losses at the true targets, ``(P, P)``.

    Args:
        objective: the loss surface, at its origin.
        per: what has a gradient. "target" is what the mean loss counts: an example, a token that counts, an element of
            a regression's targets. "example" adds up the losses of an example's targets first, a sequence's for
            instance; it is divided by the number of counted targets all the same, so that where targets are
            independent given the inputs, as the loss takes them to be, both estimate the same matrix. An example is
            an index of the first axis of what the network returns. With class weights an example must be one target.
        only: see `Curvature`.
        budget: see `Curvature`.

    Raises:
        LossError: (at the first product) the loss cannot be taken apart so.
        SettingsError: `per` is neither.
    """

    def __init__(
        self,
        objective: Objective,
        per: Per = "target",
        only: Sequence[str] = (),
        budget: int | None = None,
    ) -> None:
        if per not in ("target", "example"):
            raise SettingsError(f'per="target" or per="example" was required, {per!r} came: choose one')
        self.per = per
        super().__init__(objective, only, budget)

    def _builder(self, chosen: tuple[bool, ...]) -> Callable[[Term], FisherGraph]:
        return partial(_empirical_graph, chosen=chosen, per=self.per)


def _likely_graph(term: Term, chosen: tuple[bool, ...], draw: Any) -> FisherGraph:
    network, scores = _scored(term, chosen)
    likelihood, at = needed_likelihood(term.objective.loss), scores.detach()
    with torch.no_grad():
        found = likelihood.expected(at) if draw is None else draw(likelihood, at, term.batch.index)
        shares = likelihood.shares(at, term.batch.y)
    return FisherGraph(
        Linear.of(network.leaves, (scores,)), lambda ahead: (shares * likelihood.bend(at, found, ahead[0]),)
    )


def _drawn(likelihood: Any, scores: torch.Tensor, index: torch.Tensor, rng: Rng, num_draws: int) -> torch.Tensor:
    """The mean over draws of what `Likelihood.bend` needs of them."""
    if len(scores) != len(index):
        raise LossError(
            f"scores with one row for each of {len(index)} examples were required for drawn targets, "
            f"{tuple(scores.shape)} came: put the examples on the first axis, or use Fisher, which draws none"
        )
    rows = [rng.child("targets", example).torch() for example in index.tolist()]
    total = torch.zeros_like(scores)
    # An example's numbers for all draws at once: a call for each example and draw takes longer than all the rest.
    numbers = uniforms(rows, torch.Size((num_draws, *likelihood.targets_shape(scores))))
    for draw in numbers.unbind(1):
        total += likelihood.drawn(scores, draw)
    return total / num_draws


def _empirical_graph(term: Term, chosen: tuple[bool, ...], per: Per) -> FisherGraph:
    loss = term.objective.loss
    likelihood, is_weighted = likelihood_of(loss), has_class_weights(loss)
    # Where an example is one target they are the same, and only targets know what to make of a class weight.
    if likelihood is not None and (per == "target" or (is_weighted and term.batch.y.ndim == 1)):
        return _graph_of_targets(term, chosen)
    if is_weighted:
        advice = "leave one of both" if likelihood is None else 'say per="target"'
        raise LossError(
            "a loss without class weights was required for gradients of examples with several targets, or with label "
            f"smoothing, {described(loss)} came: {advice}"
        )
    if per == "target" and not (isinstance(loss, OwnLoss) and loss.count is None):
        raise LossError(
            f"a loss whose single targets are known was required, {described(loss)} came: "
            'say per="example", which takes apart any mean over examples'
        )
    return _graph_of_examples(term, chosen)


def _graph_of_targets(term: Term, chosen: tuple[bool, ...]) -> FisherGraph:
    """With s the slopes of single targets: ``A f = share s (s · f)``; the mean's own slope is ``share s``."""
    network, scores = _scored(term, chosen)
    likelihood, loss = needed_likelihood(term.objective.loss), term.objective.loss
    shares = likelihood.shares(scores.detach(), term.batch.y)
    with differentiating():
        free = scores.detach().requires_grad_()
        mean = mean_of_scores(loss, free, term.batch.y)
        weighted = pull((mean,), (free,), (torch.ones_like(mean),))[0]
    slopes = torch.where(shares > 0, weighted / shares, 0.0)
    if likelihood.family != "categorical":
        return FisherGraph(Linear.of(network.leaves, (scores,)), lambda ahead: (shares * slopes**2 * ahead[0],))
    return FisherGraph(
        Linear.of(network.leaves, (scores,)),
        lambda ahead: (shares * slopes * (slopes * ahead[0]).sum(1, keepdim=True),),
    )


def _graph_of_examples(term: Term, chosen: tuple[bool, ...]) -> FisherGraph:
    """With s the mean's slope by an example's outputs, its summed loss has the slope W s: ``A f = W s (s · f)``."""
    network = Forward.of(term, chosen, twice=False)
    slopes, weight, size = network.slopes(term), term.objective.loss.weight(term.batch.y), len(term.batch)
    used = [place for place, slope in enumerate(slopes) if bool((slope != 0).any())]
    if any(slopes[place].shape[:1] != (size,) for place in used):
        came = ", ".join(str(tuple(slopes[place].shape)) for place in used)
        raise LossError(
            f"outputs with one row an example, {size} of them, were required for gradients of single examples, "
            f"{came} came: let the network return examples along the first axis"
        )
    outputs, kept = (tuple(held[place] for place in used) for held in (network.live, slopes))

    def bend(ahead: Tensors) -> Tensors:
        along = sum((_rows(slope * one) for slope, one in zip(kept, ahead, strict=True)), torch.zeros(()))
        return tuple(weight * slope * along.view(-1, *[1] * (slope.ndim - 1)) for slope in kept)

    return FisherGraph(Linear.of(network.leaves, outputs), bend)


def _rows(held: torch.Tensor) -> torch.Tensor:
    return held.reshape(len(held), -1).sum(1)


def _scored(term: Term, chosen: tuple[bool, ...]) -> tuple[Forward, torch.Tensor]:
    """The network and the scores that the loss judges."""
    with differentiating():
        network = Forward.of(term, chosen, twice=False)
        scores = term.objective.loss.scores(network.returned)
    if scores is None:
        came = ", ".join(str(tuple(leaf.shape)) for leaf in tree.tensors(network.returned))
        raise LossError(
            f"a loss of the network's predictions was required for the Fisher matrix, outputs {came} came: "
            "say where they are with outputs=lambda returned: ..."
        )
    return network, scores
