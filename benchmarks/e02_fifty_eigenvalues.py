"""E2: the fifty largest eigenvalues of a convolutional network's Hessian."""

from __future__ import annotations

from benchmarks import judges, ours, peers
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

COUNT, LIMIT = 50, 1e-3


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    exact, product = judges.eigenvalue_truth(setting, COUNT)
    return judges.eigenpairs(answer.value, exact, product, LIMIT, thorough, answer.is_certified)


def _curvlinops(tol: float, ncv: int) -> Contender:
    return Contender(
        f"curvlinops, tol={tol:g}, ncv={ncv}",
        "curvlinops",
        "peer",
        f"eigsh(HessianLinearOperator(...).to_scipy(), k={COUNT}, which='LA', tol={tol:g}, ncv={ncv})",
        lambda setting: lambda: peers.curvlinops_eigenpairs(setting, COUNT, tol, ncv=ncv),
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
    id="E2",
    title="Fifty largest eigenvalues of the Hessian",
    work="operator built, fifty eigenpairs found",
    limit=f"relative error of every eigenvalue at most {LIMIT:g}; of ours every residual, too, at most {LIMIT:g} of "
    "the largest eigenvalue",
    target=0.4,
    settings=(Setting("D-CNN", 599),),
    contenders=(
        *ours.eigenvalue_contenders(COUNT),
        _curvlinops(1e-3, 101),
        _curvlinops(1e-2, 130),
        _eigenthings(100),
        _eigenthings(120),
        _eigenthings(150),
    ),
    judge=_judge,
    remarks=("PyHessian is left out: its power iteration would need thousands of products here.",),
)
