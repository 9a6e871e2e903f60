from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vallis.core.data import Arrays
from vallis.core.errors import SettingsError
from vallis.core.losses import CrossEntropy
from vallis.core.rng import Rng
from vallis.core.types import Net, NotApplicable, Result, Solution, Task
from vallis.measurements.fit.label_noise import LabelNoise
from vallis.numerics.transition_matrix import estimate_transition
from vallis.testing.toys.models import LinearModel, TinyMlp, as_net
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.testing.toys.solutions import start, trained

RNG = Rng(0)
# What the network below says of six examples, as logits; and the classes that it names: 0 0 1 1 2 2.
P = torch.tensor(
    [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.0625, 0.0625, 0.875], [0.2, 0.3, 0.5]],
    dtype=torch.float64,
)
NOISY, TRUE = torch.tensor([0, 2, 1, 2, 2, 2]), torch.tensor([0, 0, 0, 1, 2, 2])


def saying(p: torch.Tensor, y: torch.Tensor, true: torch.Tensor | None = None) -> Solution:
    """A network that gives each example back its own probabilities."""
    module = torch.nn.Linear(3, 3, bias=False, dtype=torch.float64)
    torch.nn.init.eye_(module.weight)
    net: Net = as_net(module)
    splits = {"train": Arrays(x=p.log(), y=y, index=torch.arange(len(p)), batch_size=4)}
    if true is not None:
        splits["true_labels"] = Arrays(x=p.log(), y=true, index=torch.arange(len(p)) + len(p))
    task = Task(name="said", splits=splits, loss=CrossEntropy())
    return Solution(net=net, params=dict(module.named_parameters()), buffers={}, tasks=(task,))


def measured(solution: Solution, part: LabelNoise | None = None) -> Result:
    found = (part or LabelNoise(percentile=None, num_resamples=10)).measure(solution, RNG)
    assert isinstance(found, Result)
    return found


def test_by_hand() -> None:
    found = measured(saying(P, NOISY, TRUE))
    np.testing.assert_allclose(found.array("transition").data, P[[0, 2, 4]].numpy(), atol=1e-12)
    realised = [[1 / 3, 1 / 3, 1 / 3], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_allclose(found.array("realised_transition").data, realised)
    assert found.estimate("largest_error").value == pytest.approx(0.9)
    assert found.estimate("noisy_fraction").value == pytest.approx(3 / 6)
    # Wrong are the second, third and fourth: answered 0, 1, 1, labelled 2, 1, 2, truly 0, 0, 1.
    assert found.estimate("memorized_fraction").value == pytest.approx(1 / 3)
    assert found.estimate("recovered_fraction").value == pytest.approx(2 / 3)
    assert found.estimate("memorized_fraction").n == 3
    assert found.estimate("condition_number").value == pytest.approx(np.linalg.cond(P[[0, 2, 4]].numpy()))
    assert not found.notes
    part = LabelNoise()
    assert [figure.name for figure in part.figures(found)] == ["transition", "realised_transition"]
    assert "learned a share of 0.33" in part.reading(found)


def test_the_interval_is_that_of_the_estimator() -> None:
    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(3), 50))
    part = LabelNoise(num_resamples=20, coverage=0.5)
    found = measured(saying(p, torch.arange(50) % 3), part)
    wanted = estimate_transition(p, num_resamples=20, coverage=0.5, rng=RNG.child("resamples"))
    for name, matrix in (
        ("transition", wanted.matrix),
        ("transition_low", wanted.low),
        ("transition_high", wanted.high),
    ):
        np.testing.assert_allclose(found.array(name).data, matrix.numpy(), atol=1e-12)


def test_without_true_labels_half_of_it_is_said() -> None:
    found = measured(saying(P, NOISY))
    assert [note.code for note in found.notes] == ["no_true_labels"]
    assert "largest_error" not in found.values
    assert LabelNoise().reading(found).endswith("nothing is known of the true labels.")


def test_without_a_wrong_label_nothing_is_memorized() -> None:
    found = measured(saying(P, TRUE, TRUE))
    assert "memorized_fraction" not in found.values
    assert LabelNoise().reading(found).endswith("No label is noisy.")


def test_a_class_without_examples_and_a_label_that_is_none() -> None:
    true = torch.tensor([0, 0, 0, 1, 1, -100])
    found = measured(saying(P, NOISY, true))
    assert [note.code for note in found.notes] == ["missing_class"]
    assert np.isnan(found.array("realised_transition").data).all(1).tolist() == [False, False, True]
    assert found.estimate("noisy_fraction").n == 5


def test_true_labels_of_which_none_counts() -> None:
    found = measured(saying(P, NOISY, torch.full((6,), -100)))
    assert [note.code for note in found.notes] == ["no_true_labels"]
    assert LabelNoise().reading(found).endswith("nothing is known of the true labels.")


def test_an_estimate_without_an_inverse_is_noted() -> None:
    same = torch.full((6, 3), 1 / 3, dtype=torch.float64)
    assert "ill_conditioned" in [note.code for note in measured(saying(same, NOISY)).notes]


def test_where_it_does_not_apply() -> None:
    regression = start(LinearRegression(), LinearModel(), RNG)
    solution = trained(Blobs(num_classes=3), TinyMlp(), RNG)
    lost = replace(solution, params={name: value * torch.nan for name, value in solution.params.items()})
    for held, code in ((regression, "not_classification"), (lost, "not_finite")):
        found = LabelNoise().measure(held, RNG)
        assert isinstance(found, NotApplicable)
        assert found.note.code == code


def test_impossible_settings_are_refused() -> None:
    for settings in ({"percentile": 0.0}, {"num_resamples": 0}, {"coverage": 1.0}):
        with pytest.raises(SettingsError, match=r"label_noise\."):
            LabelNoise(**settings)  # type: ignore[arg-type]


def test_a_class_that_labels_nothing_is_said_to_and_counts_for_nothing() -> None:
    """Class 2 is never a label: its row is the identity's, and the mean of the reading is over the others."""
    found = measured(saying(P, torch.tensor([0, 0, 1, 1, 0, 1])))
    np.testing.assert_allclose(found.array("transition").data, [*P[[0, 2]].tolist(), [0, 0, 1]], atol=1e-12)
    assert found.array("labelled").data.tolist() == [1, 1, 0]
    assert "unlabelled_class" in [note.code for note in found.notes]
    assert "a label is right with probability 0.75" in LabelNoise().reading(found)
    nothing = LabelNoise().measure(saying(P, torch.full((6,), -100)), RNG)
    assert isinstance(nothing, NotApplicable) and nothing.note.code == "no_labels"
