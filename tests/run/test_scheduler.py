from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.run.processes import ROOT, alive, children, others, spawned, wait_for
from tests.run.toy import job
from vallis.core.errors import UsageError
from vallis.run import scheduler
from vallis.run.execute import execute
from vallis.run.store import Store


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_our_own_workers_are_heard_by_nobody_and_leave_nothing() -> None:
    import psutil

    environment = dict(os.environ)
    with scheduler.own(1, 1) as place:
        mine = {os.getpid(), *children(os.getpid())}
        listening = [c.laddr for c in psutil.net_connections("tcp") if c.pid in mine and c.status == "LISTEN"]
        assert len(listening) >= 3 and {address.ip for address in listening} == {"127.0.0.1"}
        assert 8787 not in {address.port for address in listening}, "the port on which people look for a dashboard"
        assert place.num_workers() == 1
        workers = spawned(os.getpid())
        assert workers
    wait_for(lambda: not alive(workers), 10)
    assert dict(os.environ) == environment
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_workers_hear_no_ctrl_c_from_their_first_instant() -> None:
    """In a process of its own: what the first process of all is started with lets signals in again."""
    code = (
        "import os, re\nfrom pathlib import Path\nfrom tests.run.processes import spawned\n"
        "from vallis.run import scheduler\n"
        "if __name__ == '__main__':\n"
        "    with scheduler.own(1, 1):\n"
        "        for pid in spawned(os.getpid()):\n"
        "            print(re.search(r'SigBlk:\\s*(\\w+)', Path(f'/proc/{pid}/status').read_text())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    (blocked,) = done.stdout.split()
    assert int(blocked, 16) >> (signal.SIGINT - 1) & 1, "Ctrl-C is held back"
    assert not int(blocked, 16) >> (signal.SIGTERM - 1) & 1, "SIGTERM is not"


def test_sigterm_waits_until_the_workers_are_there() -> None:
    """What was half started ended in tracebacks of dask's."""
    before, seen = signal.signal(signal.SIGTERM, signal.default_int_handler), []
    try:
        with pytest.raises(KeyboardInterrupt), scheduler._without_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):  # Python hears it at one of these
                seen.append(1)
        assert len(seen) == 1000
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_dask_it_is_said_how_to_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'vallis\[cluster\]'"):
        execute([job()], Store(tmp_path), workers=2)


def test_workers_of_both_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave one out"):
        execute([job()], Store(tmp_path), workers=2, scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "ftp://127.0.0.1:1", ""])
def test_where_no_scheduler_answers_is_one_sentence_within_seconds(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_ANSWER_SECONDS", 1.0)
    refuses(address, address, tmp_path)


def refuses(address: str, words: str, tmp_path: Path) -> None:
    import distributed  # noqa: F401 - what takes seconds where others work beside, and is no waiting for an answer

    before = time.monotonic()
    with pytest.raises(UsageError, match=f"none answers at {words or repr(words)}"):
        execute([job()], Store(tmp_path), scheduler=address)
    gc.collect()  # whatever was left half-made would try on here
    assert time.monotonic() - before < 8  # dask's own patience is 10 seconds and more


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["nothing", "the web"])
def test_what_answers_otherwise_is_no_scheduler(says: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_ANSWER_SECONDS", 1.0)
    heard = []

    def serve() -> None:
        caller, _ = server.accept()
        heard.append(caller)
        caller.sendall(says)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        try:
            refuses(address, address, tmp_path)
        finally:
            thread.join()
            heard[0].close()


def test_a_worker_is_no_scheduler(tmp_path: Path) -> None:
    with scheduler.own(1, 1) as place:
        (address,) = place.client.nthreads()
        refuses(address, f"{address} within 5 s: a worker does", tmp_path)


def test_tls_without_certificates_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dask.s configuration names none: set"):
        execute([job()], Store(tmp_path), scheduler="tls://127.0.0.1:1")


@pytest.mark.slow
def test_a_scheduler_without_workers_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_JOIN_SECONDS", 0.5)
    with (
        others(tmp_path, 0) as (address, _),
        pytest.raises(UsageError, match=f"start some with `dask worker {address}"),
    ):
        execute([job()], Store(tmp_path / "store"), scheduler=address)
