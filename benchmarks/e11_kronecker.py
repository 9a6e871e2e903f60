"""E11: Kronecker factors of every layer and their eigenvalues."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks import kronecker_truth, ours, peers
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

LIMIT = 1e-3


def _ours(setting: Setting) -> Callable[[], Answer]:
    at = ours.objective(setting)
    return lambda: ours.kronecker(at)


def _curvlinops(setting: Setting) -> Callable[[], Answer]:
    def run() -> Answer:
        operator = peers.curvlinops_operator(setting, "KFACLinearOperator", fisher_type="type-2")
        operator.compute_kronecker_factors()
        outputs, inputs = operator._gradient_covariances, operator._input_covariances
        for layer in inputs:
            torch.linalg.eigvalsh(outputs[layer]), torch.linalg.eigvalsh(inputs[layer])
        return Answer({layer: (outputs[layer].detach(), inputs[layer].detach()) for layer in inputs})

    return run


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    exact = kronecker_truth.factors(setting)
    error = max(kronecker_truth.distance(answer.value[layer], exact[layer]) for layer in exact)
    details = {}
    if thorough:
        details = {
            f"distance_to_block_{layer}": kronecker_truth.distance_to_block(setting, layer, *answer.value[layer])
            for layer in exact
        }
    return Score(error, error <= LIMIT, details)


BENCHMARK = Benchmark(
    id="E11a",
    title="Kronecker factors and their eigenvalues (KFAC)",
    work="factors of three layers, and their eigenvalues",
    limit=f"relative Frobenius error of every Kronecker product at most {LIMIT:g}",
    target=1.2,
    settings=(Setting("D-MLP", 599),),
    contenders=(
        Contender("Vallis", "vallis", "ours", "factors(objective), eigvalsh of each", _ours),
        Contender(
            "curvlinops", "curvlinops", "peer", "KFACLinearOperator(..., fisher_type='type-2'), eigvalsh", _curvlinops
        ),
    ),
    judge=_judge,
    remarks=(
        "`distance_to_block` is how far the Kronecker product lies from the exact block of the weight, in the "
        "Frobenius norm and relative to the block, by 20 random vectors.",
    ),
)
