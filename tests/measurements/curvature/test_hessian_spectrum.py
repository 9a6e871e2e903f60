"""The spectrum against the dense float64 Hessian, and what is said when it cannot be had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.measurements.contract import RNG, measured
from tests.numerics.solutions import AWKWARD, batch_norm, built, classes, held, mlp, one_parameter, random
from vallis.core.errors import SettingsError
from vallis.core.own_loss import OwnLoss
from vallis.core.types import Array, Estimate, NotApplicable, Note, Result, Solution
from vallis.measurements.curvature.hessian_spectrum import HessianSpectrum
from vallis.numerics.asking import Asking
from vallis.numerics.operators import Operator
from vallis.numerics.surface import in_eval_mode
from vallis.numerics.trace import Trace
from vallis.testing.oracles import dense_gradient, dense_hessian

SPECTRUM = HessianSpectrum(num_top=5, num_bottom=3)


def truth(solution: Solution) -> np.ndarray:
    return np.asarray(torch.linalg.eigvalsh(dense_hessian(solution)).numpy())


@pytest.mark.parametrize("batch_size", [1, 4, 5, 16, 17])
@pytest.mark.parametrize("double", [False, True])
def test_a_networks_eigenvalues_to_eight_digits_at_any_batch_size(batch_size: int, double: bool) -> None:
    """61 parameters; also of float32 weights, taken at their word. Batches of 16 and 1 expose the peers' mistake."""
    solution = mlp(batch_size, double)
    found = measured(SPECTRUM, solution)
    expected = truth(solution)
    np.testing.assert_allclose(found.array("eigenvalues_top").data, expected[::-1][:5], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.array("eigenvalues_bottom").data, expected[:3], rtol=1e-8, atol=1e-10)
    assert found.estimate("top_eigenvalue").unit == "nats/weight^2"
    assert found.estimate("converged_fraction").value == 1.0
    assert found.notes == ()


@pytest.mark.parametrize("name", AWKWARD)
def test_everything_awkward(name: str) -> None:
    solution = AWKWARD[name]()
    expected = truth(in_eval_mode(solution))
    found = measured(HessianSpectrum(num_top=2, num_bottom=2, tolerance=1e-8), solution)
    np.testing.assert_allclose(found.array("eigenvalues_top").data, expected[::-1][:2], atol=1e-8)
    np.testing.assert_allclose(found.array("eigenvalues_bottom").data, expected[:2], atol=1e-8)


def large() -> Solution:
    """323 parameters: too many for the dense way."""
    make = lambda: torch.nn.Sequential(torch.nn.Linear(4, 40), torch.nn.Tanh(), torch.nn.Linear(40, 3))  # noqa: E731
    return held(built(make), random(30, 4), classes(30), batch_size=8)


def test_lanczos_is_certified_by_its_residuals() -> None:
    solution = large()
    part = HessianSpectrum(num_top=4, num_bottom=2, tolerance=1e-7)
    found, expected = measured(part, solution), truth(solution)
    np.testing.assert_allclose(found.array("eigenvalues_top").data, expected[::-1][:4], atol=1e-8)
    np.testing.assert_allclose(found.array("eigenvalues_bottom").data, expected[:2], atol=1e-8)
    limit = 1e-7 * np.abs(expected).max()
    assert 0 < found.array("residuals_top").data.max() <= limit
    top = found.estimate("top_eigenvalue")
    assert top.stderr == found.array("residuals_top").data[0]
    assert np.abs(expected - top.value).min() <= top.stderr + 1e-12
    assert "Lanczos" in top.method
    assert found.estimate("num_products").value < 200


def test_what_has_not_converged_is_said_in_words() -> None:
    found = measured(HessianSpectrum(num_top=6, num_bottom=3, tolerance=1e-4, max_products=15), large())
    assert [note.code for note in found.notes] == ["not_converged"]
    assert found.notes[0].text.startswith("After 15 products ")
    assert 0 < found.estimate("converged_fraction").value < 1
    assert "Not all of these have converged" in HessianSpectrum().reading(found)


