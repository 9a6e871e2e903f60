"""Where units are done side by side: workers of our own on this machine, or those of a dask scheduler that is there.

Either is a `Workplace`. What dask knows of networks, logs and memory stays in this file; which unit comes next is the
business of `vallis.run.cluster`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

from vallis.core.errors import UsageError, VallisError

_ANSWER_SECONDS, _JOIN_SECONDS, _EXIT_SECONDS = 5.0, 30.0, 2.0
_KILL_AT = 0.95  # of its share of the memory, a worker is ended: before the system looks for somebody to end

# What our own scheduler and workers do otherwise than dask's defaults.
_CONFIG: Mapping[str, Any] = {
    # Each death is told to us at once; how often a unit is begun again is decided in one place, for all schedulers.
    "distributed.scheduler.allowed-failures": 0,
    # Our workers are our children, so their death is known. Silence is none: long work in LAPACK holds the interpreter.
    "distributed.scheduler.worker-ttl": None,
    "distributed.scheduler.active-memory-manager.start": False,
    # Nothing to look at over HTTP. The port itself, on loopback, is not ours to close.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Units may start processes of their own, as a DataLoader does; daemons may not.
    "distributed.worker.daemon": False,
    "distributed.worker.profile.enabled": False,
    # Results lie in the store, none in memory: there is nothing to spill, and a worker that pauses would never go on.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": _KILL_AT,
    "distributed.diagnostics.nvml": False,
}


@dataclass(frozen=True)
class Workplace:
    """Workers that take units.

    Attributes:
        client: of dask.
        url: of the scheduler.
        ours: whether the workers are our own, on this machine.
        deaths: how processes of ours ended, in words, by process id; filled as it happens.
    """

    client: Any
    url: str
    ours: bool
    deaths: Mapping[int, str] = field(default_factory=dict)

    def num_workers(self) -> int:
        """How many workers there are now.

        Raises:
            VallisError: the scheduler is gone.
        """
        try:
            return len(self.client.nthreads())
        except (OSError, RuntimeError, ValueError) as error:
            raise self.lost() from error

    def lost(self) -> VallisError:
        """The error to raise when the scheduler is gone."""
        return VallisError(
            f"the dask scheduler at {self.url} was required until the end, and is gone: what was finished is kept; "
            "start it again and run the same command again to go on"
        )

    def why(self, worker: Any) -> str:
        """What is known of the death of a worker, in words; `worker` is what dask last knew of it."""
        host = "" if self.ours else f" on {worker.host}"
        for _, event in reversed(self.client.get_events("worker-restart-memory")):
            if event.get("pid") == worker.pid and event.get("worker") == worker.address:
                used, limit = (f"{number / 2**30:.2f} GiB" for number in (event["rss"], worker.memory_limit))
                return f"it used {used} of memory{host}, and may use {_KILL_AT:.0%} of {limit}"
        return f"it {self._end(worker.pid)}{host}"

    def _end(self, pid: int) -> str:
        deadline = time.monotonic() + (_EXIT_SECONDS if self.ours else 0.0)
        while pid not in self.deaths and time.monotonic() < deadline:  # its socket closes before its process is gone
            time.sleep(0.01)
        end = self.deaths.get(pid, "was lost")
        killed = end.endswith(f"signal {int(getattr(signal, 'SIGKILL', 9))}")
        return f"{end}, which the system sends when memory runs out" if killed else end


@contextlib.contextmanager
def own(workers: int, threads: int) -> Iterator[Workplace]:
    """Workers on this machine, a process each, which end with this process, however it ends.

    Scheduler and workers listen on the loopback interface alone. Each worker may use an equal part of the memory.

    Args:
        workers: how many.
        threads: how many threads the libraries under a worker may use.

    Raises:
        UsageError: dask.distributed is not installed.
        VallisError: the workers could not be started.
    """
    _need()
    import dask
    import distributed

    words = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    quiet = {"DASK_LOGGING__DISTRIBUTED": "critical", "DASK_LOGGING__ASYNCIO": "critical"}
    before = {"distributed.nanny.pre-spawn-environ": {**dict.fromkeys(words, threads), **quiet}}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment_kept())
        stack.enter_context(dask.config.set({**_CONFIG, **before}))
        deaths = stack.enter_context(_obituaries())
        try:
            with _without_interrupts():
                cluster = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=workers,
                        threads_per_worker=1,
                        processes=True,
                        host="127.0.0.1",
                        dashboard_address="127.0.0.1:0",
                        scheduler_kwargs={"dashboard": False},
                        worker_class=_nanny(),
                        memory_limit=memory_share(workers),
                        silence_logs=logging.CRITICAL,
                    )
                )
                client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        except (RuntimeError, OSError) as error:
            raise VallisError(
                f"{workers} processes were required as workers, they could not be started ({error}): use fewer, and in "
                'a script of your own begin only under if __name__ == "__main__"'
            ) from error
        yield Workplace(client, cluster.scheduler_address, True, deaths)


@contextlib.contextmanager
def existing(address: str) -> Iterator[Workplace]:
    """The workers of a scheduler that is there; it and they are left running.

    Args:
        address: ``tcp://host:8786``, or ``tls://`` with the certificates that dask's own configuration names.

    Raises:
        UsageError: dask.distributed is not installed, there are no certificates for TLS, no scheduler answers there, or
            it has no workers.
    """
    _need()
    import distributed

    if address.startswith("tls://") and not distributed.Security().get_connection_args("client").get("ssl_context"):
        raise UsageError(
            f"certificates were required for {address}, dask's configuration names none: set distributed.comm.tls in it"
        )
    with _obituaries():
        _knock(address)
        with distributed.Client(address, timeout=_JOIN_SECONDS, set_as_default=False) as client:
            try:
                client.wait_for_workers(1, timeout=_JOIN_SECONDS)
            except (OSError, TimeoutError) as error:
                raise UsageError(
                    f"at least one worker was required at {address}, none came within {_JOIN_SECONDS:.0f} s: start "
                    f"some with `dask worker {address} --nthreads 1`"
                ) from error
            yield Workplace(client, address, False)


def _knock(address: str) -> None:
    """Asks who is there. A client that meets nobody goes on trying behind its error, and holds up the end of Python.

    Raises:
        UsageError: it is no scheduler.
    """
    from distributed import Security, rpc
    from distributed.utils import LoopRunner, sync

    async def who() -> str:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as server:
            return str((await server.identity())["type"])

    async def soon() -> str:
        return await asyncio.wait_for(who(), _ANSWER_SECONDS)

    loop = LoopRunner(asynchronous=False)
    loop.start()
    try:
        found = sync(loop.loop, soon, callback_timeout=2 * _ANSWER_SECONDS)
        why = "" if found == "Scheduler" else f"a {found.lower()} does, "
    except Exception as error:  # whatever a web server's bytes do to dask
        found, why = "", f"{error}, " if isinstance(error, ValueError) else ""
    finally:
        loop.stop()
    if found != "Scheduler":
        raise UsageError(
            f"a dask scheduler was required, none answers at {address or repr(address)} within "
            f"{_ANSWER_SECONDS:.0f} s: {why}start one with `dask scheduler`, or mend the address (tcp://host:8786)"
        )


def memory_share(workers: int) -> int:
    """How many bytes each worker of this machine may use."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT // workers)


