from __future__ import annotations

import numpy as np
import pytest
import torch

from vallis.core.rng import Rng
from vallis.core.types import Note
from vallis.measurements.curvature._eigenspace_overlap_values import Checks, Overlaps, checked, result_of
from vallis.numerics.eigenspaces import random_overlap


def space(size: int, width: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(size, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(drawn).Q


def overlaps(name: str, num_outputs: int, curve: list[float], converged: bool = True) -> Overlaps:
    checks = Checks(width=num_outputs, own=1.0, moved=0.0, drawn=np.array([0.1, 0.3]))
    return Overlaps(
        name=name,
        num_outputs=num_outputs,
        size=20,
        curve=np.array(curve),
        checks=checks,
        converged=converged,
    )


def test_known_overlaps_come_out() -> None:
    found = checked(space(30, 4, 0), space(30, 4, 1), 400, Rng(0))
    assert found.width == 4
    assert found.own == pytest.approx(1, abs=1e-12)
    assert found.moved <= 1e-12
    mean, spread = random_overlap(4, 30)
    assert abs(found.drawn.mean() - mean) <= 4 * spread / 20
    assert found.drawn.std() == pytest.approx(spread, rel=0.2)


def test_no_directions_are_no_space() -> None:
    found = checked(torch.empty(30, 0), torch.empty(30, 0), 3, Rng(0))
    assert found.width == 0
    assert np.isnan([found.own, found.moved, *found.drawn]).all()


def test_layers_share_tables() -> None:
    found = result_of([overlaps("a", 2, [0.5, 0.4, 0.3, 0.2]), overlaps("b", 1, [0.7, 0.6])], ())
    np.testing.assert_array_equal(found.array("overlaps").data, [[0.5, 0.4, 0.3, 0.2], [0.7, 0.6, np.nan, np.nan]])
    np.testing.assert_allclose(found.array("random_overlaps").data[0], [0.05, 0.1, 0.15, 0.2])
    np.testing.assert_array_equal(found.array("overlaps_at_outputs").data, [0.4, 0.7])
    np.testing.assert_array_equal(found.array("overlaps_at_twice_outputs").data, [0.2, 0.6])
    np.testing.assert_allclose(found.array("random_at_outputs").data, [0.1, 0.05])
    np.testing.assert_allclose(found.array("drawn_overlaps").data, 0.2)
    np.testing.assert_allclose(found.array("drawn_errors").data, 0.1)
    assert found.estimate("first_overlap").value == 0.4
    (note,) = found.notes
    assert note.text == "Layers have different numbers of directions: rows of the tables end where theirs do."
    assert result_of([overlaps("a", 2, [0.5, 0.4, 0.3, 0.2])], ()).notes == ()


def test_fewer_vectors_asked_for_than_outputs_are_named() -> None:
    (note,) = result_of([overlaps("a", 3, [0.5, 0.4])], ()).notes
    assert note.text == "Fewer directions were asked for than there are outputs in layer a (3): raise num_top."


def test_what_is_missing_is_said() -> None:
    own = Note(code="own", text="One.")
    found = result_of([overlaps("a", 2, [0.5, np.nan], converged=False)], (own,))
    assert [note.code for note in found.notes] == ["own", "not_converged", "gaps"]
    assert found.notes[1].text == "Not all eigenvectors that were asked for converged in layer a."
    assert found.notes[2].text.endswith("above rounding in both networks in layer a (1).")
    assert "first_overlap" not in found.values
