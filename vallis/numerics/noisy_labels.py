"""Which training examples have a label that is not the true one, and what a network answers to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from vallis.core import tree
from vallis.core.data import Arrays
from vallis.core.errors import DataError
from vallis.core.losses import Loss, is_counted
from vallis.core.types import Data, Estimate, Note, Task
from vallis.numerics.proportions import Proportion, share
from vallis.numerics.scores import ignored_target

TRUE_LABELS = "true_labels"
WILSON = "share of {}; Wilson's interval at 95 %, the error bar is its half width at 68 %"


@dataclass(frozen=True, kw_only=True)
class Fates:
    """What became of noisy labels; the shares are of the noisy examples, but for the first.

    Attributes:
        noisy: of the examples that count, those whose label is not the true one.
        memorized: answered with the noisy label; None where no label is noisy, as all below.
        recovered: answered with the true label.
        neither: answered with a third label, or with none because of a tie.
    """

    noisy: Proportion
    memorized: Proportion | None = None
    recovered: Proportion | None = None
    neither: Proportion | None = None

    def estimates(self) -> dict[str, Estimate]:
        """Those that there are, under the names that every measurement gives them."""
        words = {
            "noisy": "the training examples whose label is not the true one",
            "memorized": "the noisy examples that are answered with their label",
            "recovered": "the noisy examples that are answered with the true label",
            "neither": "the noisy examples that are answered with neither",
        }
        found = {name: getattr(self, name) for name in words}
        return {
            f"{name}_fraction": one.estimate(WILSON.format(words[name]))
            for name, one in found.items()
            if one is not None
        }


def fates(noisy: torch.Tensor, given: torch.Tensor, true: torch.Tensor) -> Fates:
    """What became of the labels of N examples that count.

    Args:
        noisy: ``(N,)`` bool, see `noisy_marks`.
        given: ``(N,)`` bool, whether the network answers with the label of the training set; a tie is no answer.
        true: ``(N,)`` bool, whether it answers with the true one.
    """
    count, n = int(noisy.sum()), len(noisy)
    if not count:
        return Fates(noisy=share(0, n))
    memorized, recovered = int((noisy & given).sum()), int((noisy & true & ~given).sum())
    return Fates(
        noisy=share(count, n),
        memorized=share(memorized, count),
        recovered=share(recovered, count),
        neither=share(count - memorized - recovered, count),
    )


def true_targets(task: Task, split: str = "train", true_split: str = TRUE_LABELS) -> torch.Tensor | Note:
    """The true targets of the examples of a split, in its order, or why there are none.

    Raises:
        DataError: the split of true labels has other examples, or the same in another order.
    """
    if true_split not in task.splits:
        text = (
            f'The task has no split "{true_split}" beside "{split}", so nobody knows which labels are noisy '
            "(problems like corrupted have one)."
        )
        return Note(code="no_true_labels", text=text)
    true, given = _targets(task.splits[true_split]), _targets(task.splits[split])
    if true is None or given is None:
        return Note(code="not_classification", text="The targets are no tensors of classes, so no label is noisy.")
    if true.shape != given.shape:
        raise DataError(
            f"one true target for each target of {split} was required, {tuple(true.shape)} came for "
            f"{tuple(given.shape)}: give the examples of {split} in their order"
        )
    if _is_reordered(task.splits[true_split], task.splits[split]):
        raise DataError(
            f"the examples of {split} in their order were required in {true_split}, they came in another one: "
            "do not shuffle either of the two"
        )
    return true


def noisy_marks(given: torch.Tensor, true: torch.Tensor, loss: Loss) -> torch.Tensor:
    """``(N,)`` bool: whether any target of an example differs from the true one, where both count.

    Of distributions the largest entry counts, and of shares of the second of two classes whether they exceed a half,
    so that smoothing a label leaves it what it was.
    """
    if loss.kind == "categorical" and given.is_floating_point():
        given, true = given.argmax(1), true.argmax(1)
    ignored = ignored_target(loss)
    differ = (given > 0.5) != (true > 0.5) if loss.kind == "binary" else given != true
    if ignored is not None:
        differ = differ & is_counted(given, ignored) & is_counted(true, ignored)
    return differ if differ.ndim == 1 else differ.flatten(1).any(1)


def noisy_examples(task: Task) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The identities ``(N,)`` of the training examples and which of them are noisy; None where nobody knows."""
    true = true_targets(task)
    if isinstance(true, Note):
        return None
    index = torch.cat([batch.index.cpu() for batch in task.splits["train"]])
    given = _targets(task.splits["train"])
    return None if given is None else (index, noisy_marks(given, true, task.loss))


def _targets(data: Data) -> torch.Tensor | None:
    found = [batch.y for batch in data]
    if not all(isinstance(y, torch.Tensor) for y in found) or len({y.shape[1:] for y in found}) != 1:
        return None
    return torch.cat([y.cpu() for y in found])


def _is_reordered(one: Data, other: Data) -> bool:
    """Whether both hold the same inputs, but not in the same order; other inputs may be meant as they are."""
    if isinstance(one, Arrays) and isinstance(other, Arrays) and one.x is other.x:
        return False
    places = [list(_fingerprints(data)) for data in (one, other)]
    return places[0] != places[1] and Counter(places[0]) == Counter(places[1])


def _fingerprints(data: Data) -> Iterable[int]:
    """One number an example, of its bits; none where inputs are not tensors with a row an example."""
    for batch in data:
        leaves = tree.tensors(batch.x)
        if any(leaf.ndim == 0 or len(leaf) != len(batch) for leaf in leaves):
            return
        flat = [leaf.detach().cpu().contiguous().flatten().view(torch.uint8) for leaf in leaves if leaf.numel()]
        held = [part.reshape(len(batch), -1).numpy() for part in flat]
        yield from (hash(tuple(part[place].tobytes() for part in held)) for place in range(len(batch)))
