"""What is true: float64, plain autograd over all examples at once, SciPy's solvers; nothing of Vallis or its peers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.fixtures import CACHE, Setting

Floats = NDArray[np.float64]
Product = Callable[[torch.Tensor], torch.Tensor]


def cached(setting: Setting, name: str, compute: Callable[[], Floats]) -> Floats:
    """What `compute` returns, computed once for these weights."""
    file = CACHE / "truth" / f"{setting.fixture}-{setting.fingerprint}-{name}.npy"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, compute())
    return np.asarray(np.load(file), dtype=np.float64)


@functools.cache
def hessian_product(setting: Setting, layer: str = "") -> Product:
    """v -> H v in float64; with a layer's name, of its block."""
    module = setting.module(torch.float64)
    x, y = setting.data(torch.float64)
    leaves = [value for name, value in module.named_parameters() if name.startswith(f"{layer}." if layer else "")]
    loss = nn.functional.cross_entropy(module(x), y)
    gradient = flat(torch.autograd.grad(loss, leaves, create_graph=True))
    return lambda vector: flat(torch.autograd.grad(gradient, leaves, vector.double(), retain_graph=True))


@functools.cache
def gauss_newton_product(setting: Setting, layer: str = "") -> Product:
    """v -> G v in float64, by torch.func and the closed form of cross-entropy's second derivative."""
    module = setting.module(torch.float64)
    x, _ = setting.data(torch.float64)
    wanted = f"{layer}." if layer else ""
    at = {name: value.detach() for name, value in module.named_parameters()}
    moving = {name: value for name, value in at.items() if name.startswith(wanted)}

    def outputs(point: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(module, {**at, **point}, (x,))

    def product(vector: torch.Tensor) -> torch.Tensor:
        pieces = vector.double().split([value.numel() for value in moving.values()])
        tangent = {name: piece.view_as(moving[name]) for name, piece in zip(moving, pieces, strict=True)}
        logits, forward = torch.func.jvp(outputs, (moving,), (tangent,))
        bent = softmax_curvature(logits, forward) / len(x)
        return flat(torch.func.vjp(outputs, moving)[1](bent)[0].values())

    return product


def softmax_curvature(logits: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """``(N, C)`` the second derivative of cross-entropy in each row of logits, times a row: ``p * (v - p.v)``."""
    p = logits.softmax(1)
    return p * (vectors - (p * vectors).sum(1, keepdim=True))


def largest(setting: Setting, count: int, layer: str = "") -> Floats:
    """``(count,)`` falling: the largest eigenvalues of the Hessian or of a layer's block, by ARPACK to 1e-10."""
    return cached(setting, f"largest-{count}-{layer or 'all'}", lambda: _arpack(setting, count, layer))


def _arpack(setting: Setting, count: int, layer: str) -> Floats:
    from scipy.sparse.linalg import LinearOperator, eigsh

    product, size = hessian_product(setting, layer), _size(setting, layer)
    operator = LinearOperator(
        shape=(size, size), dtype=np.float64, matvec=lambda v: product(torch.from_numpy(v.reshape(-1))).numpy()
    )
    start = np.random.default_rng(0).standard_normal(size)
    values = eigsh(operator, k=count, which="LA", tol=1e-10, v0=start, return_eigenvectors=False)
    return np.sort(values)[::-1]


def spectrum(setting: Setting) -> Floats:
    """``(P,)`` rising: every eigenvalue of the Hessian, written out; for small networks."""
    return cached(setting, "spectrum", lambda: _dense_spectrum(setting))


def _dense_spectrum(setting: Setting) -> Floats:
    size, product = setting.num_parameters, hessian_product(setting)
    matrix = torch.stack([product(unit) for unit in torch.eye(size, dtype=torch.float64)])
    return np.asarray(torch.linalg.eigvalsh((matrix + matrix.T) / 2).numpy(), dtype=np.float64)


def flat(parts: object) -> torch.Tensor:
    """Tensors as one vector."""
    return torch.cat([part.reshape(-1) for part in parts])  # type: ignore[attr-defined]


def _size(setting: Setting, layer: str) -> int:
    named = setting.module().named_parameters()
    return sum(value.numel() for name, value in named if name.startswith(f"{layer}." if layer else ""))
