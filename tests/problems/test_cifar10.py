from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.problems.expect import arrays, build
from vallis.core.errors import DataCorrupt, DataMissing, SettingsError
from vallis.problems._files import Content
from vallis.problems.cifar10 import Cifar10, load_cifar10

Real = Callable[[Callable[[], Content]], Content]
RECORD = 3073


def batch(number: int) -> bytes:
    """A file of 10,000 records: balanced labels, and in the first pixels the numbers of the file and of the record."""
    records = np.zeros((10_000, RECORD), dtype=np.uint8)
    records[:, 0] = np.arange(10_000) % 10
    records[:, 1] = number
    records[:, 2] = np.arange(10_000) % 251
    records[:, 1 + 1024] = 100  # the first pixel of the second channel
    return records.tobytes()


FILES = {f"data_batch_{number}.bin": number for number in range(1, 6)} | {"test_batch.bin": 6}


@pytest.fixture
def folder(nowhere: Path) -> Path:
    place = nowhere / "cifar-10-batches-bin"
    place.mkdir()
    for name, number in FILES.items():
        (place / name).write_bytes(batch(number))
    return place


def pack(folder: Path, into: Path) -> Path:
    """The files as the published archive holds them."""
    path = into / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for file in sorted(folder.iterdir(), reverse=True):
            item = tarfile.TarInfo(f"cifar-10-batches-bin/{file.name}")
            item.size = file.stat().st_size
            archive.addfile(item, io.BytesIO(file.read_bytes()))
        folder_entry = tarfile.TarInfo("cifar-10-batches-bin")
        folder_entry.type = tarfile.DIRTYPE
        archive.addfile(folder_entry)
    return path


def test_the_binary_version_is_read_from_folder_and_archive(folder: Path, nowhere: Path, tmp_path: Path) -> None:
    content = load_cifar10(nowhere)
    assert content["x_train"].shape == (50_000, 3, 32, 32)
    assert content["x_test"].shape == (10_000, 3, 32, 32)
    np.testing.assert_array_equal(content["x_train"][:, 0, 0, 0], np.repeat(np.arange(1, 6), 10_000))
    np.testing.assert_array_equal(content["x_train"][:10_000, 0, 0, 1], np.arange(10_000) % 251)
    assert (content["x_test"][:, 0, 0, 0] == 6).all()
    assert (content["x_test"][:, 1, 0, 0] == 100).all()
    assert (content["x_test"][:, 2] == 0).all()

    other = tmp_path / "other"
    other.mkdir()
    packed = pack(folder, other)
    from_archive = load_cifar10(other)
    for key, array in content.items():
        np.testing.assert_array_equal(from_archive[key], array)

    packed.write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(DataCorrupt, match=r"cifar-10-binary\.tar\.gz is damaged or truncated"):
        load_cifar10(other)


@pytest.mark.parametrize("how", ["truncated", "longer", "label 10", "unbalanced"])
def test_a_damaged_file_is_one_sentence(folder: Path, nowhere: Path, how: str) -> None:
    file = folder / "data_batch_3.bin"
    data = bytearray(file.read_bytes())
    if how == "truncated":
        del data[-1]
    elif how == "longer":
        data += b"\0"
    else:
        data[0] = 10 if how == "label 10" else 1
    file.write_bytes(bytes(data))
    with pytest.raises(DataCorrupt) as raised:
        load_cifar10(nowhere)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_archive(nowhere: Path) -> None:
    (nowhere / "cifar-10-binary.tar.gz").write_text("404")
    with pytest.raises(DataCorrupt):
        load_cifar10(nowhere)


def test_the_small_set_has_to_be_asked_for(real: Real, nowhere: Path) -> None:
    """No number silently comes from another data set."""
    with pytest.raises(DataMissing, match="small CIFAR-10"):
        load_cifar10(nowhere, variant="mini")
    with pytest.raises(DataMissing, match="CIFAR-10 was required"):
        load_cifar10(nowhere)


def test_the_small_set(real: Real) -> None:
    content = real(lambda: load_cifar10(variant="mini"))
    assert content["x_train"].shape == (5000, 3, 32, 32)
    assert np.bincount(content["y_train"]).tolist() == [500] * 10
    task = build(Cifar10(variant="mini", num_train=100, num_test=20, centre_crop=28, whiten="per_image"))
    train = arrays(task, "train")
    assert train.x.shape == (100, 3, 28, 28)
    assert train.x.flatten(1).mean(1).abs().max() < 1e-5
    plain = arrays(build(Cifar10(variant="mini", num_train=100, num_test=20)), "train")
    assert plain.index.equal(train.index)
    inner = content["x_train"][int(train.index[3])][:, 2:30, 2:30]
    cropped = arrays(build(Cifar10(variant="mini", num_train=100, num_test=20, centre_crop=28)), "train")
    assert (cropped.x[3] * 255).round().byte().tolist() == inner.tolist()


def test_impossible_settings_are_refused() -> None:
    for settings in ({"variant": "tiny"}, {"centre_crop": 33}, {"centre_crop": 0}, {"num_train": -1}):
        with pytest.raises(SettingsError, match=next(iter(settings))):
            Cifar10(**settings)  # type: ignore[arg-type]
