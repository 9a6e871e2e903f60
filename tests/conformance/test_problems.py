from __future__ import annotations

import pytest

from tests.conformance.running import conform
from vallis.core import catalog
from vallis.testing.conformance import problems


@pytest.mark.parametrize("check", problems.CHECKS)
@pytest.mark.parametrize("name", catalog.names("problems"))
def test_conforms(name: str, check: str) -> None:
    conform("problems", name, problems.CHECKS[check])
