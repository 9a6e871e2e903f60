"""The density of a network's Hessian against the dense one, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.measurements.contract import RNG, measured
from tests.measurements.curvature.test_hessian_spectrum import large
from tests.numerics.solutions import AWKWARD, batch_norm, held, mlp
from vallis.core.errors import SettingsError
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.types import NotApplicable, Note, Result, Solution
from vallis.measurements.curvature.hessian_density import HessianDensity
from vallis.numerics.asking import Asking
from vallis.numerics.curvature import GaussNewton
from vallis.numerics.density import Density, spreading
from vallis.numerics.operators import Dense, Operator
from vallis.numerics.powers import Powers, squaring
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian


def truth(solution: Solution) -> np.ndarray:
    return np.asarray(torch.linalg.eigvalsh(dense_hessian(in_eval_mode(solution))).numpy())


@pytest.mark.parametrize("name", AWKWARD)
def test_small_networks_are_solved(name: str) -> None:
    solution = AWKWARD[name]()
    found, true = measured(HessianDensity(), solution), truth(solution)
    np.testing.assert_allclose(found.array("eigenvalues_alone").data, true[::-1], atol=1e-8)
    assert found.estimate("num_alone").value == len(true)
    assert found.estimate("mean_eigenvalue").value == pytest.approx(true.mean(), abs=1e-8)
    assert found.estimate("mean_square_eigenvalue").value == pytest.approx(np.mean(true**2), abs=1e-8)
    assert found.estimate("mean_eigenvalue").stderr == 0.0
    limit = 1e-3 * np.abs(true).max()
    assert found.estimate("flat_fraction").value == pytest.approx(np.mean(np.abs(true) <= limit), abs=1e-9)
    assert found.estimate("negative_fraction").value == pytest.approx(np.mean(true < -limit), abs=1e-9)
    assert found.notes == ()
    assert "are known" in HessianDensity().reading(found)


@pytest.mark.parametrize("seed", range(5))
def test_a_larger_network_within_its_bands(seed: int) -> None:
    solution = large()
    found, true = measured(HessianDensity(), solution, RNG.child(seed)), truth(solution)
    assert found.estimate("num_products").value == 40 + 4 * 20 + 4
    alone, residuals = found.array("eigenvalues_alone").data, found.array("residuals_alone").data
    assert (np.abs(true[:, None] - alone).min(0) <= residuals + 1e-10).all()
    assert found.estimate("largest_magnitude").value == pytest.approx(np.abs(true).max(), rel=1e-6)
    limit = 1e-3 * np.abs(true).max()
    for name, share in (
        ("flat_fraction", np.mean(np.abs(true) <= limit)),
        ("negative_fraction", np.mean(true < -limit)),
    ):
        low, high = found.array(f"{name}_interval").data
        assert low - 1e-9 <= share <= high + 1e-9
    beyond = found.array("share_beyond")
    shares = np.array([np.mean(np.abs(true) > each) for each in beyond.coords["magnitude"]])
    assert (found.array("share_beyond_low").data <= shares + 1e-9).all()
    assert (shares <= found.array("share_beyond_high").data + 1e-9).all()
    mean = found.estimate("mean_eigenvalue")
    assert mean.stderr is not None
    assert mean.value == pytest.approx(true.mean(), abs=5 * mean.stderr)
    assert (mean.n, mean.unit) == (4, "nats/weight^2")
    assert found.notes == ()
    assert "stand alone" in HessianDensity().reading(found)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_curve_is_the_spectrum_smoothed(scale: str) -> None:
    solution = large()
    part = HessianDensity(scale=scale, num_probes=6)  # type: ignore[arg-type]
    found, true = measured(part, solution), truth(solution)
    curve, width = found.array("density"), found.estimate("kernel_width").value
    points = curve.coords["eigenvalue"]
    if scale == "log":
        floor = 2 * np.abs(true).max() * 1e-6
        points, true = (np.arcsinh(each / floor) / np.log(10) for each in (points, true))
    bells = np.exp(-0.5 * ((points[:, None] - true) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    exact = bells.mean(1)
    inside = (found.array("density_low").data <= exact + 1e-9) & (exact <= found.array("density_high").data + 1e-9)
    assert inside.mean() > 0.95
    assert np.trapezoid(curve.data, points) == pytest.approx(1.0, rel=0.02)
    names = [figure.name for figure in part.figures(found)]
    assert names == ["eigenvalue_density", "share_beyond"]
    assert part.figures(found)[0].x.scale == scale


def test_the_gauss_newton_part_has_nothing_below_zero() -> None:
    solution = large()
    found = measured(HessianDensity(matrix="gauss_newton"), solution)
    true = torch.linalg.eigvalsh(GaussNewton(Objective(solution, dtype=torch.float64)).dense()).numpy()
    assert found.estimate("largest_magnitude").value == pytest.approx(true[-1], rel=1e-6)
    assert found.estimate("negative_fraction").value == 0.0
    assert found.array("eigenvalues_alone").data.min() > -1e-9


def test_moments_that_do_not_agree_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the curvature were not the same twice."""

    def of_another(operator: Operator, **how: Any) -> Asking[Powers]:
        return squaring(1.5 * operator, **how)

    monkeypatch.setattr("vallis.measurements.curvature.hessian_density.squaring", of_another)
    found = HessianDensity(num_checks=8).measure(large(), RNG)
    assert isinstance(found, Result)
    assert "moments_disagree" in [note.code for note in found.notes]


