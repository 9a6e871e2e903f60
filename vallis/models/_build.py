"""What models share: sizes read off the tasks, activations, and initial weights drawn from a stream for each layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from vallis.core.capture import layers_of, traits_of
from vallis.core.errors import ModelError
from vallis.core.rng import Rng
from vallis.core.types import Net, Task

Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu", "softplus", "identity"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}
# The rule for weights: "torch" draws weights and biases uniformly within 1/sqrt(fan_in), as torch's own layers do; the
# others draw Gaussian weights of variance 2/fan_in ("he"), 2/(fan_in + fan_out) ("glorot"), 2/fan_out ("he_out") and
# zero biases.
Init = Literal["torch", "he", "glorot", "he_out"]
Draw = Callable[[nn.Linear | nn.Conv2d, torch.Generator], None]


def build_net(make: Callable[[], nn.Module], draw: Draw, rng: Rng) -> Net:
    """A net with float32 weights on the CPU, in eval mode; the global generator is not touched.

    Args:
        make: builds the module.
        draw: gives a layer its initial weights, from a generator of its own: to change one layer changes no other.
        rng: the stream they come from.
    """
    with torch.device("meta"):
        module = make()
    module = module.to_empty(device="cpu").to(torch.float32)
    for name, part in module.named_modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            draw(part, rng.child("init", name).torch())
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
    return Net(module=module.eval(), layers=layers_of(module), traits=traits_of(module))


def drawing(rule: Init) -> Draw:
    """How a layer is given its weights under this rule."""

    def draw(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
        fan_out, fan_in = layer.weight.shape[0], layer.weight[0].numel()
        field = layer.weight[0, 0].numel()
        with torch.no_grad():
            if rule == "torch":
                for values in (layer.weight, layer.bias):
                    if values is not None:
                        values.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
                return
            share = {"he": fan_in, "glorot": (fan_in + fan_out * field), "he_out": fan_out * field}[rule]
            layer.weight.normal_(0, (2 / share) ** 0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()

    return draw


def example_shape(tasks: tuple[Task, ...], model: str, dtype: torch.dtype | None = torch.float32) -> tuple[int, ...]:
    """The shape of one input, without the axis of examples, as the first batch of the first task has it.

    Args:
        tasks: that the model is built for.
        model: its name.
        dtype: of its weights, which inputs must have as well; None takes any.

    Raises:
        ModelError: the inputs are no tensors of numbers, or of another type than the weights.
    """
    x: Any = next(iter(tasks[0].splits["train"])).x
    if not isinstance(x, torch.Tensor) or x.ndim < 2:
        came = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ModelError(
            f"{model} requires inputs (N, ...) in one tensor, {came} came: choose another model or problem"
        )
    if dtype is not None and x.dtype != dtype:
        name = str(dtype).removeprefix("torch.")
        raise ModelError(
            f"{model} requires inputs of {name} as its weights, {str(x.dtype).removeprefix('torch.')} came: let the "
            f"problem give x.to(torch.{name})"
        )
    return tuple(x.shape[1:])


def image_shape(tasks: tuple[Task, ...], model: str, least: int = 1) -> tuple[int, int, int]:
    """The channels, height and width of the inputs.

    Raises:
        ModelError: the inputs are no images ``(N, C, H, W)``, or smaller than `least`.
    """
    shape = example_shape(tasks, model)
    if len(shape) != 3:
        raise ModelError(
            f"{model} requires images (N, C, H, W), inputs {('N', *shape)} came: reshape them or choose mlp"
        )
    channels, height, width = shape
    if min(height, width) < least:
        raise ModelError(
            f"{model} requires images of at least {least}x{least} pixels, {height}x{width} came: choose a smaller model"
        )
    return channels, height, width


def num_outputs(tasks: tuple[Task, ...]) -> int:
    """How many numbers the net must return for an example, so that every target of every task has its place."""
    return max(_outputs_for(task) for task in tasks)


def _outputs_for(task: Task) -> int:
    if task.loss.kind == "binary":
        return 1
    targets = [batch.y for split in task.splits.values() for batch in split]
    first = targets[0]
    if task.loss.kind == "categorical" and not first.is_floating_point():
        return max(1 + max(int(y.max()) for y in targets), 2)
    return int(first[0].numel())
