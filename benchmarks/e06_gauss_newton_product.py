"""E6: one product of the Gauss-Newton matrix over all data with a vector."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks import judges, ours, peers, products, truth
from benchmarks.contest import Answer, Benchmark, Contender
from benchmarks.fixtures import Setting
from benchmarks.products import REPEATS


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


BENCHMARK = Benchmark(
    id="E6",
    title="One product of the Gauss-Newton matrix over all data",
    work="one product, the operator being there",
    limit=f"relative error at most {products.LIMIT:g}",
    target=0.9,
    settings=(Setting("D-MLP", 599), Setting("D-CNN", 599), Setting("D-MLP", 512)),
    contenders=(
        products.with_matvec(
            "Vallis",
            "vallis",
            "GaussNewton(objective).matvec(v)",
            lambda setting: ours.gauss_newton(ours.objective(setting)),
        ),
        products.curvlinops("GGNLinearOperator"),
        products.with_matvec(
            "hessian-eigenthings", "hessian-eigenthings", "GGNOperator(...).matvec(v)", peers.eigenthings_gauss_newton
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
    judge=products.judge("gauss-newton-product", truth.gauss_newton_product),
)
