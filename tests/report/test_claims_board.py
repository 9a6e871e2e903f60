"""Claims as a page shows them: what they rest on, and which stand on the board."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.report import toy
from vallis.core.types import Claim, Row, Verdict
from vallis.report.claims_board import board, evidence, rest


def on_board() -> list[tuple[Claim, Verdict]]:
    """The same claimed of three things, of which one was not run."""

    def never(table: Sequence[Row]) -> Verdict:
        raise AssertionError("the report must not run the test of a claim")

    said = {"digits": "the digits", "clothes": "clothes", "photographs": "photographs"}
    verdicts = (
        Verdict(verdict="holds", statistic=0.998, p=0.003, n=10),
        Verdict(verdict="fails", statistic=0.4, p=0.03, n=5),
        Verdict(verdict="not_run"),
    )
    made = [
        Claim(
            id=f"fits_{name}",
            says=f"On {about}: random labels are fitted.",
            where="table 1",
            test=never,
            about=about,
            shows="training accuracy",
        )
        for name, about in said.items()
    ]
    return list(zip(made, verdicts, strict=True))


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (Verdict(verdict="holds", n=10, p=0.003), "holds (n=10, p=0.003)"),
        (Verdict(verdict="undecided", n=3), "undecided (n=3)"),
        (Verdict(verdict="fails", n=5, p=float("nan")), "fails (n=5)"),
        (Verdict(verdict="not_run"), "not run"),
    ],
)
def test_evidence(verdict: Verdict, says: str) -> None:
    assert evidence(verdict) == says


def test_a_line_for_what_is_claimed_and_a_column_for_each_thing() -> None:
    held = board(on_board())
    assert held is not None
    assert held["columns"] == ["digits", "clothes"], "what was not run has none"
    (row,) = held["rows"]
    assert (row["says"], row["where"], row["shows"]) == ("Random labels are fitted.", "table 1", "training accuracy")
    assert [cell["verdict"] for cell in row["cells"]] == ["holds", "fails"]
    assert row["cells"][1]["basis"] == "n=5, p=0.03"
    assert [claim.id for claim, _ in rest(on_board())] == ["fits_photographs"]


def test_a_thing_of_which_something_else_is_claimed_has_an_empty_place() -> None:
    (digits, clothes, _) = on_board()
    claim = Claim(id="else", says="On clothes: something else.", where="", test=clothes[0].test, about="clothes")
    held = board([digits, (claim, clothes[1])])
    assert held is not None
    assert [[cell and cell["id"] for cell in row["cells"]] for row in held["rows"]] == [
        ["fits_digits", None],
        [None, "else"],
    ]


def test_no_claim_of_that_kind_no_board() -> None:
    assert board(toy.claims()) is None
    claims = toy.claims()
    assert rest(claims) == claims
