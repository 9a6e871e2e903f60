from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.calls import Vallis
from tests.run.toy import ToyStudy
from vallis.core.figures import Figure
from vallis.core.types import Claim, Verdict

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the claim whose rule breaks down."""
    claims = ToyStudy.claims
    monkeypatch.setattr(ToyStudy, "claims", lambda self: list(claims(self))[:1])


def claims(folder: str = "out/toy_study") -> dict[str, str]:
    found = json.loads(Path(folder, "claims.json").read_text())
    assert found["study"] == "toy_study"
    return {claim["id"]: claim["verdict"] for claim in found["claims"]}


@pytest.mark.usefixtures("calm")
def test_a_study_from_end_to_end(vallis: Vallis) -> None:
    printed = vallis.good("study", "toy_study", "--scale", "smoke")
    assert "longer: holds (n=3)" in printed
    assert "page: out/toy_study/study.html" in printed
    assert claims() == {"longer": "holds"}
    assert Path("out/toy_study/table.csv").read_text().count("\n") > 24
    first = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert vallis.good("study", "toy_study", "--scale", "smoke") == printed
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == first


@pytest.mark.usefixtures("calm")
def test_seeds_and_settings(vallis: Vallis) -> None:
    vallis.good("study", "toy_study", "--seeds", "7,8", "--study.max_steps", "2", "--out", "there")
    lines = Path("there/table.csv").read_text().splitlines()
    assert {line.split(",")[1] for line in lines[1:]} == {"7", "8"}
    vallis.good("report", "there")


def test_a_rule_that_breaks_down_fails_alone(vallis: Vallis) -> None:
    done = vallis("study", "toy_study")
    assert done.code == 1
    assert "its rule could not be applied: KeyError: 'a row that is not there'" in done.out
    assert claims() == {"longer": "holds", "absurd": "not_run"}


@pytest.mark.usefixtures("calm")
def test_figures_that_cannot_be_made_cost_no_claim(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ToyStudy, rows: object) -> list[Figure]:
        raise ValueError("no figure")

    monkeypatch.setattr(ToyStudy, "figures", broken)
    done = vallis("study", "toy_study")
    assert done.code == 1
    assert "the figures could not be made: ValueError: no figure" in done.out
    assert claims() == {"longer": "holds"}


@pytest.mark.usefixtures("calm")
def test_failed_measurements_are_told(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.run.toy import Norm

    def broken(self: Norm, subject: object, rng: object) -> None:
        raise OverflowError("too much")

    monkeypatch.setattr(Norm, "measure", broken)
    done = vallis("study", "toy_study")
    assert done.code == 1
    assert "12 of 24 measurements failed" in done.out
    assert "OverflowError: too much" in done.out or "too much" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("toy_stduy",), "did you mean toy_study"),
        (("toy_study", "--scale", "huge"), "no scale is named 'huge'"),
        (("toy_study", "--scale", "paper"), "none at scale paper"),
        (("toy_study", "--seeds", "a"), "--seeds must be whole numbers"),
        (("toy_study", "--study.num_seed", "1"), "did you mean num_seeds"),
        (("toy_study", "--seeds", "1,2,1"), "each once, was required, [1, 2, 1] came"),
        (("toy_study", "--workers", "0"), "at least one worker"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(vallis: Vallis, words: tuple[str, ...], said: str) -> None:
    assert said in vallis.refused("study", *words)


def test_claims_that_were_not_run_are_named_together(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = Claim(id="idle", says="Not now.", where="nowhere", test=lambda rows: Verdict(verdict="not_run"))
    monkeypatch.setattr(ToyStudy, "claims", lambda self: [idle])
    printed = vallis.good("study", "toy_study")
    assert "not run at this scale: idle" in printed
    assert "Not now." not in printed


def files(folder: Path) -> dict[str, bytes]:
    """What must be the same: the claims, the table and everything in the store that is for good."""
    kept = [folder / "claims.json", folder / "table.csv", *sorted((folder / "store" / "objects").rglob("*"))]
    assert not list((folder / "store" / "partial").glob("*")), "a checkpoint was left over"
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept if path.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_killed_twenty_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    """The command itself, on a real study, killed by the kernel at random instants."""
    command = [
        Path(sys.executable).with_name("vallis"),
        "study",
        "zhang2017_randomization",
        "--scale",
        "smoke",
        "--out",
    ]
    begin = time.monotonic()
    subprocess.run([*command, tmp_path / "calm"], check=True, capture_output=True)
    seconds = time.monotonic() - begin
    whole = len(list((tmp_path / "calm" / "store" / "objects").glob("*/*")))
    # A machine that was busy and is idle now would be done before the first kill: then they come sooner.
    for attempt in range(4):
        wild = tmp_path / f"wild{attempt}"
        seen = killed([*command, wild], wild / "store" / "objects", seconds / 2**attempt)
        if seen[0] < seen[-1]:
            break
    # Networks that are trained together end together, so many a kill finds nothing finished.
    assert seen[0] < seen[-1] <= whole, f"the kills were not spread over the work: {seen} of {whole}"
    subprocess.run([*command, wild], check=True, capture_output=True)
    assert files(wild) == files(tmp_path / "calm")


def killed(command: list[str | Path], objects: Path, seconds: float) -> list[int]:
    """Kills the command twenty times at random instants, and counts each time what is finished."""
    chance, seen = random.Random(0), []
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.3, 0.8) * seconds)
        process.kill()
        process.wait()
        seen.append(len(list(objects.glob("*/*"))))
    return seen
