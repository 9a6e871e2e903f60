"""E10: the five largest eigenvalues of each layer's block of the Hessian."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import judges, ours, peers
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

COUNT, LIMIT, LAYERS = 5, 1e-3, ("0", "2", "4")


def _each(one: Callable[[Setting, str], Answer]) -> Callable[[Setting], Callable[[], Answer]]:
    """The same for every layer, one after the other."""

    def prepare(setting: Setting) -> Callable[[], Answer]:
        def run() -> Answer:
            found = {layer: one(setting, layer) for layer in LAYERS}
            spent = sum(answer.num_products or 0 for answer in found.values())
            return Answer({layer: answer.value for layer, answer in found.items()}, spent)

        return run

    return prepare


def _ours(name: str, search: int | None) -> Contender:
    def prepare(setting: Setting) -> Callable[[], Answer]:
        at = ours.objective(setting)
        return lambda: ours.largest_of_layers(at, LAYERS, COUNT, search)

    return Contender(name, "vallis", "ours", ours.layers_call(search), prepare)


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    scores = {}
    for layer in LAYERS:
        exact, product = judges.eigenvalue_truth(setting, COUNT, layer)
        scores[layer] = judges.eigenpairs(answer.value[layer], exact, product, LIMIT, thorough, answer.is_certified)
    details = {f"{name}_{layer}": value for layer, score in scores.items() for name, value in score.details.items()}
    return Score(max(score.error for score in scores.values()), all(s.is_within for s in scores.values()), details)


def _curvlinops(tol: float) -> Contender:
    return Contender(
        f"curvlinops, tol={tol:g}",
        "curvlinops",
        "peer",
        f"eigsh(HessianLinearOperator(..., params of the layer).to_scipy(), k={COUNT}, tol={tol:g}), layer by layer",
        _each(lambda setting, layer: peers.curvlinops_eigenpairs(setting, COUNT, tol, layer)),
    )


def _eigenthings(num_steps: int) -> Contender:
    return Contender(
        f"hessian-eigenthings, {num_steps} steps",
        "hessian-eigenthings",
        "peer",
        f"lanczos(HessianOperator(..., param_filter=match_names('0.*')), k={COUNT}, max_iter={num_steps}), one by one",
        _each(lambda setting, layer: peers.eigenthings_eigenpairs(setting, COUNT, num_steps, layer)),
    )


BENCHMARK = Benchmark(
    id="E10",
    title="Five largest eigenvalues of each layer's Hessian",
    work="operators built, fifteen eigenpairs of three layers found",
    limit=f"relative error of every eigenvalue at most {LIMIT:g}",
    target=0.5,
    settings=(Setting("D-MLP", 599),),
    contenders=(
        _ours("Vallis", None),
        _ours("Vallis, no search", 0),
        _curvlinops(1e-3),
        _curvlinops(1e-2),
        _eigenthings(12),
        _eigenthings(16),
        _eigenthings(20),
        _eigenthings(30),
    ),
    judge=_judge,
)
