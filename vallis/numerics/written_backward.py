"""Derivatives through functions that bring a backward pass of their own, put to the proof.

Torch takes the backward pass of a `torch.autograd.Function` for its derivative, and differentiates it as it is written.
Where it turns or scales slopes it is none. Where it is cut off from its inputs, because it is `once_differentiable` or
keeps a detached tensor, torch says nothing, and second derivatives lack what goes through it. So a network with such
functions is compared with differences of what it returns, or of its loss and its gradient, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch.nn.modules._functions import BackwardHookFunction

from vallis.core import tree
from vallis.core.errors import ModelError
from vallis.core.functional import differentiating
from vallis.core.objective import Term
from vallis.core.rng import Rng
from vallis.numerics.derivatives import Tensors, pull

Number = Callable[[Term, Sequence[torch.Tensor]], torch.Tensor]

# A few directions, of which one must agree: a kink between two points of a difference spoils it. In double precision a
# short step meets few kinks, and what is hidden shows where it is a thousandth; in single precision steps are long.
_NUM_DIRECTIONS = 3
_SHORT, _LONG = (1e-9, 1e-3), (5e-3, 0.05)
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
            found.add("a backward hook" if written is BackwardHookFunction else written.__name__)
    return frozenset(found)


def must_bend_as_written(term: Term, chosen: Sequence[bool], loss: torch.Tensor) -> None:
    """Lets a batch's loss pass that changes as its gradient says, and whose gradient as its second derivatives say.

    Args:
        term: the batch; its objective remembers what passed, and no other batch is looked at for these parameters.
        chosen: which parameters may move.
        loss: of the batch, a function of the parameters.

    Raises:
        ModelError: they say something else.
    """
    _must_agree("bends", term, chosen, (loss,), lambda held, point: held.loss(point))


def must_slope_as_written(term: Term, chosen: Sequence[bool], outputs: Tensors) -> None:
    """Lets a batch's outputs pass that change as their derivatives say.

    Args:
        term: the batch; see `must_bend_as_written`.
        chosen: which parameters may move.
        outputs: of the network, functions of the parameters.

    Raises:
        ModelError: they say something else.
    """

    def mixed(held: Term, point: Sequence[torch.Tensor]) -> torch.Tensor:
        returned = [leaf for leaf in tree.tensors(held.outputs(point)) if leaf.is_floating_point() or leaf.is_complex()]
        parts = [torch.view_as_real(leaf) if leaf.is_complex() else leaf for leaf in returned]
        found = [(part * mix).sum() for part, mix in zip(parts, _random(tuple(parts), 1), strict=True)]
        return torch.stack(found).sum()

    _must_agree("slopes", term, chosen, outputs, mixed)


def _must_agree(what: str, term: Term, chosen: Sequence[bool], seen: Tensors, number: Number) -> None:
    functions, passed = functions_in(seen), term.objective.as_written
    # What is right for some parameters is right for fewer, and says nothing of more.
    right = [each for kind, each in passed if kind == what]
    if not functions or any(all(more or not one for one, more in zip(chosen, each, strict=True)) for each in right):
        return
    twice = what == "bends"
    try:
        agrees = _agrees(_in_double(term), chosen, number, twice, *_SHORT)
    except RuntimeError:  # the function, or the network, takes no other dtype than its own
        agrees = _agrees(term, chosen, number, twice, *(_SHORT if term.objective.dtype == torch.float64 else _LONG))
    if not agrees:
        _refuse(functions)
    term.objective.as_written = passed | {(what, tuple(chosen))}


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


def _agrees(term: Term, chosen: Sequence[bool], number: Number, twice: bool, step: float, agreement: float) -> bool:
    """Whether for one of a few directions the number, and its gradient by each parameter, change as is said of them."""
    value, gradient, leaves = _gradient(term, chosen, number, twice)
    eps = torch.finfo(term.objective.dtype).eps
    # Only rounding is left of what is small beside what a number's own rounding makes of the difference.
    noises = [100 * eps / step * max(map(_length, held)) for held in ((value,), gradient)]
    for place in range(_NUM_DIRECTIONS):
        v = _random(leaves, place)
        ahead, behind = (_gradient(term, chosen, number, False, v, sign * step) for sign in (1.0, -1.0))
        slope = torch.as_tensor(_inner(tuple(each.detach() for each in gradient), v))
        pairs = [(slope, (ahead[0] - behind[0]) / (2 * step), noises[0])]
        if twice:
            found = zip(pull(gradient, leaves, v), ahead[1], behind[1], strict=True)
            pairs += [(one, (two - three) / (2 * step), noises[1]) for one, two, three in found]
        if all(_same(one, other, agreement, noise) for one, other, noise in pairs):
            return True
    return False


def _same(one: torch.Tensor, other: torch.Tensor, agreement: float, noise: float) -> bool:
    difference, size = _length(one - other), max(_length(one), _length(other))
    return difference <= agreement * size + noise


def _gradient(
    term: Term,
    chosen: Sequence[bool],
    number: Number,
    differentiable: bool,
    along: Tensors | None = None,
    step: float = 0.0,
) -> tuple[torch.Tensor, Tensors, Tensors]:
    """The number and its gradient at the origin, or a step along some parameters from it; and where it was taken."""
    moving = iter(along or ())
    with differentiating():
        point = []
        for value, moves in zip(term.objective.origin, chosen, strict=True):
            here = value.detach()
            if moves and along is not None:
                here = here + step * next(moving)
            point.append(here.requires_grad_(moves))
        leaves = tuple(value for value in point if value.requires_grad)
        found = number(term, point)
        return found.detach(), pull((found,), leaves, (torch.ones_like(found),), differentiable=differentiable), leaves


def _length(tensor: torch.Tensor) -> float:
    return float(tensor.detach().norm())


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
        "a network that changes as its derivatives say was required, but the backward pass of "
        f"{names} hides what it depends on, or is no derivative: "
        "write it with torch's operations, or let its backward compute from ctx.saved_tensors alone"
    )