def test_rounding_is_the_other_reason() -> None:
    found = measured(
        HessianSpectrum(num_top=2, num_bottom=0, tolerance=1e-12, precision="float32", num_probes=0), large()
    )
    assert [note.code for note in found.notes] == ["not_converged"]
    assert "float64" in found.notes[0].text
    np.testing.assert_allclose(found.array("eigenvalues_top").data, truth(large())[::-1][:2], rtol=1e-5)


def test_the_sharpest_step_raises_the_quadratic_model_by_what_it_says() -> None:
    solution = mlp()
    found = measured(HessianSpectrum(rise=0.05), solution)
    hessian, slope = dense_hessian(solution), dense_gradient(solution)
    direction = torch.linalg.eigh(hessian).eigenvectors[:, -1]
    direction = direction * torch.sign(direction @ slope)
    step = found.estimate("sharpest_step").value * direction
    assert float(slope @ step + step @ hessian @ step / 2) == pytest.approx(0.05, rel=1e-6)
    length = np.sqrt(sum(float((value.double() ** 2).sum()) for value in solution.params.values()))
    assert found.estimate("sharpest_step_fraction").value == pytest.approx(float(step.norm()) / length, rel=1e-6)


def bottom_of(value: float, residual: float, method: str = "thick-restart Lanczos", missed: bool = False) -> Result:
    """A spectrum from 100 down to this."""
    values: dict[str, Estimate | Array] = {}
    for end, number, error in (("top", 100.0, 1e-3), ("bottom", value, residual)):
        values[f"{end}_eigenvalue"] = Estimate(value=number, stderr=error, unit="1/weight^2", method=method)
        values[f"eigenvalues_{end}"] = Array(data=np.array([number]), dims=("rank",))
    return Result(values=values, notes=(Note(code="not_converged", text="Missed."),) * missed)


def test_a_direction_that_bends_down_does_whatever_its_residual() -> None:
    """The value is v' H v along a direction that is at hand: below zero it is proof, whether an eigenvalue or not."""
    assert "the loss bends down in some direction, with" in SPECTRUM.reading(bottom_of(-0.05, 0.09))
    assert "no direction was found to bend down" in SPECTRUM.reading(bottom_of(-5e-4, 0.09))  # rounding in float32
    assert "no direction was found to bend down" in SPECTRUM.reading(bottom_of(0.02, 0.09))
    assert "no direction bends down" in SPECTRUM.reading(bottom_of(0.02, 1e-13, "dense solver"))
    assert "no direction was found to bend down" in SPECTRUM.reading(bottom_of(0.02, 1e-13, "dense solver", True))


def test_a_loss_without_curvature_is_called_flat() -> None:
    flat = held(torch.nn.Linear(2, 1), random(5, 2), torch.zeros(5, 1), OwnLoss(function=lambda f, y: f.mean()))
    words = SPECTRUM.reading(measured(SPECTRUM, flat))
    assert words == "All eigenvalues that were found are 0: the loss bends in no direction."
    bowl = replace(flat, tasks=(replace(flat.task, loss=OwnLoss(function=lambda f, y: -(f**2).mean())),))
    assert SPECTRUM.reading(measured(SPECTRUM, bowl)).startswith("No direction was found in which the loss bends up (")


def test_the_mean_says_how_it_was_found() -> None:
    exact = measured(SPECTRUM, mlp()).estimate("mean_eigenvalue")
    assert exact.method == "trace over the number of parameters; exact"
    assert exact.stderr == 0
    assert exact.value == pytest.approx(float(truth(mlp()).mean()), rel=1e-9)
    assert "Hutchinson on what the" in measured(SPECTRUM, large()).estimate("mean_eigenvalue").method
    bottom = measured(HessianSpectrum(num_top=0), large()).estimate("mean_eigenvalue")
    assert bottom.method.endswith("; Hutchinson")


