"""Overlaps of the layers of two networks, against projectors of dense blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.measurements.contract import must_be_shown, must_be_the_same
from tests.numerics.layer_solutions import rectified
from tests.numerics.solutions import built, classes, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result, Solution
from vallis.measurements.curvature.eigenspace_overlap import EigenspaceOverlap
from vallis.numerics.curvature import positions
from vallis.testing.oracles import dense_hessian

RNG = Rng(0).child("measure")


def moved(solution: Solution, size: float = 0.3, seed: int = 5) -> Solution:
    params = {
        name: value + size * random(*value.shape, seed=seed + place).to(value)
        for place, (name, value) in enumerate(solution.params.items())
    }
    return replace(solution, params=params)


def compared(part: EigenspaceOverlap, one: Solution, other: Solution, rng: Rng = RNG) -> Result:
    found = part.measure((one, other), rng)
    assert isinstance(found, Result), found
    must_be_the_same(found, part.measure((one, other), rng))
    must_be_shown(part, found)
    return found


def projector(solution: Solution, weight: str, count: int) -> torch.Tensor:
    hessian = dense_hessian(solution)
    place = positions(Objective(solution, dtype=torch.float64), (weight,))
    vectors = torch.linalg.eigh(hessian[place][:, place])[1][:, -count:]
    return vectors @ vectors.T


def test_it_is_the_trace_of_two_projectors() -> None:
    one, other = mlp(), moved(mlp())
    found = compared(EigenspaceOverlap(num_top=5, precision="float64"), one, other)
    for row, name in enumerate(found.array("overlaps").coords["layer"]):
        m, n = one.params[f"{name}.weight"].shape
        told = np.isfinite(found.array("overlaps").data[row])
        assert told.sum() >= 3
        for count in range(1, int(told.sum()) + 1):
            both = [projector(each, f"{name}.weight", count) for each in (one, other)]
            truth = float((both[0] @ both[1]).trace()) / count
            assert found.array("overlaps").data[row, count - 1] == pytest.approx(truth, abs=1e-5)
            assert found.array("random_overlaps").data[row, count - 1] == pytest.approx(count / (m * n))
        assert found.array("num_outputs").data[row] == m
        assert found.array("random_at_outputs").data[row] == pytest.approx(1 / n)
        at, twice = (found.array(key).data[row] for key in ("overlaps_at_outputs", "overlaps_at_twice_outputs"))
        curve = found.array("overlaps").data[row]
        np.testing.assert_equal(at, curve[m - 1] if m <= 5 else np.nan)
        np.testing.assert_equal(twice, curve[2 * m - 1] if 2 * m <= 5 else np.nan)


def test_a_network_is_like_itself() -> None:
    found = compared(EigenspaceOverlap(), rectified(), rectified())
    curve = found.array("overlaps").data
    np.testing.assert_allclose(curve[np.isfinite(curve)], 1, atol=1e-9)
    assert found.estimate("first_overlap").value == pytest.approx(1)


def test_spaces_are_sound() -> None:
    found = compared(EigenspaceOverlap(num_draws=200), rectified(), moved(rectified()))
    np.testing.assert_allclose(found.array("own_overlaps").data, 1, atol=1e-12)
    np.testing.assert_allclose(found.array("turning_changes").data, 0, atol=1e-12)
    counts, sizes = found.array("drawn_counts").data, found.array("num_weights").data
    apart = found.array("drawn_overlaps").data - counts / sizes
    assert (np.abs(apart) <= 5 * found.array("drawn_errors").data).all()
    assert (found.array("drawn_errors").data > 0).any()


def test_by_iteration_it_is_the_same() -> None:
    make = lambda: nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 3))  # noqa: E731
    one = held(built(make), random(60, 8), classes(60), batch_size=16)
    other = moved(one, 0.1)
    exact = compared(EigenspaceOverlap(num_top=4), one, other)
    found = compared(EigenspaceOverlap(num_top=4, dense_size=0, tolerance=1e-9), one, other)
    np.testing.assert_allclose(found.array("overlaps").data, exact.array("overlaps").data, atol=1e-5)
    few = compared(EigenspaceOverlap(num_top=4, dense_size=0, tolerance=1e-12, max_products=8), one, other)
    assert "not_converged" in {note.code for note in few.notes}


def test_only_layers_of_both() -> None:
    one = held(built(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))), random(9, 3), classes(9))
    wide = held(built(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))), random(9, 3), classes(9))
    found = compared(EigenspaceOverlap(), one, wide)
    assert list(found.array("overlaps").coords["layer"]) == ["0"]
    other = held(built(lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3))), random(9, 3), classes(9))
    nothing = EigenspaceOverlap().measure((one, other), RNG)
    assert isinstance(nothing, NotApplicable)
    assert nothing.note.code == "nothing_shared"


def test_a_network_without_matrices_is_called_so() -> None:
    one = held(built(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))), random(9, 3), classes(9))
    normed = held(built(lambda: nn.LayerNorm(3)), random(9, 3), classes(9))
    for pair, which in (((one, normed), "second"), ((normed, one), "first")):
        found = EigenspaceOverlap().measure(pair, RNG)
        assert isinstance(found, NotApplicable)
        assert found.note.code == "no_weight_matrix"
        assert found.note.text.startswith(f"No layer of the {which} network multiplies its inputs with a matrix")


def test_a_space_of_fewer_directions_than_outputs_is_read() -> None:
    """Of five outputs only two see anything: two directions overlap, and there are no five that could."""
    module = built(lambda: nn.Linear(1, 5, bias=False)).double()
    x, y = torch.ones(12, 1).double(), torch.arange(12) % 2
    one = held(module, x, y)
    found = compared(EigenspaceOverlap(), one, moved(one, 0.5))
    told = int(np.isfinite(found.array("overlaps").data[0]).sum())
    assert told == 4  # the softmax does not see a number added to all scores
    assert not np.isfinite(found.array("overlaps_at_outputs").data).any()
    assert "1.0 in the root module (4 directions, chance 0.80)" in EigenspaceOverlap().reading(found)
    assert [note.code for note in found.notes] == ["gaps"]


def test_what_diverged_has_no_surface() -> None:
    one = rectified()
    broken = replace(one, params={name: value * torch.nan for name, value in one.params.items()})
    found = EigenspaceOverlap().measure((one, broken), RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "not_finite"


def test_flat_layers_have_no_directions() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3)))
    with torch.no_grad():
        module[0].bias[:] = -100.0
        module[2].weight[:] = 0.0
    flat = held(module, random(9, 2), classes(9))
    found = compared(EigenspaceOverlap(), flat, flat)
    assert not np.isfinite(found.array("overlaps").data).any()
    assert "gaps" in {note.code for note in found.notes}
    assert EigenspaceOverlap().figures(found) == ()


@pytest.mark.parametrize("settings", [{"num_top": 0}, {"num_draws": 1}, {"max_products": 0}, {"tolerance": 0.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="required"):
        EigenspaceOverlap(**settings)  # type: ignore[arg-type]
