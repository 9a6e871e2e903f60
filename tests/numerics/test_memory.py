"""What is said to be free is free, and what a graph is said to hold is what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vallis.numerics import memory
from vallis.numerics.memory import graph_bytes, spare_bytes

CPU = torch.device("cpu")


def test_this_machine_has_some_memory_but_not_any() -> None:
    assert 2**20 < spare_bytes(CPU) < 2**50


def test_what_the_system_says_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemFree: 10 kB\nMemAvailable:   37 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert spare_bytes(CPU) == 37 * 1024


@pytest.mark.parametrize(("limit", "left"), [("20000\n", 15000), ("max\n", 37 * 1024), ("10\n", 0)])
def test_a_container_may_leave_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, left: int) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable: 37 kB\n")
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("5000\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert spare_bytes(CPU) == left


def test_a_system_that_says_nothing_has_a_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nowhere")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert spare_bytes(CPU) == 4 * 2**30


def test_the_bytes_of_a_graph_are_counted_once() -> None:
    weight = torch.randn(50, 50, requires_grad=True)
    x = torch.randn(1000, 50)

    def build() -> torch.Tensor:
        hidden = torch.tanh(x @ weight)  # keeps its output, 1000 x 50 floats; the product keeps x
        return (hidden * hidden).sum()  # keeps hidden, twice, which is the same memory

    assert graph_bytes(build, [weight, x]) == 1000 * 50 * 4
    assert graph_bytes(build) == 2 * 1000 * 50 * 4
