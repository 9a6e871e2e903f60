"""Second derivatives through functions that bring a backward pass of their own, put to the proof.

Torch differentiates the backward pass of a `torch.autograd.Function` as it is written. Where that is cut off from its
inputs, because it is `once_differentiable` or keeps a detached tensor, torch says nothing, and second derivatives lack
what goes through it. So a network with such functions is compared with differences of its gradient, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from vallis.core.errors import ModelError
from vallis.core.functional import differentiating
from vallis.core.objective import Term
from vallis.core.rng import Rng
from vallis.numerics.derivatives import Tensors, pull

# A few directions, of which one must agree: a kink between two points of a difference spoils it.
_NUM_DIRECTIONS = 3
_AGREEMENT = 0.05
_ROUNDING = 1000


def functions_in(outputs: Iterable[torch.Tensor]) -> frozenset[str]:
    """The names of the functions with a backward pass of their own on which some tensors depend, ours left out."""
    found, seen = set(), set()
    waiting = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        waiting.extend(before for before, _ in node.next_functions if before is not None)
        written = getattr(node, "_forward_cls", None)
        if written is not None and not written.__module__.startswith("vallis."):
            found.add(written.__name__)
    return frozenset(found)


def must_bend_as_written(term: Term, chosen: Sequence[bool], loss: torch.Tensor) -> None:
    """Lets a batch's loss pass whose gradient changes as its second derivatives say.

    Args:
        term: the batch; its objective remembers that it passed, and no other batch is looked at.
        chosen: which parameters may move.
        loss: of the batch, a function of the parameters.

    Raises:
        ModelError: they say something else.
    """
    functions = functions_in((loss,))
    if not functions or term.objective.bends_as_written:
        return
    try:
        agrees = _agrees(_in_double(term), chosen, torch.float64)
    except RuntimeError:  # the function, or the network, takes no other dtype than its own
        agrees = _agrees(term, chosen, term.objective.dtype)
    if not agrees:
        _refuse(functions)
    term.objective.bends_as_written = True


def must_be_transposed(
    outputs: Tensors, forward: Callable[[Tensors], Tensors], back: Callable[[Tensors], Tensors], leaves: Tensors
) -> None:
    """Lets a derivative J pass for which ``u · J v = v · J' u``.

    Args:
        outputs: of the network.
        forward: ``v -> J v``.
        back: ``u -> J' u``.
        leaves: the parameters that may move.

    Raises:
        ModelError: these differ.
    """
    functions = functions_in(outputs)
    if not functions:
        return
    v, u = _random(leaves, 0), _random(outputs, 1)
    ahead = forward(v)
    one, other = _inner(u, ahead), _inner(v, back(u))
    scale = (_inner(u, u) * _inner(ahead, ahead)) ** 0.5 + abs(other)
    if abs(one - other) > _ROUNDING * torch.finfo(leaves[0].dtype).eps * scale:
        _refuse(functions)


def _agrees(term: Term, chosen: Sequence[bool], dtype: torch.dtype) -> bool:
    """Whether ``H v`` is the change of the gradient along v, for one of a few v and each parameter."""
    step = torch.finfo(dtype).eps ** (0.5 if dtype == torch.float64 else 1 / 3)
    gradient, leaves = _gradient(term, chosen)
    for place in range(_NUM_DIRECTIONS):
        v = _random(leaves, place)
        found = pull(gradient, leaves, v)
        ahead, behind = (_gradient(term, chosen, v, sign * step)[0] for sign in (1.0, -1.0))
        # Only rounding is left where both are small beside what a gradient's own rounding makes of the difference.
        noise = 100 * torch.finfo(dtype).eps / step * max(float(each.detach().norm()) for each in gradient)
        parts = zip(found, ahead, behind, strict=True)
        if all(_same(one, (two - three) / (2 * step), noise) for one, two, three in parts):
            return True
    return False


def _same(one: torch.Tensor, other: torch.Tensor, noise: float) -> bool:
    difference, size = float((one - other).norm()), max(float(one.norm()), float(other.norm()))
    return difference <= _AGREEMENT * size + noise


def _gradient(
    term: Term, chosen: Sequence[bool], along: Tensors | None = None, step: float = 0.0
) -> tuple[Tensors, Tensors]:
    """The gradient of the batch's loss at the origin, or a step along some parameters from it."""
    moving = iter(along or ())
    with differentiating():
        point = []
        for value, moves in zip(term.objective.origin, chosen, strict=True):
            here = value.detach()
            if moves and along is not None:
                here = here + step * next(moving)
            point.append(here.requires_grad_(moves))
        leaves = tuple(value for value in point if value.requires_grad)
        loss = term.loss(point)
        return pull((loss,), leaves, (torch.ones_like(loss),), differentiable=along is None), leaves


def _in_double(term: Term) -> Term:
    objective = term.objective.converted(torch.float64)
    return Term(term.share, objective.own(term.batch), objective)


def _random(like: Tensors, place: int) -> Tensors:
    generator = Rng(0).child("written backward", place).torch()
    drawn = [torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in like]
    return tuple(each.to(device=to.device, dtype=to.dtype) for each, to in zip(drawn, like, strict=True))


def _inner(one: Tensors, other: Tensors) -> float:
    return sum(float((a.double() * b.double()).sum()) for a, b in zip(one, other, strict=True))


def _refuse(functions: frozenset[str]) -> None:
    names = ", ".join(sorted(functions))
    raise ModelError(
        "a network whose second derivatives are those of its gradient was required, but the backward pass of "
        f"{names} hides what it depends on, or is no derivative: "
        "write it with torch's operations, or let its backward compute from ctx.saved_tensors alone"
    )
