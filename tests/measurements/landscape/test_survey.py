"""Each landscape check names the survey that it comes from."""

from __future__ import annotations

import pytest

from vallis.core import catalog
from vallis.measurements.landscape._survey import SURVEY


@pytest.mark.parametrize(
    "name", ["constructed_minimum", "basin_exit", "stationary_point", "path_to_infinity", "exponential_neuron"]
)
def test_the_survey_is_a_source_of_the_checks(name: str) -> None:
    assert SURVEY in catalog.load("measurements", name).sources
    assert SURVEY.url.endswith("2007.01429")
