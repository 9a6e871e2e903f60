"""Products with the transpose of a derivative, along a graph that is kept."""

from __future__ import annotations

import torch

from vallis.core.errors import ModelError

Tensors = tuple[torch.Tensor, ...]


def pull(outputs: Tensors, inputs: Tensors, vectors: Tensors, *, differentiable: bool = False) -> Tensors:
    """``J' v`` with J the derivative of outputs by inputs; zeros where nothing depends. The graph is kept.

    Args:
        outputs: functions of the inputs.
        inputs: tensors that require gradients.
        vectors: v, a tensor an output.
        differentiable: whether the result can be differentiated again.

    Raises:
        ModelError: torch has no such derivative of a layer or of the loss.
    """
    live = [place for place, output in enumerate(outputs) if output.requires_grad]
    if not live:
        return tuple(torch.zeros_like(value) for value in inputs)
    try:
        return torch.autograd.grad(
            [outputs[place] for place in live],
            inputs,
            [vectors[place] for place in live],
            retain_graph=True,
            create_graph=differentiable,
            allow_unused=True,
            materialize_grads=True,
        )
    except RuntimeError as error:
        if "derivative for" not in str(error):
            raise
        missing = str(error).partition("'")[2].partition("'")[0] or str(error).partition("\n")[0]
        raise ModelError(
            f"layers and a loss that can be differentiated twice were required, torch has no derivative of {missing}: "
            "write what it belongs to with other operations"
        ) from error
