from __future__ import annotations

import pytest

from tests.conformance.running import conform
from vallis.core import catalog
from vallis.testing.conformance import measurements, watchers


@pytest.mark.parametrize("check", measurements.CHECKS)
@pytest.mark.parametrize("name", catalog.names("measurements"))
def test_conforms(name: str, check: str) -> None:
    conform("measurements", name, measurements.CHECKS[check])


@pytest.mark.parametrize("check", watchers.CHECKS)
@pytest.mark.parametrize("name", catalog.names("measurements"))
def test_conforms_if_it_watches(name: str, check: str) -> None:
    conform("measurements", name, watchers.CHECKS[check])
