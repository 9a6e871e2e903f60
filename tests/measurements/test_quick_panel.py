"""The quick panel is quick for expensive networks, too: it looks at fewer examples, and says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vallis.core import catalog, spec
from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.report.examine import chosen

COSTLY = [part for part in chosen("quick") if hasattr(part, "max_operations")]


def test_all_of_it_that_looks_more_than_once_has_a_budget() -> None:
    assert {spec.name_of(part) for part in COSTLY} == {
        "basin_radius",
        "hessian_spectrum",
        "hessian_trace",
        "loss_slice",
    }
    assert {spec.name_of(part) for part in chosen("quick")} - {spec.name_of(part) for part in COSTLY} == {
        "generalization_gap",
        "margins",
    }


@pytest.mark.parametrize("part", COSTLY, ids=spec.name_of)
def test_it_spends_about_what_it_may(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vallis.numerics.surface.LEAST_EXAMPLES", 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x, y = torch.randn(400, 20), torch.arange(400) % 3
        net = nn.Sequential(nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 3))
    solution = Solution.of(net, nn.CrossEntropyLoss(), train=(x, y))
    with FlopCounterMode(display=False) as counter:
        found = replace(part, max_operations=3e7).measure(solution, Rng(0))
    assert "part_of_the_data" in [note.code for note in found.notes]
    # Lines and planes through the first layer cost less, since what enters it does not change; how many products a
    # spectrum takes is not known before.
    assert 0.1 < counter.get_total_flops() / 3e7 < 1.5


def test_a_budget_of_nothing_is_refused_at_once() -> None:
    for name in map(spec.name_of, COSTLY):
        part = catalog.load("measurements", name)
        with pytest.raises(SettingsError, match="max_operations"):
            spec.build(part, {"max_operations": 0.0})
