"""Every network times every quantity: the number is that of a dense float64 oracle, or it is refused and said why.

The oracles are explicit Jacobians and sums over single targets, examples and positions; nothing in them is shared with
what they judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.laws.adversarial_networks import NETWORKS
from tests.numerics.test_curvature import dense_gauss_newton
from vallis.core import tree
from vallis.core.errors import VallisError
from vallis.core.functional import twice_differentiable
from vallis.core.likelihood import has_class_weights
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.affine import affine_layers, owners
from vallis.numerics.blocks import layer_blocks
from vallis.numerics.class_structure import class_structure
from vallis.numerics.curvature import Hessian, positions
from vallis.numerics.fisher import EmpiricalFisher, Fisher, SampledFisher
from vallis.numerics.kronecker import factors
from vallis.numerics.kronecker_corrected import corrected
from vallis.numerics.layer_curvature import LayerGaussNewton
from vallis.numerics.layer_shares import layer_shares
from vallis.testing.oracles import dense_hessian

Check = Callable[[Solution], None]
CLOSE = {"rtol": 1e-8, "atol": 1e-11}


def surface(solution: Solution) -> Objective:
    return Objective(solution, dtype=torch.float64)


@cache
def hessian_of(name: str) -> torch.Tensor:
    return dense_hessian(NETWORKS[name]())


def weights_of(solution: Solution, y: torch.Tensor) -> torch.Tensor:
    """What each target counts, as torch documents its losses."""
    function = getattr(solution.task.loss, "function", None)
    by_class = function.weight.double() if isinstance(function, nn.CrossEntropyLoss) else torch.ones(9).double()
    if y.is_floating_point() or solution.task.loss.kind == "binary":
        return torch.ones(len(y), dtype=torch.float64)
    return torch.where(y == -100, 0.0, by_class[y.clamp(min=0)])


def scores_of(solution: Solution, vector: torch.Tensor, x: Any) -> torch.Tensor:
    values, place = {}, 0
    for name, like in solution.params.items():
        values[name] = vector[place : place + like.numel()].view(like.shape)
        place += like.numel()
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in solution.buffers.items()}
    with twice_differentiable(solution.net.module):
        found: torch.Tensor = torch.func.functional_call(solution.net.module, {**values, **buffers}, (x,))
    return found


def batches(solution: Solution) -> Iterator[tuple[Any, torch.Tensor, torch.Tensor]]:
    for batch in solution.task.splits["train"]:
        yield tree.to(batch.x, dtype=torch.float64), tree.to(batch.y, dtype=torch.float64), batch.index


def vector_of(solution: Solution) -> torch.Tensor:
    return torch.cat([value.double().reshape(-1) for value in solution.params.values()])


# ------------------------------------------------------------------------------------------------- the whole network


def hessian_blocks(name: str) -> None:
    objective, truth = surface(NETWORKS[name]()), hessian_of(name)
    for layer, block in layer_blocks(objective).items():
        places = positions(objective, owners(objective)[layer])
        torch.testing.assert_close(block.dense(), truth[places][:, places], **CLOSE)


def shares(name: str) -> None:
    objective, truth = surface(NETWORKS[name]()), hessian_of(name)
    values, vectors = torch.linalg.eigh(truth)
    value, vector = float(values[-1]), vectors[:, -1]
    layers = list(owners(objective).values())
    found = layer_shares(objective, vector, value, layers, [Hessian(objective, only=layer) for layer in layers])
    for place, names in enumerate(layers):
        mask = torch.zeros(len(vector), dtype=torch.float64)
        mask[positions(objective, names)] = 1
        assert found.of_length[place] == pytest.approx(float((mask * vector) @ vector), rel=1e-8, abs=1e-11)
        assert found.alone[place] == pytest.approx(
            float((mask * vector) @ truth @ (mask * vector)) / value, rel=1e-8, abs=1e-11
        )
    assert found.of_length.sum() == pytest.approx(1)


def exact_fisher(name: str) -> None:
    solution = NETWORKS[name]()
    torch.testing.assert_close(Fisher(surface(solution)).dense(), dense_gauss_newton(solution), **CLOSE)


def sampled_fisher(name: str) -> None:
    """Half the sum of two draws errs by noise alone, which is as large as half their difference; and it is small."""
    solution = NETWORKS[name]()
    truth = dense_gauss_newton(solution)
    vectors = torch.linalg.eigh(truth).eigenvectors[:, -2:]
    one, other = (SampledFisher(surface(solution), Rng(seed), num_draws=500) @ vectors for seed in (3, 4))
    error, noise = float(((one + other) / 2 - truth @ vectors).norm()), float((one - other).norm() / 2)
    assert 0 < error < 5 * noise
    assert error < 0.15 * float((truth @ vectors).norm())


def empirical_fisher(name: str) -> None:
    solution = NETWORKS[name]()
    torch.testing.assert_close(EmpiricalFisher(surface(solution)).dense(), dense_empirical(solution), **CLOSE)


def empirical_fisher_of_examples(name: str) -> None:
    solution = NETWORKS[name]()
    if has_class_weights(solution.task.loss):  # an example that is one target counts as its target does, w times
        found = EmpiricalFisher(surface(solution), per="example").dense()
        torch.testing.assert_close(found, dense_empirical(solution), **CLOSE)
        return
    total = sum(float(weights_of(solution, y).sum()) for _, y, _ in batches(solution))
    if solution.task.loss.kind == "other":
        total = sum(solution.task.loss.weight(y) for _, y, _ in batches(solution))
    truth: Any = 0.0
    for x, y, index in batches(solution):
        for example in range(len(index)):
            weight = solution.task.loss.weight(y[example : example + 1])
            if weight:
                at = vector_of(solution).requires_grad_()
                # The network sees the whole batch: it may behave differently in others.
                row = scores_of(solution, at, x)[example : example + 1]
                loss = solution.task.loss.mean(row, y[example : example + 1]) * weight
                g = torch.autograd.grad(loss, at)[0]
                truth = truth + torch.outer(g, g) / total
    torch.testing.assert_close(EmpiricalFisher(surface(solution), per="example").dense(), truth, **CLOSE)


def dense_empirical(solution: Solution) -> torch.Tensor:
    """``sum_u w_u g_u g_u' / sum_u w_u`` over single targets."""
    loss, found, total = solution.task.loss, torch.zeros(()).double(), 0.0
    smoothed = getattr(loss, "label_smoothing", 0.0)

    def singles(vector: torch.Tensor, x: Any, y: torch.Tensor) -> torch.Tensor:
        z = scores_of(solution, vector, x)
        if loss.kind == "binary":
            return F.binary_cross_entropy_with_logits(z.reshape(y.shape), y.double(), reduction="none").reshape(-1)
        if type(loss).__name__ == "SquaredError":
            return F.mse_loss(z, y, reduction="none").reshape(-1)
        return F.cross_entropy(z, y, reduction="none", label_smoothing=smoothed).reshape(-1)

    for x, y, _ in batches(solution):
        at = vector_of(solution)
        rows = torch.autograd.functional.jacobian(lambda v, x=x, y=y: singles(v, x, y), at)
        elementwise = type(loss).__name__ == "SquaredError"
        weights = torch.ones(len(rows)).double() if elementwise else weights_of(solution, y).reshape(-1)
        found = found + rows.T @ (weights[:, None] * rows)
        total += float(weights.sum())
    return found / total


