from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.expect import ALL_SIZES, RGB28, a_good_net, num_parameters, tasks
from vallis.core.errors import SettingsError
from vallis.core.losses import BinaryCrossEntropy
from vallis.core.rng import Rng
from vallis.models.mlp import Mlp


@pytest.mark.parametrize(("widths", "count"), [((512,), 1_209_866), ((512, 512, 512), 1_735_178)])
def test_the_papers_counts(widths: tuple[int, ...], count: int) -> None:
    """Zhang et al. 2017, on 28x28x3."""
    assert num_parameters(a_good_net(Mlp(widths=widths), RGB28)) == count


@pytest.mark.parametrize("shape", [*ALL_SIZES, (5,), (4, 3)])
def test_inputs_of_any_shape(shape: tuple[int, ...]) -> None:
    a_good_net(Mlp(widths=(7, 6)), shape, num_classes=3)


def test_it_is_the_formula() -> None:
    net = Mlp(widths=(6, 5), activation="tanh").build(tasks((4,)), Rng(0))
    x = next(iter(tasks((4,))[0].splits["train"])).x
    first, second, last = (net.module.get_submodule(name) for name in ("hidden1", "hidden2", "output"))
    expected = last(torch.tanh(second(torch.tanh(first(x)))))
    torch.testing.assert_close(net.module(x), expected)
    assert [layer.name for layer in net.layers] == ["hidden1", "hidden2", "output"]


def test_traits_follow_the_activation() -> None:
    traits = {name: Mlp(activation=name).build(tasks((4,)), Rng(0)).traits for name in ("relu", "tanh")}  # type: ignore[arg-type]
    assert {"homogeneous", "feedforward"} <= traits["relu"]
    assert "smooth" not in traits["relu"]
    assert "smooth" in traits["tanh"]
    assert "homogeneous" not in traits["tanh"]


def test_dropout_and_bias() -> None:
    net = Mlp(widths=(50,), dropout=0.5, bias=False).build(tasks((4,)), Rng(0)).module
    assert [name for name, _ in net.named_parameters()] == ["hidden1.weight", "output.weight"]
    x = torch.ones(2000, 4)
    net.train()
    assert 0.45 < float((net[:4](x) == 0).double().mean()) - float((net[:3](x) == 0).double().mean()) / 2 < 0.55  # type: ignore[index]
    net.eval()
    assert net(x).equal(net(x))
    assert any(isinstance(part, nn.Dropout) and part.p == 0.5 for part in net.modules())


def test_a_linear_model_and_a_binary_one() -> None:
    assert num_parameters(a_good_net(Mlp(widths=()), (4,), num_classes=3)) == 15
    assert Mlp().build(tasks((4,), 2, BinaryCrossEntropy()), Rng(0)).module(torch.zeros(3, 4)).shape == (3, 1)


@pytest.mark.parametrize(
    "settings", [{"widths": (3, 0)}, {"activation": "step"}, {"dropout": 1.0}, {"dropout": -0.1}, {"init": "zero"}]
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"mlp.{next(iter(settings))}"):
        Mlp(**settings)  # type: ignore[arg-type]
