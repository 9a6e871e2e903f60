"""The construction as a model: exact sizes, exact answers, and what a GradientDescent of no step makes of it."""

from __future__ import annotations

import pytest
import torch

from tests.models.expect import num_parameters, tasks
from vallis.core import spec
from vallis.core.data import Arrays
from vallis.core.errors import DataError, ModelError, SettingsError
from vallis.core.losses import BinaryCrossEntropy, Loss, SquaredError
from vallis.core.rng import Rng
from vallis.core.types import Job, Net, Result, Task
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.models.memorizing_network import MemorizingNetwork
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.run.train import train
from vallis.training.gradient_descent import GradientDescent


def held(y: torch.Tensor, loss: Loss, num_inputs: int = 4) -> tuple[Task, ...]:
    x = torch.randn(len(y), num_inputs, generator=torch.Generator().manual_seed(0))
    return (Task(name="toy", splits={"train": Arrays(x=x, y=y, index=torch.arange(len(y)))}, loss=loss),)


def answers(net: Net, given: tuple[Task, ...]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = net.module(next(iter(given[0].splits["train"])).x)
    return found


@pytest.mark.parametrize("shape", [(3,), (1, 8, 8), (3, 9, 7)])
def test_classes(shape: tuple[int, ...]) -> None:
    model, given = MemorizingNetwork(), tasks(shape)
    assert spec.from_spec(spec.to_spec(model)) == model
    before = torch.random.get_rng_state()
    net = model.build(given, Rng(0))
    assert torch.random.get_rng_state().equal(before)
    torch.testing.assert_close(answers(net, given), torch.eye(10, dtype=torch.float64), rtol=0, atol=1e-6)
    inputs = torch.Size(shape).numel()
    assert num_parameters(net) == 10 + inputs + 10 * 10
    assert [layer.name for layer in net.layers] == ["direction", "thresholds", "output"]
    assert all(value.dtype == torch.float64 for value in net.module.parameters())


def test_numbers_and_signs() -> None:
    y = torch.tensor([0.5, -2.0, 3.0])
    for targets in (y, y[:, None], torch.stack([y, y.square()], 1)):
        given = held(targets, SquaredError())
        net = MemorizingNetwork().build(given, Rng(0))
        torch.testing.assert_close(answers(net, given), targets.double(), rtol=0, atol=1e-8)
        assert num_parameters(net) == 3 + 4 + targets.numel()
    binary = held(torch.tensor([0, 1, 1]), BinaryCrossEntropy())
    signs = answers(MemorizingNetwork().build(binary, Rng(0)), binary)
    torch.testing.assert_close(signs, torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-8)


def test_a_deep_one_is_narrower() -> None:
    given = tasks((1, 8, 8))
    net = MemorizingNetwork(depth=4).build(given, Rng(0))
    torch.testing.assert_close(answers(net, given), torch.eye(10, dtype=torch.float64), rtol=0, atol=1e-6)
    assert [tuple(value.shape) for name, value in net.module.named_parameters() if "thresholds" in name] == [
        (4,),
        (4,),
        (2,),
    ]


def test_it_memorises_digits_with_random_labels_and_learns_nothing() -> None:
    """Theorem 1 is about existence: the training accuracy is 1 exactly, the test accuracy that of guessing."""
    job = Job(
        problem=Corrupted(base=Digits(test_fraction=0.5), labels=1.0),
        model=MemorizingNetwork(),
        training=GradientDescent(max_steps=0),
    )
    (solution,) = train(job)
    assert solution.num_parameters == 899 + 64 + 8990
    found = GeneralizationGap().measure(solution, Rng(0))
    assert isinstance(found, Result)
    assert found.estimate("train_accuracy").value == 1.0
    assert 0.03 < found.estimate("test_accuracy").value < 0.17


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="inputs"):
        (task,) = tasks((4,))
        flat = Arrays(x=torch.randn(10), y=torch.arange(10), index=torch.arange(10))
        MemorizingNetwork().build((Task(name="flat", splits={"train": flat}, loss=task.loss),), Rng(0))
    with pytest.raises(DataError, match="copies"):
        same = Arrays(x=torch.ones(2, 3), y=torch.tensor([0, 1]), index=torch.arange(2))
        MemorizingNetwork().build((Task(name="same", splits={"train": same}, loss=task.loss),), Rng(0))
    with pytest.raises(SettingsError, match="depth must"):
        MemorizingNetwork(depth=1)
    with pytest.raises(SettingsError, match=r"2\.\.11"):
        MemorizingNetwork(depth=12).build(tasks((4,)), Rng(0))