def classes_of(name: str) -> None:
    solution = NETWORKS[name]()
    found = class_structure(surface(solution))
    structure, cross = dense_structure(solution)
    torch.testing.assert_close(found.classes.dense(), structure, **CLOSE)
    torch.testing.assert_close(found.cross.dense(), cross, **CLOSE)
    within = dense_gauss_newton(solution) - structure - cross
    assert float(torch.linalg.eigvalsh(within).min()) > -1e-10
    assert float(found.weights.sum()) == pytest.approx(1)


def dense_structure(solution: Solution) -> tuple[torch.Tensor, torch.Tensor]:
    """The class part (own means with it) and the cross-class part, as the paper's sums."""
    sums, w = {}, {}
    total = sum(float(weights_of(solution, y).sum()) for _, y, _ in batches(solution))
    size, C = len(vector_of(solution)), 0
    for x, y, _ in batches(solution):
        at = vector_of(solution)
        z = scores_of(solution, at, x).detach()
        C = z.shape[1]
        jacobian = torch.autograd.functional.jacobian(lambda v, x=x: scores_of(solution, v, x), at)
        jacobian = jacobian.movedim(1, -2).reshape(-1, C, size)
        p = z.movedim(1, -1).reshape(-1, C).softmax(1)
        for J, q, label, weight in zip(jacobian, p, y.reshape(-1), weights_of(solution, y).reshape(-1), strict=True):
            for other in range(C) if weight > 0 else ():
                share = float(weight * q[other]) / total
                unit = F.one_hot(torch.tensor(other), C).double()
                key = (int(label), other)
                sums[key] = sums.get(key, 0.0) + share * (J.T @ (q - unit))
                w[key] = w.get(key, 0.0) + share
    structure, cross = torch.zeros(size, size).double(), torch.zeros(size, size).double()
    for c in {label for label, _ in sums}:
        others = [other for other in range(C) if other != c]
        weight = sum(w[c, other] for other in others)
        mean = sum(sums[c, other] for other in others) / weight
        structure += weight * torch.outer(mean, mean) + torch.outer(sums[c, c], sums[c, c]) / w[c, c]
        for other in others:
            apart = sums[c, other] / w[c, other] - mean
            cross += w[c, other] * torch.outer(apart, apart)
    return structure, cross


