from __future__ import annotations

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
    assert [note.code for note in found.notes] == ["gaps"]


def test_summaries_leave_out_what_is_not_there() -> None:
    found = result_of([structure("a", 2), structure("b", 4)], "1", [Note(code="own", text="One.")])
    energy = found.estimate("median_rank_one_energy")
    assert (energy.value, energy.n) == (0.9, 2)
    assert found.estimate("median_kronecker_overlap").value == 0.75
    assert found.estimate("largest_factorised_distance").value == pytest.approx(4e-12)
    assert [note.code for note in found.notes] == ["own", "gaps"]


def test_what_did_not_converge_is_named() -> None:
    found = result_of([structure("a", 2), structure("b", 4, converged=False)], "1", [])
    (note,) = [note for note in found.notes if note.code == "not_converged"]
    assert note.text.endswith("layer b.")
