"""The Kronecker factors of the linear layers of a sequential network, in float64, by a Jacobian a class."""

from __future__ import annotations

import functools

import torch
from torch import nn

from benchmarks import truth
from benchmarks.fixtures import Setting

_NUM_PROBES = 20

Pair = tuple[torch.Tensor, torch.Tensor]


@functools.cache
def _rows(setting: Setting) -> dict[str, Pair]:
    """By layer ``(N, C, m)`` the pulled-back columns of a root of the loss's curvature, and ``(N, n)`` the inputs."""
    module = setting.module(torch.float64)
    x, _ = setting.data(torch.float64)
    inputs, outputs = {}, {}
    for name, part in module.named_children():
        if isinstance(part, nn.Linear):
            inputs[name] = x.detach()
        x = part(x)
        if isinstance(part, nn.Linear):
            outputs[name] = x
    p = x.detach().softmax(1)
    values, vectors = torch.linalg.eigh(torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1))
    roots = vectors * values.clamp(min=0).sqrt().unsqueeze(1)  # (N, C, r)
    pulled: dict[str, list[torch.Tensor]] = {name: [] for name in outputs}
    for column in roots.unbind(2):
        found = torch.autograd.grad(x, list(outputs.values()), column, retain_graph=True)
        for name, gradient in zip(outputs, found, strict=True):
            pulled[name].append(gradient)
    return {name: (torch.stack(pulled[name], dim=1), inputs[name]) for name in outputs}


@functools.cache
def factors(setting: Setting) -> dict[str, Pair]:
    """By layer ``(m, m)`` E[M] and ``(n, n)`` E[x x']."""
    found = {}
    for name, (rows, x) in _rows(setting).items():
        flat = rows.reshape(-1, rows.shape[2])
        found[name] = (flat.T @ flat / len(x), x.T @ x / len(x))
    return found


@functools.cache
def corrected(setting: Setting) -> dict[str, torch.Tensor]:
    """By layer ``(m n,)`` rising: what the exact block has on its diagonal in the basis of the factors."""
    found = {}
    for name, (rows, x) in _rows(setting).items():
        outputs, inputs = factors(setting)[name]
        sides = (rows @ torch.linalg.eigh(outputs).eigenvectors).square().sum(1)
        turned = (x @ torch.linalg.eigh(inputs).eigenvectors).square()
        found[name] = (sides.T @ turned / len(x)).reshape(-1).sort().values
    return found


def distance(found: Pair, exact: Pair) -> float:
    """``|A' ⊗ B' - A ⊗ B| / |A ⊗ B|`` in the Frobenius norm, without writing any of them out."""
    (a, b), (c, d) = (found[0].double(), found[1].double()), exact
    whole = float(c.square().sum() * d.square().sum())
    square = float(a.square().sum() * b.square().sum() - 2 * (a * c).sum() * (b * d).sum()) + whole
    return max(square, 0.0) ** 0.5 / whole**0.5


def distance_to_block(setting: Setting, layer: str, outputs: torch.Tensor, inputs: torch.Tensor) -> float:
    """``|G - A ⊗ B| / |G|`` for the block G of a layer's weight, estimated."""
    product, stream = truth.gauss_newton_product(setting, layer), torch.Generator().manual_seed(0)
    a, b = outputs.double(), inputs.double()
    apart = whole = 0.0
    for _ in range(_NUM_PROBES):
        signs = torch.randint(0, 2, (len(a), len(b)), generator=stream).double() * 2 - 1
        exact = product(torch.cat([signs.reshape(-1), torch.zeros(len(a))]))[: signs.numel()]
        apart += float((exact - (a @ signs @ b).reshape(-1)).square().sum())
        whole += float(exact.square().sum())
    return (apart / whole) ** 0.5