def test_more_than_all_weights_is_said_in_times() -> None:
    solution = one_parameter()
    small = replace(solution, params={name: 1e-3 * value for name, value in solution.params.items()})
    words = SPECTRUM.reading(measured(SPECTRUM, small))
    assert " times the norm of all weights, raises" in words
    assert "times the mean" not in words  # of one direction


def test_one_end_alone() -> None:
    top = measured(HessianSpectrum(num_top=3, num_bottom=0), mlp())
    assert not [key for key in top.values if "bottom" in key]
    bottom = measured(HessianSpectrum(num_top=0, num_bottom=3), mlp())
    assert not [key for key in bottom.values if "top" in key or "step" in key]
    assert "bends down" in HessianSpectrum().reading(bottom)


def test_more_eigenvalues_than_parameters() -> None:
    found = measured(HessianSpectrum(), one_parameter())
    assert [note.code for note in found.notes] == ["fewer_eigenvalues"]
    np.testing.assert_allclose(found.array("eigenvalues_top").data, truth(one_parameter()))
    assert found.estimate("converged_fraction").value == 1.0
    assert found.estimate("top_eigenvalue").unit == "1/weight^2"


def test_the_reading_says_whether_it_is_a_minimum() -> None:
    solution = mlp()
    saddle = measured(SPECTRUM, solution)
    assert "of the sharpest), so this is no minimum" in SPECTRUM.reading(saddle)
    assert "no direction bends down" in SPECTRUM.reading(measured(SPECTRUM, one_parameter()))


def test_a_network_at_zero_has_no_length_to_compare_with() -> None:
    solution = mlp()
    for value in solution.params.values():
        value.zero_()
    found = measured(SPECTRUM, solution)
    assert "sharpest_step_fraction" not in found.values


def test_a_diverged_network_has_no_spectrum() -> None:
    solution = mlp()
    solution.params["0.weight"][0] = torch.nan
    found = SPECTRUM.measure(solution, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "not_finite"


def test_a_network_in_training_mode_is_measured_in_eval_mode() -> None:
    one, other = measured(SPECTRUM, batch_norm()), measured(SPECTRUM, batch_norm(training=True))
    assert one.estimate("top_eigenvalue") == other.estimate("top_eigenvalue")


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_weights(half: torch.dtype) -> None:
    solution = mlp()
    module, data = solution.net.module.to(half), solution.task.splits["train"]
    low = held(module, data.x.to(half), data.y)  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        measured(SPECTRUM, low).array("eigenvalues_top").data, truth(low)[::-1][:5], rtol=1e-8, atol=1e-10
    )


def test_permuting_the_units_changes_nothing() -> None:
    solution = mlp()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    moved = dict(solution.params)
    moved["0.weight"], moved["0.bias"] = moved["0.weight"][order], moved["0.bias"][order]
    moved["2.weight"] = moved["2.weight"][:, order]
    one, other = measured(SPECTRUM, solution), measured(SPECTRUM, replace(solution, params=moved))
    np.testing.assert_allclose(one.array("eigenvalues_top").data, other.array("eigenvalues_top").data, rtol=1e-9)


@pytest.mark.parametrize("wrong", [{"num_top": 0, "num_bottom": 0}, {"num_top": -1}, {"tolerance": 0.0}, {"rise": 0.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        HessianSpectrum(**wrong)  # type: ignore[arg-type]


def test_the_notes_of_the_mean_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    def skewed(operator: Operator, **how: Any) -> Asking[Trace]:
        yield operator, torch.zeros(operator.size)
        return Trace.of_signs(np.array([1.0] * 30 + [30.0, 60.0]), torch.float64, 32, "hutchinson")

    monkeypatch.setattr("vallis.measurements.curvature.hessian_spectrum.tracing", skewed)
    assert [note.code for note in measured(HessianSpectrum(num_top=1, num_bottom=0), large()).notes] == [
        "skewed_samples"
    ]


def test_tiny_settings_are_cheap() -> None:
    found = measured(HessianSpectrum.tiny(), large())
    assert found.estimate("num_products").value <= 60
