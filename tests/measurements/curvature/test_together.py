"""Curvature of many networks: in step where they go together, one by one where not, each what it is alone."""

from __future__ import annotations

import pytest
import torch

from tests.numerics.populations import solutions
from tests.numerics.test_hessians import wide
from tests.numerics.test_population import normalised
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result
from vallis.measurements.curvature.hessian_density import HessianDensity
from vallis.measurements.curvature.hessian_spectrum import HessianSpectrum
from vallis.measurements.curvature.hessian_trace import HessianTrace
from vallis.numerics.curvature import Hessian
from vallis.testing.oracles import dense_hessian

RNG = Rng(0)


def test_traces_are_those_of_the_dense_hessians() -> None:
    held = solutions(count=4, own_y=True)
    for each, outcome in zip(held, HessianTrace().measure_many(held, RNG), strict=True):
        assert isinstance(outcome, Result)
        assert outcome.estimate("trace").value == pytest.approx(float(dense_hessian(each).trace()), rel=1e-9)


@pytest.mark.parametrize("settings", [{}, {"method": "hutch++"}, {"num_known": 2, "method": "hutchinson"}])
def test_probed_traces_have_the_probes_of_each_alone(settings: dict[str, object]) -> None:
    held, part = solutions(wide, count=4), HessianTrace(num_probes=20, **settings)  # type: ignore[arg-type]
    for each, outcome in zip(held, part.measure_many(held, RNG), strict=True):
        alone = part.measure(each, RNG)
        assert isinstance(outcome, Result) and isinstance(alone, Result)
        for key in ("trace", "num_products"):
            one, other = outcome.estimate(key), alone.estimate(key)
            assert one.value == pytest.approx(other.value, rel=1e-6)
        assert outcome.notes == alone.notes


def test_eigenvalues_are_those_of_the_dense_hessians() -> None:
    held, part = solutions(wide, count=4), HessianSpectrum(num_top=3, num_bottom=1, tolerance=1e-6, precision="float64")
    for each, outcome in zip(held, part.measure_many(held, RNG), strict=True):
        assert isinstance(outcome, Result)
        true = torch.linalg.eigvalsh(dense_hessian(each))
        found = torch.from_numpy(outcome.array("eigenvalues_top").data)
        torch.testing.assert_close(found, true[-3:].flip(0), rtol=1e-5, atol=1e-9)
        assert outcome.estimate("converged_fraction").value == 1.0


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
def test_densities_have_the_probes_of_each_alone(matrix: str) -> None:
    held, part = solutions(wide, count=4), HessianDensity(num_probes=2, num_steps=10, num_checks=4, matrix=matrix)  # type: ignore[arg-type]
    for each, outcome in zip(held, part.measure_many(held, RNG), strict=True):
        alone = part.measure(each, RNG)
        assert isinstance(outcome, Result) and isinstance(alone, Result)
        assert outcome.estimate("num_products") == alone.estimate("num_products")
        for key in ("mean_eigenvalue", "largest_magnitude", "flat_fraction"):
            assert outcome.estimate(key).value == pytest.approx(alone.estimate(key).value, rel=1e-5, abs=1e-9)


def test_those_that_go_alone_and_those_that_diverged_are_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [*solutions(count=4), *solutions(normalised, count=1)]
    next(iter(held[1].params.values())).fill_(float("nan"))
    built: list[int] = []
    right = Hessian.__init__
    monkeypatch.setattr(
        Hessian, "__init__", lambda self, *given, **how: (built.append(1), right(self, *given, **how))[1]
    )
    found = HessianTrace().measure_many(held, RNG)
    assert [type(each) for each in found] == [Result, NotApplicable, Result, Result, Result]
    assert len(built) == 2  # one to prove what is said together, and that of the network that is alone
    for place in (0, 2, 3, 4):
        outcome = found[place]
        assert isinstance(outcome, Result)
        assert outcome.estimate("trace").value == pytest.approx(float(dense_hessian(held[place]).trace()), rel=1e-9)
