"""The trace against the dense Hessian, exactly and within its error bar."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.measurements.contract import RNG, measured
from tests.measurements.curvature.test_hessian_spectrum import large
from tests.numerics.solutions import AWKWARD, mlp
from vallis.core.errors import SettingsError
from vallis.core.spec import from_spec, to_spec
from vallis.core.types import NotApplicable
from vallis.measurements.curvature.hessian_trace import HessianTrace
from vallis.numerics.surface import in_eval_mode
from vallis.numerics.trace import Method
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


METHODS: dict[Method, int] = {"auto": 40, "krylov": 40, "hutchinson": 60, "hutch++": 20, "xtrace": 30}


@pytest.mark.parametrize("method", METHODS)
def test_larger_ones_within_the_error_bar(method: Method) -> None:
    """By each method 60 products, of which a sketch leaves so many probes."""
    solution = large()
    part = HessianTrace(num_probes=60, method=method)
    found = measured(part, solution)
    true = float(dense_hessian(solution).trace())
    trace = found.estimate("trace")
    assert trace.stderr is not None
    assert 0 < trace.stderr < 0.2 * true
    assert trace.value == pytest.approx(true, abs=3.5 * trace.stderr)
    low, high = found.array("interval").data
    assert low < trace.value < high
    np.testing.assert_allclose(found.array("samples").data.mean(), trace.value)
    assert (trace.n, trace.unit) == (METHODS[method], "nats/weight^2")
    assert found.estimate("num_products").value == 60
    mean = found.estimate("mean_eigenvalue")
    assert (mean.value, mean.stderr) == pytest.approx((trace.value / 323, trace.stderr / 323))
    assert "95 % confidence" in part.reading(found)
    assert len(part.figures(found)) == 1


def test_a_sketch_is_surer_than_signs_alone() -> None:
    sketched, signs = (
        measured(HessianTrace(num_probes=40, method=each), large()).estimate("trace").stderr
        for each in ("krylov", "hutchinson")
    )
    assert sketched is not None
    assert signs is not None
    assert sketched < signs


def test_known_eigenvalues_make_signs_surer_and_cost_products_of_their_own() -> None:
    plain, deflated = (
        measured(HessianTrace(num_probes=40, method="hutchinson", num_known=count), large()) for count in (0, 5)
    )
    one, other = plain.estimate("trace"), deflated.estimate("trace")
    assert one.stderr is not None
    assert other.stderr is not None
    assert other.stderr < 0.7 * one.stderr
    assert other.value == pytest.approx(float(dense_hessian(large()).trace()), abs=4 * other.stderr)
    assert plain.estimate("num_products").value == 40
    assert deflated.estimate("num_products").value > 45
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