def test_too_few_steps_are_said_so() -> None:
    found = measured(HessianDensity(num_steps=2, num_search_steps=2), large())
    assert "not_converged" in [note.code for note in found.notes]


def test_the_reading_claims_no_more_than_the_bounds_hold() -> None:
    part = HessianDensity(num_steps=6, num_search_steps=30, flat=1e-5)
    found = measured(part, large())
    low, high = found.array("flat_fraction_interval").data
    assert high - low > 0.5
    assert "spread is not resolved by so few probes and steps" in part.reading(found)
    beyond = found.array("share_beyond_high")
    largest = found.estimate("largest_magnitude").value
    for share, said in ((0.009, "At least 0.99 of all directions bend by less than 0.018 of"), (0.011, "not resolved")):
        data = np.where(beyond.coords["magnitude"] < 0.017 * largest, 1.0, share)
        sharper = Result(values={**found.values, "share_beyond_high": replace(beyond, data=data)})
        assert said in part.reading(sharper)


def test_one_probe_has_no_band() -> None:
    found = measured(HessianDensity(num_probes=1), large())
    assert "is not resolved by so few probes" in HessianDensity().reading(found)
    assert "no_error_bar" in [note.code for note in found.notes]
    assert "density_low" not in found.values
    assert found.estimate("mean_eigenvalue").stderr is None


def test_a_surface_without_curvature_is_all_flat() -> None:
    solution = held(torch.nn.Linear(1, 1, bias=False), torch.zeros(5, 1), torch.ones(5, 1), loss=SquaredError())
    found = measured(HessianDensity(), solution)
    assert found.estimate("largest_magnitude").value == 0.0
    assert found.estimate("flat_fraction").value == 1.0
    assert "density" not in found.values


def test_a_network_in_training_mode_is_measured_in_eval_mode() -> None:
    one, other = measured(HessianDensity(), batch_norm()), measured(HessianDensity(), batch_norm(training=True))
    np.testing.assert_array_equal(one.array("eigenvalues_alone").data, other.array("eigenvalues_alone").data)


def test_a_diverged_network_has_no_density() -> None:
    solution = mlp()
    solution.params["0.weight"][0] = torch.inf
    found = HessianDensity().measure(solution, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "not_finite"


@pytest.mark.parametrize(
    "wrong",
    [{"num_probes": 0}, {"num_steps": 0}, {"num_search_steps": -1}, {"num_checks": 1}, {"flat": 0.0}, {"width": 0.0},
     {"matrix": "fisher"}, {"scale": "cubic"}],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        HessianDensity(**wrong)  # type: ignore[arg-type]


def test_tiny_settings_are_cheap() -> None:
    found = measured(HessianDensity.tiny(), large())
    assert found.estimate("num_products").value == 16


def test_nothing_drawn_is_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A multiple of the identity: all probes see the same, and yet it was not solved."""

    def of_the_identity(operator: Operator, **how: Any) -> Asking[Density]:
        return spreading(Dense(2.0 * torch.eye(300, dtype=torch.float64)), **how)

    monkeypatch.setattr("vallis.measurements.curvature.hessian_density.spreading", of_the_identity)
    found = measured(HessianDensity(num_checks=0), large())
    assert found.estimate("mean_eigenvalue").value == pytest.approx(2.0)
    assert all(found.estimate(name).stderr != 0.0 for name in ("mean_eigenvalue", "flat_fraction", "negative_fraction"))
    assert "not_converged" not in [note.code for note in found.notes]


def test_the_notes_of_the_density_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(operator: Operator, **how: Any) -> Asking[Density]:
        found = yield from spreading(operator, **how)
        return replace(found, notes=(Note(code="known_not_converged", text="Rough."),))

    monkeypatch.setattr("vallis.measurements.curvature.hessian_density.spreading", noted)
    assert "known_not_converged" in [note.code for note in measured(HessianDensity(), large()).notes]
