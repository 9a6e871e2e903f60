from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.problems.expect import arrays, build
from vallis.core.errors import DataCorrupt, DataError, DataMissing, SettingsError
from vallis.problems._files import Content
from vallis.problems.mnist import Mnist, load_mnist

Real = Callable[[Callable[[], Content]], Content]


def test_the_published_data(real: Real) -> None:
    content = real(load_mnist)
    assert content["x_train"].shape == (60000, 28, 28)
    assert content["x_test"].shape == (10000, 28, 28)
    assert [content[f"x_{split}"].mean() / 255 for split in ("train", "test")] == pytest.approx(
        [0.1306604762738429, 0.13251460584233693]
    )
    assert (content["y_train"][:8].tolist(), content["y_test"][:8].tolist()) == (
        [5, 0, 4, 1, 9, 2, 1, 3],
        [7, 2, 1, 0, 4, 1, 4, 9],
    )


def test_loading_takes_less_than_a_second(real: Real) -> None:
    def seconds() -> float:
        start = time.process_time()
        load_mnist()
        return time.process_time() - start

    real(load_mnist)
    assert min(seconds() for _ in range(3)) < 1


def test_a_part_of_it(real: Real) -> None:
    content = real(load_mnist)
    task = build(Mnist(num_train=200, num_test=50))
    train, test = arrays(task, "train"), arrays(task, "test")
    assert train.x.shape == (200, 1, 28, 28)
    assert test.x.shape == (50, 1, 28, 28)
    assert train.y.tolist() == content["y_train"][train.index].tolist()
    assert (train.x[7, 0] * 255).round().byte().tolist() == content["x_train"][train.index[7]].tolist()
    assert test.y.tolist() == content["y_test"][test.index - 60000].tolist()

    whitened = arrays(build(Mnist(num_train=200, num_test=50, whiten="per_image")), "train")
    assert whitened.index.equal(train.index)
    assert whitened.x.flatten(1).std(1, correction=0).sub(1).abs().max() < 1e-4


def test_missing_and_foreign_files(nowhere: Path, write_idx: Callable[..., Content]) -> None:
    with pytest.raises(DataMissing, match="MNIST was required") as missing:
        load_mnist(nowhere)
    assert "mnist.npz" in str(missing.value)
    write_idx(nowhere)
    with pytest.raises(DataCorrupt, match="MNIST was required"):
        load_mnist(nowhere)


def test_impossible_settings_are_refused(real: Real) -> None:
    with pytest.raises(SettingsError, match="num_train"):
        Mnist(num_train=0)
    with pytest.raises(SettingsError, match="whiten"):
        Mnist(whiten="yes")  # type: ignore[arg-type]
    real(load_mnist)
    with pytest.raises(DataError, match="at most 10000"):
        build(Mnist(num_test=10001))
