"""The trace against the dense Hessian, exactly and within its error bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.measurements.contract import RNG, measured
from tests.measurements.curvature.test_hessian_spectrum import large
from tests.numerics.solutions import AWKWARD, mlp
from vallis.core.errors import SettingsError
from vallis.core.spec import from_spec, to_spec
from vallis.core.types import NotApplicable, Result
from vallis.measurements.curvature.hessian_trace import HessianTrace
from vallis.numerics.asking import Asking
from vallis.numerics.operators import Operator
from vallis.numerics.surface import in_eval_mode
from vallis.numerics.trace import Method, Trace
from vallis.testing.oracles import dense_hessian


@pytest.mark.parametrize("name", AWKWARD)
def test_small_networks_exactly(name: str) -> None:
    solution = AWKWARD[name]()
    found = measured(HessianTrace(), solution)
    true = float(dense_hessian(in_eval_mode(solution)).trace())
    assert found.estimate("trace").value == pytest.approx(true, rel=1e-8)
    assert found.estimate("trace").stderr == 0.0
    size = solution.num_parameters
    assert found.estimate("mean_eigenvalue").value == pytest.approx(true / size, rel=1e-8)
    assert "exactly" in HessianTrace().reading(found)
    assert HessianTrace().figures(found) == ()


METHODS: dict[Method, tuple[int, int]] = {
    "auto": (40, 54),
    "krylov": (40, 54),
    "hutchinson": (60, 60),
    "hutch++": (20, 20),
    "xtrace": (30, 30),
}


def law(num_probes: int) -> float:
    """The standard error of the mean of z'Hz over so many random signs z: ``Var = 2 (|H|^2 - |diag H|^2)``."""
    hessian = dense_hessian(large())
    return float(torch.sqrt(2 * ((hessian**2).sum() - (hessian.diagonal() ** 2).sum()) / num_probes))


@pytest.mark.parametrize("method", METHODS)
def test_a_result_hangs_together(method: Method) -> None:
    """By each method 60 products, of which a sketch leaves so many probes."""
    part = HessianTrace(num_probes=60, method=method)
    found = measured(part, large())
    trace, (fewest, most) = found.estimate("trace"), METHODS[method]
    assert trace.stderr is not None
    assert trace.stderr > 0
    low, high = found.array("interval").data
    assert low < trace.value < high
    np.testing.assert_allclose(found.array("samples").data.mean(), trace.value)
    assert fewest <= trace.n <= most
    assert trace.unit == "nats/weight^2"
    assert found.estimate("num_products").value == 60
    mean = found.estimate("mean_eigenvalue")
    assert (mean.value, mean.stderr) == pytest.approx((trace.value / 323, trace.stderr / 323))
    assert "95 % confidence" in part.reading(found)
    assert len(part.figures(found)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["auto", "hutchinson"])
def test_over_seeds_it_is_within_its_error_bar_and_no_worse_than_signs(method: Method) -> None:
    """A Hessian in which no eigenvalue stands out; 100 seeds.

    Misses of the 95 % interval are within the central 99.8 % of their binomial law; a root mean square of 100 normal
    errors is within 22 % of its mean in as many cases; and where a space of 60/9 dimensions is all that is grown, for
    nothing, the error is larger than that of signs by the root of 9/8.
    """
    solution, repeats = large(), 100
    true = float(dense_hessian(solution).trace())
    part = HessianTrace(num_probes=60, method=method)
    errors, covered = np.empty(repeats), 0
    for repeat in range(repeats):
        found = part.measure(solution, RNG.child("trace", repeat))
        assert isinstance(found, Result)
        low, high = found.array("interval").data
        errors[repeat] = found.estimate("trace").value - true
        covered += low <= true <= high
    assert stats.binom.ppf(0.001, repeats, 0.95) <= covered
    assert np.sqrt(np.mean(errors**2)) < 1.22 * np.sqrt(9 / 8) * law(60)
    assert abs(errors.mean()) < 4 * law(60) / np.sqrt(repeats)


