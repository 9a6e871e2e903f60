from __future__ import annotations

import pytest

from tests.conformance.running import conform
from vallis.core import catalog
from vallis.testing.conformance import studies


@pytest.mark.parametrize("check", studies.CHECKS)
@pytest.mark.parametrize("name", catalog.names("studies"))
def test_conforms(name: str, check: str) -> None:
    conform("studies", name, studies.CHECKS[check])
