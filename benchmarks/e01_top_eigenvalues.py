"""E1: the ten largest eigenvalues of the Hessian."""

from __future__ import annotations

from benchmarks import eigenvalues, ours, peers
from benchmarks.contest import Benchmark, Contender
from benchmarks.fixtures import Setting

COUNT = 10

BENCHMARK = Benchmark(
    id="E1",
    title="Ten largest eigenvalues of the Hessian",
    work="operator built, ten eigenpairs found",
    limit=eigenvalues.limit_in_words(),
    target=0.5,
    settings=(Setting("D-MLP", 599), Setting("D-MLP", 512)),
    contenders=(
        *ours.eigenvalue_contenders(COUNT),
        eigenvalues.curvlinops(COUNT, 1e-3),
        eigenvalues.curvlinops(COUNT, 1e-2),
        eigenvalues.eigenthings(COUNT, 16),
        eigenvalues.eigenthings(COUNT, 20),
        eigenvalues.eigenthings(COUNT, 30),
        Contender(
            "PyHessian",
            "pyhessian",
            "peer",
            f"hessian(..., dataloader=...).eigenvalues(top_n={COUNT}, maxIter=100, tol=1e-3)",
            lambda setting: lambda: peers.pyhessian_eigenpairs(setting, COUNT),
        ),
    ),
    judge=eigenvalues.judge(COUNT),
)