def _need() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "dask.distributed was required for work in several processes, it is not installed: "
            "pip install 'vallis[cluster]'"
        ) from error


def _nanny() -> Any:
    """Who watches over a worker, but without patience when it shall end: all that was finished is in the store."""
    from distributed import Nanny

    class Impatient(Nanny):
        async def kill(self, timeout: float = 5.0, reason: str = "nanny-kill") -> None:
            if self.pid:
                os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            await super().kill(timeout, reason)

    return Impatient


class _Obituaries(logging.Handler):
    """Reads in the log of those who watch over the workers how each of them ended."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.deaths: dict[int, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the words, and keeps quiet about everything else."""
        found = re.match(r"Worker process (\d+) (.+)", record.getMessage())
        if found:
            self.deaths[int(found[1])] = found[2]


@contextlib.contextmanager
def _obituaries() -> Iterator[Mapping[int, str]]:
    """Holds dask's log away from the terminal: what a user must know of it reaches them as a reason."""
    import distributed  # noqa: F401  # sets its loggers up, which would undo what is done here

    log, nanny, ear = logging.getLogger("distributed"), logging.getLogger("distributed.nanny"), _Obituaries()
    levels = [(handler, handler.level) for handler in log.handlers]
    for handler, _ in levels:
        handler.setLevel(logging.CRITICAL + 1)
    nanny.addHandler(ear)
    try:
        yield ear.deaths
    finally:
        nanny.removeHandler(ear)
        for handler, level in levels:
            handler.setLevel(level)


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Undoes what dask leaves in this process's own environment for its workers to inherit."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Holds Ctrl-C and SIGTERM back while the threads are started that start the workers, now and after a death.

    Threads and processes inherit the mask, so workers are deaf to Ctrl-C from their first instant. To SIGTERM they must
    not be, so here alone it is put off; what was half started would have ended in dask's own words.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started with the first process, it would let signals in again afterwards, in the thread that starts them all.
    resource_tracker.ensure_running()
    with _put_off(signal.SIGTERM):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _put_off(word: signal.Signals) -> Iterator[None]:
    """Hands a signal to whoever handles it in Python only afterwards; where nobody does, it acts as always."""
    handler = signal.getsignal(word)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[FrameType | None] = []
    signal.signal(word, lambda _, frame: came.append(frame))
    try:
        yield
    finally:
        signal.signal(word, handler)
    if came:
        handler(word, came[0])
