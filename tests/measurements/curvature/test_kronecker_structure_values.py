from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vallis.core.types import Note
from vallis.measurements.curvature._kronecker_structure_values import Structure, result_of


def structure(name: str, width: int, top: float = 1.0, converged: bool = True) -> Structure:
    ranked = {"eigenvalues": np.array([top, 0.5]), "rank_one_energies": np.array([0.9, np.nan])}
    return Structure(
        name=name,
        ranked={**ranked, "kronecker_overlaps": np.array([1.0, 0.5])},
        single={"factorised_distances": 1e-12 * width, "num_weights": 4.0},
        output_values=np.arange(width, 0.0, -1),
        input_shares=np.full((2, 3), 1 / 3),
        output_shares=np.full((2, width), 1 / width),
        converged=converged,
    )


def test_layers_of_different_width_share_a_table() -> None:
    found = result_of([structure("a", 2), structure("b", 4, 2.0)], "nats/weight^2", [])
    np.testing.assert_array_equal(found.array("output_eigenvalues").data, [[2, 1, np.nan, np.nan], [4, 3, 2, 1]])
    assert found.array("output_shares").data.shape == (2, 2, 4)
    assert found.array("input_shares").data.shape == (2, 2, 3)
    np.testing.assert_array_equal(found.array("eigenvalues").data[:, 0], [1, 2])
    assert found.array("eigenvalues").unit == "nats/weight^2"
    (note,) = found.notes
    assert (note.code, note.text) == (
        "gaps",
        "Fewer than num_top=2 directions have curvature above rounding in layer a (1) and layer b (1).",
    )


def test_where_only_widths_differ_that_is_said() -> None:
    both = [structure("a", 2), structure("b", 4)]
    full = [replace(each, ranked={**each.ranked, "rank_one_energies": np.ones(2)}) for each in both]
    (note,) = result_of(full, "1", []).notes
    assert "as wide as the largest layer" in note.text
    assert result_of(full[:1], "1", []).notes == ()


def test_summaries_leave_out_what_is_not_there() -> None:
    found = result_of([structure("a", 2), structure("b", 4)], "1", [Note(code="own", text="One.")])
    energy = found.estimate("median_rank_one_energy")
    assert (energy.value, energy.n) == (0.9, 2)
    assert found.estimate("median_kronecker_overlap").value == 0.75
    assert found.estimate("largest_factorised_distance").value == pytest.approx(4e-12)
    assert [note.code for note in found.notes] == ["own", "gaps"]


def test_layers_without_curvature_are_named() -> None:
    flat = structure("", 2)
    flat = replace(flat, ranked={**flat.ranked, "rank_one_energies": np.full(2, np.nan)})
    note, other = result_of([flat, structure("b", 4)], "1", []).notes
    assert [note.code, other.code] == ["flat_layers", "gaps"]
    assert other.text.endswith("rounding in layer b (1).")
    assert note.text.startswith("There is no curvature above rounding in the root module,")


def test_what_did_not_converge_is_named() -> None:
    found = result_of([structure("a", 2), structure("b", 4, converged=False)], "1", [])
    (note,) = [note for note in found.notes if note.code == "not_converged"]
    assert note.text.endswith("layer b.")
