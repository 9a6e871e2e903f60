"""Time and memory of a Hessian product and of the ten largest eigenvalues, against parameters and examples."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import torch
from torch import nn

from benchmarks import memory
from benchmarks.fixtures import ROOT, tanh_network
from benchmarks.machine import machine
from benchmarks.results import RESULTS
from vallis import Solution
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import eigenpairs

FIGURE = ROOT / "docs" / "images" / "scaling.png"
# 64-w-w-10 has w^2 + 76 w + 10 parameters: 967, 10 015, 99 690, 1 000 567.
WIDTHS, NUM_EXAMPLES = (11, 69, 280, 963), 2048
EXAMPLES, WIDTH = (512, 2048, 8192, 32768), 69
BATCH_SIZE, NUM_STEPS, COUNT, TOLERANCE = 512, 100, 10, 1e-3
_TIMEOUT = 300


def run() -> None:
    """Measures every point in a process of its own; writes the JSON and the figure."""
    points = [(width, NUM_EXAMPLES) for width in WIDTHS]
    points += [(WIDTH, number) for number in EXAMPLES if number != NUM_EXAMPLES]
    found = {"machine": machine(), "points": [_apart(*point) for point in points]}
    (RESULTS / "scaling.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found["points"])


def _apart(width: int, num_examples: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks", "point", str(width), str(num_examples)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=_TIMEOUT)
    print(done.stdout.strip(), flush=True)
    return dict(json.loads(done.stdout))


def point(width: int, num_examples: int) -> dict[str, Any]:
    """One point, in this process; seconds are of the processor, one thread, float32."""
    solution = _solution(width, num_examples)
    _warm(solution)
    memory.restart()
    before = memory.resident()
    operator = Hessian(Objective(solution))
    vector = torch.randn(operator.size, generator=torch.Generator().manual_seed(0))
    operator.matvec(vector)
    num_kept = operator.num_kept
    seconds = min(_seconds(lambda: operator.matvec(vector)) for _ in range(5))
    after_product = memory.peak() - before
    started = time.process_time()
    spectrum = eigenpairs(operator, largest=COUNT, tolerance=TOLERANCE, rng=Rng(0))
    return {
        "num_parameters": operator.size,
        "num_examples": num_examples,
        "product_seconds": round(seconds, 6),
        "product_mebibytes": round(after_product, 1),
        "num_graphs_kept": num_kept,
        "spectrum_seconds": round(time.process_time() - started, 4),
        "spectrum_mebibytes": round(memory.peak() - before, 1),
        "num_products": spectrum.num_products,
        "stop": spectrum.stop,
    }


def _solution(width: int, num_examples: int) -> Solution:
    """Random data with classes from a random linear teacher, a hundred steps of Adam into learning them."""
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(num_examples, 64, generator=stream)
    y = (x @ torch.randn(64, 10, generator=stream)).argmax(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = tanh_network(width)
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(NUM_STEPS):
        part = torch.randint(0, num_examples, (128,), generator=stream)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x[part]), y[part]).backward()
        optimizer.step()
    return Solution.of(module, nn.CrossEntropyLoss(), train=(x, y), batch_size=BATCH_SIZE)


def _warm(solution: Solution) -> None:
    objective = Objective(solution)
    objective.gradient()


def _seconds(work: Any) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def draw(points: list[dict[str, Any]]) -> None:
    """Two rows (seconds, MiB), two columns (parameters, examples)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6), sharey="row", layout="constrained")
    sweeps = {
        "num_parameters": [each for each in points if each["num_examples"] == NUM_EXAMPLES],
        "num_examples": [each for each in points if each["num_parameters"] == WIDTH**2 + 76 * WIDTH + 10],
    }
    for column, (axis, chosen) in enumerate(sweeps.items()):
        chosen = sorted(chosen, key=lambda each: each[axis])
        for row, unit in enumerate(("seconds", "mebibytes")):
            panel = panels[row][column]
            for what, words in (("product", "one Hessian product"), ("spectrum", "ten largest eigenvalues")):
                panel.loglog([e[axis] for e in chosen], [e[f"{what}_{unit}"] for e in chosen], "o-", label=words)
            panel.set_xlabel(axis.replace("num_", "number of "))
            panel.set_ylabel("processor seconds" if unit == "seconds" else "memory, MiB")
            panel.grid(alpha=0.3)
    panels[0][0].legend(frameon=False)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=130, metadata={"Software": None})
    pyplot.close(figure)
