"""Tasks to build models for, and what is expected of every model, whatever its architecture."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from vallis.core import spec
from vallis.core.data import Arrays
from vallis.core.losses import CrossEntropy, Loss
from vallis.core.protocols import Model
from vallis.core.rng import Rng
from vallis.core.types import Net, Task

RGB28, GREY28, DIGIT, ODD = (3, 28, 28), (1, 28, 28), (1, 8, 8), (1, 9, 7)
ALL_SIZES = (RGB28, (3, 32, 32), GREY28, DIGIT, ODD)


def tasks(shape: tuple[int, ...], num_classes: int = 10, loss: Loss | None = None) -> tuple[Task, ...]:
    """One task with ten examples of this shape."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(10, *shape, generator=generator), torch.arange(10) % num_classes
    split = Arrays(x=x, y=y, index=torch.arange(10))
    return (Task(name="toy", splits={"train": split}, loss=loss or CrossEntropy()),)


def num_parameters(net: Net, counting_norms: bool = True) -> int:
    """How many trainable numbers the net has."""
    norms = sum(p.numel() for m in net.module.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters())
    return sum(p.numel() for p in net.module.parameters()) - (0 if counting_norms else norms)


def a_good_net(model: Model, shape: tuple[int, ...], num_classes: int = 10) -> Net:
    """The net of a model, after proof of what every model must give."""
    assert spec.from_spec(spec.to_spec(model)) == model
    given = tasks(shape, num_classes)
    net = _repeatable(model, given)
    assert {name for layer in net.layers for name in layer.parameters} == {n for n, _ in net.module.named_parameters()}
    assert "differentiable" in net.traits
    batch = next(iter(given[0].splits["train"]))
    for training in (True, False):
        net.module.train(training)
        outputs = net.module(batch.x)
        assert outputs.shape == (10, num_classes)
        assert outputs.dtype == torch.float32
        assert outputs.isfinite().all()
        _differentiate_twice(net, F.cross_entropy(outputs, batch.y))
    return net


def _repeatable(model: Model, given: tuple[Task, ...]) -> Net:
    """Same stream, same weights; another stream, other weights; no trace in the global generator or default dtype."""
    before = torch.random.get_rng_state()
    net, other = model.build(given, Rng(0)), model.build(given, Rng(1))
    torch.manual_seed(3)
    torch.set_default_dtype(torch.float64)
    try:
        again = model.build(given, Rng(0))
    finally:
        torch.set_default_dtype(torch.float32)
        torch.random.set_rng_state(before)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in net.module.state_dict().items():
        assert value.equal(again.module.state_dict()[name])
    assert any(not v.equal(other.module.state_dict()[name]) for name, v in net.module.state_dict().items())
    assert all(value.dtype == torch.float32 for value in net.module.parameters())
    return net


def _differentiate_twice(net: Net, loss: torch.Tensor) -> None:
    parameters = list(net.module.parameters())
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    assert all(bool(part.abs().sum() > 0) for part in gradient[-2:])
    along = sum(part.square().sum() for part in gradient)
    assert isinstance(along, torch.Tensor)
    product = torch.autograd.grad(along, parameters, allow_unused=True, materialize_grads=True)
    assert all(bool(part.isfinite().all()) for part in product)
    assert any(bool(part.abs().sum() > 0) for part in product)
