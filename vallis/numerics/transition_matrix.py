"""Transition matrices of label noise: the models of the literature, and their estimate from predicted probabilities.

``T[i, j] = P(noisy label j | true label i)``, ``(C, C)`` float64, rows adding up to one.

Source: Patrini et al. (2017), Making deep neural networks robust to label noise: a loss correction approach: its
    estimator, and the noise of its experiments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.corrected_losses import checked_transition
from vallis.core.errors import DataError, SettingsError
from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Solution
from vallis.numerics.class_labels import checked_classes
from vallis.numerics.surface import in_eval_mode

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Pairs = Sequence[tuple[int, int]]

# Which class is taken for which. The paper, on MNIST: 2 for 7, 3 for 8, 7 for 1, 5 and 6 for each other.
DIGIT_PAIRS = ((2, 7), (3, 8), (7, 1), (5, 6), (6, 5))
# On CIFAR-10: truck for automobile, bird for airplane, deer for horse, cat and dog for each other.
CIFAR10_PAIRS = ((9, 1), (2, 0), (4, 7), (3, 5), (5, 3))
# Kim et al. (2019), NLNL: boot for sneaker, sneaker for sandal, pullover for shirt, coat and dress for each other.
FASHION_PAIRS = ((9, 7), (7, 5), (2, 6), (4, 3), (3, 4))


def symmetric(num_classes: int, rate: float) -> torch.Tensor:
    """``(C, C)`` a label is wrong with this probability, and then any other class alike.

    Raises:
        SettingsError: there are fewer than two classes, or the rate is not in [0, 1].
    """
    _must_be_rate(rate)
    if num_classes < 2:
        raise SettingsError(
            f"at least 2 classes were required, {num_classes} came: a label must have another to become"
        )
    matrix = torch.full((num_classes, num_classes), rate / (num_classes - 1), dtype=torch.float64)
    return matrix.fill_diagonal_(1 - rate)


def asymmetric(num_classes: int, pairs: Pairs, rate: float) -> torch.Tensor:
    """``(C, C)`` the first class of each pair is taken for the second with this probability; all others stay.

    Raises:
        SettingsError: a class is not in 0..C-1, is taken for itself or for two others, or the rate is not in [0, 1].
    """
    _must_be_rate(rate)
    firsts = [first for first, _ in pairs]
    sound = all(0 <= place < num_classes for pair in pairs for place in pair) and all(a != b for a, b in pairs)
    if not pairs or not sound or len(set(firsts)) < len(firsts):
        raise SettingsError(
            f"pairs of different classes in 0..{num_classes - 1} were required, each first one once, {tuple(pairs)} "
            "came: give such as ((2, 7), (3, 8))"
        )
    matrix = torch.eye(num_classes, dtype=torch.float64)
    for first, second in pairs:
        matrix[first, first], matrix[first, second] = 1 - rate, rate
    return matrix


def next_in_group(groups: Sequence[int], rate: float) -> torch.Tensor:
    """``(C, C)`` a class is taken for the next one of its group, the last of it for the first.

    Args:
        groups: ``(C,)`` the group of each class, such as the superclasses of CIFAR-100.
        rate: with this probability.

    Raises:
        SettingsError: a group has one class only, or the rate is not in [0, 1].
    """
    members = {group: [place for place, other in enumerate(groups) if other == group] for group in groups}
    if not groups or min(map(len, members.values())) < 2:
        raise SettingsError(f"at least 2 classes in every group were required, {tuple(groups)} came: join the lonely")
    pairs = [(place, held[(turn + 1) % len(held)]) for held in members.values() for turn, place in enumerate(held)]
    return asymmetric(len(groups), pairs, rate)


def binary(rate: float, other_rate: float) -> torch.Tensor:
    """``(2, 2)`` class 1 is taken for 0 with the rate, class 0 for 1 with the other rate.

    Raises:
        SettingsError: a rate is not in [0, 1].
    """
    _must_be_rate(rate)
    _must_be_rate(other_rate)
    return torch.tensor([[1 - other_rate, other_rate], [rate, 1 - rate]], dtype=torch.float64)


def mixed_with_identity(transition: torch.Tensor, share: float) -> torch.Tensor:
    """``share I + (1 - share) T``: how to trust an estimate less, and to give it an inverse.

    Raises:
        SettingsError: the share is not in [0, 1].
    """
    _must_be_rate(share)
    return share * torch.eye(len(transition), dtype=torch.float64) + (1 - share) * transition.double()


def draw_noisy(y: torch.Tensor, transition: torch.Tensor, rng: Rng) -> torch.Tensor:
    """Noisy classes ``(N,)`` of true classes y ``(N,)``.

    Whether a label changes and what it changes to come from streams of their own: with more noise of the same kind,
    the labels that were wrong stay wrong in the same way.

    Raises:
        LossError: T is no transition matrix.
        DataError: y is no tensor of one whole number an example, or a class has no row in T.
    """
    matrix = checked_transition(transition)
    classes = checked_classes(y, len(matrix))
    stays = matrix.diagonal()[classes.cpu()]
    which = torch.rand(len(y), generator=rng.child("which").torch(), dtype=torch.float64) >= stays
    others = matrix.clone().fill_diagonal_(0)[classes.cpu()]
    places = torch.rand(len(y), generator=rng.child("class").torch(), dtype=torch.float64)
    steps = others.cumsum(1)
    # Strictly above: a class of chance zero is never chosen, not even by a place of exactly zero.
    drawn = (steps > places[:, None] * steps[:, -1:]).int().argmax(1)
    return torch.where(which.to(y.device), drawn.to(y), y)


def frequencies(true: torch.Tensor, noisy: torch.Tensor, num_classes: int) -> torch.Tensor:
    """``(C, C)`` how often each true class got each noisy one; rows of classes that do not occur are NaN.

    Raises:
        DataError: both are no tensors of as many whole numbers in 0..C-1.
    """
    rows, columns = (checked_classes(y, num_classes).cpu() for y in (true, noisy))
    if len(rows) != len(columns):
        raise DataError(f"a noisy class for each true one was required, {len(columns)} came for {len(rows)}: give both")
    counts = torch.bincount(rows * num_classes + columns, minlength=num_classes**2).double()
    counts = counts.reshape(num_classes, num_classes)
    return counts / counts.sum(1, keepdim=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class TransitionEstimate:
    """An estimate of T, with the bootstrap over examples.

    Attributes:
        matrix: ``(C, C)``.
        low: ``(C, C)`` the lower end of the interval of each entry.
        high: ``(C, C)`` its upper end.
        anchors: ``(C,)`` which example speaks for each class.
    """

    matrix: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    anchors: torch.Tensor


def estimate_transition(
    probabilities: torch.Tensor,
    *,
    labels: torch.Tensor | None = None,
    percentile: float | None = 97.0,
    num_resamples: int = 0,
    coverage: float = 0.95,
    rng: Rng | None = None,
) -> TransitionEstimate:
    """T from what a network that was trained on noisy labels says of the noisy class of each example.

    Row i is the row of probabilities of the example that is surest to be of class i, or
    robustly of the largest one below a percentile of those of class i. The probabilities are left as they came. Of a
    class that labels no example the network knows nothing: its surest example is one of another class, and a corrected
    loss would take the absent class for that one. Its row is that of the identity.

    Args:
        probabilities: ``(N, C)``, rows adding up to one.
        labels: the noisy classes of the examples, which say what classes there are; what is not in 0..C-1 does not
            count. None is all.
        percentile: in percent; as many of the surest are left out as lie at it or above where no two are equally sure.
            None takes the largest of all.
        num_resamples: how many times the examples are drawn anew for the interval; without, it is the estimate itself.
        coverage: of the interval, percentiles of the resampled estimates.
        rng: the stream that draws them.

    Raises:
        DataError: they are no probabilities, or the labels are no whole numbers.
        SettingsError: the percentile is not in (0, 100), the number of resamples is none, the coverage is not in
            (0, 1), or resamples are wanted without a stream.
    """
    if rng is not None:
        must_be_rng(rng)
    held = _checked_probabilities(probabilities)
    if percentile is not None and not 0 < percentile < 100:
        raise SettingsError(
            f"a percentile in (0, 100) was required, {percentile} came: give 97, or None for the largest"
        )
    if num_resamples < 0 or num_resamples % 1 or not 0 < coverage < 1:
        raise SettingsError(
            f"a number of resamples from 0 on and a coverage in (0, 1) were required, {num_resamples} and {coverage} "
            "came: give such as 100 and 0.95"
        )
    if num_resamples and rng is None:
        raise SettingsError("a stream was required for resamples, none came: give rng=")
    anchors = _anchors(held, percentile)
    matrix = held[anchors]
    low = high = matrix
    if num_resamples and rng is not None:
        low, high = _interval(held, percentile, num_resamples, coverage, rng)
    absent = torch.zeros(held.shape[1], dtype=torch.bool) if labels is None else ~labelled(labels, held.shape[1])
    identity = torch.eye(len(absent), dtype=torch.float64)
    tensors = [torch.where(absent[:, None], identity, torch.from_numpy(found)) for found in (matrix, low, high)]
    return TransitionEstimate(matrix=tensors[0], low=tensors[1], high=tensors[2], anchors=torch.from_numpy(anchors))


def labelled(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """``(C,)`` bool: which classes label an example; labels outside of 0..C-1 do not count.

    Raises:
        DataError: the labels are no whole numbers.
    """
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        came = labels.dtype if isinstance(labels, torch.Tensor) else f"a {type(labels).__name__}"
        raise DataError(f"whole numbers were required as labels, {came} came: give the noisy classes (N,)")
    labels = labels.long()
    counted = labels[(labels >= 0) & (labels < num_classes)].cpu()
    return torch.bincount(counted, minlength=num_classes) > 0


def predicted_probabilities(solution: Solution, split: str = "train") -> torch.Tensor:
    """``(N, C)`` float64 the softmax of the scores of a split, in eval mode, in the order of its examples.

    Raises:
        UnknownPart: there is no such split.
        DataError: the scores are not one row of at least two logits an example.
    """
    objective, found = Objective(in_eval_mode(solution), split), []
    with torch.no_grad():
        for batch in objective.batches():
            scores = objective.loss.scores(objective.outputs_at(objective.origin, batch))
            if scores is None or scores.ndim != 2 or scores.shape[1] < 2 or len(scores) != len(batch):
                came = "none" if scores is None else tuple(scores.shape)
                raise DataError(f"one row of logits (N, C) an example was required, {came} came: use another task")
            found.append(scores.double().softmax(1).cpu())
    return torch.cat(found)


def _anchors(held: Floats, percentile: float | None) -> Places:
    """``(C,)`` the example that speaks for each class."""
    if percentile is None:
        surest: Places = held.argmax(0)
        return surest
    # The place of the percentile, or the next above, as the authors' code has it: what stands just before speaks. They
    # take the largest probability below, and where more than the outliers are equally sure, as copies, it is another's.
    before = math.ceil((len(held) - 1) * (percentile / 100)) - 1
    anchors: Places = (held == np.partition(held, before, axis=0)[before]).argmax(0)
    return anchors


def _interval(
    held: Floats, percentile: float | None, num_resamples: int, coverage: float, rng: Rng
) -> tuple[Floats, Floats]:
    generator, found = rng.numpy(), []
    for _ in range(int(num_resamples)):
        again = held[generator.integers(len(held), size=len(held))]
        found.append(again[_anchors(again, percentile)])
    tail = 100 * (1 - coverage) / 2
    low, high = np.percentile(np.stack(found), [tail, 100 - tail], axis=0)
    return low, high


def _checked_probabilities(probabilities: torch.Tensor) -> Floats:
    """A copy in float64, with rows that add up to one exactly.

    Raises:
        DataError: they are no probabilities.
    """
    held: Floats = probabilities.detach().cpu().double().numpy().copy()
    if held.ndim != 2 or held.shape[0] < 2 or held.shape[1] < 2:
        raise DataError(
            f"probabilities (N, C) of at least 2 examples and classes were required, {held.shape} came: give more"
        )
    sums = held.sum(1, keepdims=True)
    if not np.isfinite(held).all() or (held < 0).any() or (np.abs(sums - 1) > 1e-3).any():
        raise DataError(
            "probabilities that add up to one were required, other numbers came: give the softmax of finite logits"
        )
    rows: Floats = held / sums
    return rows


def _must_be_rate(rate: float) -> None:
    if not 0 <= rate <= 1:
        raise SettingsError(f"a rate in [0, 1] was required, {rate} came: give such as 0.3")
