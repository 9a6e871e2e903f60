"""How far inputs are from the decision boundary: the nearest point found at which the answer changes.

From each input steps lead to the boundary of the linearised scores (DeepFool) until the answer changes; bisection puts
the change between two points that were evaluated; then the foot of the input on the tangent of the boundary there gives
a better direction, again and again, until the way to the boundary is at a right angle to it. Other ways begin at other
inputs that are answered otherwise, the nearest of each of the nearest classes, and at random points nearer than what
was found where those are; the shortest counts. What is found is a point of the boundary and so an upper bound, exact
for linear scores whose nearest rival is looked at; at a right angle it is a local minimum of the distance or a saddle
of it. That no other branch of the boundary is nearer the random points make likely in a plane, and hardly in many
dimensions.

Source: Moosavi-Dezfooli et al. (2016), DeepFool: a simple and accurate method to fool deep neural networks, algorithm
    2; the bisection, the walk along the boundary and the other ways are added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from vallis.core.errors import SettingsError
from vallis.core.functional import differentiating
from vallis.core.rng import Rng, must_be_rng

# Scores ``(N, C)`` of inputs ``(N, ...)``; an example's do not depend on the others.
Scores = Callable[[torch.Tensor], torch.Tensor]
_OVERSHOOT = 0.02
_HALVINGS = 26
# So many classes have a way that begins at the nearest input of theirs.
_CLASSES = 3
# The random points are looked at in rounds: of a way that one has shortened, the next round looks nearer still.
_ROUNDS = 4
# A way, as far as it is known: unit vectors ``(N, D)``, lengths ``(N,)``, and whether it has converged ``(N,)``.
_Way = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class InputMargins:
    """Distances of N inputs.

    Attributes:
        distances: ``(N,)`` Euclidean, to the nearest change of the answer that was found; infinite where none was.
        converged: ``(N,)`` bool: the answer does change there, the way there is at a right angle to the boundary, and
            no random point of the last round is nearer and answered otherwise.
        answers: ``(N,)`` the class that each input is given.
        rivals: ``(N,)`` the class on the other side; -1 where none was found.
        points: ``(N, ...)`` just across the boundary.
    """

    distances: torch.Tensor
    converged: torch.Tensor
    answers: torch.Tensor
    rivals: torch.Tensor
    points: torch.Tensor


def input_margins(
    scores: Scores,
    x: torch.Tensor,
    *,
    others: torch.Tensor | None = None,
    max_steps: int = 50,
    num_rivals: int = 10,
    max_refinements: int = 20,
    tolerance: float = 1e-3,
    num_probes: int = 128,
    rng: Rng | None = None,
) -> InputMargins:
    """The distance of each input to the decision boundary.

    Args:
        scores: of a batch of inputs, at least two a input: a model in eval mode.
        x: ``(N, ...)`` floating.
        others: ``(M, ...)`` inputs from whose nearest ways begin; None takes `x` itself.
        max_steps: of DeepFool.
        num_rivals: how many other classes are looked at, those of the highest scores.
        max_refinements: of the direction.
        tolerance: the way has converged when the sine of its angle with the normal of the boundary is at most this.
        num_probes: random points around each input, nearer than the change that was found; 0 looks at none.
        rng: where those are, the same for every input, as shares of the distance; None is ``Rng()``.

    Raises:
        SettingsError: an impossible count or tolerance.
    """
    if max_steps < 1 or num_rivals < 1 or max_refinements < 0 or num_probes < 0 or not tolerance > 0:
        raise SettingsError(
            "a step, a rival, no negative number of probes and a tolerance above 0 were required, "
            f"{max_steps}, {num_rivals}, {num_probes} and {tolerance} came: raise them"
        )
    must_be_rng(rng := rng or Rng())
    search = _Search(scores, x, num_rivals)
    way = search.refined(*search.begun(*search.deep_fool(max_steps)), max_refinements, tolerance)
    for start in search.nearest_others(search.x if others is None else others.detach()):
        way = _shorter(way, search.refined(*search.begun(*start), max_refinements, tolerance))
    for part in range(_ROUNDS):
        count = num_probes // _ROUNDS + (part < num_probes % _ROUNDS)
        reached, is_nearer = search.probed(way, count, rng.child("probes", part))
        if bool(is_nearer.any()):
            way = _shorter(way, search.refined(*search.begun(reached, is_nearer), max_refinements, tolerance))
    unit, lengths, converged = way
    converged = converged & ~is_nearer  # a way that begins where the last round was has not been looked around
    points = search.at(unit, lengths)
    rivals = search.answer(points)
    found = lengths.isfinite()
    return InputMargins(
        distances=lengths,
        converged=converged & found,
        answers=search.answers,
        rivals=torch.where(found, rivals, torch.full_like(rivals, -1)),
        points=points,
    )


def _shorter(one: _Way, other: _Way) -> _Way:
    """Of two ways of each input the shorter."""
    shorter = other[1] < one[1]
    unit = torch.where(shorter[:, None], other[0], one[0])
    return unit, torch.where(shorter, other[1], one[1]), torch.where(shorter, other[2], one[2])


class _Search:
    """The inputs, their answers, and what is asked of the scores around them."""

    def __init__(self, scores: Scores, x: torch.Tensor, num_rivals: int) -> None:
        self.scores, self.x = scores, x.detach()
        with torch.no_grad():
            first = scores(self.x)
        self.answers = first.argmax(1)
        count = min(num_rivals, first.shape[1] - 1)
        others = first.scatter(1, self.answers[:, None], -torch.inf)
        self.rivals = others.topk(count, dim=1).indices

    def answer(self, points: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = self.scores(points).argmax(1)
        return found

    def at(self, unit: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The points so far along unit vectors ``(N, D)``; where the length is infinite the input itself."""
        lengths = torch.where(lengths.isfinite(), lengths, torch.zeros_like(lengths))
        return self.x + (lengths[:, None] * unit).view(self.x.shape)

    def across(self, points: torch.Tensor) -> torch.Tensor:
        """``(N,)`` whether the answer there is another than at the input."""
        return self.answer(points) != self.answers

    def leads(self, points: torch.Tensor, rivals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(N, K)`` by how much the rivals ``(N, K)`` are ahead of the answer, and ``(N, K, D)`` the gradients."""
        with differentiating():
            leaf = points.detach().requires_grad_()
            held = self.scores(leaf)
            ahead = held.gather(1, rivals) - held.gather(1, self.answers[:, None])
            # Examples do not depend on each other, so a sum over them keeps their gradients apart.
            slopes = [
                torch.autograd.grad(ahead[:, k].sum(), leaf, retain_graph=k + 1 < rivals.shape[1])[0].flatten(1)
                for k in range(rivals.shape[1])
            ]
        return ahead.detach(), torch.stack(slopes, dim=1)

    def deep_fool(self, max_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the answers change, on the way of linearised steps, and whether they do."""
        here = self.x.clone()
        flipped = torch.zeros(len(here), dtype=torch.bool, device=here.device)
        for _ in range(max_steps):
            ahead, slopes = self.leads(here, self.rivals)
            sizes = slopes.norm(dim=2).clamp(min=torch.finfo(here.dtype).tiny)
            nearest = (ahead.abs() / sizes).argmin(1)
            rows = torch.arange(len(here), device=here.device)
            slope, size = slopes[rows, nearest], sizes[rows, nearest]
            # A little further than the boundary of the linearised scores, so that the answer has changed there.
            length = (1 + _OVERSHOOT) * ahead[rows, nearest].abs() / size + 1e-6 * (1 + self.x.flatten(1).norm(dim=1))
            step = (length / size)[:, None] * slope
            moved = here + step.view(here.shape)
            usable = moved.flatten(1).isfinite().all(1) & ~flipped
            here = torch.where(usable.view(-1, *[1] * (here.ndim - 1)), moved, here)
            flipped = flipped | self.across(here)
            if bool(flipped.all()):
                break
        return here, flipped

    def nearest_others(self, others: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The nearest of other inputs of each of the nearest other answers, and whether there is one."""
        apart = torch.cdist(self.x.flatten(1), others.flatten(1))
        given, found = self.answer(others), []
        apart[self.answers[:, None] == given[None, :]] = torch.inf
        for _ in range(min(_CLASSES, len(given.unique()))):
            nearest = apart.min(1)
            found.append((others[nearest.indices], nearest.values.isfinite()))
            apart[given[nearest.indices][:, None] == given[None, :]] = torch.inf
        return found

    def probed(self, way: _Way, count: int, rng: Rng) -> tuple[torch.Tensor, torch.Tensor]:
        """Points answered otherwise and nearer than the end of the way, the nearest of so many, and whether one is.

        Directions and shares of the length are the same for all inputs, so that no input depends on the others.
        """
        unit, lengths, _ = way
        drawn = torch.randn(count, unit.shape[1], generator=rng.torch(), dtype=torch.float64).to(unit)
        shares = torch.rand(count, generator=rng.child("shares").torch(), dtype=torch.float64).sqrt().to(unit)
        best, is_nearer = lengths, torch.zeros_like(lengths, dtype=torch.bool)
        for direction, share in zip(drawn / drawn.norm(dim=1, keepdim=True), shares, strict=True):
            tried = direction.expand_as(unit)
            hit = (share * lengths < best) & lengths.isfinite()
            hit &= self.across(self.at(tried, share * lengths))
            unit, best = torch.where(hit[:, None], tried, unit), torch.where(hit, share * lengths, best)
            is_nearer |= hit
        return self.at(unit, best), is_nearer

    def begun(self, reached: torch.Tensor, flipped: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors ``(N, D)`` to points where the answer has changed, and the lengths ``(N,)`` to the change."""
        away = (reached - self.x).flatten(1)
        lengths = away.norm(dim=1)
        unit = away / lengths.clamp(min=torch.finfo(self.x.dtype).tiny)[:, None]
        return unit, self.bisected(unit, torch.where(flipped, lengths, torch.full_like(lengths, torch.inf)))

    def bisected(self, unit: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The shortest length at which the answer was seen to have changed, between one where it had not and these."""
        low, high = torch.zeros_like(lengths), lengths.clone()
        for _ in range(_HALVINGS):
            middle = torch.where(high.isfinite(), (low + high) / 2, high)
            past = self.across(self.at(unit, middle))
            high = torch.where(past & high.isfinite(), middle, high)
            low = torch.where(past, low, middle)
        return high

    def refined(
        self, unit: torch.Tensor, lengths: torch.Tensor, rounds: int, tolerance: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Shorter ways, towards the feet of the inputs on the tangent of the boundary; and whether they are at one."""
        converged = torch.zeros_like(lengths, dtype=torch.bool)
        step = torch.ones_like(lengths)
        for left in range(rounds, -1, -1):
            points = self.at(unit, lengths)
            rivals = self.answer(points)
            rivals = torch.where(rivals == self.answers, self.rivals[:, 0], rivals)
            _, slopes = self.leads(points, rivals[:, None])
            normal = slopes[:, 0] / slopes[:, 0].norm(dim=1, keepdim=True).clamp(min=torch.finfo(unit.dtype).tiny)
            sine = (normal - (normal * unit).sum(1, keepdim=True) * unit).norm(dim=1)
            converged = (sine <= tolerance) & ((normal * unit).sum(1) > 0) & lengths.isfinite()
            if left == 0 or bool((converged | ~lengths.isfinite()).all()):
                break
            tried = (1 - step)[:, None] * unit + step[:, None] * normal
            tried = tried / tried.norm(dim=1, keepdim=True).clamp(min=torch.finfo(unit.dtype).tiny)
            better = self.across(self.at(tried, lengths)) & lengths.isfinite() & ~converged
            if bool(better.any()):
                shorter = self.bisected(tried, torch.where(better, lengths, torch.full_like(lengths, torch.inf)))
                unit = torch.where(better[:, None], tried, unit)
                lengths = torch.where(better, shorter, lengths)
            step = torch.where(better, (2 * step).clamp(max=1.0), step / 2)
        return unit, lengths, converged
