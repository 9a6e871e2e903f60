"""Hooks that a network's forward pass puts on its tensors, and whether they change the slopes that pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

Hook = Callable[[torch.Tensor], torch.Tensor | None]


class WatchedHooks(TorchFunctionMode):
    """While it is entered, hooks on tensors are put there under watch.

    Attributes:
        answered: whether one has returned something since, which then stands in the place of a slope. One that returns
            nothing only looks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answered = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.register_hook:
            tensor, hook = (*args, *(kwargs or {}).values())
            return func(tensor, self._watched(hook))
        return func(*args, **(kwargs or {}))

    def _watched(self, hook: Hook) -> Hook:
        def watched(slope: torch.Tensor) -> torch.Tensor | None:
            found = hook(slope)
            self.answered |= found is not None
            return found

        return watched
