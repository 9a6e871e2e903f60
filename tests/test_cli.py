from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.commands.calls import Vallis
from vallis import __version__, cli
from vallis.core.errors import StoreError

COMMAND = Path(sys.executable).with_name("vallis")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as a terminal has it: who is started in the background begins deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def vallis(capsys: pytest.CaptureFixture[str]) -> Vallis:
    return Vallis(capsys)


def test_help_names_every_command(vallis: Vallis) -> None:
    printed = vallis.good("--help")
    assert printed == vallis.good("-h") == vallis.good("help")
    assert vallis.good("help", "list") == vallis.good("list", "--help")
    for name, says in cli.COMMANDS.items():
        assert f"  {name}" in printed
        assert says in printed
    assert "exit codes: 0 done, 1 something failed" in printed


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_teaches(vallis: Vallis, name: str) -> None:
    printed = vallis.good(name, "--help")
    module = importlib.import_module(f"vallis.commands.{name}")
    assert printed.startswith(f"usage: vallis {name}")
    assert (module.__doc__ or "").splitlines()[0][:60] in " ".join(printed.split())
    assert f"vallis {name}" in printed.partition("examples:\n")[2]


def test_every_command_has_its_file() -> None:
    folder = Path(cli.__file__).parent / "commands"
    others = {"__init__", "options", "recipe", "pages"}
    assert {path.stem for path in folder.glob("*.py")} - others == set(cli.COMMANDS)


def test_version(vallis: Vallis) -> None:
    assert vallis.good("--version") == f"vallis {__version__}\n"


def test_without_a_command_the_help_is_shown_and_nothing_is_done(vallis: Vallis) -> None:
    done = vallis()
    assert done.code == 2
    assert "commands:" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("exmaine",), "no command is named 'exmaine'; did you mean examine?"),
        (("list", "--jsno"), "unrecognized arguments: --jsno; see vallis list --help"),
        (("list", "--js"), "unrecognized arguments: --js"),
        (("show",), "required: [KIND] NAME; see vallis show --help"),
        (("list", "--model.widths", "3"), "--model."),
        (("examine", "--model.widths"), "a value was required after --model.widths"),
    ],
)
def test_a_command_line_that_cannot_be_used_is_one_sentence(vallis: Vallis, words: tuple[str, ...], said: str) -> None:
    assert said in vallis.refused(*words)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StoreError("a record is damaged"), 1, "vallis: a record is damaged\n"),
        (KeyboardInterrupt(), 130, "vallis: stopped: what was finished is kept; run the same command again to go on\n"),
        (KeyboardInterrupt("3 of 4 are done"), 130, "vallis: 3 of 4 are done\n"),
    ],
)
def test_errors_become_sentences_and_codes(
    vallis: Vallis, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def run(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", run)
    done = vallis("list")
    assert (done.code, done.out, done.err) == (code, "", said)


def test_a_defect_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_run", run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["list"])


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{COMMAND} list | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_a_training_keeps_what_is_finished(tmp_path: Path, stop: signal.Signals) -> None:
    """As somebody does it at a terminal; a short training is done by then, a long one is not."""
    jobs = [
        {
            "problem": "digits",
            "model": "mlp",
            "training": {"name": "gradient_descent", "settings": {"max_steps": steps}},
        }
        for steps in (1, 10**6)
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    words = [COMMAND, "run", "jobs.json"]
    # What a shell starts in the background ignores Ctrl-C, and so would what it starts.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, cwd=tmp_path, stderr=pipe, stdout=pipe, text=True, preexec_fn=heard)
    try:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("out/store/objects/*/*/record.json"))) < 2:  # the weights and the training
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(stop)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, "")
    assert "1 of 2 pieces of work are finished and kept in out/store" in err
    assert "run the same command again to go on" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_end_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy cannot be imported twice, and torch goes on without it: the end was a traceback of something else."""
    (tmp_path / "takes_long.py").write_text(
        "import time\nfor _ in range(40):\n    time.sleep(0.01)\nend = time.time()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "_run", lambda words: import_now(signal.SIGINT))
    assert cli.main([]) == 130
    assert hasattr(sys.modules["takes_long"], "end")


def import_now(word: signal.Signals) -> int:
    """Is stopped after 0.1 s of an import that takes 0.4, and then waits to hear of it."""
    timer = threading.Timer(0.1, signal.raise_signal, (word,))
    timer.start()
    importlib.import_module("takes_long")
    for _ in range(500):
        time.sleep(0.01)
    return 0


@pytest.mark.usefixtures("ctrl_c")
def test_an_import_that_does_not_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "never_ends.py").write_text("import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(60)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "_IMPORT_SECONDS", 0.2)
    monkeypatch.setattr(cli, "_run", lambda words: bool(importlib.import_module("never_ends")))
    began = time.monotonic()
    assert cli.main([]) == 130
    assert time.monotonic() - began < 30


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, vallis.cli; print([m for m in ('torch', 'numpy', 'pydantic', 'fsspec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"
