from __future__ import annotations

import pytest

from tests.conformance.running import conform
from vallis.core import catalog
from vallis.testing.conformance import studies


@pytest.mark.parametrize("check", studies.CHECKS)
@pytest.mark.parametrize("name", catalog.names("studies"))
def test_conforms(name: str, check: str) -> None:
    conform("studies", name, studies.CHECKS[check])


@pytest.mark.parametrize("name", catalog.names("studies"))
def test_every_claim_says_what_its_number_is(name: str) -> None:
    assert [claim.id for claim in catalog.load("studies", name)().claims() if not claim.shows] == []
