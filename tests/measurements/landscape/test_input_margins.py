"""Input margins: exact for a linear classifier, signed, with an honest median and quantile."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import vallis
from tests.measurements.contract import RNG, measured
from tests.numerics.solutions import AWKWARD, batch_norm, binary, built, classes, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.losses import BinaryCrossEntropy
from vallis.core.types import NotApplicable, Solution
from vallis.measurements.landscape.input_margins import InputMargins, median_interval
from vallis.numerics.means import Floats


@pytest.mark.parametrize("make", [mlp, binary, batch_norm])
def test_it_keeps_the_contract(make: object) -> None:
    found = measured(InputMargins(max_steps=20, max_refinements=3), make())  # type: ignore[operator]
    assert found.array("train_distances").data.shape == (17,)
    told = np.isfinite(found.array("train_distances").data).mean()
    assert found.array("train_histogram").data.sum() == pytest.approx(told)


def exact(module: nn.Linear, x: torch.Tensor, y: torch.Tensor) -> Floats:
    with torch.no_grad():
        scores, weight = module(x), module.weight
        answers = scores.argmax(1)
        found = []
        for row, answer in zip(scores, answers.tolist(), strict=True):
            others = [k for k in range(len(row)) if k != answer]
            found.append(min(float((row[answer] - row[k]) / (weight[answer] - weight[k]).norm()) for k in others))
        signs = torch.where(answers == y, 1.0, -1.0).double().numpy()
    return np.array(found) * signs


def test_a_linear_classifier_is_exact() -> None:
    module, x, y = built(lambda: nn.Linear(4, 3)).double(), random(40, 4).double(), classes(40)
    found = measured(InputMargins(), held(module, x, y, test=(x[:7], y[:7])))
    expected = exact(module, x, y)
    np.testing.assert_allclose(found.array("train_distances").data, expected, rtol=1e-6)
    np.testing.assert_allclose(found.array("test_distances").data, expected[:7], rtol=1e-6)
    assert found.estimate("train_median").value == pytest.approx(np.median(expected))
    assert found.estimate("train_quantile_05").value == pytest.approx(np.quantile(expected, 0.05))
    assert found.estimate("train_smallest").value == pytest.approx(expected.min())
    assert found.estimate("train_converged_fraction").value == 1.0
    assert found.notes == ()


def test_a_single_logit_is_exact_too() -> None:
    module, x, y = built(lambda: nn.Linear(4, 1)).double(), random(30, 4).double(), classes(30, num_classes=2)
    found = measured(InputMargins(), held(module, x, y.double(), loss=BinaryCrossEntropy()))
    with torch.no_grad():
        expected = (module(x)[:, 0] * (2 * y - 1) / module.weight.norm()).numpy()
    np.testing.assert_allclose(found.array("train_distances").data, expected, rtol=1e-6)


def test_batches_do_not_say_where_ways_begin() -> None:
    module, x, y = (
        built(lambda: nn.Sequential(nn.Linear(2, 20), nn.ReLU(), nn.Linear(20, 3))),
        random(40, 2),
        classes(40),
    )
    with torch.no_grad():
        module[0].weight.mul_(4)
    whole, cut = (
        vallis.measure(Solution.of(module.double(), nn.CrossEntropyLoss(), train=data), "input_margins")
        for data in ((x.double(), y), [(x[at : at + 7].double(), y[at : at + 7]) for at in range(0, 40, 7)])
    )
    distances = whole.array("train_distances").data
    np.testing.assert_allclose(cut.array("train_distances").data, distances, rtol=1e-9)
    assert np.isfinite(distances).sum() > 30


def test_the_median_lies_in_its_interval_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside = [low <= 0 <= high for low, high in (median_interval(generator.normal(size=25)) for _ in range(600))]
    assert 0.94 <= np.mean(inside) <= 0.995


def test_what_has_no_boundary_says_so() -> None:
    outcome = InputMargins().measure(AWKWARD["tokens"](), RNG)
    assert isinstance(outcome, NotApplicable) and outcome.note.code == "not_classification"
    module = nn.Linear(2, 2)
    nn.init.zeros_(module.weight)
    with torch.no_grad():
        module.bias.copy_(torch.tensor([1.0, 0.0]))
    outcome = InputMargins(max_steps=3).measure(held(module, random(9, 2), torch.zeros(9, dtype=torch.int64)), RNG)
    assert isinstance(outcome, NotApplicable) and outcome.note.code == "no_boundary"


@pytest.mark.parametrize("settings", [{"max_steps": 0}, {"tolerance": 0.0}, {"num_bins": 0}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(settings))):
        InputMargins(**settings)  # type: ignore[arg-type]
