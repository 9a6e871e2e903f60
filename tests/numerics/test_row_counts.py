"""Whose rows are whose: networks that move their tokens about, against weights that were carried along by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.numerics.layer_solutions import language, rectified
from tests.numerics.solutions import NUM_EXAMPLES, built, classes, held, random
from vallis.core.errors import ModelError
from vallis.core.losses import CrossEntropy, Loss
from vallis.core.objective import Objective
from vallis.core.own_loss import adapt
from vallis.core.types import Solution
from vallis.numerics.affine import affine_layers
from vallis.numerics.flows import run
from vallis.numerics.kronecker import factored_layers, factors
from vallis.numerics.row_counts import row_counts
from vallis.numerics.row_weights import row_weights

T, ORDER = 5, torch.tensor([2, 0, 4, 1, 3])
Forward = Callable[[Any, torch.Tensor], torch.Tensor]


class Tokens(nn.Module):
    def __init__(self, forward: Forward, width: int = 4) -> None:
        super().__init__()
        self.mix, self.head = nn.Linear(3, width), nn.Linear(width, 3)
        self.other = nn.Linear(width, 3)
        self.way = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.way(self, x)


def tokens(forward: Forward, loss: Loss | None = None, num_targets: int = T, **how: Any) -> Solution:
    """Of five tokens of an example about half count."""
    y = classes(NUM_EXAMPLES, num_targets)
    y[random(NUM_EXAMPLES, num_targets, seed=3) > 0.3] = -100
    module = built(lambda: Tokens(forward, **how))
    return held(module, random(NUM_EXAMPLES, T, 3), y, loss=loss or CrossEntropy(), batch_size=4)


def reversed_inside(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.head(torch.tanh(net.mix(x.flip(1)))).flip(1).transpose(1, 2)


def permuted(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.head(torch.tanh(net.mix(x[:, ORDER])))[:, ORDER.argsort()].transpose(1, 2)


def reversed_for_one_layer(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.head(torch.tanh(net.mix(x.flip(1))).flip(1)).transpose(1, 2)


def time_first(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.head(torch.tanh(net.mix(x.transpose(0, 1).flip(0)))).flip(0).permute(1, 2, 0)


def token_by_token(net: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([net.head(torch.tanh(net.mix(x[:, place]))) for place in range(T)], 2)


def last_token_first(net: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([net.head(torch.tanh(net.mix(x[:, T - 1 - place]))) for place in range(T)], 2).flip(2)


def in_turns(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Two layers share the tokens."""
    hidden = torch.tanh(net.mix(x))
    scores = hidden.new_zeros(len(x), T, 3)
    scores[:, 0::2], scores[:, 1::2] = net.head(hidden[:, 0::2]), net.other(hidden[:, 1::2])
    return scores.transpose(1, 2)