# ---------------------------------------------------------------------------------------------------- single layers


def layer_gauss_newton(name: str) -> None:
    solution = NETWORKS[name]()
    objective, truth = surface(solution), dense_gauss_newton(solution)
    layers, refused = affine_layers(objective)
    assert set(refused) == REFUSED_LAYERS.get(name, set()), refused
    for why in refused.values():
        assert re.match(r"(it|its|a|an|nothing|either) ", why)
    for layer in layers:
        places = positions(objective, layer.names)
        torch.testing.assert_close(LayerGaussNewton(objective, layer.name).dense(), truth[places][:, places], **CLOSE)


def kronecker_corrected(name: str) -> None:
    solution = NETWORKS[name]()
    objective, truth = surface(solution), dense_gauss_newton(solution)
    found = factors(objective)
    for layer, each in corrected(objective, found).items():
        places = positions(objective, found[layer].names[:1])
        m, n = each.basis.shape
        basis = torch.stack([each.basis.vector(i, j) for i in range(m) for j in range(n)], 1)
        torch.testing.assert_close(basis.T @ basis, torch.eye(m * n).double(), **CLOSE)
        diagonal = (basis.T @ truth[places][:, places] @ basis).diagonal()
        torch.testing.assert_close(each.eigenvalues.reshape(-1), diagonal, **CLOSE)


def kronecker_factors(name: str) -> None:
    solution = NETWORKS[name]()
    for layer, each in factors(surface(solution)).items():
        outputs, inputs, mean = by_example(solution, layer)
        torch.testing.assert_close(each.outputs, outputs, **CLOSE)
        torch.testing.assert_close(each.inputs, inputs, **CLOSE)
        torch.testing.assert_close(each.mean_input, mean, **CLOSE)


