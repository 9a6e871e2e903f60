"""The numbers of the family as estimates: what has no number is left out, with a reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, built, classes, frozen, held, mlp, random, tied
from vallis.core.errors import UnknownPart
from vallis.core.objective import Objective
from vallis.measurements.curvature._sharpness_values import Found, average, of_trace, weight_of, worst
from vallis.numerics.ascent import Ascent, MeanRise
from vallis.numerics.trace import Trace


def ascent(rise: float, converged: bool = True, met_infinity: bool = False) -> Ascent:
    return Ascent(
        rise=rise,
        rises=np.array([rise, rise]),
        converged=converged,
        gap=0.0,
        direction=torch.zeros(2),
        num_gradients=7,
        met_infinity=met_infinity,
    )


def test_a_rise_is_a_lower_bound_without_an_error_bar() -> None:
    found = worst("worst_rise", ascent(0.3), "nats", 0.05)
    value = found.values["worst_rise"]
    assert (value.value, value.stderr, value.n, value.unit) == (0.3, None, 2, "nats")
    assert found.notes == ()
    assert found.num_gradients == 7


def test_trouble_leaves_as_notes() -> None:
    found = worst("worst_rise", ascent(0.3, converged=False, met_infinity=True), "nats", 0.05)
    assert [note.code for note in found.notes] == ["not_finite", "not_converged"]
    assert all(note.text.endswith(".") for note in found.notes)
    nothing = worst("worst_rise", ascent(float("nan"), met_infinity=True), "nats", 0.05)
    assert nothing.values == {}
    assert [note.code for note in nothing.notes] == ["not_finite"]
    infinite = average(
        "average_rise", MeanRise(value=np.inf, stderr=None, samples=np.ones(3), rounding=0.0), "nats", 0.05
    )
    assert infinite.values == {}
    assert [note.code for note in infinite.notes] == ["not_finite"]


def test_what_rounding_hides_is_said() -> None:
    found = average("average_rise", MeanRise(value=3e-8, stderr=2e-8, samples=np.ones(3), rounding=1e-8), "nats", 0.05)
    assert [note.code for note in found.notes] == ["rounding"]
    seen = average("average_rise", MeanRise(value=5e-8, stderr=2e-8, samples=np.ones(3), rounding=1e-8), "nats", 0.05)
    assert seen.notes == ()


def test_float64_is_advised_only_where_it_would_be_news() -> None:
    hidden = MeanRise(value=3e-17, stderr=None, samples=np.ones(3), rounding=1e-16)
    texts = [average("average_rise", hidden, "nats", 0.05, double).notes[0].text for double in (False, True)]
    assert ["float64" in text for text in texts] == [True, False]


def test_what_a_trace_has_to_say_arrives_and_only_a_sum_is_exact() -> None:
    skewed = Trace.of_signs(np.array([1.0] * 30 + [30.0, 60.0]), torch.float64, 32, "hutchinson")
    found = of_trace("trace", skewed, "nats", "Hessian")
    assert [note.code for note in found.notes] == ["skewed_samples"]
    assert "exact" not in found.values["trace"].method
    agreeing = Trace.of_signs(np.full(12, 3.0), torch.float64, 12, "hutchinson")
    assert of_trace("trace", agreeing, "nats", "Hessian").values["trace"].stderr is None
    summed = Trace(value=3.0, stderr=0.0, samples=np.empty(0), num_products=5, method="exact")
    assert of_trace("trace", summed, "nats", "Hessian").values["trace"].method == "Hessian; exact"


def test_sums_keep_everything() -> None:
    one = average("average_rise", MeanRise(value=0.1, stderr=0.01, samples=np.ones(3), rounding=0.0), "nats", 0.05)
    other = of_trace("trace", Trace(value=2.0, stderr=0.0, samples=np.empty(0), num_products=5), "1", "Hessian")
    both = Found(values={}) + one + other
    assert set(both.values) == {"average_rise", "trace"}
    assert both.num_gradients == pytest.approx(2.0 + 10.0)


@pytest.mark.parametrize(
    ("name", "weight"),
    [("mlp", "4.weight"), ("tied", "there.weight"), ("batch_norm", "4.weight"), ("tokens", "head.weight")],
)
def test_the_last_layer_with_a_weight_matrix(name: str, weight: str) -> None:
    solution = AWKWARD[name]()
    assert weight_of(solution, Objective(solution), "") == weight


def test_a_layer_by_name() -> None:
    solution = mlp()
    assert weight_of(solution, Objective(solution), "2") == "2.weight"
    with pytest.raises(UnknownPart, match="layer with a weight matrix"):
        weight_of(solution, Objective(solution), "1")
    alone = held(built(lambda: nn.Linear(2, 3)), random(9, 2), classes(9))
    assert weight_of(alone, Objective(alone), "") == "weight"


def test_frozen_weights_are_none() -> None:
    solution = frozen()
    with pytest.raises(UnknownPart):
        weight_of(solution, Objective(solution), "0")
    assert weight_of(tied(), Objective(tied()), "there") == "there.weight"
