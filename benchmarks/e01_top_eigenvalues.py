"""E1: the ten largest eigenvalues of the Hessian."""

from __future__ import annotations

from benchmarks import judges, ours, peers
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

COUNT, LIMIT = 10, 1e-3


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    exact, product = judges.eigenvalue_truth(setting, COUNT)
    return judges.eigenpairs(answer.value, exact, product, LIMIT, thorough, answer.is_certified)


def _curvlinops(tol: float) -> Contender:
    return Contender(
        f"curvlinops, tol={tol:g}",
        "curvlinops",
        "peer",
        f"eigsh(HessianLinearOperator(...).to_scipy(), k={COUNT}, which='LA', tol={tol:g})",
        lambda setting: lambda: peers.curvlinops_eigenpairs(setting, COUNT, tol),
    )


def _eigenthings(num_steps: int) -> Contender:
    return Contender(
        f"hessian-eigenthings, {num_steps} steps",
        "hessian-eigenthings",
        "peer",
        f"lanczos(HessianOperator(...), k={COUNT}, max_iter={num_steps}, which='LA', reorthogonalize=True)",
        lambda setting: lambda: peers.eigenthings_eigenpairs(setting, COUNT, num_steps),
    )


BENCHMARK = Benchmark(
    id="E1",
    title="Ten largest eigenvalues of the Hessian",
    work="operator built, ten eigenpairs found",
    limit=f"relative error of every eigenvalue at most {LIMIT:g}; of ours every residual, too, at most {LIMIT:g} of "
    "the largest eigenvalue",
    target=0.5,
    settings=(Setting("D-MLP", 599), Setting("D-MLP", 512)),
    contenders=(
        *ours.eigenvalue_contenders(COUNT),
        _curvlinops(1e-3),
        _curvlinops(1e-2),
        _eigenthings(16),
        _eigenthings(20),
        _eigenthings(30),
        Contender(
            "PyHessian",
            "pyhessian",
            "peer",
            f"hessian(..., dataloader=...).eigenvalues(top_n={COUNT}, maxIter=100, tol=1e-3)",
            lambda setting: lambda: peers.pyhessian_eigenpairs(setting, COUNT),
        ),
    ),
    judge=_judge,
)
