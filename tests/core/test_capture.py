import pytest
import torch
from torch import nn

from tests.core.caller import untouched
from tests.core.networks import CausalLanguageModel, Recurrent, ResNet, Transformer, draw, hooked, mlp, parametrized
from vallis.core.capture import capture, layers_of, traits_of
from vallis.core.errors import UnknownPart


def test_layers_are_the_modules_that_own_parameters_in_their_order() -> None:
    layers = layers_of(ResNet())
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("first", "Conv2d"),
        ("second", "Conv2d"),
        ("norm", "BatchNorm2d"),
        ("norm2", "BatchNorm2d"),
        ("head", "Linear"),
    ]
    assert layers[2].parameters == ("norm.weight", "norm.bias")


@pytest.mark.parametrize("make", [mlp, ResNet, CausalLanguageModel, lambda: Transformer(True), parametrized])
def test_every_parameter_belongs_to_one_layer(make: object) -> None:
    module = make()
    owned = [name for layer in layers_of(module) for name in layer.parameters]
    assert sorted(owned) == sorted(name for name, _ in module.named_parameters())


def test_a_bare_layer_has_no_name_and_a_shared_one_is_listed_once() -> None:
    assert [layer.name for layer in layers_of(nn.Linear(2, 2))] == [""]
    assert layers_of(nn.Linear(2, 2))[0].parameters == ("weight", "bias")
    shared = nn.Linear(2, 2)
    assert [layer.name for layer in layers_of(nn.Sequential(shared, nn.ReLU(), shared))] == ["0"]
    assert [layer.name for layer in layers_of(CausalLanguageModel())] == ["embed", "attend", "attend.out_proj"]


class Secret(nn.Module):
    """Its forward function is anybody's guess."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).sign()


def relu_net(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), *more, nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("module", "traits"),
    [
        (relu_net(), {"homogeneous", "feedforward"}),
        (relu_net(nn.Dropout(), nn.LeakyReLU()), {"homogeneous", "feedforward"}),
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh()), {"smooth", "feedforward"}),
        (nn.Linear(3, 4), {"smooth", "homogeneous", "feedforward"}),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)), {"homogeneous", "feedforward", "convolutional"}),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.GELU()), {"smooth", "feedforward", "convolutional"}),
        (relu_net(nn.BatchNorm1d(4)), {"normalised"}),
        (relu_net(nn.LayerNorm(4)), {"normalised"}),
        (relu_net(nn.RMSNorm(4)), {"normalised"}),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2)), {"normalised", "convolutional"}),
        (Recurrent(nn.LSTM, True), {"recurrent"}),
        (Transformer(True), {"attention", "normalised"}),
        (ResNet(), {"convolutional", "normalised"}),
        (relu_net(nn.Softmax(1)), set()),
        (Secret(), set()),
        (nn.Sequential(Secret(), nn.ReLU()), set()),
        (parametrized(), set()),
        (hooked(), set()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_traits_claim_what_can_be_told_and_nothing_else(module: nn.Module, traits: set[str]) -> None:
    assert traits_of(module) == {"differentiable", *traits}


@pytest.mark.parametrize("make", [relu_net, lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))])
def test_homogeneous_nets_do_not_feel_a_factor_that_moves_between_layers(make: object) -> None:
    """What the trait claims, proved on what it is claimed of."""
    module = make().double()
    assert "homogeneous" in traits_of(module)
    x = draw(5, 3) if isinstance(module[0], nn.Linear) else draw(5, 3, 2, 2)
    with torch.no_grad():
        before = module(x)
        module[0].weight.mul_(3)
        module[0].bias.mul_(3)
        module[2].weight.div_(3)
        torch.testing.assert_close(module(x), before)


# ------------------------------------------------------------------------------------------------------ capture


def test_inputs_and_outputs_of_layers_at_other_weights() -> None:
    module = mlp().double().eval()
    params = {name: value.detach() + 1 for name, value in module.named_parameters()}
    x = draw(5, 3)
    with untouched(module):
        seen = capture(module, params, {}, x, ["0", "3", ""])
    hidden = x @ params["0.weight"].T + params["0.bias"]
    out = hidden.tanh() @ params["3.weight"].T + params["3.bias"]
    assert list(seen) == ["0", "3", ""]
    torch.testing.assert_close(seen["0"], ((x,), hidden))
    torch.testing.assert_close(seen["3"], ((hidden.tanh(),), out))
    torch.testing.assert_close(seen[""], ((x,), out))


def test_a_layer_called_twice_keeps_its_last_call() -> None:
    layer = nn.Linear(2, 2, bias=False).double()
    module = nn.Sequential(layer, layer)
    seen = capture(module, {"0.weight": 2 * torch.eye(2).double()}, {}, draw(1, 2), ["0"])
    torch.testing.assert_close(seen["0"][1], 4 * draw(1, 2))


def test_hooks_are_gone_after_an_error_too() -> None:
    module = mlp()
    with untouched(module), pytest.raises(RuntimeError):
        capture(module, dict(module.named_parameters()), {}, torch.zeros(5, 99), ["0", "3"])
    with untouched(module), pytest.raises(UnknownPart, match="no layer is named '33'; did you mean 3"):
        capture(module, dict(module.named_parameters()), {}, torch.zeros(5, 3), ["0", "33"])
