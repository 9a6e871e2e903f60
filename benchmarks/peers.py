"""The peers' own calls, each at its fairest: no determinism check, number of examples given, full reorthogonalisation.

Each function imports its package itself, so that the table and its tests need none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.contest import Answer
from benchmarks.fixtures import Setting


def curvlinops_operator(setting: Setting, kind: str, layer: str = "", **options: Any) -> Any:
    """An operator of curvlinops by the name of its class, of all parameters or of a layer's."""
    import curvlinops

    module = setting.module()
    params = [value for name, value in module.named_parameters() if name.startswith(f"{layer}." if layer else "")]
    return getattr(curvlinops, kind)(
        module,
        nn.CrossEntropyLoss(),
        params,
        setting.batches(),
        check_deterministic=False,
        num_data=len(setting.data()[1]),
        **options,
    )


def curvlinops_eigenpairs(setting: Setting, count: int, tol: float, layer: str = "", ncv: int | None = None) -> Answer:
    """ARPACK over curvlinops's Hessian; the answer is values, falling, and vectors ``(P, k)``."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    spent = 0
    inner = curvlinops_operator(setting, "HessianLinearOperator", layer).to_scipy()

    def product(vector: Any) -> Any:
        nonlocal spent
        spent += 1
        return inner @ vector.reshape(-1)

    operator = LinearOperator(shape=inner.shape, dtype=inner.dtype, matvec=product)
    start = np.random.default_rng(0).standard_normal(inner.shape[0]).astype(inner.dtype)
    values, vectors = eigsh(operator, k=count, which="LA", tol=tol, ncv=ncv, v0=start)
    return Answer((values[::-1].copy(), torch.from_numpy(vectors[:, ::-1].copy())), spent)


def eigenthings_hessian(setting: Setting, layer: str = "") -> Any:
    """The Hessian of hessian-eigenthings."""
    from hessian_eigenthings import HessianOperator, match_names, supervised_loss

    chosen = match_names(f"{layer}.*") if layer else None
    loss = supervised_loss(nn.CrossEntropyLoss())
    return HessianOperator(setting.module(), setting.batches(), loss, param_filter=chosen)


def eigenthings_gauss_newton(setting: Setting) -> Any:
    from hessian_eigenthings import GGNOperator, supervised_forward, supervised_loss_of_output

    loss = supervised_loss_of_output(nn.CrossEntropyLoss())
    return GGNOperator(setting.module(), setting.batches(), supervised_forward, loss)


def eigenthings_eigenpairs(setting: Setting, count: int, num_steps: int, layer: str = "") -> Answer:
    """Lanczos of hessian-eigenthings for a fixed number of steps."""
    from hessian_eigenthings import lanczos

    operator = eigenthings_hessian(setting, layer)
    found = lanczos(operator, k=count, max_iter=num_steps, which="LA", reorthogonalize=True, seed=0)
    return Answer((found.eigenvalues.detach().numpy(), found.eigenvectors.detach().T), num_steps)


def pyhessian(setting: Setting) -> Any:
    from pyhessian import hessian

    return hessian(setting.module(), nn.CrossEntropyLoss(), dataloader=setting.batches(), cuda=False)


def pyhessian_products(operator: Any) -> Callable[[], int]:
    """From now on counts the products; returns how many there were."""
    spent, inner = 0, operator.dataloader_hv_product

    def product(vector: Any) -> Any:
        nonlocal spent
        spent += 1
        return inner(vector)

    operator.dataloader_hv_product = product
    return lambda: spent


def pyhessian_eigenpairs(setting: Setting, count: int) -> Answer:
    """Power iteration with deflation."""
    operator = pyhessian(setting)
    spent = pyhessian_products(operator)
    values, vectors = operator.eigenvalues(top_n=count, maxIter=100, tol=1e-3)
    columns = torch.stack([torch.cat([part.reshape(-1) for part in vector]) for vector in vectors], dim=1)
    return Answer((np.asarray(values), columns.detach()), spent())
