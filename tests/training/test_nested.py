from __future__ import annotations

import pytest
import torch

from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Packed
from vallis.testing.toys.problems import Blobs
from vallis.training._nested import only_task, pack_within, packed_within


def test_a_state_within_a_state_within_a_state() -> None:
    inner = Packed(tensors={"params/w": torch.ones(2)}, values={"step": 3})
    middle = pack_within(inner, {"best/w": torch.zeros(1)}, {"loss": 0.5})
    outer = pack_within(middle, {}, {"before": 1})
    found = packed_within(packed_within(outer))
    assert dict(found.values) == {"step": 3}
    assert list(found.tensors) == ["params/w"]
    assert found.tensors["params/w"].equal(torch.ones(2))
    assert packed_within(outer).values["loss"] == 0.5
    assert packed_within(outer).tensors["best/w"].equal(torch.zeros(1))


def test_one_task() -> None:
    one, two = Blobs().build(Rng(0)), Blobs(angles=(0.0, 1.0)).build(Rng(0))
    assert only_task(one, "this") is one[0]
    with pytest.raises(SettingsError, match="one task was required by this, 2 came"):
        only_task(two, "this")
    with pytest.raises(DataError, match="none came"):
        only_task((), "this")
