"""The whole measurement: bounds that hold, what they rest on, and what is said when they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, must_be_shown, must_be_the_same
from tests.numerics.solutions import (
    batch_norm,
    binary,
    built,
    classes,
    dead_relu,
    held,
    mlp,
    random,
    regression,
    tokens,
)
from vallis.core.corrected_losses import ForwardCorrected
from vallis.core.data import Arrays, Batches
from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.own import coordinates
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result, Solution
from vallis.measurements.curvature.pac_bayes import PacBayes
from vallis.models.mlp import Mlp
from vallis.numerics.certificate import wrong
from vallis.numerics.kl_inverse import kl_inverse
from vallis.problems.digits import Digits
from vallis.training.gradient_descent import GradientDescent

AXES = ("standard", "curvature", "refreshed")


def measured(part: PacBayes, path: Sequence[Solution]) -> Result:
    before = [{name: value.clone() for name, value in one.params.items()} for one in path]
    state = torch.random.get_rng_state()
    found = part.measure(path, RNG)
    assert isinstance(found, Result), found
    must_be_the_same(found, part.measure(path, RNG))
    must_be_shown(part, found)
    for one, held_before in zip(path, before, strict=True):
        assert all(torch.equal(one.params[name], value) for name, value in held_before.items())
        assert all(value.grad is None for value in one.params.values())
    assert torch.equal(torch.random.get_rng_state(), state)
    return found


def moved(solution: Solution, by: float = 0.1) -> Solution:
    """The solution some way from where it was, as if it had been trained."""
    generator = Rng(3).torch()
    params = {name: v + by * torch.randn(v.shape, generator=generator) for name, v in solution.params.items()}
    return replace(solution, params=params, step=10)


def learned(num_examples: int, noise: float = 0.0, width: int = 12, steps: int = 150) -> tuple[Solution, Solution]:
    """A network before and after it learned two clouds, of which a share of labels is drawn at random."""
    generator = Rng(1).torch()
    y = torch.randint(2, (2 * num_examples,), generator=generator)
    x = torch.randn(2 * num_examples, 3, generator=generator)
    x[:, 0] += 3.0 * (y - 0.5)
    drawn = torch.randint(2, y.shape, generator=generator)
    y = torch.where(torch.rand(y.shape, generator=generator) < noise, drawn, y)
    module = built(lambda: nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2)))
    train, test = slice(0, num_examples), slice(num_examples, None)
    first = held(module, x[train], y[train], batch_size=500, test=(x[test], y[test]))
    first = replace(first, params={name: value.clone() for name, value in first.params.items()})
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x[train]), y[train]).backward()
        optimizer.step()
    params = {name: value.detach().clone() for name, value in module.named_parameters()}
    return first, replace(first, params=params, step=steps)


def test_the_bound_holds_for_unseen_examples_and_says_more_than_guessing() -> None:
    part = PacBayes(axes=AXES, epochs=25, learning_rate=0.03, decay_every=20, num_draws=1000, num_test_draws=50)
    found = measured(part, learned(800))
    for basis in AXES:
        bound, test = found.estimate(f"bound_{basis}"), found.estimate(f"test_error_{basis}")
        assert found.estimate(f"train_error_{basis}").value < bound.value
        assert test.stderr is not None
        assert test.value + 4 * test.stderr < bound.value < 0.5
        assert bound.stderr is None
        assert "0.965" in bound.method
    assert found.estimate("valid").value == 1.0
    assert found.estimate("vacuous").value == 0.0
    assert found.estimate("guessing_error").value == 0.5
    assert "vacuous" not in part.reading(found)
    assert "with probability 0.895, on a share of at most" in part.reading(found)  # the best of three


def test_random_labels_have_a_much_larger_bound_and_it_is_called_vacuous() -> None:
    part = PacBayes(axes=("standard",), epochs=40, learning_rate=0.03, decay_every=30, num_draws=500)
    clean, noisy = (measured(part, learned(600, noise, steps=300)) for noise in (0.0, 1.0))
    assert noisy.estimate("bound_standard").value > clean.estimate("bound_standard").value + 0.2
    assert noisy.estimate("vacuous").value == 1.0
    assert "vacuous" in [note.code for note in noisy.notes]
    assert "That is vacuous: to draw the answer among the classes, all alike, errs on 0.5" in part.reading(noisy)


def of_two_classes(seed: int, random_labels: bool = False) -> tuple[Solution, Solution]:
    """Digits below five against the others: before and after a short training, or a long one where nothing is true."""
    (task,) = Digits().build(Rng(seed))
    splits = {}
    for name, data in task.splits.items():
        assert isinstance(data, Arrays)
        y = (data.y >= 5).long()
        if random_labels and name == "train":
            y = torch.randint(2, y.shape, generator=Rng(seed).child("labels").torch())
        splits[name] = Arrays(x=data.x, y=y, index=data.index)
    tasks = (replace(task, splits=splits),)
    net = Mlp(widths=(64,)).build(tasks, Rng(seed).child("model"))
    params, buffers = coordinates(net.module)
    steps = 5000 if random_labels else 280
    training = GradientDescent(learning_rate=0.03, momentum=0.9, batch_size=100, max_steps=steps)
    state = training.init(net, params, buffers, tasks, Rng(seed).child("training"))
    first = training.solution(state)
    while not state.done:
        training.step(state)
    return first, training.solution(state)


def test_axes_of_the_curvature_make_the_bound_tighter() -> None:
    """The claim of the paper, and its baselines: true labels are bounded below guessing, random ones are not."""
    part = PacBayes(axes=("standard", "curvature"), epochs=60, decay_every=45, learning_rate=0.02, num_draws=1000)
    found = part.measure(of_two_classes(0), RNG)
    noise = replace(part, axes=("standard",), epochs=30, decay_every=25).measure(of_two_classes(0, True), RNG)
    assert isinstance(found, Result)
    assert isinstance(noise, Result)
    bounds = {basis: found.estimate(f"bound_{basis}").value for basis in part.axes}
    assert bounds["curvature"] <= bounds["standard"] + 0.01
    assert bounds["curvature"] < 0.5
    assert noise.estimate("network_train_error").value < 0.1
    assert noise.estimate("vacuous").value == 1.0
    assert noise.estimate("bound_standard").value > bounds["standard"] + 0.1
    for basis in part.axes:
        assert found.estimate(f"test_error_{basis}").value < bounds[basis]


def test_the_certificate_is_the_one_of_its_parts() -> None:
    found = measured(PacBayes(axes=("curvature",), epochs=3, num_draws=500), learned(300))
    kl, variance = found.estimate("divergence_curvature").value, found.estimate("prior_variance_curvature").value
    j = round(100 * (np.log(0.1) - np.log(variance)))
    at_most = kl_inverse(found.estimate("train_error_curvature").value, float(np.log(2 / 0.01)) / 500)
    squared = (kl + 2 * np.log(j) + np.log(np.pi**2 * 300 / (6 * 0.025))) / 299
    assert found.estimate("bound_curvature").value == pytest.approx(kl_inverse(at_most, float(squared)), rel=1e-9)
    assert found.estimate("bound_curvature").n == 300


def test_the_network_in_the_middle_is_told_apart_from_those_drawn() -> None:
    path = learned(200)
    found = measured(PacBayes.tiny(), path)
    objective = Objective(path[-1])
    errors = sum(float(wrong(objective, objective.origin, batch).sum()) for batch in objective.batches())
    assert found.estimate("network_train_error").value == errors / 200


def codes(found: Result) -> set[str]:
    return {note.code for note in found.notes}


def test_without_the_start_of_training_the_prior_is_at_zero() -> None:
    first, last = learned(100)
    for path in ([last], [replace(first, step=3), last]):
        found = measured(PacBayes.tiny(), path)
        assert "prior_at_zero" in codes(found)
        assert found.estimate("valid").value == 1.0
    given = measured(PacBayes.tiny(), [first, last])
    assert "prior_at_zero" not in codes(given)
    assert "prior_as_given" in codes(given)
    made = replace(first, origin={"seed": 0})
    assert not {"prior_as_given", "prior_at_zero"} & codes(measured(PacBayes.tiny(), [made, last]))


def test_the_prior_around_the_start_is_the_better_one() -> None:
    """Far from zero and close to the start: the divergence must be much smaller."""
    solution = mlp(num_examples=200, batch_size=100)
    shifted = replace(solution, params={name: value + 3.0 for name, value in solution.params.items()})
    part = PacBayes(axes=("standard",), epochs=0, num_draws=10)
    near, far = measured(part, [shifted, moved(shifted, 1e-3)]), measured(part, [moved(shifted, 1e-3)])
    assert near.estimate("divergence_standard").value < far.estimate("divergence_standard").value - 1000


def test_running_statistics_that_saw_the_data_make_it_invalid() -> None:
    first = batch_norm()
    last = moved(first, 0.01)
    unseen = measured(PacBayes.tiny(), [first, last])
    assert unseen.estimate("valid").value == 1.0  # they are those of the start
    buffers = {n: v + 0.1 if v.is_floating_point() else v for n, v in last.buffers.items()}
    found = measured(PacBayes.tiny(), [first, replace(last, buffers=buffers)])
    assert found.estimate("valid").value == 0.0
    assert "not_valid" in codes(found)
    assert "It is no guarantee, because the network also computes" in PacBayes.tiny().reading(found)
    alone = measured(PacBayes.tiny(), [last])  # nobody knows
    assert alone.estimate("valid").value == 0.0


def test_whatever_is_not_classified_once_an_example_has_no_bound() -> None:
    for solution in (regression(), tokens()):
        found = PacBayes.tiny().measure([solution], RNG)
        assert isinstance(found, NotApplicable)
        assert found.note.code == "not_classification"
    single = PacBayes.tiny().measure([mlp(num_examples=1)], RNG)
    assert isinstance(single, NotApplicable)
    assert single.note.code == "too_few_examples"


def test_a_diverged_network_has_none() -> None:
    solution = mlp()
    solution.params["0.weight"][0] = torch.inf
    found = PacBayes.tiny().measure([solution], RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "not_finite"


@pytest.mark.parametrize("make", [dead_relu, binary, lambda: mlp(double=True)])
def test_dead_units_one_score_and_float64(make: Any) -> None:
    first = make()
    first.params[next(iter(first.params))][0] = 0.0
    found = measured(PacBayes.tiny(), [first, replace(first, step=1)])
    for basis in AXES:
        assert 0 < found.estimate(f"bound_{basis}").value <= 1
        assert np.isfinite(found.array(f"objective_{basis}").data).all()


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    """As the border of a picture is: a zero eigenvalue, and no gradient ever."""
    x = random(60, 5)
    x[:, :3] = 0.0
    module = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)))
    module[0].weight.data[:, :3] = 0.0
    found = measured(PacBayes.tiny(), [held(module, x, classes(60))])
    assert all(np.isfinite(value.value) for value in found.values.values() if hasattr(value, "value"))


def test_a_part_of_the_examples_bounds_with_its_own_number() -> None:
    found = measured(replace(PacBayes.tiny(), max_examples=50), learned(200))
    assert found.estimate("bound_standard").n == 50
    assert "part_of_the_data" in codes(found)


def test_a_loader_that_was_read_in_batches() -> None:
    first, last = learned(60)
    data = last.task.splits["train"]
    assert isinstance(data, Arrays)
    kept = Batches(kept=tuple(data.in_batches_of(16)))
    tasks = (replace(last.task, splits={**last.task.splits, "train": kept}),)
    found = measured(PacBayes.tiny(), [replace(first, tasks=tasks), replace(last, tasks=tasks)])
    assert found.estimate("bound_standard").n == 60


def test_too_few_epochs_are_said() -> None:
    found = measured(PacBayes(axes=("standard",), epochs=12, learning_rate=0.03, num_draws=20), learned(300))
    assert "not_converged" in codes(found)
    (note,) = (note for note in found.notes if note.code == "not_converged")
    assert "the bound holds" in note.text


def test_pictures() -> None:
    part = PacBayes.tiny()
    bars, walk = part.figures(measured(part, learned(60)))
    assert [mark.label for mark in bars.marks] == ["bound", "training error", "test error"]
    assert all(list(mark.x) == list(AXES) for mark in bars.marks)
    assert [mark.label for mark in walk.marks] == list(AXES)
    still = replace(part, epochs=0)
    assert len(still.figures(measured(still, learned(60)))) == 1


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"axes": ()}, "axes among"),
        ({"axes": ("standard", "standard")}, "axes among"),
        ({"axes": ("eigen",)}, "axes among"),
        ({"failure": 0.0}, "chances"),
        ({"failure": 0.6, "draws_failure": 0.5}, "chances"),
        ({"num_draws": 0}, "num_draws"),
        ({"num_test_draws": 0}, "num_test_draws"),
        ({"epochs": -1}, "epochs"),
    ],
)
def test_impossible_settings_are_refused(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        PacBayes(**bad)


def test_a_loss_without_kronecker_factors_has_bounds_along_the_other_axes() -> None:
    """Forward correction is not convex in the scores: only the axes of the parameters are left, or none."""
    loss = ForwardCorrected(transition=((0.6, 0.2, 0.2), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)))
    solution = held(built(lambda: nn.Linear(3, 3)), random(40, 3), classes(40), loss)
    part = PacBayes(axes=AXES, epochs=3, batch_size=20, num_draws=20, num_test_draws=5)
    found = measured(part, [solution])
    (note,) = (note for note in found.notes if note.code == "no_kronecker_form")
    assert "no bound along curvature and refreshed axes" in note.text and "convex in the scores" in note.text
    assert [name for name in found.values if name.startswith("bound_")] == ["bound_standard"]
    alone = replace(part, axes=("standard",))
    assert found.estimate("bound_standard") == measured(alone, [solution]).estimate("bound_standard")
    assert part.reading(found) == alone.reading(found), "one bound holds with the probability of one"
    nothing = replace(part, axes=("curvature",)).measure([solution], RNG)
    assert isinstance(nothing, NotApplicable) and nothing.note.code == "no_kronecker_form"
