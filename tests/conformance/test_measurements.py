from __future__ import annotations

import pytest

from tests.conformance.running import conform
from vallis.core import catalog
from vallis.testing.conformance import measurements, watchers

# What takes five seconds and more; the rest of the checks of these measurements is quick.
SLOW = {
    ("layer_hessians", "error_bars_are_honest"),
    ("layer_hessians", "batches_do_not_matter"),
    ("pac_bayes", "error_bars_are_honest"),
    ("sharpness", "error_bars_are_honest"),
    ("mode_connectivity", "error_bars_are_honest"),
    ("eigenspace_overlap", "declared_invariances_hold"),
    ("kronecker_structure", "declared_invariances_hold"),
    ("constructed_minimum", "declared_invariances_hold"),
    ("correction_identities", "declared_invariances_hold"),
}
CASES = [
    pytest.param(name, check, marks=[pytest.mark.slow] if (name, check) in SLOW else [])
    for name in catalog.names("measurements")
    for check in measurements.CHECKS
]


@pytest.mark.parametrize(("name", "check"), CASES)
def test_conforms(name: str, check: str) -> None:
    conform("measurements", name, measurements.CHECKS[check])


@pytest.mark.parametrize("check", watchers.CHECKS)
@pytest.mark.parametrize("name", catalog.names("measurements"))
def test_conforms_if_it_watches(name: str, check: str) -> None:
    conform("measurements", name, watchers.CHECKS[check])
