"""E6: one product of the Gauss-Newton matrix over all data with a vector."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks import judges, ours, peers, truth
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

LIMIT, REPEATS = 1e-5, 10


def _ours(setting: Setting) -> Callable[[], Answer]:
    operator, vector = ours.gauss_newton(ours.objective(setting)), judges.probe(setting)
    return lambda: Answer(operator.matvec(vector), 1)


def _curvlinops(setting: Setting) -> Callable[[], Answer]:
    operator, vector = peers.curvlinops_operator(setting, "GGNLinearOperator"), judges.probe(setting)
    return lambda: Answer((operator @ vector).detach(), 1)


def _eigenthings(setting: Setting) -> Callable[[], Answer]:
    operator, vector = peers.eigenthings_gauss_newton(setting), judges.probe(setting)
    return lambda: Answer(operator.matvec(vector).detach(), 1)


def _plain(setting: Setting) -> Callable[[], Answer]:
    """torch.func forwards, the closed form of cross-entropy, torch.func backwards."""
    module, batches, num_examples = setting.module(), setting.batches(), len(setting.data()[1])
    at = {name: value.detach() for name, value in module.named_parameters()}
    pieces = judges.probe(setting).split([value.numel() for value in at.values()])
    tangent = {name: piece.view_as(at[name]) for name, piece in zip(at, pieces, strict=True)}

    def product() -> Answer:
        total = torch.zeros(setting.num_parameters)
        for x, _ in batches:

            def outputs(point: dict[str, torch.Tensor], x: torch.Tensor = x) -> torch.Tensor:
                return torch.func.functional_call(module, point, (x,))

            logits, forward = torch.func.jvp(outputs, (at,), (tangent,))
            bent = truth.softmax_curvature(logits, forward) / num_examples
            total += truth.flat(torch.func.vjp(outputs, at)[1](bent)[0].values())
        return Answer(total, 1)

    return product


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    vector = judges.probe(setting)
    exact = truth.cached(setting, "gauss-newton-product", lambda: truth.gauss_newton_product(setting)(vector).numpy())
    return judges.product(setting, answer, torch.from_numpy(exact), LIMIT)


BENCHMARK = Benchmark(
    id="E6",
    title="One product of the Gauss-Newton matrix over all data",
    work="one product, the operator being there",
    limit=f"relative error at most {LIMIT:g}",
    target=0.9,
    settings=(Setting("D-MLP", 599), Setting("D-CNN", 599), Setting("D-MLP", 512)),
    contenders=(
        Contender("Vallis", "vallis", "ours", "GaussNewton(objective).matvec(v)", _ours, REPEATS),
        Contender("curvlinops", "curvlinops", "peer", "GGNLinearOperator(...) @ v", _curvlinops, REPEATS),
        Contender(
            "hessian-eigenthings", "hessian-eigenthings", "peer", "GGNOperator(...).matvec(v)", _eigenthings, REPEATS
        ),
        Contender(
            "plain torch.func",
            "torch",
            "reference",
            "torch.func.jvp, p * (v - p.v), torch.func.vjp, batch by batch",
            _plain,
            REPEATS,
        ),
    ),
    judge=_judge,
)
