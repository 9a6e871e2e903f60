"""E11, second half: the eigenvalues that are right along the Kronecker basis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks import kronecker_truth, ours, peers
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

LIMIT = 1e-3


def _ours(setting: Setting) -> Callable[[], Answer]:
    at = ours.objective(setting)
    return lambda: ours.corrected_kronecker(at)


def _curvlinops(setting: Setting) -> Callable[[], Answer]:
    def run() -> Answer:
        operator = peers.curvlinops_operator(setting, "EKFACLinearOperator", fisher_type="type-2")
        operator.compute_eigenvalue_correction()
        found = operator._corrected_eigenvalues
        return Answer({layer: _of_weight(values, layer, operator).detach() for layer, values in found.items()})

    return run


def _of_weight(values: Any, layer: str, operator: Any) -> torch.Tensor:
    """The eigenvalues of the weight, where weight and bias are apart."""
    if isinstance(values, torch.Tensor):
        return values
    return values[operator._mapping[layer]["weight"]] if "weight" not in values else values["weight"]


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    exact = kronecker_truth.corrected(setting)
    errors = []
    for layer, values in exact.items():
        found = answer.value[layer].double().reshape(-1).sort().values
        errors.append(float((found - values).norm() / values.norm()))
    return Score(max(errors), max(errors) <= LIMIT)


BENCHMARK = Benchmark(
    id="E11b",
    title="Corrected eigenvalues in the Kronecker basis (EKFAC)",
    work="factors of three layers, their eigenvectors, the right eigenvalues along them",
    limit=f"relative error of the sorted eigenvalues of every layer at most {LIMIT:g}, all together",
    target=1.2,
    settings=(Setting("D-MLP", 599),),
    contenders=(
        Contender("Vallis", "vallis", "ours", "corrected(objective, factors(objective))", _ours),
        Contender("curvlinops", "curvlinops", "peer", "EKFACLinearOperator(..., fisher_type='type-2')", _curvlinops),
    ),
    judge=_judge,
)
