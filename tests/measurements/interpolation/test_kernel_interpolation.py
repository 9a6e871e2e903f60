"""Interpolation of a solution's data: real images, noise, other features, and what cannot be interpolated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.measurements.interpolation.subjects import IMAGES, on
from tests.numerics.solutions import classes, held, random, regression, tokens
from vallis.core.errors import OutputError, SettingsError
from vallis.core.types import NotApplicable, Result
from vallis.measurements.interpolation.kernel_interpolation import KernelInterpolation
from vallis.numerics import kernel_interpolation
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.subset import Subset


def value(found: Result, key: str) -> float:
    return found.estimate(key).value


@pytest.mark.parametrize("name", IMAGES)
def test_true_labels_are_learned_and_noise_only_fitted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """B8: no train error; a test error below 5 % on digits; a larger norm for random labels."""
    part = KernelInterpolation(gamma=None if name == "digits" else 0.02)
    true = measured(part, on(IMAGES[name], monkeypatch))
    noise = measured(part, on(Corrupted(base=IMAGES[name], labels=1.0), monkeypatch))
    assert value(true, "train_error") == value(noise, "train_error") == 0
    assert value(true, "test_error") < {"digits": 0.05, "mnist": 0.1, "fashion_mnist": 0.25}[name]
    assert 0.8 < value(noise, "test_error") < 0.98
    assert value(noise, "norm") > 1.5 * value(true, "norm")
    assert true.array("norm_by_output").data.shape == (10,)
    assert np.linalg.norm(true.array("norm_by_output").data) == pytest.approx(value(true, "norm"))
    assert value(true, "jitter") == 0 and true.notes == ()
    if name != "digits":
        assert value(true, "gamma") == 0.02


def test_it_is_the_limit_of_kernel_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    solution = on(Digits(), monkeypatch)
    found = measured(KernelInterpolation(gamma=0.2, max_examples=None), solution)
    train, test = (solution.task.splits[name] for name in ("train", "test"))
    x, new = (split.x.flatten(1).double().numpy() for split in (train, test))  # type: ignore[attr-defined]
    targets = np.eye(10)[train.y.numpy()]  # type: ignore[attr-defined]
    ridge = KernelRidge(kernel="rbf", gamma=0.2, alpha=1e-12).fit(x, targets)
    wrong = (ridge.predict(new).argmax(1) != test.y.numpy()).mean()  # type: ignore[attr-defined]
    assert value(found, "test_error") == pytest.approx(wrong)
    assert value(found, "norm") == pytest.approx(np.sqrt(np.sum(targets * ridge.dual_coef_)), rel=1e-6)


def test_worse_functions_through_the_same_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(KernelInterpolation(rivals=True), on(IMAGES["digits"], monkeypatch))
    for rival in ("test_noise", "random_centres"):
        assert value(found, f"{rival}_train_error") == 0
        assert value(found, f"{rival}_norm") > 2 * value(found, "norm")
    assert value(found, "test_noise_test_error") > 0.8
    assert value(found, "random_centres_test_error") > 5 * value(found, "test_error")


@pytest.mark.parametrize("settings", [{"features": "gabor"}, {"features": "random_convolutions", "kernel": "linear"}])
@pytest.mark.parametrize("name", ["digits", "mnist", pytest.param("fashion_mnist", marks=pytest.mark.slow)])
def test_features_of_images(name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(KernelInterpolation(**settings), on(IMAGES[name], monkeypatch))
    assert value(found, "train_error") == 0
    assert value(found, "test_error") < {"digits": 0.08, "mnist": 0.15, "fashion_mnist": 0.35}[name]
    assert ("gamma" in found.values) == ("kernel" not in settings)


def test_numbers_are_interpolated_too() -> None:
    found = measured(KernelInterpolation(gamma=1.0), regression())
    assert value(found, "train_error") < 1e-15
    assert "mean squared error" in found.estimate("train_error").method


def test_copies_and_parts_are_noted() -> None:
    x, y = random(12, 3), classes(12)
    solution = held(nn.Linear(3, 3), torch.cat([x, x[:2]]), torch.cat([y, y[:2]]))
    found = measured(KernelInterpolation(), solution)
    assert [note.code for note in found.notes] == ["copies"] and value(found, "num_copies") == 2
    part = measured(KernelInterpolation(max_examples=5), solution)
    assert "part_of_the_data" in [note.code for note in part.notes] and part.estimate("norm").n <= 5


def test_on_disk_it_is_noted_and_a_lack_of_room_is_no_property_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    solution = regression()
    before = measured(KernelInterpolation(), solution)
    monkeypatch.setattr(kernel_interpolation, "spare_bytes", lambda _: 1)
    found = measured(KernelInterpolation(), solution)
    assert [note.code for note in found.notes] == ["on_disk"] and before.notes == ()
    assert value(found, "norm") == pytest.approx(value(before, "norm"))
    monkeypatch.setattr(kernel_interpolation, "room_on_disk", no_room)
    with pytest.raises(OutputError, match="no room"):
        KernelInterpolation().measure(solution, RNG)


def no_room(*_: int) -> None:
    raise OutputError("no room")


def test_what_cannot_be_interpolated_says_why() -> None:
    x, y = random(30, 3), classes(30)
    few = KernelInterpolation(kernel="linear").measure(held(nn.Linear(3, 3), x, y), RNG)
    assert isinstance(few, NotApplicable) and few.note.code == "not_interpolable"
    torn = KernelInterpolation().measure(held(nn.Linear(3, 3), torch.ones(2, 3), torch.tensor([0, 1])), RNG)
    assert isinstance(torn, NotApplicable)
    flat = KernelInterpolation(features="gabor").measure(held(nn.Linear(3, 3), x, y), RNG)
    assert isinstance(flat, NotApplicable) and flat.note.code == "no_images"
    assert isinstance(KernelInterpolation().measure(tokens(), RNG), NotApplicable)


def test_a_rival_that_there_is_not_is_noted() -> None:
    """The test inputs are training inputs: with other labels nothing passes through both."""
    x = random(20, 3)
    solution = held(nn.Linear(3, 3), x, classes(20), test=(x, classes(20)))
    found = measured(KernelInterpolation(rivals=True), solution)
    assert [note.code for note in found.notes] == ["no_test_noise"]
    assert "random_centres_norm" in found.values


@pytest.mark.parametrize(
    "settings", [{"kernel": "cubic"}, {"features": "wavelets"}, {"gamma": 0.0}, {"num_filters": 0}, {"filter_size": 0}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(settings))):
        KernelInterpolation(**settings)


def test_a_penalty_makes_it_kernel_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that a copy contradicts may be there then; nothing is said to interpolate."""
    solution = on(Corrupted(base=Subset(base=Digits(), num_train=300), labels=0.3), monkeypatch)
    through = measured(KernelInterpolation(gamma=0.2), solution)
    part = KernelInterpolation(gamma=0.2, penalty=0.3)
    found = measured(part, solution)
    train, test = (solution.task.splits[name] for name in ("train", "test"))
    x, new = (split.x.flatten(1).double().numpy() for split in (train, test))  # type: ignore[attr-defined]
    targets = np.eye(10)[train.y.numpy()]  # type: ignore[attr-defined]
    ridge = KernelRidge(kernel="rbf", gamma=0.2, alpha=0.3).fit(x, targets)
    wrong = (ridge.predict(new).argmax(1) != test.y.numpy()).mean()  # type: ignore[attr-defined]
    assert value(found, "test_error") == pytest.approx(wrong)
    gram = np.exp(-0.2 * np.square(x[:, None] - x[None]).sum(2))
    assert value(found, "norm") == pytest.approx(
        np.sqrt(np.sum(ridge.dual_coef_ * (gram @ ridge.dual_coef_))), rel=1e-9
    )
    assert value(found, "penalty") == pytest.approx(0.3)
    assert value(found, "train_error") > 0.02 and value(through, "train_error") == 0
    assert value(found, "test_error") < value(through, "test_error"), "noise is smoothed away"
    assert found.notes == () and "penalty" not in through.values
    assert part.reading(found).startswith("The penalised function near 300 examples")
    torn = held(nn.Linear(3, 3), torch.ones(2, 3), torch.tensor([0, 1]))
    assert value(measured(KernelInterpolation(kernel="linear", penalty=1.0), torn), "train_error") > 0
    for wrong_settings in ({"penalty": -1.0}, {"penalty": 0.1, "rivals": True}):
        with pytest.raises(SettingsError, match="penalty"):
            KernelInterpolation(**wrong_settings)  # type: ignore[arg-type]
