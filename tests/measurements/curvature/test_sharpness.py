"""The family of sharpness measures: each against its own function, and side by side under rescaling."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.measurements.curvature.test_hessian_spectrum import large
from tests.numerics.solutions import AWKWARD, built, classes, dead_relu, held, mlp, random
from tests.numerics.test_relative_flatness import by_blocks
from vallis.core.capture import layers_of, traits_of
from vallis.core.errors import SettingsError, UnknownPart
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.types import Estimate, NotApplicable, Result, Solution
from vallis.measurements.curvature.sharpness import Sharpness
from vallis.numerics.fisher_rao import fisher_rao_norm, model_fisher_rao_norm
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian, dense_loss, dense_vector
from vallis.testing.symmetries import layer_rescaling

FAMILY = set(Sharpness.invariances)


@pytest.mark.parametrize("name", AWKWARD)
def test_every_awkward_network_has_every_measure(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    found = measured(Sharpness.tiny(), solution)
    lacking = FAMILY - set(found.values)
    assert lacking == set()
    hessian = torch.linalg.eigvalsh(dense_hessian(solution))
    top = found.estimate("top_eigenvalue")
    assert top.value == pytest.approx(float(hessian[-1]), abs=1e-6 + 2e-3 * float(hessian.abs().max()))
    objective = Objective(solution, dtype=torch.float64)
    assert found.estimate("fisher_rao_norm").value == pytest.approx(fisher_rao_norm(objective), rel=1e-10)
    assert found.estimate("model_fisher_rao_norm").value == pytest.approx(model_fisher_rao_norm(objective), rel=1e-10)


def test_small_networks_are_exact() -> None:
    solution = mlp()
    found = measured(Sharpness(), solution)
    hessian = dense_hessian(solution)
    whole, flat = found.estimate("trace"), found.estimate("relative_flatness")
    assert (whole.value, whole.stderr) == (pytest.approx(float(hessian.trace()), rel=1e-9), 0.0)
    assert (flat.value, flat.stderr) == (pytest.approx(by_blocks(solution, "4.weight"), rel=1e-9), 0.0)
    assert flat.method.startswith("of 4.weight")
    other = measured(Sharpness(layer="2"), solution)
    assert other.estimate("relative_flatness").value == pytest.approx(by_blocks(solution, "2.weight"), rel=1e-9)


def test_larger_ones_within_their_error_bars() -> None:
    solution = large()
    found = measured(Sharpness(num_probes=40), solution)
    whole = found.estimate("trace")
    assert whole.stderr is not None
    assert whole.stderr > 0
    assert whole.value == pytest.approx(float(dense_hessian(solution).trace()), abs=4 * whole.stderr)


def test_rises_are_ordered_as_they_must_be_and_are_met_on_the_way() -> None:
    solution = mlp()
    found = measured(Sharpness(radius=0.4, max_steps=200, tolerance=1e-5), solution)
    worst, average = found.estimate("worst_rise"), found.estimate("average_rise")
    assert worst.stderr is None  # nobody knows how much higher the maximum is
    assert average.stderr is not None
    assert worst.value > average.value + 4 * average.stderr
    at, base = dense_vector(solution), dense_loss(solution, dense_vector(solution))
    top = torch.linalg.eigh(dense_hessian(solution)).eigenvectors[:, -1]
    for side in (0.4, -0.4):
        assert worst.value >= float(dense_loss(solution, at + side * top) - base)
    assert "at least" in worst.method


def rescaled(solution: Solution) -> Solution:
    module = solution.net.module
    net = replace(solution.net, layers=layers_of(module), traits=traits_of(module))
    changed = layer_rescaling(replace(solution, net=net), RNG.child("rescaling"))
    assert changed is not None
    return changed


def test_the_measures_disagree_on_which_of_two_equal_functions_is_sharper() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))
    solution = held(module.double(), random(17, 2).double(), classes(17))
    one, other = (measured(Sharpness(), each) for each in (solution, rescaled(solution)))
    assert "rescaled_trace" not in one.values  # nobody said that this network allows it
    for key, declared in Sharpness.invariances.items():
        same = other.estimate(key).value == pytest.approx(one.estimate(key).value, rel=1e-4)
        assert same == ("layer_rescaling" in declared), key


def test_a_rescaled_copy_stands_beside_where_there_is_one() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3))).double()
    plain = held(module, random(17, 2).double(), classes(17))
    solution = replace(plain, net=replace(plain.net, layers=layers_of(module), traits=traits_of(module)))
    part = Sharpness()
    found = measured(part, solution)
    for key, declared in Sharpness.invariances.items():
        pair = found.estimate(key).value, found.estimate(f"rescaled_{key}").value
        assert (pair[1] == pytest.approx(pair[0], rel=1e-4)) == ("layer_rescaling" in declared), key
    (figure,) = part.figures(found)
    assert [len(mark.x) for mark in figure.marks] == [4, 5, 9]
    ratio = found.estimate("rescaled_top_eigenvalue").value / found.estimate("top_eigenvalue").value
    assert f"the top eigenvalue by {ratio:.3g}"[:26] in part.reading(found)
    assert "the worst relative rise by 1" in part.reading(found)
    alone = measured(Sharpness(rescaled=False), solution)
    assert not any(key.startswith("rescaled") for key in alone.values)
    half = alone.estimate("num_gradients").value / found.estimate("num_gradients").value
    assert 0.3 < half < 0.7


def test_what_has_not_converged_is_said() -> None:
    part = Sharpness(max_steps=1, num_starts=0)
    found = part.measure(mlp(), RNG)
    assert isinstance(found, Result)
    assert "not_converged" in [note.code for note in found.notes]
    assert "may be larger" in part.reading(found)
    long = Sharpness(max_steps=300).measure(mlp(), RNG)
    assert "not_converged" not in [note.code for note in long.notes]
    few = Sharpness(max_products=2).measure(large(), RNG)
    assert any("top eigenvalue has not converged" in note.text for note in few.notes)


def test_what_a_loss_or_a_network_does_not_have_is_left_out_with_a_note() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x @ self.one, -x @ self.one

    loss = OwnLoss(function=lambda outputs, y: ((outputs[0] * outputs[1] - y) ** 2).mean())
    found = measured(Sharpness.tiny(), held(Two(), random(9, 2), random(9), loss=loss))
    assert FAMILY - set(found.values) == {"fisher_rao_norm", "model_fisher_rao_norm", "relative_flatness"}
    codes = [note.code for note in found.notes]
    assert {"no_fisher_rao_norm", "no_model_fisher_rao_norm", "no_relative_flatness"} <= set(codes)


def test_the_picture_shows_all_that_is_positive_and_names_the_rest() -> None:
    part = Sharpness()
    found = measured(part, mlp())
    (figure,) = part.figures(found)
    assert figure.y.scale == "log"
    assert sum(len(mark.x) for mark in figure.marks) == 9
    changed = {mark.label: len(mark.x) for mark in figure.marks}
    assert changed == {"rescaling layers changes it": 4, "rescaling layers does not": 5}
    values = {**found.values, "trace": Estimate(value=-1.0, stderr=0.0, unit="nats/weight^2", method="exact")}
    (figure,) = part.figures(Result(values=values))
    assert sum(len(mark.x) for mark in figure.marks) == 8
    assert "Not positive, so not drawn: trace." in figure.caption


def test_the_reading_compares_and_warns() -> None:
    part = Sharpness()
    text = part.reading(measured(part, mlp()))
    assert "Within a distance of 0.05 the loss rises by at least" in text
    assert "on average" in text
    assert (
        "Where layers can be rescaled without a change of any output (ReLU networks), that changes them, save" in text
    )


def test_the_cost_is_counted() -> None:
    found = measured(Sharpness(num_starts=0, max_steps=5, num_directions=3), mlp())
    gradients = found.estimate("num_gradients")
    # 61 products and 3 for 15 units and inputs of the last layer, two ascents, two averages, two norms.
    assert 2 * 61 < gradients.value < 2 * 61 + 2 * 15 + (1 + 3 * 5) + (1 + 3 * 5) + 4 + 6 + 1
    assert gradients.unit == "gradients"


def test_a_diverged_network_has_none() -> None:
    solution = mlp()
    solution.params["0.weight"][0] = torch.inf
    found = Sharpness().measure(solution, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "not_finite"


def test_dead_units_and_weights_of_zero_do_no_harm() -> None:
    solution = dead_relu()
    solution.params["2.bias"].zero_()
    found = measured(Sharpness.tiny(), solution)
    assert all(torch.isfinite(torch.tensor(found.estimate(key).value)) for key in FAMILY)


def test_a_minimum_of_zero_slope_and_a_flat_loss() -> None:
    """Everything is zero: no division, nothing drawn, and still a sentence."""
    module = nn.Linear(2, 1, bias=False).double()
    nn.init.zeros_(module.weight)
    flat = held(module, torch.zeros(4, 2).double(), torch.zeros(4, 1).double(), SquaredError())
    found = measured(Sharpness.tiny(), flat)
    assert all(found.estimate(key).value == 0 for key in FAMILY)
    assert Sharpness.tiny().figures(found) == ()


def rectifier(*sizes: int) -> Solution:
    """A ReLU network that says what it is made of."""
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [nn.Linear(before, after), nn.ReLU()]
    module = built(lambda: nn.Sequential(*parts[:-1])).double()
    plain = held(module, random(17, sizes[0]).double(), classes(17))
    return replace(plain, net=replace(plain.net, layers=layers_of(module), traits=traits_of(module)))


def test_one_layer_has_no_rescaled_copy() -> None:
    found = measured(Sharpness(), rectifier(2, 3))
    assert not [key for key in found.values if key.startswith("rescaled")]
    assert "multiplies" not in Sharpness().reading(found)


def test_frozen_weights_leave_no_rescaled_copy() -> None:
    solution = rectifier(2, 6, 3)
    solution = replace(solution, params={name: v for name, v in solution.params.items() if not name.startswith("0.")})
    found = Sharpness().measure(solution, RNG)
    assert isinstance(found, Result)
    assert not [key for key in found.values if key.startswith("rescaled")]


def test_weights_of_zero_have_no_relative_ball_and_no_rescaled_copy() -> None:
    """They are in float64 already, so that it would not help to use it."""
    solution = rectifier(2, 6, 3)
    zero = replace(solution, params={name: torch.zeros_like(value) for name, value in solution.params.items()})
    part = Sharpness()
    found = measured(part, zero)
    assert [note.code for note in found.notes if note.code != "not_converged"] == ["zero_weights"]
    for key in ("worst_relative_rise", "average_relative_rise"):
        assert (found.estimate(key).value, found.estimate(key).stderr) == (0.0, 0.0)
    assert found.estimate("worst_rise").value > 0
    assert not [key for key in found.values if key.startswith("rescaled")]
    assert "weights' own sizes" not in part.reading(found)


def test_a_flat_loss_is_called_flat() -> None:
    flat = held(Deaf(), random(4, 2), random(4, 1), SquaredError())
    words = Sharpness.tiny().reading(measured(Sharpness.tiny(), flat))
    assert words.startswith("Within a distance of 0.05 no place was found where the loss is higher; ")
    assert "no direction was found in which the loss bends up (the largest eigenvalue is 0 1/weight^2)" in words


class Deaf(nn.Module):
    """Its weight has no say."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * nn.functional.linear(x, self.weight)


@pytest.mark.parametrize(
    "bad", [{"radius": 0.0}, {"relative_radius": -1.0}, {"max_steps": 0}, {"num_starts": -1}, {"max_products": 0}]
)
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(bad))):
        Sharpness(**bad)


def test_a_layer_that_there_is_not_is_refused() -> None:
    with pytest.raises(UnknownPart, match="did you mean"):
        Sharpness(layer="41").measure(mlp(), RNG)
