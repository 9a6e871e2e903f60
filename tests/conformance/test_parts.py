from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conformance.running import conform
from vallis.core import catalog
from vallis.core.spec import digest
from vallis.testing.conformance import parts

EVERY = [(kind, name) for kind in catalog.KINDS for name in catalog.names(kind)]
IN_ANOTHER_PROCESS = """
import json
from vallis.core import catalog
from vallis.core.spec import digest
from vallis.testing.conformance.parts import tiny

every = [(kind, name) for kind in catalog.KINDS for name in catalog.names(kind)]
print(json.dumps({f"{kind}/{name}": digest(tiny(catalog.load(kind, name))) for kind, name in every}))
"""


@pytest.mark.parametrize("check", parts.CHECKS)
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_conforms(kind: str, name: str, check: str) -> None:
    conform(kind, name, parts.CHECKS[check])


def test_digests_are_the_same_in_another_process() -> None:
    """With another seed for Python's hashes: no digest may hang on the order of a set, or on where an object lies."""
    here = {f"{kind}/{name}": digest(parts.tiny(catalog.load(kind, name))) for kind, name in EVERY}
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "12345"})
    assert json.loads(done.stdout) == here
