"""Filter-normalised directions: as long as the filters, and the same for models that are to be compared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.numerics.solutions import built
from vallis.core.rng import Rng
from vallis.numerics.directions import filter_normalised

RNG = Rng(0).child("directions")


def network(seed: int = 0) -> nn.Module:
    return built(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4), nn.LayerNorm(4)),
        seed,
    )


def drawn(module: nn.Module, rng: Rng = RNG) -> dict[str, torch.Tensor]:
    named = {name: value.detach() for name, value in module.named_parameters()}
    return dict(zip(named, filter_normalised(list(named), list(named.values()), rng), strict=True))


def test_every_filter_is_as_long_as_its_weights() -> None:
    module = network()
    direction = drawn(module)
    for name in ("0.weight", "3.weight"):
        weights = module.get_parameter(name).detach()
        torch.testing.assert_close(direction[name].flatten(1).norm(dim=1), weights.flatten(1).norm(dim=1))


def test_biases_and_normalisation_do_not_move() -> None:
    direction = drawn(network())
    for name in ("0.bias", "1.weight", "1.bias", "3.bias", "4.weight", "4.bias"):
        assert not direction[name].any()
    assert direction["0.weight"].any()


def test_a_filter_of_zeros_gets_no_direction() -> None:
    module = network()
    with torch.no_grad():
        module[0].weight[1] = 0  # type: ignore[index]
    direction = drawn(module)["0.weight"]
    assert not direction[1].any()
    assert direction[0].any()
    assert bool(direction.isfinite().all())


def test_two_parameters_of_one_shape_get_noise_of_their_own() -> None:
    one, other = filter_normalised(["one", "other"], [torch.ones(3, 4), torch.ones(3, 4)], RNG)
    assert not torch.equal(one, other)


def test_models_with_the_same_parameters_see_the_same_noise() -> None:
    one, other = drawn(network(0)), drawn(network(1))
    for name in ("0.weight", "3.weight"):
        units = [d[name].flatten(1) / d[name].flatten(1).norm(dim=1, keepdim=True) for d in (one, other)]
        torch.testing.assert_close(*units)
        assert not torch.equal(one[name], other[name])


def test_a_parameter_more_or_less_changes_no_other() -> None:
    larger = nn.Sequential(*network().children(), nn.Linear(4, 4))
    assert torch.equal(drawn(larger)["3.weight"], drawn(network())["3.weight"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_floating_type_rounds_and_does_not_draw_anew(dtype: torch.dtype) -> None:
    single, other = drawn(network()), drawn(network().to(dtype))
    assert other["0.weight"].dtype == dtype
    tolerance = 1e-6 if dtype == torch.float64 else 3e-2
    torch.testing.assert_close(other["0.weight"].float(), single["0.weight"], rtol=tolerance, atol=tolerance)


def test_noise_is_normal_with_mean_zero() -> None:
    """The peers' uniform numbers in [0, 1] have the mean 0.5: their slices look in one orthant only."""
    (direction,) = filter_normalised(["w"], [torch.ones(2000, 50)], RNG)
    assert float(direction.mean()) == pytest.approx(0.0, abs=4 / 2000**0.5 / 50**0.5)
    assert float((direction**4).mean()) == pytest.approx(3.0 * 50 / 52, rel=0.05)  # of normal numbers on a sphere


def test_other_seeds_give_other_directions_and_global_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = drawn(network()), drawn(network()), drawn(network(), RNG.child("second"))
    assert torch.equal(one["0.weight"], same["0.weight"])
    cosine = torch.cosine_similarity(one["0.weight"].flatten(), other["0.weight"].flatten(), dim=0)
    assert abs(float(cosine)) < 0.6
    assert torch.equal(torch.random.get_rng_state(), before)


def test_scalars_and_empty_tensors_do_not_move() -> None:
    found = filter_normalised(["a", "b", "c"], [torch.tensor(2.0), torch.ones(0, 3), torch.ones(1, 1)], RNG)
    assert [part.tolist() for part in found[:2]] == [0.0, []]
    assert float(found[2].abs()) == pytest.approx(1.0)
