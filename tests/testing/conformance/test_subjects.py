from __future__ import annotations

import pytest
import torch

from vallis.core import tree
from vallis.core.objective import Objective
from vallis.testing.conformance import subjects
from vallis.testing.symmetries import SYMMETRIES


@pytest.mark.parametrize(("takes", "count"), [("solution", 1), ("trajectory", 3), ("pair", 2)])
def test_there_are_toys_of_all_that_is_taken(takes: str, count: int) -> None:
    found = subjects.subjects(takes)
    assert {"tanh", "relu", "convolutions", "normalised"} <= set(found)
    assert len(subjects.solutions(found["tanh"])) == count
    traits = frozenset.union(*(solution.net.traits for toy in found.values() for solution in subjects.solutions(toy)))
    assert {"smooth", "homogeneous", "convolutional", "normalised", "differentiable"} <= traits


def test_symmetries_change_the_weights_and_not_the_loss() -> None:
    for takes in ("solution", "trajectory", "pair"):
        for name in SYMMETRIES:
            subject = subjects.subjects(takes)["relu"]
            other = subjects.changed(name, takes, subject)
            for one, two in zip(subjects.solutions(subject), subjects.solutions(other), strict=True):
                assert Objective(one).value() == pytest.approx(Objective(two).value(), rel=1e-10)
            pairs = zip(subjects.solutions(subject), subjects.solutions(other), strict=True)
            moved = [tree.fingerprint(dict(a.params)) != tree.fingerprint(dict(b.params)) for a, b in pairs]
            assert moved == ([False, True] if takes == "pair" else [True] * len(moved))
    assert subjects.changed("layer_rescaling", "solution", subjects.subjects("solution")["tanh"]) is None


def test_other_batches_hold_the_same_examples() -> None:
    subject = subjects.subjects("solution")["tanh"]
    other = subjects.in_other_batches(subject, 7)
    sizes = [len(batch) for batch in other.task.splits["train"]]
    assert sizes == [7] * 6 + [6]
    assert Objective(other).value() == pytest.approx(Objective(subject).value(), rel=1e-12)


def test_everything_notices_any_change() -> None:
    subjects.subjects.cache_clear()
    subject = subjects.subjects("solution")["convolutions"]
    module = subject.net.module
    before = subjects.everything(subject)
    assert subjects.everything(subject) == before
    changes = (
        (lambda: module.train(), lambda: module.eval()),
        (lambda: module[0].weight.requires_grad_(False), lambda: module[0].weight.requires_grad_(True)),
        (lambda: setattr(module[0].weight, "grad", torch.zeros_like(module[0].weight)), lambda: module.zero_grad()),
        (lambda: subject.params["0.weight"].add_(1), lambda: subject.params["0.weight"].sub_(1)),
        (lambda: setattr(module, "note", 1), lambda: delattr(module, "note")),
    )
    for change, undo in changes:
        change()
        assert subjects.everything(subject) != before
        undo()
    module[0].register_forward_hook(lambda *_: None)
    assert subjects.everything(subject) != before
    subjects.subjects.cache_clear()


def test_a_watched_training_forgets_and_learns() -> None:
    start, infos = subjects.watched()
    right = torch.stack([info.correct for info in infos if info.correct is not None]).long()
    assert start.step == 0
    assert infos[-1].done
    assert int(right[-1].sum()) > int(right[0].sum())
    assert bool((right.diff(dim=0) < 0).any()), "something is forgotten on the way"
