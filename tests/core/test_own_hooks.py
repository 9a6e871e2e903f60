"""Hooks under watch do what they do, and one that answers is found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vallis.core.own_hooks import WatchedHooks


@pytest.mark.parametrize(
    ("hook", "answered", "slope"),
    [(lambda slope: None, False, 1.0), (lambda slope: 2 * slope, True, 2.0), (torch.Tensor.detach, True, 1.0)],
)
@pytest.mark.parametrize("as_keyword", [False, True])
def test_a_hook_that_returns_a_slope_has_answered(
    hook: Callable[[torch.Tensor], Any], answered: bool, slope: float, as_keyword: bool
) -> None:
    x = torch.ones(2, requires_grad=True)
    with WatchedHooks() as hooks:
        y = x * 1
        y.register_hook(hook=hook) if as_keyword else y.register_hook(hook)
    assert not hooks.answered
    (found,) = torch.autograd.grad(y.sum(), x)
    assert hooks.answered == answered
    torch.testing.assert_close(found, torch.full((2,), slope))
