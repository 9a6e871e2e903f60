"""What every measurement promises: the same bits again, an untouched subject, figures and words for what it found."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vallis.core.figures import Figure
from vallis.core.protocols import Measurement
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Outcome, Result, Solution

RNG = Rng(0).child("measure")


def measured(part: Any, solution: Solution, rng: Rng = RNG) -> Result:
    """The result, after proof that asking changed nothing and that asking again gives the same bits."""
    assert isinstance(part, Measurement)
    tensors = {**solution.params, **solution.buffers}
    before = {name: value.clone() for name, value in tensors.items()}
    modes = [module.training for module in solution.net.module.modules()]
    state = torch.random.get_rng_state()
    found = part.measure(solution, rng)
    assert isinstance(found, Result), found
    must_be_the_same(found, part.measure(solution, rng))
    for name, value in before.items():
        torch.testing.assert_close(tensors[name], value, rtol=0, atol=0, equal_nan=True)
    assert [module.training for module in solution.net.module.modules()] == modes
    assert all(value.grad is None for value in (*tensors.values(), *solution.net.module.parameters()))
    assert torch.equal(torch.random.get_rng_state(), state)
    must_be_shown(part, found)
    return found


def must_be_the_same(one: Outcome, other: Outcome) -> None:
    assert isinstance(one, Result)
    assert isinstance(other, Result)
    assert one.notes == other.notes
    assert list(one.values) == list(other.values)
    for key, value in one.values.items():
        again = other.values[key]
        if isinstance(value, Array):
            assert isinstance(again, Array)
            np.testing.assert_array_equal(value.data, again.data)
        else:
            assert value == again or np.isnan(value.value)


def must_be_shown(part: Any, found: Result) -> None:
    for key, value in found.values.items():
        if isinstance(value, Estimate):
            assert isinstance(value.value, (int, float)), key
            assert value.method, key
        else:
            assert value.data.dtype == np.float64, key
            assert len(value.dims) == value.data.ndim, key
            for dim, coords in value.coords.items():
                assert len(coords) == value.data.shape[value.dims.index(dim)], key
    figures = part.figures(found)
    assert all(isinstance(figure, Figure) and figure.marks for figure in figures)
    assert len({figure.name for figure in figures}) == len(figures)
    words = part.reading(found)
    assert words.endswith(".")
    assert words[0].isupper() or words[0].isdigit()
    assert "nan" not in words or any(note.code == "not_finite" for note in found.notes)
