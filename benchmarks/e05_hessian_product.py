"""E5: one product of the Hessian over all data with a vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks import judges, ours, peers, products, truth
from benchmarks.contest import Answer, Benchmark, Contender
from benchmarks.fixtures import Setting
from benchmarks.products import REPEATS


def _pyhessian(setting: Setting) -> Callable[[], Answer]:
    operator, module = peers.pyhessian(setting), setting.module()
    sizes, shapes = zip(*((value.numel(), value.shape) for value in module.parameters()), strict=True)
    parts = [part.view(shape) for part, shape in zip(judges.probe(setting).split(sizes), shapes, strict=True)]
    return lambda: Answer(truth.flat(operator.dataloader_hv_product(parts)[1]).detach(), 1)


def _plain(setting: Setting) -> Callable[[], Answer]:
    """What a careful user writes: the gradient's graph of every batch, kept, and one more pass backwards a product."""
    module, num_examples, vector = setting.module(), len(setting.data()[1]), judges.probe(setting)
    leaves = list(module.parameters())
    pieces = [p.view_as(leaf) for p, leaf in zip(vector.split([w.numel() for w in leaves]), leaves, strict=True)]
    graphs = []
    for x, y in setting.batches():
        loss = nn.functional.cross_entropy(module(x), y) * (len(y) / num_examples)
        graphs.append(torch.autograd.grad(loss, leaves, create_graph=True))

    def product() -> Answer:
        total = [torch.zeros_like(leaf) for leaf in leaves]
        for gradient in graphs:
            found = torch.autograd.grad(gradient, leaves, pieces, retain_graph=True)
            for held, new in zip(total, found, strict=True):
                held.add_(new)
        return Answer(truth.flat(total), 1)

    return product


def _two_gradients(setting: Setting) -> Callable[[], Answer]:
    """The floor: two gradients of the loss over all data."""
    module = setting.module()
    leaves, batches = list(module.parameters()), setting.batches()

    def gradients() -> Answer:
        for x, y in (*batches, *batches):
            torch.autograd.grad(nn.functional.cross_entropy(module(x), y), leaves)
        return Answer(None)

    return gradients


BENCHMARK = Benchmark(
    id="E5",
    title="One product of the Hessian over all data",
    work="one product, the operator being there",
    limit=f"relative error at most {products.LIMIT:g}",
    target=1.0,
    settings=(Setting("D-MLP", 599), Setting("D-CNN", 599), Setting("D-MLP", 512), Setting("D-CNN", 512)),
    contenders=(
        products.with_matvec(
            "Vallis", "vallis", "Hessian(objective).matvec(v)", lambda setting: ours.hessian(ours.objective(setting))
        ),
        products.curvlinops("HessianLinearOperator"),
        products.with_matvec(
            "hessian-eigenthings", "hessian-eigenthings", "HessianOperator(...).matvec(v)", peers.eigenthings_hessian
        ),
        Contender("PyHessian", "pyhessian", "peer", "hessian(...).dataloader_hv_product(v)", _pyhessian, REPEATS),
        Contender(
            "plain cached autograd",
            "torch",
            "peer",
            "torch.autograd.grad(gradient, leaves, v, retain_graph=True) over kept graphs",
            _plain,
            REPEATS,
        ),
        Contender(
            "two gradients", "torch", "reference", "torch.autograd.grad(loss, leaves), twice", _two_gradients, REPEATS
        ),
    ),
    judge=products.judge("hessian-product", truth.hessian_product),
    remarks=("The floor is two gradients; the target is 1.3 of it.",),
)
