from __future__ import annotations

import pytest

from tests.conformance.running import conform
from vallis.core import catalog
from vallis.testing.conformance import theories


@pytest.mark.parametrize("check", theories.CHECKS)
@pytest.mark.parametrize("name", catalog.names("theory"))
def test_conforms(name: str, check: str) -> None:
    conform("theory", name, theories.CHECKS[check])
