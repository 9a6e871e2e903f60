from __future__ import annotations

import pytest

from tests.conformance.running import conform
from vallis.core import catalog
from vallis.testing.conformance import models


@pytest.mark.parametrize("check", models.CHECKS)
@pytest.mark.parametrize("name", catalog.names("models"))
def test_conforms(name: str, check: str) -> None:
    conform("models", name, models.CHECKS[check])
