"""E2: the fifty largest eigenvalues of a convolutional network's Hessian."""

from __future__ import annotations

from benchmarks import eigenvalues, ours
from benchmarks.contest import Benchmark
from benchmarks.fixtures import Setting

COUNT = 50

BENCHMARK = Benchmark(
    id="E2",
    title="Fifty largest eigenvalues of the Hessian",
    work="operator built, fifty eigenpairs found",
    limit=eigenvalues.limit_in_words(),
    target=0.4,
    settings=(Setting("D-CNN", 599),),
    contenders=(
        *ours.eigenvalue_contenders(COUNT),
        eigenvalues.curvlinops(COUNT, 1e-3, 101),
        eigenvalues.curvlinops(COUNT, 1e-2, 130),
        eigenvalues.eigenthings(COUNT, 100),
        eigenvalues.eigenthings(COUNT, 120),
        eigenvalues.eigenthings(COUNT, 150),
    ),
    judge=eigenvalues.judge(COUNT),
    remarks=("PyHessian is left out: its power iteration would need thousands of products here.",),
)
