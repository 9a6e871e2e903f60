"""The claims of `huang2019_visualizations` are said in full, told apart, and each has a rule that bears no rows."""

from __future__ import annotations

from vallis.studies._visualizations_claims import CIRCLES_RULES, MINEFIELD_RULES, RULES, claims


def test_claims_are_said_and_told_apart() -> None:
    found = list(claims())
    assert len({claim.id for claim in found}) == len(found)
    assert len(found) == 5 * len(RULES) - 4 + len(MINEFIELD_RULES) + len(CIRCLES_RULES)
    assert all(
        claim.says.endswith(".") and claim.where and claim.shows and claim.about in claim.says for claim in found
    )


def test_without_rows_nothing_is_decided() -> None:
    assert {claim.test([]).verdict for claim in claims()} == {"not_run"}
