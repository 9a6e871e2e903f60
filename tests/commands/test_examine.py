from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.commands.calls import Vallis

TOYS = ("examine", "clouds", "--model", "linear", "--training", "descent")


def report(folder: str = "out") -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(Path(folder, "report.json").read_text())
    return found


def test_digits_in_one_word(vallis: Vallis) -> None:
    """What ``make run`` does, with fewer steps."""
    words = ("examine", "digits", "--model.widths", "16", "--training.max_steps", "60")
    printed = vallis.good(*words)
    assert "mlp on digits: 1,210 parameters, 60 steps of gradient_descent, seed 0" in printed
    assert "report: out/report.html" in printed
    results = report()["results"]
    assert len(results) >= 5
    assert {entry["status"] for entry in results.values()} == {"ok"}  # type: ignore[index]
    assert Path("out/report.html").stat().st_size > 100_000
    first = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}

    assert vallis.good(*words) == printed
    again = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert again == first, "a second run answers from the store, with the same bytes"


@pytest.mark.usefixtures("toys")
def test_settings_reach_the_parts(vallis: Vallis) -> None:
    vallis.good(*TOYS, "--training.max_steps", "2", "--problem.num_examples", "8", "--seed", "3", "--out", "there")
    facts = report("there")["solution"]
    assert (facts["steps"], facts["num_train"], facts["seed"]) == (2, 8, 3)
    assert facts["settings"] == "problem.num_examples=8, training.max_steps=2"
    assert Path("there/store/objects").is_dir()


