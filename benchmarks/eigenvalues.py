"""What the benchmarks of the largest eigenvalues share: the peers' contenders, and the judge."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import judges, peers
from benchmarks.contest import Answer, Contender, Score
from benchmarks.fixtures import Setting

# The relative error that is allowed to an eigenvalue.
LIMIT = 1e-3


def curvlinops(count: int, tol: float, ncv: int | None = None) -> Contender:
    options = f"tol={tol:g}" if ncv is None else f"tol={tol:g}, ncv={ncv}"
    return Contender(
        f"curvlinops, {options}",
        "curvlinops",
        "peer",
        f"eigsh(HessianLinearOperator(...).to_scipy(), k={count}, which='LA', {options})",
        lambda setting: lambda: peers.curvlinops_eigenpairs(setting, count, tol, ncv=ncv),
    )


def eigenthings(count: int, num_steps: int) -> Contender:
    return Contender(
        f"hessian-eigenthings, {num_steps} steps",
        "hessian-eigenthings",
        "peer",
        f"lanczos(HessianOperator(...), k={count}, max_iter={num_steps}, which='LA', reorthogonalize=True)",
        lambda setting: lambda: peers.eigenthings_eigenpairs(setting, count, num_steps),
    )


def limit_in_words() -> str:
    return (
        f"relative error of every eigenvalue at most {LIMIT:g}; of ours every residual, too, at most {LIMIT:g} of "
        "the largest eigenvalue"
    )


def judge(count: int) -> Callable[[Setting, Answer, bool], Score]:
    """Against the exact eigenvalues; thoroughly, by the residuals too."""

    def judged(setting: Setting, answer: Answer, thorough: bool) -> Score:
        exact, product = judges.eigenvalue_truth(setting, count)
        return judges.eigenpairs(answer.value, exact, product, LIMIT, thorough, answer.is_certified)

    return judged
