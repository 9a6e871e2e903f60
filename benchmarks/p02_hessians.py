"""P2: products with the Hessians of many networks on few examples."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import FIXTURES, Setting
from benchmarks.truth import flat

NUM_MEMBERS = {"D-MLP-32": 32, "D-CNN": 16}
NUM_PRODUCTS, LIMIT = 20, 1e-4

Loss = Callable[[dict[str, torch.Tensor]], torch.Tensor]


@functools.cache
def members(fixture: str) -> list[nn.Module]:
    """Networks with initial weights of their own, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [FIXTURES[fixture].make().eval() for _ in range(NUM_MEMBERS[fixture])]


def few(setting: Setting, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """The one batch that all look at."""
    return setting.batches(dtype)[0]


@functools.cache
def vectors(fixture: str) -> torch.Tensor:
    """``(NUM_PRODUCTS, K, P)``."""
    held = members(fixture)
    size = sum(value.numel() for value in held[0].parameters())
    return torch.randn(NUM_PRODUCTS, len(held), size, generator=torch.Generator().manual_seed(1))


def _vallis(setting: Setting, together: bool) -> Callable[[], Answer]:
    from vallis import Hessian, Solution
    from vallis.numerics.hessians import Hessians

    held = [Solution.of(each, nn.CrossEntropyLoss(), train=few(setting)) for each in members(setting.fixture)]
    drawn = vectors(setting.fixture)

    def all_at_once() -> Answer:
        hessians = Hessians.of(held)
        return Answer(torch.stack([hessians @ rows for rows in drawn]))

    def one_by_one() -> Answer:
        found = torch.empty_like(drawn)
        for member, solution in enumerate(held):
            hessian = Hessian.of(solution)
            for number, row in enumerate(drawn[:, member]):
                found[number, member] = hessian @ row
        return Answer(found)

    return all_at_once if together else one_by_one


def _kept_graphs(setting: Setting) -> Callable[[], Answer]:
    """What a careful user writes: each network's gradient with its graph, and a pass backwards a product."""
    x, y = few(setting)
    drawn = vectors(setting.fixture)

    def run() -> Answer:
        found = torch.empty_like(drawn)
        for member, module in enumerate(members(setting.fixture)):
            leaves = list(module.parameters())
            sizes = [leaf.numel() for leaf in leaves]
            gradient = torch.autograd.grad(nn.functional.cross_entropy(module(x), y), leaves, create_graph=True)
            for number, row in enumerate(drawn[:, member]):
                parts = [part.view_as(leaf) for part, leaf in zip(row.split(sizes), leaves, strict=True)]
                found[number, member] = flat(torch.autograd.grad(gradient, leaves, parts, retain_graph=True))
        return Answer(found)

    return run


def _functional(setting: Setting) -> Callable[[], Answer]:
    """What the manual of torch shows for many models: forward over reverse, mapped over their stacked weights."""
    x, y = few(setting)
    held, drawn = members(setting.fixture), vectors(setting.fixture)

    def run() -> Answer:
        stacked, _ = torch.func.stack_module_state(held)
        stacked = {name: value.detach() for name, value in stacked.items()}
        names, shapes = list(stacked), [value.shape[1:] for value in stacked.values()]

        def loss(params: dict[str, torch.Tensor]) -> torch.Tensor:
            return nn.functional.cross_entropy(torch.func.functional_call(held[0], params, (x,)), y)

        def product(params: dict[str, torch.Tensor], tangents: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            found: dict[str, torch.Tensor] = torch.func.jvp(torch.func.grad(loss), (params,), (tangents,))[1]
            return found

        rows = []
        for row in drawn:
            parts = row.split([shape.numel() for shape in shapes], dim=1)
            tangents = {n: p.reshape(len(row), *s) for n, p, s in zip(names, parts, shapes, strict=True)}
            products = torch.func.vmap(product)(stacked, tangents)
            rows.append(torch.cat([products[name].flatten(1) for name in names], dim=1))
        return Answer(torch.stack(rows))

    return run


@functools.cache
def truth(fixture: str, batch_size: int) -> torch.Tensor:
    """``(NUM_PRODUCTS, K, P)`` the products in float64."""
    x, y = few(Setting(fixture, batch_size), torch.float64)
    drawn = vectors(fixture).double()
    found = torch.empty_like(drawn)
    for member, module in enumerate(members(fixture)):
        held = {name: value.detach().double() for name, value in module.named_parameters()}

        def gradient(vector: torch.Tensor, module: nn.Module = module, like: object = held) -> torch.Tensor:
            assert isinstance(like, dict)
            parts = vector.split([value.numel() for value in like.values()])
            params = {name: part.view_as(like[name]) for name, part in zip(like, parts, strict=True)}
            loss = nn.functional.cross_entropy(torch.func.functional_call(module, params, (x,)), y)
            return torch.autograd.grad(loss, vector, create_graph=True)[0]

        at = flat(list(held.values())).requires_grad_()
        slope = gradient(at)
        for number, row in enumerate(drawn[:, member]):
            found[number, member] = torch.autograd.grad(slope, at, row, retain_graph=True)[0]
    return found


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    exact = truth(setting.fixture, setting.batch_size)
    error = float(((answer.value.double() - exact).norm(dim=2) / exact.norm(dim=2)).max())
    return Score(error, error <= LIMIT)


BENCHMARK = Benchmark(
    id="P2",
    title="Hessian products of a population",
    work=f"{NUM_PRODUCTS} products for each of 32 networks (D-MLP-32) or 16 (D-CNN) on the first examples alone, "
    "as many as a batch has, the operators included",
    limit=f"every product of every member within {LIMIT:g} of float64, relative to its norm",
    target=1.0,
    settings=(*(Setting("D-MLP-32", size) for size in (16, 40, 128, 400)), Setting("D-CNN", 16), Setting("D-CNN", 128)),
    contenders=(
        Contender(
            "Vallis, together",
            "vallis",
            "ours",
            "Hessians.of(solutions) @ vectors",
            functools.partial(_vallis, together=True),
        ),
        Contender(
            "Vallis, one by one",
            "vallis",
            "reference",
            "Hessian.of(solution) @ vector",
            functools.partial(_vallis, together=False),
        ),
        Contender("torch", "torch", "peer", "a kept graph of each network", _kept_graphs),
        Contender("torch.func", "torch", "peer", "vmap(jvp(grad(loss)))", _functional),
    ),
    judge=_judge,
    remarks=(
        "Networks go together on batches of up to 512 examples, images on fewer by how much is made of them. Beyond "
        "that the layers are all there is, and they are multiplied one by one.",
    ),
)