@pytest.mark.usefixtures("toys")
def test_the_store_may_be_elsewhere(vallis: Vallis) -> None:
    vallis.good(*TOYS, "--store", "kept")
    assert Path("kept/objects").is_dir()
    assert not Path("out/store").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("examine", "digts"), "named 'digts'; did you mean digits?"),
        (("examine", "--model", "mlpp"), "did you mean mlp"),
        (("examine", "--panel", "quik"), "no panel is named 'quik'; did you mean quick?"),
        (("examine", "--model.width", "3"), "did you mean widths"),
        (("examine", "--model.widths", "many"), "mlp.widths must be"),
        (("examine", "--modle.widths", "3"), "did you mean --model."),
        (("examine", "--training.learning_rate", "-1"), "learning_rate"),
        (("examine", "--seed", "one"), "--seed"),
        (("examine", "corrupted"), "requires a value for base"),
        (("examine", "arrays", "--problem.path", "no.npz"), "no.npz"),
        (("examine", "no.py:f"), "a Python file was required at no.py"),
        (("examine", "--nonsense"), "--nonsense"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(vallis: Vallis, words: tuple[str, ...], said: str) -> None:
    assert said in vallis.refused(*words)


@pytest.mark.usefixtures("toys")
def test_settings_of_a_measurement_outside_the_panel_do_nothing_and_are_refused(vallis: Vallis) -> None:
    assert "vallis measure norm" in vallis.refused(*TOYS, "--norm.order", "1")


@pytest.mark.usefixtures("toys")
def test_a_folder_that_cannot_be_written_is_one_sentence(vallis: Vallis) -> None:
    Path("out").write_text("a file")
    assert "out" in vallis.refused(*TOYS)


@pytest.mark.usefixtures("toys")
def test_a_training_that_fails(vallis: Vallis) -> None:
    done = vallis(*TOYS, "--training.fail_at", "1")
    assert done.code == 1
    assert "the training failed, RuntimeError: this step fails on purpose" in done.err
    assert not Path("out/report.html").exists()


@pytest.mark.usefixtures("toys")
def test_a_measurement_that_fails_is_shown(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.run.toy import Broken

    monkeypatch.setattr(Broken, "panels", {"quick": {}})
    done = vallis(*TOYS)
    assert done.code == 1
    assert "ZeroDivisionError: nothing can be divided by this" in done.out
    assert report()["results"]["broken"]["status"] == "failed"  # type: ignore[index]


@pytest.mark.usefixtures("toys")
def test_ctrl_c_says_how_to_go_on(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.run.toy import Stop

    monkeypatch.setattr(Stop, "panels", {"quick": {}})
    done = vallis(*TOYS)
    assert done.code == 130
    assert "run the same command again to go on" in done.err


def test_help_shows_the_settings_of_what_is_named(vallis: Vallis) -> None:
    printed = vallis.good("examine", "corrupted", "--model", "convnet", "--help")
    for word in (
        "--problem.base PROBLEM  (required)",
        "--problem.labels",
        "--training.learning_rate",
        "settings of convnet",
    ):
        assert word in printed
    assert "--problem.labels" not in vallis.good("examine", "--help").partition("examples:")[2].partition("\n\n")[2]


OWN = """
import torch
from beside import CLASSES

class Own(torch.nn.Sequential):
    pass

def network():
    torch.manual_seed(0)
    x, y = torch.randn(30, 4), torch.arange(30) % CLASSES
    module = Own(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, CLASSES))
    which = {"measurements": ["generalization_gap", "margins"]}
    loss = torch.nn.functional.cross_entropy
    return {"module": module, "loss": loss, "train": (x, y), "test": (x[:9], y[:9]), **which}

def number():
    return 3

def incomplete():
    return {"module": torch.nn.Linear(1, 1)}
"""


@pytest.fixture
def own(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> Vallis:
    import sys

    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("mine", "beside"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    Path("mine.py").write_text(OWN)
    Path("beside.py").write_text("CLASSES = 3\n")
    return vallis


def test_your_own_network(own: Vallis) -> None:
    printed = own.good("examine", "mine.py:network", "--out", "mine")
    assert "report: mine/report.html" in printed
    facts = report("mine")
    assert facts["solution"]["model"] == "Own"
    assert {name: entry["status"] for name, entry in facts["results"].items()} == {  # type: ignore[index]
        "generalization_gap": "ok",
        "margins": "ok",
    }


@pytest.mark.parametrize("option", ["--model", "--training", "--seed", "--store"])
def test_your_own_network_is_not_trained_here(own: Vallis, option: str) -> None:
    assert f"{option} goes with a problem" in own.refused("examine", "mine.py:network", option, "1")
    assert "--model" in own.refused("examine", "mine.py:network", "--model.widths", "1")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("mine.py:nothing", "a function nothing was required in mine.py"),
        ("mine.py:number", "a dict was required of mine.py:number, a int came"),
        ("mine.py:incomplete", "a dict with module, loss and train was required"),
        ("mine.py", "a file and a function in it were required, mine.py came: write FILE.py:FUNCTION"),
        ("mine.py:", "a file and a function in it were required"),
        ("yours.py:network", "a Python file was required at yours.py"),
        (
            "more.py:raising",
            "a function raising() that returns was required, more.py, line 2, raised RuntimeError: boom",
        ),
        ("more.py:wanting", "raised TypeError: wanting() missing 1 required positional argument"),
        ("more.py:mistyped", "no argument of vallis.examine is named 'tset'; did you mean test"),
        ("broken.py:network", "a file that can be imported was required, broken.py, line 1, raised SyntaxError"),
        ("lacking.py:network", "a file that can be imported was required, lacking.py, line 1, raised ModuleNotFound"),
    ],
)
def test_your_own_network_wrongly(own: Vallis, where: str, said: str) -> None:
    Path("more.py").write_text(MORE)
    Path("broken.py").write_text("def network(:")
    Path("lacking.py").write_text("import there_is_no_such_module")
    assert said in own.refused("examine", where)


MORE = """def raising():
    raise RuntimeError("boom")
def wanting(what):
    return {}
def mistyped():
    return {"module": 1, "loss": 2, "train": 3, "tset": 4}
def chosen():
    import mine
    return {**mine.network(), "measurements": ["margins"]}
def placed():
    import mine
    given = {**mine.network(), "out": "from_file", "panel": "nosuch"}
    del given["measurements"]
    return given
"""


NOISY = """from mine import network
def noisy():
    given = network()
    x, y = given["train"]
    return {**given, "other_splits": {"true_labels": (x, (y + (y == 0)) % 3)}, "measurements": ["memorization_gap"]}
def twice():
    return {**noisy(), "other_splits": {"train": network()["train"]}}
"""


def test_your_own_network_with_true_labels_beside_noisy_ones(own: Vallis) -> None:
    Path("noise.py").write_text(NOISY)
    assert "10 noisy labels" in own.good("examine", "noise.py:noisy", "--out", "noisy")
    assert report("noisy")["results"]["memorization_gap"]["status"] == "ok"  # type: ignore[index]
    assert "splits beside train and test were required" in own.refused("examine", "noise.py:twice")


def test_settings_and_options_hold_for_your_own_network_too(own: Vallis) -> None:
    Path("more.py").write_text(MORE)
    assert "no option prefix is named '--foo.'" in own.refused("examine", "mine.py:network", "--foo.x", "1")
    assert "names its own measurements" in own.refused("examine", "more.py:chosen", "--margins.split", "train")
    assert "leave one of the two out" in own.refused("examine", "more.py:chosen", "--panel", "full")
    assert "at least one thread" in own.refused("examine", "mine.py:network", "--threads", "0")
    own.good("examine", "more.py:placed", "--panel", "quick", "--out", "said", "--hessian_spectrum.num_top", "2")
    assert "margins" in report("said")["results"]
    assert len(np.load("said/arrays/hessian_spectrum.eigenvalues_top.npy")) == 2
    assert not Path("from_file").exists()


def test_ctrl_c_says_where_the_report_is_of_what_was_measured(own: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vallis.report.examine.measure_all", stop)
    done = own("examine", "mine.py:network", "--out", "mine")
    assert (done.code, done.out) == (130, "")
    assert "what was measured is in mine/report.html; the same command begins anew" in done.err
