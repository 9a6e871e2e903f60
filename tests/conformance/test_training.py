from __future__ import annotations

import pytest

from tests.conformance.running import conform
from vallis.core import catalog
from vallis.testing.conformance import trainings


@pytest.mark.parametrize("check", trainings.CHECKS)
@pytest.mark.parametrize("name", catalog.names("training"))
def test_conforms(name: str, check: str) -> None:
    conform("training", name, trainings.CHECKS[check])