def by_own_length(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Every example in an order of its own."""
    order = x[..., :1].argsort(1)
    scores = net.head(torch.tanh(net.mix(x.gather(1, order.expand_as(x)))))
    return torch.zeros_like(scores).scatter(1, order.expand_as(scores), scores).transpose(1, 2)


AS_IT_IS = torch.arange(T)
BACKWARDS = AS_IT_IS.flip(0)
# Which token each row of a layer is.
CASES: dict[str, tuple[Forward, dict[str, torch.Tensor]]] = {
    "reversed": (reversed_inside, {"mix": BACKWARDS, "head": BACKWARDS}),
    "permuted": (permuted, {"mix": ORDER, "head": ORDER}),
    "one_layer": (reversed_for_one_layer, {"mix": BACKWARDS, "head": AS_IT_IS}),
    "time_first": (time_first, {"mix": BACKWARDS, "head": BACKWARDS}),
    "token_by_token": (token_by_token, {"mix": AS_IT_IS, "head": AS_IT_IS}),
    "last_first": (last_token_first, {"mix": BACKWARDS, "head": BACKWARDS}),
    "in_turns": (in_turns, {"mix": AS_IT_IS, "head": AS_IT_IS[0::2], "other": AS_IT_IS[1::2]}),
}
LOSSES: dict[str, Callable[[], Loss]] = {
    "ignoring": CrossEntropy,
    "class_weights": lambda: adapt(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64))),
}


def weights_of(loss: Loss, y: torch.Tensor) -> torch.Tensor:
    """What each target counts, one by one."""
    each = [loss.weight(target[None]) for target in y.reshape(-1)]
    return torch.tensor(each, dtype=torch.float64).view_as(y)


def inputs_of(solution: Solution, layer: str) -> torch.Tensor:
    """``(N, S, n)`` what the layer is given, in its own order."""
    module: Any = solution.net.module.double()
    data: Any = solution.task.splits["train"]
    seen: list[torch.Tensor] = []
    handle = module.get_submodule(layer).register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    module(data.x.double())
    handle.remove()
    rows = [x[:, None] if x.ndim == 2 else x if len(x) == NUM_EXAMPLES else x.transpose(0, 1) for x in seen]
    return torch.cat(rows, 1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", CASES)
def test_rows_count_as_the_targets_that_they_are_for(name: str, loss: str) -> None:
    forward, order = CASES[name]
    solution = tokens(forward, LOSSES[loss]())
    data: Any = solution.task.splits["train"]
    found = factors(Objective(solution, dtype=torch.float64), list(order))
    for layer, places in order.items():
        rows = inputs_of(solution, layer)
        weights = weights_of(solution.task.loss, data.y)[:, places]
        inputs = torch.einsum("nsi,nsj,ns->ij", rows, rows, weights) / weights.sum()
        mean = torch.einsum("nsi,ns->i", rows, weights) / weights.sum()
        torch.testing.assert_close(found[layer].inputs, inputs, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(found[layer].mean_input, mean, rtol=1e-10, atol=1e-13)
        assert found[layer].num_positions == pytest.approx(len(places))


def test_every_example_may_have_an_order_of_its_own() -> None:
    solution = tokens(by_own_length)
    data: Any = solution.task.splits["train"]
    found = factors(Objective(solution, dtype=torch.float64), ["mix"])["mix"]
    rows = data.x.double()[data.y != -100]
    torch.testing.assert_close(found.inputs, rows.T @ rows / len(rows), rtol=1e-10, atol=1e-13)


def test_what_is_refused_is_named() -> None:
    """Every row reaches the tokens before it, and none that of its own place: who is who cannot be told."""

    def backwards_and_mixed(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.head(torch.tanh(net.mix(x.flip(1))).cumsum(1).flip(1)).transpose(1, 2)

    objective = Objective(tokens(backwards_and_mixed))
    good, refused = factored_layers(objective, ["mix", "head"])
    assert [layer.name for layer in good] == ["head"]
    assert refused == {
        "mix": "nothing tells which of its rows is that of which target, and not all targets count alike"
    }
    assert list(factors(objective)) == ["head", "other"]  # the last is idle
    with pytest.raises(ModelError, match="mix has none, because nothing tells which of its rows"):
        factors(objective, ["mix"])
    # Where all tokens count there is nothing to be told apart.
    assert "mix" in factors(Objective(held(tokens(backwards_and_mixed).net.module, random(9, T, 3), classes(9, T))))


def test_rows_with_all_units_off_are_those_that_other_examples_have_there() -> None:
    def of_few_units(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.head(torch.relu(net.mix(x.flip(1)) - 0.3)).flip(1).transpose(1, 2)

    solution = tokens(of_few_units, width=2)
    data: Any = solution.task.splits["train"]
    object.__setattr__(data, "batch_size", NUM_EXAMPLES)
    module: Any = solution.net.module
    assert bool((module.mix(data.x) < 0.3).all(2).any())
    found = factors(Objective(solution, dtype=torch.float64), ["mix"])["mix"]
    rows = data.x.double()[data.y != -100]
    torch.testing.assert_close(found.inputs, rows.T @ rows / len(rows), rtol=1e-10, atol=1e-13)
    # An example alone says nothing of a row that is off.
    object.__setattr__(data, "batch_size", 1)
    assert "mix" in factored_layers(Objective(solution, dtype=torch.float64))[1]


@pytest.mark.parametrize("causal", [True, False])
def test_attention_counts_by_place(causal: bool) -> None:
    def attending(net: Any, x: torch.Tensor) -> torch.Tensor:
        hidden = net.mix(x)
        apart = hidden @ hidden.transpose(1, 2)
        if causal:
            apart = apart.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -torch.inf)
        return net.head(hidden + apart.softmax(2) @ hidden).transpose(1, 2)

    solution = tokens(attending)
    data: Any = solution.task.splits["train"]
    found = factors(Objective(solution, dtype=torch.float64), ["mix"])["mix"]
    rows = data.x.double()[data.y != -100]
    torch.testing.assert_close(found.inputs, rows.T @ rows / len(rows), rtol=1e-10, atol=1e-13)


def test_rows_that_reach_several_targets_in_other_numbers_count_as_their_example() -> None:
    def halved(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.head(torch.tanh(net.mix(x)).mean(1, keepdim=True) * x[:, :4, :1]).transpose(1, 2)

    solution = tokens(halved, num_targets=4)
    data: Any = solution.task.splits["train"]
    found = factors(Objective(solution, dtype=torch.float64), ["mix"])["mix"]
    counted = (data.y != -100).sum(1).double()
    rows = data.x.double()
    truth = torch.einsum("nsi,nsj,n->ij", rows, rows, counted / (T * counted.sum()))
    torch.testing.assert_close(found.inputs, truth, rtol=1e-10, atol=1e-13)


def test_the_axis_of_classes_is_looked_for() -> None:
    def last(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs.transpose(1, 2), y)

    def classes_last(net: Any, x: torch.Tensor) -> torch.Tensor:
        return reversed_inside(net, x).transpose(1, 2)

    truth = factors(Objective(tokens(reversed_inside), dtype=torch.float64), ["mix"])["mix"].inputs
    own = tokens(classes_last, adapt(last, count=-100))
    torch.testing.assert_close(factors(Objective(own, dtype=torch.float64), ["mix"])["mix"].inputs, truth)
    # As many targets as classes: it may be either.
    three = tokens(lambda net, x: classes_last(net, x)[:, :3], adapt(last, count=-100), num_targets=3)
    reasons = factored_layers(Objective(three))[1]
    assert set(reasons.values()) == {
        "nothing tells which scores are those of which target, and not all targets count alike"
    }


def test_scores_that_are_cut_off_are_for_no_target() -> None:
    def cut_off(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.head(torch.tanh(net.mix(x)))[:, :-1].transpose(1, 2)

    solution = tokens(cut_off, num_targets=T - 1)
    data: Any = solution.task.splits["train"]
    found = factors(Objective(solution, dtype=torch.float64), ["mix"])["mix"]
    rows = data.x.double()[:, :-1][data.y != -100]
    torch.testing.assert_close(found.inputs, rows.T @ rows / len(rows), rtol=1e-10, atol=1e-13)


def test_a_loss_that_judges_the_next_token_says_so_by_its_slopes() -> None:
    """As causal language models are trained: the scores of a place are for the target of the next one."""

    def of_the_next(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs[:, :-1].flatten(0, 1), y[:, 1:].flatten())

    def classes_last(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.head(torch.tanh(net.mix(x)))

    solution = tokens(classes_last, adapt(of_the_next, count=lambda y: (y[:, 1:] != -100).sum()))
    data: Any = solution.task.splits["train"]
    found = factors(Objective(solution, dtype=torch.float64), ["mix"])["mix"]
    rows = data.x.double()[:, :-1][data.y[:, 1:] != -100]
    torch.testing.assert_close(found.inputs, rows.T @ rows / len(rows), rtol=1e-10, atol=1e-13)


def test_a_loss_that_turns_time_around_is_found_out() -> None:
    def backwards(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs.flip(2), y)

    assert "mix" in factors(Objective(tokens(reversed_inside, adapt(F.cross_entropy))))
    reasons = factored_layers(Objective(tokens(reversed_inside, adapt(backwards, count=-100))))[1]
    assert reasons["mix"] == "nothing tells which scores are those of which target, and not all targets count alike"


def test_counts_add_up() -> None:
    for solution in (rectified(), language()):
        objective = Objective(solution, dtype=torch.float64)
        layers, _ = affine_layers(objective)
        for term in objective.terms():
            for name, told in row_counts(term, *run(term, layers)).items():
                assert not isinstance(told, str), name
                assert told.counted == pytest.approx(1)
                weights = row_weights(term).targets
                assert weights is None or told.total == pytest.approx(float(weights.sum()))
