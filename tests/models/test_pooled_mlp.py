from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.expect import RGB28, a_good_net, num_parameters, tasks
from vallis.core.errors import ModelError, SettingsError
from vallis.core.rng import Rng
from vallis.models.pooled_mlp import PooledMlp


@pytest.mark.parametrize("batch_norm", [False, True])
def test_its_size(batch_norm: bool) -> None:
    net = a_good_net(PooledMlp(pool=4, widths=(16, 8), batch_norm=batch_norm), RGB28)
    inputs = 3 * 7 * 7
    expected = inputs * 16 + 16 + 16 * 8 + 8 + 8 * 10 + 10
    assert num_parameters(net) == expected + batch_norm * 2 * (inputs + 16 + 8)
    assert ("normalised" in net.traits) == batch_norm


def test_it_is_the_formula() -> None:
    net = PooledMlp(pool=2, widths=(6, 5)).build(tasks((1, 5, 4)), Rng(0))
    x = next(iter(tasks((1, 5, 4))[0].splits["train"])).x
    first, second, last = (net.module.get_submodule(name) for name in ("hidden1", "hidden2", "output"))
    shrunk = x[:, 0, :4].reshape(len(x), 2, 2, 2, 2).mean((2, 4)).flatten(1)
    torch.testing.assert_close(net.module(x), last(torch.relu(second(torch.relu(first(shrunk))))))


def test_normalisation_stands_before_each_matrix() -> None:
    """In training mode what every linear layer gets has mean zero; in eval mode it starts as the identity."""
    (task,) = tasks((1, 4, 4))
    net = PooledMlp(pool=2, widths=(6,), batch_norm=True).build((task,), Rng(0))
    x = next(iter(task.splits["train"])).x
    plain = PooledMlp(pool=2, widths=(6,)).build((task,), Rng(0))
    torch.testing.assert_close(net.module(x), plain.module(x), rtol=1e-4, atol=1e-4)
    seen: list[torch.Tensor] = []
    for part in net.module.modules():
        if isinstance(part, nn.Linear):
            part.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net.module.train()(x)
    assert len(seen) == 2
    for given in seen:
        torch.testing.assert_close(given.mean(0), torch.zeros(given.shape[1]), rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="at least 5x5 pixels"):
        PooledMlp(pool=5).build(tasks((1, 4, 4)), Rng(0))
    with pytest.raises(ModelError, match="requires images"):
        PooledMlp().build(tasks((4,)), Rng(0))


@pytest.mark.parametrize("settings", [{"pool": 0}, {"widths": (3, 0)}, {"activation": "step"}, {"init": "zero"}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"pooled_mlp.{next(iter(settings))}"):
        PooledMlp(**settings)  # type: ignore[arg-type]
