"""Random directions: as long as the filters, or the layers, and the same for models that are to be compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.numerics.solutions import built
from vallis.core.rng import Rng
from vallis.numerics.directions import (
    filter_lengths,
    filter_normalised,
    filter_scaled,
    layer_normalised,
    num_moving,
    random_direction,
    raw,
    without_normalisation,
)

RNG = Rng(0).child("directions")


def network(seed: int = 0) -> nn.Module:
    return built(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4), nn.LayerNorm(4)),
        seed,
    )


def drawn(module: nn.Module, rng: Rng = RNG) -> dict[str, torch.Tensor]:
    named = {name: value.detach() for name, value in module.named_parameters()}
    return dict(zip(named, filter_normalised(list(named), list(named.values()), rng), strict=True))


def test_normalisation_over_several_axes_is_no_weight() -> None:
    module = nn.Sequential(nn.LayerNorm([2, 3]), nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4))
    names, point = zip(*((name, value.detach()) for name, value in module.named_parameters()), strict=True)
    alone = without_normalisation(module, names, point)
    assert num_moving(alone) == 24 and num_moving(point) == 30
    direction = dict(zip(names, filter_normalised(names, alone, RNG), strict=True))
    assert not direction["0.weight"].any() and direction["2.weight"].all()
    assert direction["2.weight"].equal(dict(zip(names, filter_normalised(names, point, RNG), strict=True))["2.weight"])


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


def parts(module: nn.Module) -> tuple[list[str], list[torch.Tensor]]:
    named = dict(module.named_parameters())
    return list(named), [value.detach() for value in named.values()]


def test_a_layer_is_as_long_as_its_weight_and_its_filters_are_not() -> None:
    names, point = parts(network())
    direction = dict(zip(names, layer_normalised(names, point, RNG), strict=True))
    weights = dict(zip(names, point, strict=True))
    for name in ("0.weight", "3.weight"):
        torch.testing.assert_close(direction[name].norm(), weights[name].norm())
        assert not torch.allclose(direction[name].flatten(1).norm(dim=1), weights[name].flatten(1).norm(dim=1))
    assert not direction["0.bias"].any()


def test_scaled_directions_have_length_one_in_norms_of_filters() -> None:
    names, point = parts(network())
    direction = filter_scaled(names, point, RNG)
    lengths = filter_lengths(point)
    relative = [d[s > 0] / s[s > 0] for d, s in zip(direction, lengths, strict=True)]
    assert float(torch.cat(relative).norm()) == pytest.approx(1.0, rel=1e-6)
    # Uniform on the sphere: the noise of all filters is of one size, whatever the norms of the weights.
    noise = [d for d in raw(names, point, RNG) if d.any()]
    scale = float(torch.cat([part.flatten() for part in noise]).norm())
    torch.testing.assert_close(relative[0], noise[0].flatten() / scale)


def test_raw_numbers_are_as_they_are_drawn() -> None:
    names, point = parts(network())
    one, other = raw(names, point, RNG), raw(names, [3 * value for value in point], RNG)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    units = [
        d[0].flatten(1) / d[0].flatten(1).norm(dim=1, keepdim=True) for d in (one, filter_normalised(names, point, RNG))
    ]
    torch.testing.assert_close(*units)


def test_the_numbers_that_move_are_counted() -> None:
    module = network()
    with torch.no_grad():
        module[0].weight[1] = 0  # type: ignore[index]
    names, point = parts(module)
    # Two live filters of the convolution with 2 x 3 x 3 numbers, four units with 12 inputs.
    assert num_moving(point) == 2 * 18 + 4 * 12
    assert num_moving(point) == sum(int((part != 0).sum()) for part in filter_scaled(names, point, RNG))
    assert all(bool(part.isfinite().all()) for part in layer_normalised(names, point, RNG))
    assert filter_lengths(point)[1].shape == point[1].shape


@pytest.mark.parametrize(
    ("normalisation", "function"),
    [("filter", filter_normalised), ("filter_scaled", filter_scaled), ("layer", layer_normalised), ("none", raw)],
)
def test_one_name_finds_each(normalisation: Any, function: Any) -> None:
    names, point = parts(network())
    found = random_direction(names, point, RNG, normalisation)
    assert all(torch.equal(a, b) for a, b in zip(found, function(names, point, RNG), strict=True))


def test_without_weights_nothing_moves() -> None:
    assert not filter_scaled(["bias"], [torch.ones(3)], RNG)[0].any()
