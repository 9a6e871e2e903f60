from __future__ import annotations

import torch

from vallis.core.protocols import Model, Problem
from vallis.core.rng import Rng
from vallis.core.types import Net
from vallis.testing.toys.models import LinearModel, TinyConvnet, TinyMlp, num_outputs
from vallis.testing.toys.problems import Bars, Blobs, LinearRegression


def built(problem: Problem, model: Model, seed: int = 0) -> Net:
    assert isinstance(model, Model)
    return model.build(problem.build(Rng(0)), Rng(seed))


def test_the_perceptron_has_some_sixty_parameters() -> None:
    net = built(Blobs(num_classes=3), TinyMlp())
    assert sum(value.numel() for value in net.module.parameters()) == 61
    assert net.traits == {"differentiable", "feedforward", "smooth"}
    assert built(Blobs(), TinyMlp(activation="relu")).traits == {"differentiable", "feedforward", "homogeneous"}


def test_outputs_fit_the_loss() -> None:
    assert num_outputs(Blobs(num_classes=5).build(Rng(0))) == 5
    assert num_outputs(LinearRegression().build(Rng(0))) == 1
    assert built(LinearRegression(num_inputs=7), LinearModel()).module(torch.ones(2, 7).double()).shape == (2, 1)


def test_the_convnet_takes_pictures_of_any_size() -> None:
    for problem in (Bars(), Bars(channels=3, size=32)):
        (batch,) = problem.build(Rng(0))[0].splits["train"]
        assert built(problem, TinyConvnet()).module(batch.x).shape == (24, 2)


def test_nets_come_in_eval_mode_from_their_own_stream() -> None:
    before = torch.get_rng_state()
    nets = [built(Bars(), TinyConvnet(), seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(part.training for part in nets[0].module.modules())
    weights = [net.module.state_dict()["0.weight"] for net in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_double_is_float64_everywhere() -> None:
    for net in (built(Blobs(), TinyMlp(double=True)), built(Bars(), TinyConvnet(double=True))):
        assert {value.dtype for value in net.module.state_dict().values() if value.ndim} == {torch.float64}
