"""Eigenvalues along a training against dense ones at every moment."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tests.numerics.solutions import mlp
from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result, Solution
from vallis.measurements.curvature.hessian_trajectory import HessianTrajectory
from vallis.numerics.lanczos import eigenpairs
from vallis.testing.oracles import dense_hessian


def path(num_moments: int = 4) -> list[Solution]:
    """A network that moves along a line, ten steps at a time."""
    first = mlp()
    generator = torch.Generator().manual_seed(5)
    away = {name: torch.randn(value.shape, generator=generator) for name, value in first.params.items()}
    return [
        replace(first, step=10 * k, params={name: value + 0.1 * k * away[name] for name, value in first.params.items()})
        for k in range(num_moments)
    ]


def measured(settings: HessianTrajectory, moments: list[Solution]) -> Result:
    outcome = settings.measure(moments, Rng(0))
    assert isinstance(outcome, Result)
    return outcome


def test_values_are_those_of_the_dense_hessians() -> None:
    moments = path()
    found = measured(HessianTrajectory(num_top=2, num_bottom=1), moments)
    for place, moment in enumerate(moments):
        exact = torch.linalg.eigvalsh(dense_hessian(moment)).numpy()
        np.testing.assert_allclose(found.array("eigenvalues_top").data[place], exact[::-1][:2], rtol=1e-8)
        np.testing.assert_allclose(found.array("eigenvalues_bottom").data[place], exact[:1], rtol=1e-8)
    np.testing.assert_array_equal(found.array("eigenvalues_top").coords["step"], [0, 10, 20, 30])
    assert found.estimate("last_top_eigenvalue").value == found.array("eigenvalues_top").data[-1, 0]
    assert found.notes == ()


def test_the_reading_names_both_ends_and_the_peak() -> None:
    settings = HessianTrajectory()
    found = measured(settings, path())
    text = settings.reading(found)
    assert f"{found.estimate('first_top_eigenvalue').value:.3g}"[:4] in text
    assert "products on average" in text
    (figure,) = settings.figures(found)
    assert [mark.label for mark in figure.marks] == ["largest"]
    bottom = HessianTrajectory(num_top=0, num_bottom=1)
    assert bottom.reading(measured(bottom, path())).startswith("The smallest eigenvalue")


def test_a_path_that_diverges_ends_before() -> None:
    moments = path()
    broken = {name: value * torch.nan for name, value in moments[2].params.items()}
    moments[2] = replace(moments[2], params=broken)
    found = measured(HessianTrajectory(), moments)
    assert [note.code for note in found.notes] == ["not_finite"]
    assert found.array("eigenvalues_top").data.shape == (2, 1)
    assert "the training has diverged" in HessianTrajectory().reading(found)
    alone = measured(HessianTrajectory(), moments[1:])
    assert "one moment shows no change. After that" in HessianTrajectory().reading(alone)
    outcome = HessianTrajectory().measure(moments[2:], Rng(0))
    assert isinstance(outcome, NotApplicable)
    assert outcome.note.code == "not_finite"


def test_a_path_that_goes_nowhere() -> None:
    moments = [replace(path(1)[0], step=step) for step in (0, 1)]
    for part in (HessianTrajectory(), HessianTrajectory(num_top=0, num_bottom=1)):
        words = part.reading(measured(part, moments))
        assert " eigenvalue of the Hessian begins and ends at " in words
        assert " goes from" not in words
    assert "dense" in measured(HessianTrajectory(), moments).estimate("first_top_eigenvalue").method


def test_what_has_not_converged_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vallis.numerics.tracking.eigenpairs", partial(eigenpairs, dense_size=1))
    found = measured(HessianTrajectory(tolerance=1e-12, max_products=3), path(2))
    assert [note.code for note in found.notes] == ["not_converged"]
    assert found.notes[0].text.startswith("Some eigenvalues at steps 0 and 10 are not within the tolerance of 1e-12")
    assert "Not all eigenvalues have converged." in HessianTrajectory().reading(found)


@pytest.mark.parametrize("wrong", [{"num_top": 0}, {"num_top": -1}, {"tolerance": 0.0}, {"max_products": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="required"):
        HessianTrajectory(**wrong)
