"""Puts a part of the catalog to a check; what has nothing to say, or needs a file that is not here, is skipped."""

from __future__ import annotations

import pytest

from vallis.core import catalog
from vallis.core.errors import DataMissing
from vallis.testing.conformance.parts import Check, NotTested, tiny


def conform(kind: str, name: str, check: Check) -> None:
    try:
        check(tiny(catalog.load(kind, name)))
    except (NotTested, DataMissing) as reason:
        pytest.skip(str(reason))
