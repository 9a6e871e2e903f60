"""E3: the spectral density of the Hessian."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import judges, ours, peers, truth
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

LIMIT = 0.01
SMALL = "D-MLP-32"  # where the exact spectrum is known


def _ours(num_steps: int, num_search_steps: int | None) -> Contender:
    def prepare(setting: Setting) -> Callable[[], Answer]:
        at = ours.objective(setting)
        return lambda: ours.density(at, num_steps, num_search_steps)

    counts = f"num_probes=1, num_steps={num_steps}"
    counts += "" if num_search_steps is None else f", num_search_steps={num_search_steps}"
    name = f"Vallis, {num_steps} steps" + (f" after {num_search_steps} of search" if num_search_steps else "")
    name = "Vallis" if num_search_steps is None else name
    return Contender(name, "vallis", "ours", f"spectral_density(Hessian(objective), {counts})", prepare)


def _curvlinops(ncv: int) -> Contender:
    def prepare(setting: Setting) -> Callable[[], Answer]:
        from curvlinops import lanczos_approximate_spectrum

        def run() -> Answer:
            operator = peers.curvlinops_operator(setting, "HessianLinearOperator")
            grid, density = lanczos_approximate_spectrum(operator, ncv=ncv)
            weights = density.double().clamp(min=0).detach().numpy()
            return Answer((grid.double().detach().numpy(), weights / weights.sum()))

        return run

    call = f"lanczos_approximate_spectrum(HessianLinearOperator(...), ncv={ncv})"
    return Contender(f"curvlinops, {ncv} steps", "curvlinops", "peer", call, prepare)


def _eigenthings(num_steps: int) -> Contender:
    def prepare(setting: Setting) -> Callable[[], Answer]:
        from hessian_eigenthings import spectral_density

        def run() -> Answer:
            operator = peers.eigenthings_hessian(setting)
            found = spectral_density(operator, num_runs=1, lanczos_steps=num_steps, seed=0)
            nodes, weights = found.raw_eigenvalues[0].double(), found.raw_weights[0].double()
            return Answer((nodes.numpy(), (weights / weights.sum()).numpy()), num_steps)

        return run

    call = f"spectral_density(HessianOperator(...), num_runs=1, lanczos_steps={num_steps}), its raw nodes"
    return Contender(f"hessian-eigenthings, {num_steps} steps", "hessian-eigenthings", "peer", call, prepare)


def _pyhessian(setting: Setting) -> Callable[[], Answer]:
    operator = peers.pyhessian(setting)

    def run() -> Answer:
        values, weights = operator.density(iter=100)
        return Answer((np.asarray(values[0]), np.asarray(weights[0])), 100)

    return run


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    if setting.fixture != SMALL:
        return Score(float("nan"), True)  # only timed: who missed on the small network does not count here either
    error = judges.wasserstein(*answer.value, truth.spectrum(setting))
    return Score(error, error <= LIMIT)


BENCHMARK = Benchmark(
    id="E3",
    title="Spectral density of the Hessian",
    work="operator built, density found from one random vector",
    limit=f"first Wasserstein distance to the exact spectrum at most {LIMIT:g} of the largest eigenvalue on {SMALL}",
    target=0.5,
    settings=(Setting(SMALL, 599), Setting("D-MLP", 599)),
    contenders=(
        _ours(20, None),
        _ours(20, 0),
        _ours(20, 20),
        _ours(80, 0),
        _curvlinops(80),
        _curvlinops(20),
        _eigenthings(80),
        _eigenthings(20),
        Contender("PyHessian", "pyhessian", "peer", "hessian(...).density(iter=100)", _pyhessian),
    ),
    judge=_judge,
    first_setting_decides=True,
    remarks=(
        "hessian-eigenthings is judged by its raw nodes, which are nearer to the truth than its smoothed curve.",
        "PyHessian's released density() calls torch.eig, which torch no longer has.",
    ),
)