def test_known_eigenvalues_make_signs_surer_and_cost_products_of_their_own() -> None:
    """Five of the largest hold half of the squares: the error bars of 10 seeds are smaller by the root of two."""
    part, deflating = (HessianTrace(num_probes=40, method="hutchinson", num_known=count) for count in (0, 5))
    solution = large()
    true, errors, plain, deflated = float(dense_hessian(solution).trace()), [], [], []
    for seed in range(10):
        one, other = (each.measure(solution, RNG.child(seed)) for each in (part, deflating))
        assert isinstance(one, Result)
        assert isinstance(other, Result)
        plain.append(one.estimate("trace").stderr)
        deflated.append(other.estimate("trace").stderr)
        errors.append(other.estimate("trace").value - true)
        assert one.estimate("num_products").value == 40
        assert other.estimate("num_products").value > 45
    assert np.mean(deflated) < 0.85 * np.mean(plain)
    assert abs(np.mean(errors)) < 4 * np.mean(deflated) / np.sqrt(10)
    assert measured(HessianTrace(num_known=5), mlp()).estimate("num_products").value == 61


def test_a_trace_that_was_stored_before_there_were_methods_is_one_by_signs() -> None:
    spec = to_spec(HessianTrace())
    for name in ("method", "num_known"):
        del spec["settings"][name]
    assert from_spec(spec) == HessianTrace(method="hutchinson")


def test_more_probes_shrink_the_error_bar_as_their_root() -> None:
    few, many = (
        measured(HessianTrace(num_probes=n, method="hutchinson"), large()).estimate("trace").stderr for n in (20, 320)
    )
    assert few is not None
    assert many is not None
    assert many < 0.5 * few


def test_one_probe_has_no_error_bar() -> None:
    found = measured(HessianTrace(num_probes=1), large())
    assert found.estimate("trace").stderr is None
    assert [note.code for note in found.notes] == ["no_error_bar"]
    assert "interval" not in found.values
    assert "nobody knows" in HessianTrace().reading(found)


def test_a_wide_error_bar_is_noted() -> None:
    solution = large()
    for name in solution.params:
        solution.params[name].mul_(3.0)  # far from a minimum: positive and negative curvature cancel
    found = measured(HessianTrace(num_probes=3), solution)
    estimate = found.estimate("trace")
    assert estimate.stderr is not None
    wide = estimate.stderr > 0.25 * abs(estimate.value)
    assert ("wide_error_bar" in [note.code for note in found.notes]) == wide
    assert wide


def test_a_diverged_network_has_no_trace() -> None:
    solution = mlp()
    solution.params["0.weight"][0] = torch.inf
    found = HessianTrace().measure(solution, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "not_finite"


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="num_probes=0"):
        HessianTrace(num_probes=0)
    with pytest.raises(SettingsError, match="a method among auto"):
        HessianTrace(method="guess")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="num_known=-1"):
        HessianTrace(num_known=-1)
    assert HessianTrace.tiny().num_probes == 4


@pytest.mark.parametrize(("count", "sure", "has_interval"), [(2, "nobody knows", False), (12, "between", True)])
def test_probes_that_agree_are_not_called_exact(
    monkeypatch: pytest.MonkeyPatch, count: int, sure: str, has_interval: bool
) -> None:
    """Two by luck, or twelve that hardly could: neither was summed up."""

    def agreeing(operator: Operator, **how: Any) -> Asking[Trace]:
        yield operator, torch.zeros(operator.size)
        return Trace.of_signs(np.full(count, 3.0), torch.float64, count, "hutchinson")

    monkeypatch.setattr("vallis.measurements.curvature.hessian_trace.tracing", agreeing)
    part = HessianTrace(method="hutchinson", num_probes=count)
    found = measured(part, large())
    assert found.estimate("trace").stderr is None
    assert "probes_agree" in [note.code for note in found.notes]
    assert ("interval" in found.values) == has_interval
    assert sure in part.reading(found)
    assert "exactly" not in part.reading(found)


def test_the_notes_of_the_estimate_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    def skewed(operator: Operator, **how: Any) -> Asking[Trace]:
        yield operator, torch.zeros(operator.size)
        samples = np.array([1.0] * 30 + [30.0, 60.0])
        return Trace.of_signs(samples, torch.float64, 32, "hutchinson")

    monkeypatch.setattr("vallis.measurements.curvature.hessian_trace.tracing", skewed)
    assert "skewed_samples" in [note.code for note in measured(HessianTrace(), large()).notes]
