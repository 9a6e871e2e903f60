from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.problems.expect import arrays, build
from vallis.core import spec
from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.numerics.transition_matrix import DIGIT_PAIRS, frequencies
from vallis.problems.arrays import Arrays
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.noisy_labels import NoisyLabels
from vallis.problems.subset import Subset
from vallis.testing.toys.problems import Blobs

SETTINGS: tuple[dict[str, Any], ...] = (
    {"noise": "symmetric", "rate": 0.5},
    {"noise": "asymmetric", "rate": 0.6, "pairs": DIGIT_PAIRS},
    {"noise": "next_in_group", "rate": 0.3, "groups": (0, 0, 1, 1, 1, 2, 2, 2, 2, 2)},
)


def digits(seed: int = 0, **settings: Any) -> Task:
    return build(NoisyLabels(base=Digits(), **settings), seed)


@pytest.mark.parametrize("settings", SETTINGS)
def test_labels_are_drawn_by_the_transition_matrix(settings: dict[str, Any]) -> None:
    task, wanted = digits(**settings), NoisyLabels(base=Digits(), **settings).transition(10)
    true, noisy = arrays(task, "true_labels"), arrays(task, "train")
    found = frequencies(true.y, noisy.y, 10)
    assert float((found - wanted).abs().max()) < 4.5 * (0.25 / 130) ** 0.5
    assert bool((found[wanted == 0] == 0).all())
    assert true.x.equal(noisy.x)
    whole = build(Digits())
    assert task.splits["test"].fingerprint() == whole.splits["test"].fingerprint()
    assert true.y.equal(arrays(whole, "train").y)


def test_no_noise_changes_no_label() -> None:
    task = digits(rate=0.0)
    assert arrays(task, "train").y.equal(arrays(task, "true_labels").y)


def test_more_noise_keeps_the_noise_there_was_and_another_seed_draws_anew() -> None:
    true = arrays(build(Digits()), "train").y
    small, large = (arrays(digits(rate=rate), "train").y for rate in (0.2, 0.5))
    changed = small != true
    assert small[changed].equal(large[changed])
    assert not small.equal(arrays(digits(1, rate=0.2), "train").y)


def test_two_classes() -> None:
    (task,) = NoisyLabels(base=Blobs(num_train=4000), noise="binary", rate=0.4, other_rate=0.1).build(Rng(0))
    found = frequencies(arrays(task, "true_labels").y, arrays(task, "train").y, 2)
    np.testing.assert_allclose(found.numpy(), [[0.9, 0.1], [0.4, 0.6]], atol=0.05)


def test_several_tasks_have_noise_of_their_own() -> None:
    tasks = NoisyLabels(base=Blobs(angles=(0.0, 1.0)), rate=0.5).build(Rng(0))
    index = torch.cat([arrays(task, name).index for task in tasks for name in task.splits])
    assert len(index.unique()) == len(index) == 2 * (48 + 24 + 48)
    assert not arrays(tasks[0], "train").y.equal(arrays(tasks[1], "train").y)


def test_labels_are_made_noisy_once() -> None:
    noisy = NoisyLabels(base=Digits(), rate=0.2)
    twice = (
        NoisyLabels(base=noisy),
        NoisyLabels(base=Corrupted(base=Digits(), labels=0.5)),
        Corrupted(base=noisy, labels=0.5),
        Corrupted(base=noisy, pixels="random"),
        Subset(base=noisy, num_train=100),
    )
    for problem in twice:
        with pytest.raises(SettingsError, match="labels are true"):
            problem.build(Rng(0))
    build(NoisyLabels(base=Corrupted(base=Digits(), pixels="shuffled")))


def test_round_trip() -> None:
    problem = NoisyLabels(base=Digits(), noise="asymmetric", rate=0.6, pairs=DIGIT_PAIRS)
    assert spec.from_spec(spec.to_spec(problem)) == problem


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    for settings in ({"rate": 1.5}, {"other_rate": -1.0}, {"noise": "loud"}, {"pairs": ((0, 1),)}, {"groups": (0, 0)}):
        with pytest.raises(SettingsError, match=r"noisy_labels\."):
            NoisyLabels(base=Digits(), **settings)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"noisy_labels\.pairs"):
        NoisyLabels(base=Digits(), noise="asymmetric")
    with pytest.raises(SettingsError, match="10 classes were required of binary noise"):
        NoisyLabels(base=Digits(), noise="binary").build(Rng(0))
    held = {"x_train": np.zeros((4, 3)), "y_train": np.zeros(4), "x_test": np.zeros((4, 3)), "y_test": np.zeros(4)}
    np.savez(tmp_path / "a.npz", **held)
    with pytest.raises(DataError, match="one integer class"):
        NoisyLabels(base=Arrays(path=str(tmp_path / "a.npz"), loss="squared_error")).build(Rng(0))


def test_pixels_are_changed_inside_of_what_replaces_labels() -> None:
    """Both splits then hold the same changed inputs; the other way round it is refused, and says how to write it."""
    task = build(NoisyLabels(base=Corrupted(base=Digits(), pixels="random"), rate=0.3))
    assert arrays(task, "train").x.equal(arrays(task, "true_labels").x)
    assert not arrays(task, "train").x.equal(arrays(build(Digits()), "train").x)
    with pytest.raises(SettingsError, match="inside of what replaces labels"):
        Corrupted(base=NoisyLabels(base=Digits()), pixels="random").build(Rng(0))
