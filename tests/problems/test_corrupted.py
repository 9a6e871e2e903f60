from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.problems.expect import arrays, build
from vallis.core import spec
from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.problems.arrays import Arrays
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.noisy_labels import NoisyLabels
from vallis.problems.spirals import Spirals
from vallis.problems.subset import Subset
from vallis.testing.toys.problems import Blobs

ALL_PIXELS = ("none", "shuffled", "random", "gaussian", "gaussian_iid")


def digits(seed: int = 0, **settings: Any) -> Task:
    return build(Corrupted(base=Digits(), **settings), seed)


def test_nothing_asked_changes_nothing() -> None:
    whole, same = build(Digits()), digits()
    assert list(same.splits) == ["train", "test"]
    assert all(same.splits[name].fingerprint() == split.fingerprint() for name, split in whole.splits.items())


def test_test_labels_stay_true_and_the_old_labels_are_kept() -> None:
    whole, noisy = build(Digits()), digits(labels=0.5)
    assert noisy.splits["test"].fingerprint() == whole.splits["test"].fingerprint()
    train, true = arrays(noisy, "train"), arrays(noisy, "true_labels")
    assert true.y.equal(arrays(whole, "train").y)
    assert true.x.equal(train.x)
    assert train.index.equal(arrays(whole, "train").index)
    share = float((train.y != true.y).double().mean())
    assert share == pytest.approx(0.45, abs=4 * (0.45 * 0.55 / len(train)) ** 0.5)


def test_more_noise_keeps_the_noise_there_was() -> None:
    true = arrays(build(Digits()), "train").y
    small, large = (arrays(digits(labels=fraction), "train").y for fraction in (0.3, 0.7))
    changed = small != true
    assert small[changed].equal(large[changed])
    assert int((large != true).sum()) > int(changed.sum())


def test_the_streams_are_independent() -> None:
    """Changing the pixels leaves the labels, changing the labels leaves the pixels, and another seed changes both."""
    labels = {pixels: arrays(digits(labels=0.5, pixels=pixels), "train").y for pixels in ALL_PIXELS}
    assert all(y.equal(labels["none"]) for y in labels.values())
    for pixels in ALL_PIXELS[1:]:
        plain = arrays(digits(pixels=pixels), "train").x
        assert plain.equal(arrays(digits(labels=1.0, pixels=pixels), "train").x)
        permuted = [arrays(digits(seed, pixels=pixels), "train").x.mean((0, 1)) for seed in (0, 1)]
        assert not permuted[0].equal(permuted[1])
    assert not labels["none"].equal(arrays(digits(1, labels=0.5), "train").y)


def test_one_permutation_for_all_images_of_all_splits() -> None:
    whole, shuffled = build(Digits()), digits(pixels="shuffled")
    before = torch.cat([arrays(whole, name).x for name in ("train", "test")]).flatten(1)
    after = torch.cat([arrays(shuffled, name).x for name in ("train", "test")]).flatten(1)
    # Each column of the one is a column of the other.
    assert sorted(map(tuple, after.T.tolist())) == sorted(map(tuple, before.T.tolist()))
    assert not after.equal(before)


def test_a_permutation_of_its_own_for_each_image() -> None:
    whole, shuffled = build(Digits()), digits(pixels="random")
    for name in ("train", "test"):
        before, after = arrays(whole, name).x.flatten(1), arrays(shuffled, name).x.flatten(1)
        assert after.sort(1).values.equal(before.sort(1).values)
        # Nothing of the mean picture is left.
        assert float(after.mean(0).std()) < 0.15 * float(before.mean(0).std())


