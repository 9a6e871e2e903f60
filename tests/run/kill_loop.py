"""Runs a toy study again and again in a child that is killed at a random instant, then once to its end.

``python -m tests.run.kill_loop STORE OUT NUM_KILLS SEED``. One interpreter forks all children, so that torch is
imported once and the kills fall into the work. Prints how many records there were when each child died.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.run.toy import ToyStudy
from vallis.core.files import write_json
from vallis.run.codec import encode, to_json
from vallis.run.store import Store
from vallis.run.study import run_study

STUDY = ToyStudy(num_seeds=2, max_steps=15, seconds=0.01)
SECONDS = 1.6  # about what the whole study takes


def run(store: Path, out: Path) -> None:
    """The study as the command line runs it, with checkpoints at every step, and what it concludes as files."""
    done = run_study(STUDY, "smoke", store=Store(store), every=0.0)
    rows = [[dict(row.tags), row.seed, row.measurement, encode(row.outcome)[0]] for row in done.rows]
    write_json(out / "table.json", to_json(rows))
    claims = [[item.claim.id, vars(item.verdict), item.trouble] for item in done.judged]
    write_json(out / "claims.json", to_json(claims))


def main(store: Path, out: Path, num_kills: int, seed: int) -> None:
    """Kills so often, then finishes."""
    chance, seen = random.Random(seed), []
    out.mkdir(parents=True, exist_ok=True)
    run_study(ToyStudy(num_seeds=1), "smoke", store=Store("memory://warm"))  # what is imported late is imported now
    for _ in range(num_kills):
        child = os.fork()
        if child == 0:
            run(store, out)
            os._exit(0)
        # Each child gets a small part of the whole, so that the kills are spread over all of it.
        time.sleep(chance.uniform(0.0, 2.5 * SECONDS / max(num_kills, 4)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.append(len(list(Store(store).digests())))
    run(store, out)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
