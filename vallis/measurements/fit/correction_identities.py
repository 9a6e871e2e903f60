"""Whether the two corrections for label noise do what they promise, put to the answers of this network.

Definition: with T the transition matrix, the backward gap is the largest difference, over examples and over all true
    classes i, of ``sum_j T_ij l_B(j)`` and of the cross-entropy with i, where l_B is the backward-corrected loss. The
    forward distance is the largest difference, over examples and classes, of a posterior and of the minimiser of the
    forward-corrected loss, expected over noisy labels that are drawn from that posterior. The posterior is half what
    the network says and half uniform, so that its minimiser is found quickly. Both are zero up to rounding.
Unit: nats for the gap, 1 for the distance.
Source: Patrini et al. (2017), theorems 1 and 2.
Cost: one pass forward over the split, and for each example of `num_examples` some hundred slopes of the loss alone.
Says little when: the transition matrix is close to singular: rounding grows with its condition number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from vallis.core.corrected_losses import BackwardCorrected, ForwardCorrected
from vallis.core.errors import SettingsError
from vallis.core.figures import Figure
from vallis.core.functional import differentiating
from vallis.core.rng import Rng
from vallis.core.types import Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.numerics.transition_matrix import predicted_probabilities, symmetric

_RATE = 0.3
_MOST_STEPS = 5000
_STILL = 1e-13


@dataclass(frozen=True, kw_only=True)
class CorrectionIdentities:
    """The backward gap and the forward distance at a network's answers.

    Attributes:
        split: whose examples.
        num_examples: how many of them, the first ones.
        transition: ``(C, C)`` T as rows of numbers; None is symmetric noise of 0.3.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Making deep neural networks robust to label noise: a loss correction approach",
            authors="G. Patrini, A. Rozza, A. K. Menon, R. Nock, L. Qu",
            year=2017,
            url="https://arxiv.org/abs/1609.03683",
        ),
    )

    split: str = "train"
    num_examples: int = 20
    transition: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise SettingsError(
                f"correction_identities.num_examples must be at least 1, {self.num_examples} came: raise it"
            )
        if self.transition is not None:
            object.__setattr__(self, "transition", tuple(map(tuple, self.transition)))
            BackwardCorrected(transition=self.transition)

    @classmethod
    def tiny(cls) -> CorrectionIdentities:
        """The cheapest settings, for tests."""
        return cls(num_examples=3)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solution: Solution = subject
        first = next(iter(solution.task.splits[self.split])).y
        if solution.task.loss.kind != "categorical" or not isinstance(first, torch.Tensor) or first.ndim != 1:
            text = "There is nothing to correct: an example has no single class here."
            return NotApplicable(note=Note(code="not_classification", text=text))
        p = predicted_probabilities(solution, self.split)[: self.num_examples]
        num_classes = p.shape[1]
        rows = symmetric(num_classes, _RATE).tolist() if self.transition is None else self.transition
        if len(rows) != num_classes or not bool(p.isfinite().all()):
            text = "The network's answers are no probabilities of as many classes as the transition matrix has."
            return NotApplicable(note=Note(code="other_classes", text=text))
        found, still = forward_minimiser((p + 1 / num_classes) / 2, ForwardCorrected(transition=rows))
        gap = backward_gap(p, BackwardCorrected(transition=rows))
        notes = () if still else (_NOT_CONVERGED,)
        distance = float((found - (p + 1 / num_classes) / 2).abs().max())
        method = "largest over examples and classes, in float64"
        values = {
            "backward_gap": Estimate(value=gap, n=len(p), unit="nats", method=method),
            "forward_distance": Estimate(value=distance, n=len(p), method=method),
        }
        return Result(values=values, notes=notes)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return ()

    def reading(self, result: Result) -> str:
        gap, distance = (result.estimate(key).value for key in ("backward_gap", "forward_distance"))
        return (
            f"In the mean over the noise the backward-corrected loss is the loss of true labels up to {gap:.1e} nats, "
            f"and the forward-corrected one is least at the true posterior up to {distance:.1e}."
        )


_NOT_CONVERGED = Note(
    code="not_converged",
    text=f"The minimiser of the forward-corrected loss still moved after {_MOST_STEPS} steps: the distance is its own.",
)


def backward_gap(p: torch.Tensor, loss: BackwardCorrected) -> float:
    """The largest ``|sum_j T_ij l_B(j) - CE(i)|`` over answers p ``(N, C)`` and true classes i, in nats."""
    logits = p.double().clamp(min=torch.finfo(torch.float64).tiny).log()
    noisy = _of_every_class(loss, logits)
    expected, clean = noisy @ loss.matrix.T, -logits.log_softmax(1)
    return float((expected - clean).abs().max())


def forward_minimiser(p: torch.Tensor, loss: ForwardCorrected) -> tuple[torch.Tensor, bool]:
    """Answers ``(N, C)`` of the least forward-corrected loss where true classes are drawn from p ``(N, C)``.

    From the uniform answer on, ``answer - slope`` with the slope in the logits: the step of expectation-maximisation
    for mixture weights, which stays in the simplex and never raises the loss.

    Returns:
        The minimiser, and whether it has come to rest within 5000 steps.
    """
    chances = p.double() @ loss.matrix  # of the noisy classes
    answer = torch.full_like(chances, 1 / chances.shape[1])
    for _ in range(_MOST_STEPS):
        with differentiating():
            logits = answer.log().requires_grad_()
            expected = (chances * _of_every_class(loss, logits)).sum()
            (slope,) = torch.autograd.grad(expected, logits)
        answer = (answer - slope).clamp(min=torch.finfo(torch.float64).tiny)
        if float(slope.abs().max()) < _STILL:
            return answer, True
    return answer, False


def _of_every_class(loss: BackwardCorrected | ForwardCorrected, logits: torch.Tensor) -> torch.Tensor:
    """``(N, C)`` the loss of each noisy class."""
    num_examples, num_classes = logits.shape
    y = torch.arange(num_classes).repeat(num_examples)
    each, _ = loss.per_example(logits.repeat_interleave(num_classes, 0), y)
    return each.reshape(num_examples, num_classes)