def test_gaussian_inputs_have_the_means_and_the_covariance_diagonal_of_the_data() -> None:
    whole, noise = build(Digits()), digits(pixels="gaussian")
    real = arrays(whole, "train").x.flatten(1).double()
    for name in ("train", "test"):
        drawn = arrays(noise, name).x.flatten(1).double()
        n = len(drawn)
        std = real.std(0, correction=0)
        never = std == 0  # places that are always blank stay blank
        assert drawn[:, never].equal(real[:n, never][:1].expand(n, -1))
        live = ~never
        z = (drawn.mean(0) - real.mean(0))[live] / (std[live] / n**0.5)
        assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
        ratio = drawn.var(0)[live] / std[live] ** 2
        assert (ratio - 1).abs().max() < 5 * (2 / n) ** 0.5
        standard = ((drawn - real.mean(0)) / std)[:, live]
        correlation = np.corrcoef(standard.T.numpy())
        off = correlation[~np.eye(len(correlation), dtype=bool)]
        assert abs(off.mean()) < 4 / (n**0.5 * len(correlation))
        assert stats.kstest(standard.flatten().numpy(), "norm").pvalue > 1e-4


def test_gaussian_iid_inputs_have_one_mean_and_one_variance_everywhere() -> None:
    whole, noise = build(Digits()), digits(pixels="gaussian_iid")
    real = arrays(whole, "train").x.double()
    scale = float(real.std(correction=0))
    for name in ("train", "test"):
        z = ((arrays(noise, name).x.double() - real.mean()) / scale).flatten(1)
        n = len(z)
        assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
        assert stats.kstest((z.mean(0) * n**0.5).numpy(), "norm").pvalue > 1e-3, "also where digits are always blank"
        correlation = np.corrcoef(z.T.numpy())[np.triu_indices(z.shape[1], 1)]
        assert np.abs(correlation).max() < 5 / n**0.5
    assert arrays(noise, "train").y.equal(arrays(whole, "train").y)


def test_several_tasks() -> None:
    """Identities stay unique over all of them, each has noise of its own, and one permutation serves all."""
    tasks = Corrupted(base=Blobs(angles=(0.0, 1.0)), labels=1.0, pixels="shuffled").build(Rng(0))
    index = torch.cat([arrays(task, name).index for task in tasks for name in task.splits])
    assert len(index.unique()) == len(index) == 2 * (48 + 24 + 48)
    first, second = (arrays(task, "train").y for task in tasks)
    assert not first.equal(second)


def test_flat_inputs_and_subsets() -> None:
    task = build(Corrupted(base=Subset(base=Spirals(), num_train=50), labels=0.5, pixels="gaussian"))
    assert arrays(task, "train").x.shape == (50, 2)


def test_round_trip_and_digest() -> None:
    problem = Corrupted(base=Subset(base=Digits(), num_train=50), labels=0.4, pixels="random")
    assert spec.from_spec(spec.to_spec(problem)) == problem
    assert spec.digest(problem) != spec.digest(Corrupted(base=problem.base, labels=0.4))


def test_impossible_settings_are_refused() -> None:
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(SettingsError, match=r"corrupted\.labels"):
            Corrupted(base=Digits(), labels=fraction)
    with pytest.raises(SettingsError, match=r"corrupted\.pixels"):
        Corrupted(base=Digits(), pixels="blurred")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="corrupt it once"):
        Corrupted(base=Subset(base=Corrupted(base=Digits())))


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", x_train=np.zeros((4, 3)), y_train=np.zeros(4), x_test=np.zeros((4, 3)), y_test=np.zeros(4)
    )
    base = Arrays(path=str(tmp_path / "a.npz"), loss="squared_error")
    with pytest.raises(DataError, match=r"corrupted\.labels"):
        build(Corrupted(base=base, labels=0.5))
    build(Corrupted(base=base, pixels="shuffled"))


def test_one_class_has_no_other_to_become_and_one_score_tells_two_apart(tmp_path: Path) -> None:
    x, path = np.random.default_rng(0).random((40, 3)), str(tmp_path / "a.npz")
    np.savez(path, x_train=x, y_train=np.zeros(40, dtype=np.int64))
    for wrapped in (Corrupted(base=Arrays(path=path), labels=0.5), NoisyLabels(base=Arrays(path=path))):
        with pytest.raises(DataError, match="at least 2 classes"):
            build(wrapped)
    binary = Arrays(path=path, loss="binary_cross_entropy")
    for wrapped in (Corrupted(base=binary, labels=1.0), NoisyLabels(base=binary, noise="binary", other_rate=0.5)):
        assert arrays(build(wrapped), "train").y.unique().tolist() == [0, 1]
