"""Weight matrices taken apart, against matrices written out example by example."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.numerics.layer_solutions import LAYERED, rectified
from tests.numerics.solutions import AWKWARD, built, classes, held, mlp, random
from vallis.core.errors import SettingsError, UnknownPart
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.types import NotApplicable, Result, Solution
from vallis.measurements.curvature.kronecker_structure import KroneckerStructure
from vallis.numerics.curvature import positions
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian

NUM_TOP = 6


def large() -> Solution:
    """Piecewise linear, with a first layer of 320 weights."""
    module = built(lambda: nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 3)))
    return held(module, random(60, 8).abs(), classes(60), batch_size=16)


def parts(solution: Solution, place: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """``E[M ⊗ x x']``, E[M], E[x x'] and E[x] of a layer of an `nn.Sequential`, by the definition."""
    module = solution.net.module.double()
    assert isinstance(module, nn.Sequential)
    batch = next(iter(solution.task.splits["train"].in_batches_of(10_000)))  # type: ignore[attr-defined]
    inputs = module[:place](batch.x.double()).detach()
    outputs = module[place](inputs).detach()
    tail = module[place + 1 :]
    whole, product, second = [], [], []
    for x, z in zip(inputs, outputs, strict=True):
        slope = torch.autograd.functional.jacobian(lambda z: tail(z[None])[0], z)
        s = tail(z[None])[0].softmax(0).detach()
        m = slope.T @ (torch.diag(s) - torch.outer(s, s)) @ slope
        whole.append(torch.kron(m, torch.outer(x, x)))
        product.append(m)
        second.append(torch.outer(x, x))
    stacked = [torch.stack(each).mean(0) for each in (whole, product, second)]
    return stacked[0], stacked[1], stacked[2], inputs.mean(0)


def falling(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0), vectors.flip(1)


@pytest.mark.parametrize("make", [rectified, large])
def test_it_is_the_definition(make: object) -> None:
    solution = make()  # type: ignore[operator]
    found = measured(KroneckerStructure(num_top=NUM_TOP, precision="float64"), solution)
    double = replace(solution, params={name: value.double() for name, value in solution.params.items()})
    objective, hessian = Objective(solution, dtype=torch.float64), dense_hessian(solution)
    for row, layer in enumerate(found.array("eigenvalues").coords["layer"]):
        place = positions(objective, (f"{layer}.weight",))
        block = hessian[place][:, place]
        whole, m, xx, mean = parts(double, int(layer))
        torch.testing.assert_close(block, whole, rtol=1e-6, atol=1e-8)  # the oracle itself
        values, vectors = falling(block)
        near, near_vectors = falling(torch.kron(m, xx))
        np.testing.assert_allclose(found.array("eigenvalues").data[row], values[:NUM_TOP], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.array("kronecker_eigenvalues").data[row], near[:NUM_TOP], rtol=1e-5, atol=1e-9)
        assert found.array("factorised_distances").data[row] <= 1e-8
        assert found.array("smallest_ratios").data[row] >= -1e-8
        expected = float((block - torch.kron(m, xx)).norm() / block.norm())
        assert found.array("kronecker_distances").data[row] == pytest.approx(expected, rel=1e-5)
        assert found.array("mean_input_shares").data[row] == pytest.approx(float(mean @ mean / xx.trace()), rel=1e-5)
        inputs, basis = falling(xx)
        assert found.array("input_ratios").data[row] == pytest.approx(float(inputs[1] / inputs[0]), rel=1e-5)
        told = int(np.isfinite(found.array("rank_one_energies").data[row]).sum())
        assert told >= 2
        for rank in range(told):
            one, other = vectors[:, : rank + 1], near_vectors[:, : rank + 1]
            overlap = float((one.T @ other).square().sum() / (rank + 1))
            assert found.array("kronecker_overlaps").data[row, rank] == pytest.approx(overlap, abs=1e-4)
            matrix = vectors[:, rank].view(len(m), len(xx))
            _, sizes, right = torch.linalg.svd(matrix)
            assert found.array("rank_one_energies").data[row, rank] == pytest.approx(float(sizes[0] ** 2), abs=1e-4)
            cosine = float((right[0] @ mean).abs() / mean.norm())
            assert found.array("mean_input_alignments").data[row, rank] == pytest.approx(cosine, abs=1e-3)
            shares = (matrix @ basis).square().sum(0)
            np.testing.assert_allclose(found.array("input_shares").data[row, rank, : len(xx)], shares, atol=1e-4)
            shares = (matrix.T @ falling(m)[1]).square().sum(0)
            # Within an eigenvalue of E[M] that is zero many times the vectors are any.
            held_by = (falling(m)[0] > 1e-6).nonzero()[:, 0]
            np.testing.assert_allclose(
                found.array("output_shares").data[row, rank, : len(m)][held_by], shares[held_by], atol=1e-4
            )
        outputs = falling(m)[0]
        number = int((outputs > 0.05 * outputs[0]).sum())
        assert found.array("num_output_directions").data[row] == number
        np.testing.assert_allclose(
            found.array("output_eigenvalues").data[row, : len(m)], outputs.clamp(min=0), atol=1e-7
        )


def test_by_iteration_it_is_the_same() -> None:
    exact = measured(KroneckerStructure(num_top=4), large())
    part = KroneckerStructure(num_top=4, dense_size=0, tolerance=1e-8, num_probes=400)
    found = measured(part, large())
    assert "not_converged" not in {note.code for note in found.notes}
    for key in ("eigenvalues", "rank_one_energies", "kronecker_overlaps", "mean_input_alignments"):
        np.testing.assert_allclose(found.array(key).data, exact.array(key).data, rtol=1e-4, atol=1e-6)
    one, other = (each.array("kronecker_distances").data for each in (found, exact))
    np.testing.assert_allclose(one, other, rtol=0.1)
    assert (found.array("factorised_distances").data <= 1e-8).all()


def test_a_smooth_network_has_a_residual() -> None:
    found = measured(KroneckerStructure(num_top=3), mlp())
    assert found.array("factorised_distances").data[0] > 0.01
    assert found.array("factorised_distances").data[-1] <= 1e-8


@pytest.mark.parametrize("name", AWKWARD | LAYERED)
def test_on_everything_awkward(name: str) -> None:
    solution = (AWKWARD | LAYERED)[name]()
    part = KroneckerStructure(num_top=3)
    if isinstance(part.measure(solution, RNG), NotApplicable):
        return
    found = measured(part, solution)
    ready = in_eval_mode(solution)
    objective, hessian = Objective(ready, dtype=torch.float64), dense_hessian(ready)
    array = found.array("eigenvalues")
    for row, layer in zip(array.data, array.coords["layer"], strict=True):
        place = positions(objective, ("weight" if layer == "(root module)" else f"{layer}.weight",))
        truth = falling(hessian[place][:, place])[0][:3]
        np.testing.assert_allclose(row[: len(truth)], truth, rtol=1e-6, atol=1e-9)


def test_only_some_layers() -> None:
    whole, some = (measured(KroneckerStructure(num_top=3, layers=layers), rectified()) for layers in ((), ("2",)))
    assert list(some.array("eigenvalues").coords["layer"]) == ["2"]
    np.testing.assert_allclose(some.array("eigenvalues").data[0], whole.array("eigenvalues").data[1], rtol=1e-12)
    with pytest.raises(UnknownPart, match="no layer is named"):
        KroneckerStructure(layers=("7",)).measure(rectified(), RNG)


def test_where_there_is_nothing_to_take_apart() -> None:
    normed = held(built(lambda: nn.LayerNorm(3)), random(9, 3), classes(9))
    found = KroneckerStructure().measure(normed, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "no_kronecker_form"
    loss = OwnLoss(function=lambda f, y: ((f**2 - y) ** 2).mean())
    # At weights of zero it bends down in the outputs, where y is positive.
    quartic = held(built(lambda: nn.Linear(2, 1)), random(9, 2), random(9, 1).abs(), loss)
    quartic = replace(quartic, params={name: torch.zeros_like(value) for name, value in quartic.params.items()})
    found = KroneckerStructure().measure(quartic, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.text.startswith("The loss has no Kronecker factors")
    broken = rectified()
    nan = replace(broken, params={name: value * torch.nan for name, value in broken.params.items()})
    assert isinstance(KroneckerStructure().measure(nan, RNG), NotApplicable)


def test_no_curvature_is_no_shape() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3)))
    with torch.no_grad():
        module[0].bias[:] = -100.0
        module[2].weight[:] = 0.0
    found = measured(KroneckerStructure(num_top=2), held(module, random(9, 2), classes(9)))
    (note,) = [note for note in found.notes if note.code == "flat_layers"]
    assert "no curvature above rounding in layer 0" in note.text
    assert KroneckerStructure().reading(found).startswith("No weight matrix has curvature")
    assert KroneckerStructure().figures(found) == ()


def test_the_figures_show_a_layer_with_curvature() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3)))
    with torch.no_grad():
        module[0].weight[:] = 0.0
        module[0].bias[:] = 1.0
        module[2].weight[:] = 0.0  # no output depends on the first layer
    part = KroneckerStructure(num_top=2)
    found = measured(part, held(module, random(9, 2), classes(9)))
    assert [np.isfinite(row).any() for row in found.array("rank_one_energies").data] == [False, True]
    spectra, rank_one, *_ = part.figures(found)
    assert spectra.title.startswith("Eigenvalues of layer 2,")
    np.testing.assert_array_equal(spectra.marks[0].y, found.array("eigenvalues").data[1])
    assert [mark.label for mark in rank_one.marks] == ["2"]


@pytest.mark.parametrize("settings", [{"num_top": 0}, {"num_probes": 0}, {"dense_size": -1}, {"tolerance": 0.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="required"):
        KroneckerStructure(**settings)  # type: ignore[arg-type]


def test_the_reading_says_the_numbers() -> None:
    found = measured(KroneckerStructure(num_top=2), rectified())
    assert isinstance(found, Result)
    assert "median rank-one energy of " in KroneckerStructure().reading(found)
    assert {figure.name for figure in KroneckerStructure().figures(found)} >= {
        "kronecker_spectra",
        "kronecker_rank_one",
    }
