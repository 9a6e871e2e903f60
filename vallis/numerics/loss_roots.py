"""Square roots of the loss's curvature in the scores: what is pulled back through a network to get its Gauss-Newton.

For a batch with scores f, the second derivative of its share of the loss is, example by example, ``A = R R'``. Each
column of R is a cotangent; the pulled columns ``g = G' r`` of all of them give ``G' A G = sum g g'`` exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vallis.core import tree
from vallis.core.errors import LossError
from vallis.core.losses import CrossEntropy, is_counted
from vallis.core.objective import Term
from vallis.core.own_loss import shapes
from vallis.core.rng import Rng
from vallis.numerics.loss_bends import Bends, not_convex, unflattened
from vallis.numerics.row_weights import inner

Tensors = tuple[torch.Tensor, ...]


class Root(Protocol):
    """The columns of R for a batch."""

    @property
    def outputs(self) -> Tensors:
        """What is pulled back from."""
        ...

    @property
    def num_columns(self) -> int:
        """How many columns there are at most."""
        ...

    def columns(self) -> Iterator[Tensors]:
        """Each a cotangent of the outputs; the share of the batch is in them."""
        ...

    def draw(self, rng: Rng) -> Tensors:
        """``R s`` for random signs s, of each example and target its own: over s, ``E[(R s)(R s)'] = A``."""
        ...


def root(term: Term, returned: Any) -> Root:
    """The square root of the curvature of a batch's share of the loss.

    Cross-entropy has one in closed form, of ``C - 1`` columns a position; of any other loss, where the scores do not
    mix in it, one comes from two second derivatives, and else from a dense solver for each example.

    Args:
        term: the batch.
        returned: what the network returned, in the graph that is to be pulled back through.

    Raises:
        LossError: the loss has no scores, is not convex in them, or has too many.
    """
    loss = inner(term.objective.loss)
    scores = term.objective.loss.scores(returned)
    if scores is None:
        raise LossError(
            "a loss of the network's predictions was required for its curvature in them, this one has none: "
            "say where they are with outputs=lambda returned: ..."
        )
    if isinstance(loss, CrossEntropy) and scores.requires_grad and scores.ndim > 1:
        return _softmax_root(term, scores, loss)
    return _other_root(term, returned)


class SoftmaxRoot:
    """R of a cross-entropy, for ``diag(p) - p p' = R R'`` at every target: lower triangular, of C - 1 columns.

    With tails ``q_k = sum_{j > k} p_j`` its diagonal is ``sqrt(p_k q_k / q_{k-1})`` and, below,
    ``R_jk = -p_j sqrt(p_k / (q_{k-1} q_k))``. No matrix is written out: each column costs as much as the scores.

    Args:
        scores: ``(N, C, ...)`` with T positions.
        weights: ``(N, T)`` what each target counts.

    Source: Tanabe and Sagae (1992), An exact Cholesky decomposition of the variance-covariance matrix of the
        multinomial distribution.
    """

    def __init__(self, scores: torch.Tensor, weights: torch.Tensor) -> None:
        self.outputs = (scores,)
        self._p = scores.detach().reshape(*scores.shape[:2], -1).softmax(1)
        self._roots = weights.to(self._p.dtype).sqrt()

    def columns(self) -> Iterator[Tensors]:
        """One for each position and class but the last."""
        (scores,) = self.outputs
        for position in range(self._p.shape[2]):
            p, root = self._p[:, :, position], self._roots[:, position]
            for column in softmax_columns(p):
                cotangent = scores.new_zeros(scores.shape)
                cotangent.view(*scores.shape[:2], -1)[..., position] = column * root[:, None]
                yield (cotangent,)

    @property
    def num_columns(self) -> int:
        """C - 1 for each position."""
        return (self._p.shape[1] - 1) * self._p.shape[2]

    def draw(self, rng: Rng) -> Tensors:
        """By another root, ``diag(sqrt p) - p sqrt(p)'``, that has a product without its columns."""
        part = self._p.sqrt() * _signs(self._p, rng)
        drawn = (part - self._p * part.sum(1, keepdim=True)) * self._roots[:, None]
        return (drawn.reshape(self.outputs[0].shape),)


def softmax_columns(probabilities: torch.Tensor) -> Iterator[torch.Tensor]:
    """The C - 1 columns ``(N, C)`` of R for probabilities p ``(N, C)``; see `SoftmaxRoot`."""
    tails = probabilities.flip(1).cumsum(1).flip(1)  # q_{k-1}, summed from the small side: no cancellation
    above, below = tails[:, :-1], tails[:, 1:]
    tiny = torch.finfo(probabilities.dtype).tiny
    diagonal = (probabilities[:, :-1] / above.clamp(min=tiny)).sqrt() * below.sqrt()
    for k in range(probabilities.shape[1] - 1):
        # p_j / q_k is at most one, so it is divided first: the products of tiny numbers would vanish.
        column = probabilities / below[:, k : k + 1].clamp(min=tiny) * -diagonal[:, k : k + 1]
        column[:, :k] = 0
        column[:, k] = diagonal[:, k]
        yield column


@dataclass(frozen=True, eq=False)
class ColumnRoot:
    """R as ``(N, K, J)`` over the K numbers that the network returns for an example, or ``(N, K)`` if diagonal."""

    outputs: Tensors
    matrices: torch.Tensor

    def columns(self) -> Iterator[Tensors]:
        """J of them; K where it is diagonal."""
        diagonal = self.matrices.ndim == 2
        for place in range(self.matrices.shape[-1]):
            if diagonal:
                flat = torch.zeros_like(self.matrices)
                flat[:, place] = self.matrices[:, place]
            else:
                flat = self.matrices[:, :, place]
            if bool(flat.any()):
                yield unflattened(flat, self.outputs)

    @property
    def num_columns(self) -> int:
        """K, or J."""
        return self.matrices.shape[-1]

    def draw(self, rng: Rng) -> Tensors:
        """See `Root.draw`."""
        if self.matrices.ndim == 2:
            return unflattened(self.matrices * _signs(self.matrices, rng), self.outputs)
        signs = _signs(self.matrices[:, 0], rng)
        return unflattened(torch.bmm(self.matrices, signs[:, :, None])[:, :, 0], self.outputs)


def _softmax_root(term: Term, scores: torch.Tensor, loss: CrossEntropy) -> Root:
    y = term.batch.y
    _must_have_rows((scores,), len(term.batch))  # else a column would hold several targets of one example
    if y.is_floating_point():  # targets that add up to another number than one scale the curvature
        weights = y.flatten(2).sum(1) if y.ndim > 2 else y.sum(1, keepdim=True)
    else:
        weights = is_counted(y, loss.ignore_index).reshape(len(y), -1)
    weights = weights.double() * (term.share / loss.weight(y))
    if bool((weights < 0).any()):
        raise not_convex()
    return SoftmaxRoot(scores, weights)


def _other_root(term: Term, returned: Any) -> Root:
    live = {id(leaf): leaf for leaf in tree.tensors(returned) if leaf.requires_grad}
    free = {place: leaf.detach().requires_grad_() for place, leaf in live.items()}
    loss = term.loss_of_outputs(tree.map_tensors(lambda leaf: free.get(id(leaf), leaf), returned)) * term.share
    slopes: dict[int, torch.Tensor | None] = dict.fromkeys(free)
    if loss.requires_grad:
        found = torch.autograd.grad(loss, tuple(free.values()), create_graph=True, allow_unused=True)
        slopes = dict(zip(free, found, strict=True))
    used = [place for place, slope in slopes.items() if slope is not None]
    outputs = tuple(live[place] for place in used)
    num_examples = len(term.batch)
    _must_have_rows(outputs, num_examples)
    held = tuple(slope for slope in slopes.values() if slope is not None)
    return ColumnRoot(outputs, Bends(tuple(free[place] for place in used), held, num_examples).root())


def _must_have_rows(outputs: Tensors, num_examples: int) -> None:
    if any(leaf.shape[:1] != (num_examples,) for leaf in outputs):
        raise LossError(
            f"predictions with one row for each of {num_examples} examples were required, {shapes(outputs)} came: "
            "put the examples on the first axis"
        )


def _signs(like: torch.Tensor, rng: Rng) -> torch.Tensor:
    """Random signs of this shape; drawn on the CPU, so that they are the same for every device and dtype."""
    drawn = torch.randint(0, 2, like.shape, generator=rng.torch(), dtype=torch.int8, device="cpu")
    return drawn.to(like) * 2 - 1
