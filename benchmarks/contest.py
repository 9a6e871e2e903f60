"""How a benchmark is run: accuracy first, then the processor time of interleaved repeats, and the best peer."""

from __future__ import annotations

import gc
import math
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from benchmarks.fixtures import FIXTURES, Setting

Role = Literal["ours", "peer", "reference"]
BY_DEFAULT = "Vallis"  # how our contender is called that sets no option for speed
# A contender that takes longer than the first, and this many times as long as the best, is not timed again.
_LONG, _HOPELESS = 2.0, 2.0


@dataclass(frozen=True)
class Answer:
    """What a contender returns: whatever the judge understands, and how many products it took if it says so.

    Attributes:
        is_certified: it promises residuals within the limit, too, and is held to that.
    """

    value: Any
    num_products: int | None = None
    is_certified: bool = False


@dataclass(frozen=True)
class Score:
    """What the judge says: the error, whether that is within the limit, and whatever else is worth a column."""

    error: float
    is_within: bool
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        package: whose code does it: "vallis", "curvlinops", "hessian-eigenthings", "pyhessian" or "torch".
        role: a reference is shown, but is nobody's best peer.
        call: the call, in words for the table.
        prepare: builds what is not timed and returns what is; it imports its package itself.
        repeats: how often the work is done within one timing, where once is too short for the clock.
    """

    name: str
    package: str
    role: Role
    call: str
    prepare: Callable[[Setting], Callable[[], Answer]]
    repeats: int = 1


@dataclass(frozen=True)
class Benchmark:
    """One line of the comparison.

    Attributes:
        target: ours over the best correct peer, in `compared`, at most.
        targets: likewise, of fixtures that have one of their own.
        compared: "seconds", or "error" where both sides spend the same.
        judge: gives an answer its score; thoroughly once a contender, cheaply after that.
        first_setting_decides: who misses in the first setting has missed in the others, where nobody can judge.
    """

    id: str
    title: str
    work: str
    limit: str
    target: float
    settings: Sequence[Setting]
    contenders: Sequence[Contender]
    judge: Callable[[Setting, Answer, bool], Score]
    compared: Literal["seconds", "error"] = "seconds"
    first_setting_decides: bool = False
    targets: Mapping[str, float] = field(default_factory=dict)
    remarks: Sequence[str] = ()


@dataclass
class Entry:
    """How a contender fared."""

    name: str
    package: str
    role: Role
    call: str
    verdict: Literal["correct", "misses", "raised"] = "raised"
    error: float | None = None
    num_products: int | None = None
    seconds: list[float] = field(default_factory=list)
    details: dict[str, float] = field(default_factory=dict)
    message: str = ""

    def record(self, answer: Answer, score: Score) -> None:
        """The worst error of all repeats counts, and one miss is a miss."""
        if not math.isnan(score.error):
            self.error = score.error if self.error is None else max(self.error, score.error)
        self.num_products = answer.num_products
        self.details.update(score.details)
        if self.verdict != "misses":
            self.verdict = "correct" if score.is_within else "misses"

    def plain(self) -> dict[str, Any]:
        """What goes to JSON."""
        plain = asdict(self)
        plain["seconds"] = [round(value, 6) for value in self.seconds]
        plain["best_seconds"] = round(min(self.seconds), 6) if self.seconds else None
        plain["median_seconds"] = round(statistics.median(self.seconds), 6) if self.seconds else None
        return plain


def hold(
    benchmark: Benchmark, setting: Setting, repeats: int = 5, budget: float = 240.0, missed: Sequence[str] = ()
) -> dict[str, Any]:
    """One setting of a benchmark, as it goes to JSON.

    Args:
        repeats: how many interleaved timings follow the first, which warms up and is judged thoroughly.
        budget: seconds after which no further round starts.
        missed: the names of those that are known to be wrong.
    """
    started = time.perf_counter()
    entries = [Entry(c.name, c.package, c.role, c.call) for c in benchmark.contenders]
    ready: list[tuple[Contender, Entry, Callable[[], Answer]]] = []
    for contender, entry in zip(benchmark.contenders, entries, strict=True):
        with _quietly():
            try:
                run = contender.prepare(setting)
                entry.seconds = [_time(benchmark, setting, contender, entry, run, thorough=True)]
            except Exception as error:
                entry.message = f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
                if contender.role == "ours":
                    traceback.print_exc()
                _say(f"  {entry.name}: {entry.message}")
                continue
        if entry.name in missed:
            entry.verdict = "misses"
        ready.append((contender, entry, run))
        _say(f"  {entry.name}: {entry.verdict}, error {entry.error or 0.0:.2g}, {entry.seconds[0]:.4f} s")
    ready = _hopeful(benchmark, ready)
    for place in range(repeats):
        for contender, entry, run in ready:
            with _quietly():
                seconds = _time(benchmark, setting, contender, entry, run, thorough=False)
            entry.seconds = [seconds] if place == 0 else [*entry.seconds, seconds]  # the very first run warmed up
        if time.perf_counter() - started > budget:
            break
    return {
        "fixture": setting.fixture,
        "fixture_in_words": FIXTURES[setting.fixture].words,
        "num_parameters": setting.num_parameters,
        "train_loss": round(setting.loss, 6),
        "batch_size": setting.batch_size,
        "entries": [entry.plain() for entry in entries],
        **verdict(entries, benchmark.compared),
    }


def verdict(entries: Sequence[Entry], compared: str) -> dict[str, Any]:
    """The best correct peer, and ours over it; None where either side has no correct run.

    Where we enter in several ways, the one called `Vallis` has no option set that a user would not set: its ratio is
    given, too.
    """

    def amount(entry: Entry) -> float:
        return min(entry.seconds) if compared == "seconds" else float(entry.error or 0.0)

    correct = [entry for entry in entries if entry.verdict == "correct"]
    ours = min((amount(entry) for entry in correct if entry.role == "ours"), default=None)
    peer = min((entry for entry in correct if entry.role == "peer"), key=amount, default=None)
    ratio = None if ours is None or peer is None else ours / amount(peer)
    plain = next((amount(entry) for entry in correct if entry.name == BY_DEFAULT), None)
    by_default = None if plain is None or peer is None else plain / amount(peer)
    references = {
        entry.name: round(ours / amount(entry), 4)
        for entry in correct
        if entry.role == "reference" and ours is not None
    }
    return {
        "best_peer": None if peer is None else peer.name,
        "ratio": None if ratio is None else round(ratio, 4),
        "ratio_by_default": None if by_default is None else round(by_default, 4),
        "ratios_to_references": references,
    }


def _hopeful(benchmark: Benchmark, ready: list[tuple[Any, Entry, Any]]) -> list[tuple[Any, Entry, Any]]:
    """Without those that are slow and either miss or are far behind: their one timing says all there is to say."""
    if benchmark.compared == "error":
        return []
    correct = [entry.seconds[0] for _, entry, _ in ready if entry.verdict == "correct" and entry.role != "ours"]
    best = min(correct, default=float("inf"))

    def keeps(entry: Entry) -> bool:
        if entry.role == "ours" or entry.seconds[0] < _LONG:
            return True
        return entry.verdict == "correct" and entry.seconds[0] < _HOPELESS * best

    return [each for each in ready if keeps(each[1])]


def _time(
    benchmark: Benchmark,
    setting: Setting,
    contender: Contender,
    entry: Entry,
    run: Callable[[], Answer],
    thorough: bool,
) -> float:
    """The processor seconds of one run, judged."""
    gc.collect()
    started = time.process_time()
    for _ in range(contender.repeats):
        answer = run()
    seconds = (time.process_time() - started) / contender.repeats
    entry.record(answer, benchmark.judge(setting, answer, thorough))
    return seconds


class _quietly(warnings.catch_warnings):  # noqa: N801  # reads as a verb where it is used
    """The peers warn a lot, and print progress bars; global seeds are set so that a run can be repeated."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return entered


def _say(text: str) -> None:
    print(text, flush=True)
