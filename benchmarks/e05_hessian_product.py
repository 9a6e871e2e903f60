"""E5: one product of the Hessian over all data with a vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks import judges, ours, peers, truth
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

LIMIT, REPEATS = 1e-5, 10


def _ours(setting: Setting) -> Callable[[], Answer]:
    operator, vector = ours.hessian(ours.objective(setting)), judges.probe(setting)
    return lambda: Answer(operator.matvec(vector), 1)


def _curvlinops(setting: Setting) -> Callable[[], Answer]:
    operator, vector = peers.curvlinops_operator(setting, "HessianLinearOperator"), judges.probe(setting)
    return lambda: Answer((operator @ vector).detach(), 1)


def _eigenthings(setting: Setting) -> Callable[[], Answer]:
    operator, vector = peers.eigenthings_hessian(setting), judges.probe(setting)
    return lambda: Answer(operator.matvec(vector).detach(), 1)


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


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    vector = judges.probe(setting)
    exact = truth.cached(setting, "hessian-product", lambda: truth.hessian_product(setting)(vector).numpy())
    return judges.product(setting, answer, torch.from_numpy(exact), LIMIT)


BENCHMARK = Benchmark(
    id="E5",
    title="One product of the Hessian over all data",
    work="one product, the operator being there",
    limit=f"relative error at most {LIMIT:g}",
    target=1.0,
    settings=(Setting("D-MLP", 599), Setting("D-CNN", 599), Setting("D-MLP", 512), Setting("D-CNN", 512)),
    contenders=(
        Contender("Vallis", "vallis", "ours", "Hessian(objective).matvec(v)", _ours, REPEATS),
        Contender("curvlinops", "curvlinops", "peer", "HessianLinearOperator(...) @ v", _curvlinops, REPEATS),
        Contender(
            "hessian-eigenthings",
            "hessian-eigenthings",
            "peer",
            "HessianOperator(...).matvec(v)",
            _eigenthings,
            REPEATS,
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
    judge=_judge,
    remarks=("The floor is two gradients; the target is 1.3 of it.",),
)
