"""The trace against the dense Hessian, exactly and within its error bar."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.measurements.contract import RNG, measured
from tests.measurements.curvature.test_hessian_spectrum import large
from tests.numerics.solutions import AWKWARD, mlp
from vallis.core.errors import SettingsError
from vallis.core.types import NotApplicable
from vallis.measurements.curvature.hessian_trace import HessianTrace
from vallis.numerics.surface import in_eval_mode
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


def test_larger_ones_within_the_error_bar() -> None:
    solution = large()
    part = HessianTrace(num_probes=60)
    found = measured(part, solution)
    true = float(dense_hessian(solution).trace())
    trace = found.estimate("trace")
    assert trace.stderr is not None
    assert 0 < trace.stderr < 0.2 * true
    assert trace.value == pytest.approx(true, abs=3.5 * trace.stderr)
    low, high = found.array("interval").data
    assert low < trace.value < high
    np.testing.assert_allclose(found.array("samples").data.mean(), trace.value)
    assert (trace.n, trace.unit) == (60, "nats/weight^2")
    mean = found.estimate("mean_eigenvalue")
    assert (mean.value, mean.stderr) == pytest.approx((trace.value / 323, trace.stderr / 323))
    assert "95 % confidence" in part.reading(found)
    assert len(part.figures(found)) == 1


def test_more_probes_shrink_the_error_bar_as_their_root() -> None:
    few, many = (measured(HessianTrace(num_probes=n), large()).estimate("trace").stderr for n in (20, 320))
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
    assert HessianTrace.tiny().num_probes == 4
