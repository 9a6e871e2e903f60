"""E4: the trace of the Hessian from ninety products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks import ours, peers, truth
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

NUM_PRODUCTS, NUM_SEEDS = 90, 100
# Of 100 honest intervals of 95 %, fewer than 90 cover in one of 90 cases.
LEAST_COVERING = 90


@dataclass(frozen=True)
class Estimates:
    """``(100,)`` one a seed, and the halves of their 95 % intervals where the tool gives an error bar."""

    values: list[float]
    widths: list[float] | None
    must_cover: bool = False


def _ours(setting: Setting) -> Callable[[], Answer]:
    at = ours.objective(setting)

    def run() -> Answer:
        found = [ours.trace(at, NUM_PRODUCTS, seed) for seed in range(NUM_SEEDS)]
        values, widths = [value for value, _, _ in found], [width for _, width, _ in found]
        return Answer(Estimates(values, widths, must_cover=True), max(spent for _, _, spent in found))

    return run


def _curvlinops(name: str, num_products: int) -> Contender:
    def prepare(setting: Setting) -> Callable[[], Answer]:
        import curvlinops

        operator = peers.curvlinops_operator(setting, "HessianLinearOperator")

        def estimate(seed: int) -> float:
            torch.manual_seed(seed)
            return float(getattr(curvlinops, name)(operator, num_products))

        return lambda: Answer(Estimates([estimate(seed) for seed in range(NUM_SEEDS)], None), num_products)

    call = f"{name}(HessianLinearOperator(...), num_matvecs={num_products})"
    return Contender(f"curvlinops {name}", "curvlinops", "peer", call, prepare)


def _eigenthings(method: str) -> Contender:
    def prepare(setting: Setting) -> Callable[[], Answer]:
        from hessian_eigenthings import trace

        operator = peers.eigenthings_hessian(setting)

        def run() -> Answer:
            found = [trace(operator, num_matvecs=NUM_PRODUCTS, method=method, seed=seed) for seed in range(NUM_SEEDS)]
            return Answer(Estimates([t.estimate for t in found], [1.96 * t.stderr for t in found]), NUM_PRODUCTS)

        return run

    call = f"trace(HessianOperator(...), num_matvecs={NUM_PRODUCTS}, method='{method}')"
    return Contender(f"hessian-eigenthings {method}", "hessian-eigenthings", "peer", call, prepare)


def _pyhessian(setting: Setting) -> Callable[[], Answer]:
    operator = peers.pyhessian(setting)

    def run() -> Answer:
        found = []
        for seed in range(NUM_SEEDS):
            torch.manual_seed(seed)
            found.append(operator.trace(maxIter=300, tol=1e-3))
        return Answer(Estimates([float(np.mean(each)) for each in found], None), max(len(each) for each in found))

    return run


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    exact = float(truth.spectrum(setting).sum())
    found: Estimates = answer.value
    errors = np.abs(np.asarray(found.values) - exact)
    details = {"exact": exact}
    covering = NUM_SEEDS
    if found.widths is not None:
        covering = int(np.sum(errors <= np.asarray(found.widths)))
        details["covering_of_100"] = covering
    error = float(np.sqrt(np.mean(errors**2)) / abs(exact))
    is_fair = answer.num_products is None or answer.num_products <= NUM_PRODUCTS
    return Score(error, is_fair and not (found.must_cover and covering < LEAST_COVERING), details)


BENCHMARK = Benchmark(
    id="E4",
    title="Trace of the Hessian from ninety products",
    work=f"{NUM_SEEDS} estimates from {NUM_SEEDS} seeds",
    limit=f"at most {NUM_PRODUCTS} products; of ours, at least {LEAST_COVERING} of {NUM_SEEDS} intervals of 95 % cover",
    target=1.0,
    settings=(Setting("D-MLP-32", 599),),
    contenders=(
        Contender("Vallis", "vallis", "ours", ours.TRACE_CALL, _ours),
        _curvlinops("hutchinson_trace", NUM_PRODUCTS),
        _curvlinops("hutchpp_trace", NUM_PRODUCTS),
        _curvlinops("xtrace", NUM_PRODUCTS),
        _eigenthings("hutch++"),
        _eigenthings("hutchinson"),
        Contender("PyHessian", "pyhessian", "peer", "hessian(...).trace(maxIter=300, tol=1e-3)", _pyhessian),
    ),
    judge=_judge,
    compared="error",
    remarks=(
        "The error is the root mean square over the seeds, relative to the exact trace; the ratio is of errors, not of "
        "seconds. 20 seeds, as the comparison was first made, tell such an error to 16 % only: with seeds 0 to 19 the "
        "ratio to xtrace was 1.10, and that was known before 100 were taken.",
        "PyHessian chooses its number of products itself; the most that it took over the seeds is shown.",
    ),
)
