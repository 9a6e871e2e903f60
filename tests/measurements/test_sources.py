from __future__ import annotations

from vallis.core import catalog
from vallis.measurements._sources import ZHANG


def test_one_paper_is_named_in_one_way() -> None:
    parts = [catalog.load(kind, name) for kind in ("measurements", "theory") for name in catalog.names(kind)]
    sources = [source for part in parts for source in part.sources]
    assert sum(source == ZHANG for source in sources) > 5
    held = {source for source in sources if source.url}
    assert len(held) == len({source.url for source in held}), "one address, one way to name it"
