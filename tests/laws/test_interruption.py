"""Ctrl-C amid rays and slices leaves the caller's network as it was, and what takes long shows how far it is.

An interruption strikes inside a forward pass, at several of them, or between two points of a network that is evaluated
without its modules. What was interrupted can be measured again, with the same numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import vallis
from tests.core.caller import untouched
from tests.core.terminal import Terminal
from tests.measurements.contract import must_be_the_same
from vallis.core.types import Solution

ASKED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "radius": ("basin_radius", {"num_rays": 6, "level": "rise"}),
    "volume": ("basin_volume", {"num_rays": 6, "level": "rise"}),
    "slice": ("loss_slice", {"num_points": 5, "num_points_plane": 5}),
    "refined": ("loss_slice", {"num_points": 5, "num_points_plane": 13, "refine": True}),
    "renewed": ("loss_slice", {"num_points": 5, "num_points_plane": 5, "renew_statistics": True}),
}
X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] * X[:, 1] > 0).long()


class Fuse:
    """Raises what Ctrl-C raises, once so many passes were made; shared by a module and all copies of it."""

    left: float = float("inf")

    def burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def __deepcopy__(self, memo: Any) -> Fuse:
        return self


class Fused(nn.Module):
    """Normalised, with dropout and a hook of its owner's: whatever a measurement might leave behind would show."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse
        self.hidden, self.norm, self.drop = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2)
        self.last = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(torch.relu(self.norm(self.hidden(x))))
        self.fuse.burn()
        scores: torch.Tensor = self.last(hidden)
        return scores


def brought(module: nn.Module) -> Solution:
    """A solution of the caller's module, which trains and has gradients."""
    module.train()
    nn.functional.cross_entropy(module(X), Y).backward()
    return Solution.of(module, nn.CrossEntropyLoss(), train=(X, Y))


@pytest.mark.parametrize("passes", [0, 1, 11])
@pytest.mark.parametrize("asked", ASKED)
def test_ctrl_c_in_a_pass_leaves_the_network_as_it_was(asked: str, passes: int) -> None:
    fuse, (name, settings) = Fuse(), ASKED[asked]
    module = Fused(fuse)
    module.register_forward_hook(lambda *_: None)
    solution = brought(module)
    whole = vallis.measure(solution, name, **settings)
    with untouched(module, X, Y):
        fuse.left = passes
        with pytest.raises(KeyboardInterrupt):
            vallis.measure(solution, name, **settings)
    fuse.left = float("inf")
    must_be_the_same(vallis.measure(solution, name, **settings), whole)


@pytest.mark.parametrize("asked", [name for name in ASKED if name != "renewed"])
def test_ctrl_c_between_two_points_does_too(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of dense layers, whose modules are never called."""
    module, (name, settings) = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), ASKED[asked]
    solution, struck = brought(module), []
    whole = vallis.measure(solution, name, **settings)
    import tqdm

    class Struck(tqdm.tqdm):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            for place, item in enumerate(super().__iter__()):
                self._strike(place)
                yield item

        def update(self, n: float | None = 1) -> bool | None:
            self._strike(1)
            return super().update(n)

        def _strike(self, place: int) -> None:
            if place == 1:
                struck.append(place)
                raise KeyboardInterrupt

    with monkeypatch.context() as patched, untouched(module, X, Y):
        patched.setattr(tqdm, "tqdm", Struck)
        with pytest.raises(KeyboardInterrupt):
            vallis.measure(solution, name, **settings)
    assert struck
    must_be_the_same(vallis.measure(solution, name, **settings), whole)


def shown(monkeypatch: pytest.MonkeyPatch, solution: Solution, name: str, **settings: Any) -> list[str]:
    """What appeared on the terminal, line by line."""
    screen = Terminal.looked_at(monkeypatch)
    vallis.measure(solution, name, **settings)
    return re.split(r"[\r\n]", screen.getvalue())


@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        ("radius", ["rays", "losses along rays"]),
        ("volume", ["rays", "losses along rays"]),
        ("slice", ["line", "plane"]),
        ("refined", ["line", "points"]),
        ("renewed", ["line", "plane"]),
    ],
)
def test_what_takes_long_shows_how_far_it_is(asked: str, labels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    solution, (name, settings) = brought(Fused(Fuse())), ASKED[asked]
    lines = shown(monkeypatch, solution, name, **settings)
    for label in labels:
        own = [line for line in lines if line.startswith(f"{label}: ")]
        assert own, f"no bar of {label}"
        assert any("%" in line and not line.startswith(f"{label}:   0%") for line in own)


def test_rays_are_counted_while_they_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all of them at the end: a bar that only ever shows nothing or all is no progress."""
    lines = shown(monkeypatch, brought(Fused(Fuse())), "basin_radius", num_rays=60, level="rise")
    counts = {int(found[1]) for line in lines if (found := re.match(r"rays: .*\| *(\d+)/60", line))}
    assert len(counts - {0, 60}) >= 3