def by_example(solution: Solution, layer: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """E[M], E[x x'] and E[x], one example at a time: no rows of others are there to be taken for its own."""
    module, loss = solution.net.module, solution.task.loss
    part: Any = dict(module.named_modules())[layer]
    sums: list[Any] = [0.0, 0.0, 0.0]
    total, reached = sum(loss.weight(y) for _, y, _ in batches(solution)), 0.0
    for x, y, index in batches(solution):
        for example in range(len(index)):
            target = y[example : example + 1]
            calls: list[tuple[torch.Tensor, torch.Tensor]] = []

            def shift(part: Any, given: Any, z: torch.Tensor, calls: Any = calls) -> torch.Tensor:
                added = torch.zeros_like(z, requires_grad=True)
                calls.append((rows_in(part, given[0].detach()), added))
                return z + added

            handle = part.register_forward_hook(shift)
            z = scores_of(solution, vector_of(solution), x[example : example + 1])
            handle.remove()
            if loss.weight(target) and calls:
                _add(sums, calls, z, target, loss, weights_of(solution, target))
                reached += loss.weight(target)
    # Inputs are averaged over the examples that reach the layer: the slopes are zero at the others.
    return sums[0] / total, sums[1] / reached, sums[2] / reached


def _add(sums: list[Any], calls: Any, z: torch.Tensor, y: torch.Tensor, loss: Any, weights: torch.Tensor) -> None:
    weight = loss.weight(y)
    bend = torch.autograd.functional.hessian(lambda f: loss.mean(f, y), z.detach()).reshape(z.numel(), -1)
    num_positions = sum(len(rows) for rows, _ in calls)
    for rows, added in calls:
        slopes = [torch.autograd.grad(f, added, retain_graph=True)[0] for f in z.reshape(-1)]
        J = torch.stack([rows_out(len(rows), slope) for slope in slopes])
        sums[0] = sums[0] + weight * torch.einsum("asm,ab,bsn->mn", J, bend, J)
        # A layer with as many positions as there are targets is averaged over those that count.
        per_target = weights.ndim > 1 and weights.shape[1] == len(rows)
        alike = torch.full((len(rows),), weight / num_positions, dtype=torch.float64)
        counts = weights[0] * len(rows) / num_positions if per_target else alike
        sums[1] = sums[1] + rows.T @ (counts[:, None] * rows)
        sums[2] = sums[2] + counts @ rows


def rows_in(part: Any, x: torch.Tensor) -> torch.Tensor:
    """Of a convolution its patches, as the slopes of one output by one row of the weight."""
    if isinstance(part, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    weight = part.weight.detach().double()

    def first(row: torch.Tensor) -> torch.Tensor:
        moved = torch.cat([row[None], weight[1:]])
        return part._conv_forward(x, moved, None)[0, 0].reshape(-1)

    return torch.autograd.functional.jacobian(first, weight[0]).flatten(1)


def rows_out(num_rows: int, slope: torch.Tensor) -> torch.Tensor:
    """``(S, m)``; convolutions have their channels on the second axis."""
    return (
        slope.reshape(num_rows, -1)
        if slope.shape[-1] * num_rows == slope.numel() and slope.ndim < 4
        else (slope.flatten(2)[0].T)
    )


QUANTITIES: dict[str, Callable[[str], None]] = {
    "hessian_blocks": hessian_blocks,
    "layer_shares": shares,
    "fisher": exact_fisher,
    "sampled_fisher": sampled_fisher,
    "empirical_fisher": empirical_fisher,
    "empirical_fisher_of_examples": empirical_fisher_of_examples,
    "class_structure": classes_of,
    "layer_gauss_newton": layer_gauss_newton,
    "kronecker_factors": kronecker_factors,
    "kronecker_corrected": kronecker_corrected,
}
REFUSED_LAYERS: dict[str, set[str]] = {
    **{key: {"layer"} for key in ("conv_grouped", "conv_transposed", "conv3d")},
    **{key: {"1"} for key in ("batch_norm", "layer_norm", "group_norm", "rectified_slopes")},
    **{key: {"embedding"} for key in ("words", "tied_words")},
    **{key: {"inner", "inner.out_proj"} for key in ("attention", "attention_time_first")},
    **{
        key: {"inner.self_attn", "inner.self_attn.out_proj", "inner.norm1", "inner.norm2"}
        for key in ("encoder", "encoder_time_first")
    },
    **{key: {"memory"} for key in ("lstm", "lstm_time_first", "gru_time_first")},
    "token_rows": {"mix", "head"},
}
_MIXED = dict.fromkeys(("layer_gauss_newton", "kronecker_factors", "kronecker_corrected"), "layer one by example")
_ROWS = dict.fromkeys(("sampled_fisher", "empirical_fisher_of_examples"), r"examples (on|along) the first axis")
REFUSED: dict[str, dict[str, str]] = {
    "class_weights_smoothed": {
        "fisher": "log-likelihood",
        "sampled_fisher": "log-likelihood",
        "empirical_fisher": "without class weights was required",
        "empirical_fisher_of_examples": "without class weights was required",
        "class_structure": "but not with both",
    },
    "tokens_weighted": {"empirical_fisher_of_examples": 'say per="target"'},
    "soft_targets": {"class_structure": "probabilities came"},
    "squared_error": {"class_structure": "cross-entropy over classes"},
    "binary": {"class_structure": "cross-entropy over classes"},
    "own_loss": {
        "fisher": "log-likelihood",
        "sampled_fisher": "log-likelihood",
        "class_structure": "cross-entropy over classes",
    },
    "chosen_rows": _MIXED,
    "chosen_rows_early": _MIXED,
    "token_rows": _ROWS,
    "token_rows_one": {**_ROWS, **dict.fromkeys(_MIXED, "one row for each of 1 examples")},
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_number_is_the_oracles_or_is_refused(name: str, quantity: str) -> None:
    reason = REFUSED.get(name, {}).get(quantity)
    if reason is None:
        QUANTITIES[quantity](name)
        return
    with pytest.raises(VallisError, match=reason) as caught:
        QUANTITIES[quantity](name)
    assert re.search(r"(was|were) required.+: .+[^.]$", str(caught.value))
