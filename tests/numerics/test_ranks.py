"""What processes say to each other, in a group of one here; in groups of more see test_distributed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed

from vallis.core.errors import UsageError
from vallis.numerics.ranks import Ranks, must_count


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield Ranks()
    distributed.destroy_process_group()


def test_one_process_is_a_group(alone: Ranks) -> None:
    own = torch.randn(4)
    assert torch.equal(alone.sum(own), own)
    assert alone.sum(own) is not own
    assert alone.gather([1.0, 2.0]).tolist() == [[1.0, 2.0]]
    assert alone.gather_objects({"a": 1}) == [{"a": 1}]
    assert alone.together(lambda: 3) == 3
    alone.must_agree("thing", "x")


def test_what_raises_is_raised(alone: Ranks) -> None:
    with pytest.raises(ZeroDivisionError):
        alone.together(lambda: 1 // 0)


def test_something_must_count(alone: Ranks) -> None:
    assert must_count(alone, 2.0) == 0
    with pytest.raises(UsageError, match="at least one counted target was required, no process has one"):
        must_count(alone, 0.0)


def test_without_a_group_it_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"process group was required.*torchrun"):
        Ranks()


def test_nccl_wants_a_gpu(alone: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "get_backend", lambda group: "nccl")
    with pytest.raises(UsageError, match="parameters on a GPU were required for nccl, those on cpu came"):
        Ranks(device="cpu")
