"""The three levels, against the paper's sums written out from the gradients of single examples, in float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.numerics.layer_solutions import language, rectified
from tests.numerics.solutions import AWKWARD, batch_norm, binary, built, classes, held, mlp, random, regression, tokens
from tests.numerics.test_curvature import dense_gauss_newton
from vallis.core.errors import LossError, ModelError, UnknownPart, UsageError
from vallis.core.losses import CrossEntropy
from vallis.core.objective import Objective
from vallis.core.own_loss import adapt
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.class_structure import class_structure
from vallis.numerics.curvature import GaussNewton, positions
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.surface import in_eval_mode

Sums = dict[str, torch.Tensor]


def by_hand(solution: Solution, part: str = "", class_weights: tuple[float, ...] = (1.0,) * 9) -> Sums:
    """Every example's gradient for every label, and the sums over them as the paper writes them."""
    objective = Objective(solution, *([part] if part else []), dtype=torch.float64)
    gradients: dict[tuple[int, int], list[torch.Tensor]] = {}
    weights: dict[tuple[int, int], list[float]] = {}
    num_classes = 0
    for batch in objective.batches():
        point = [value.detach().requires_grad_() for value in objective.origin]
        found = objective.loss.scores(objective.outputs_at(point, batch))
        assert found is not None
        scores = found.flatten(2).transpose(1, 2).flatten(0, 1) if found.ndim > 2 else found
        num_classes = scores.shape[1]
        for row, label in zip(scores, batch.y.reshape(-1).tolist(), strict=True):
            for other in range(num_classes) if label >= 0 else ():
                loss = torch.nn.functional.cross_entropy(row[None], torch.tensor([other]))
                parts = torch.autograd.grad(loss, point, retain_graph=True, allow_unused=True, materialize_grads=True)
                gradients.setdefault((label, other), []).append(torch.cat([part.reshape(-1) for part in parts]))
                share = class_weights[label] * float(row.softmax(0)[other].detach()) / objective.total_weight
                weights.setdefault((label, other), []).append(share)
    size = objective.num_parameters
    parts = {name: torch.zeros(size, size, dtype=torch.float64) for name in ("classes", "own", "cross", "within")}
    w = {key: torch.tensor(values, dtype=torch.float64) for key, values in weights.items()}
    g = {key: torch.stack(values) for key, values in gradients.items()}
    means = {key: (w[key][:, None] * g[key]).sum(0) / w[key].sum() for key in g}
    for key, rows in g.items():
        apart = rows - means[key]
        parts["within"] += (w[key][:, None] * apart).T @ apart
    for c in {label for label, _ in g}:
        others = [other for other in range(num_classes) if other != c]
        total = sum(w[c, other].sum() for other in others)
        mean = sum(w[c, other].sum() * means[c, other] for other in others) / total
        parts["classes"] += total * torch.outer(mean, mean)
        parts["own"] += w[c, c].sum() * torch.outer(means[c, c], means[c, c])
        for other in others:
            apart = means[c, other] - mean
            parts["cross"] += w[c, other].sum() * torch.outer(apart, apart)
    return parts


def ignoring() -> Solution:
    y = classes(17)
    y[[0, 3, 4, 5, 6, 7, 8, 9, 11]] = -100
    return held(mlp().net.module, random(17, 2), y)


CASES: dict[str, Any] = {
    "mlp": mlp,
    "rectified": rectified,
    "batch_norm": batch_norm,
    "ignoring": ignoring,
    "tokens": tokens,
    "language": language,
    "one_batch": lambda: mlp(batch_size=17),
    "missing_class": lambda: held(mlp().net.module, random(17, 2), classes(17, num_classes=2)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_parts_are_the_papers_sums_and_add_up_to_the_whole(name: str) -> None:
    solution = in_eval_mode(CASES[name]())
    objective = Objective(solution, dtype=torch.float64)
    found, truth = class_structure(objective), by_hand(solution)
    torch.testing.assert_close(found.classes.dense(), truth["classes"] + truth["own"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.cross.dense(), truth["cross"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.within(GaussNewton(objective)).dense(), truth["within"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        found.classes.dense() + found.cross.dense() + truth["within"],
        dense_gauss_newton(solution),
        rtol=1e-9,
        atol=1e-12,
    )
    assert float(found.weights.sum()) == pytest.approx(1)
    assert torch.linalg.eigvalsh(truth["within"]).min() > -1e-12


@pytest.mark.parametrize("name", ["batch_norm_training", "unused"])
def test_a_batch_whose_rows_depend_on_each_other_is_not_cut(name: str) -> None:
    solution = AWKWARD[name]()
    objective = Objective(solution, "train", torch.float64)
    found, truth = class_structure(objective), by_hand(solution, "train")
    torch.testing.assert_close(found.classes.dense(), truth["classes"] + truth["own"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.cross.dense(), truth["cross"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [4, 9])
@pytest.mark.parametrize("as_function", [False, True])
def test_class_weights_are_those_of_the_examples(batch_size: int, as_function: bool) -> None:
    w = (1.0, 4.0, 0.25)
    module, function = nn.CrossEntropyLoss(torch.tensor(w)), partial(F.cross_entropy, weight=torch.tensor(w).double())
    y = classes(9)
    y[2] = -100
    solution = held(mlp().net.module, random(9, 2), y, adapt(function if as_function else module), batch_size)
    objective = Objective(solution, dtype=torch.float64)
    found, truth = class_structure(objective), by_hand(solution, class_weights=w)
    torch.testing.assert_close(found.classes.dense(), truth["classes"] + truth["own"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.cross.dense(), truth["cross"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        found.classes.dense() + found.cross.dense() + truth["within"],
        dense_gauss_newton(solution),
        rtol=1e-9,
        atol=1e-12,
    )
    assert float(found.weights.sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(torch.ones(3), label_smoothing=0.1),
        nn.NLLLoss(),
        partial(F.nll_loss, weight=torch.ones(3)),
    ],
)
def test_what_is_no_cross_entropy_of_logits_is_named_where_it_is_refused(loss: Any) -> None:
    solution = held(mlp().net.module, random(9, 2), classes(9), loss=adapt(loss))
    with pytest.raises(LossError, match=r"(CrossEntropyLoss with weights|NLLLoss|nll_loss with weights) came: use"):
        class_structure(Objective(solution))


def test_negative_class_weights_are_refused() -> None:
    loss = adapt(nn.CrossEntropyLoss(torch.tensor([3.0, 3.0, -0.1])))
    with pytest.raises(LossError, match="not negative were required"):
        class_structure(Objective(held(mlp().net.module, random(9, 2), classes(9), loss=loss)))


class Choosy(nn.Module):
    """Raises this for any batch that is not whole."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.layer, self.error = nn.Linear(2, 3), error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) != 9:
            raise self.error
        return self.layer(x)


def test_a_network_that_refuses_a_part_is_asked_for_the_whole() -> None:
    solution = held(built(lambda: Choosy(ValueError("nine rows"))), random(9, 2), classes(9), batch_size=9)
    found, truth = class_structure(Objective(solution, dtype=torch.float64)), by_hand(solution)
    torch.testing.assert_close(found.classes.dense(), truth["classes"] + truth["own"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), ModelError("said why"), KeyError("a bug")])
def test_what_is_wrong_beside_the_cut_is_not_hidden(error: Exception) -> None:
    solution = held(built(lambda: Choosy(error)), random(9, 2), classes(9), batch_size=9)
    with pytest.raises(type(error), match=str(error.args[0])):
        class_structure(Objective(solution, dtype=torch.float64))


def test_the_spectra_have_the_ranks_of_the_classes() -> None:
    found = class_structure(Objective(mlp(), dtype=torch.float64))
    assert found.num_classes == 3
    assert len(found.classes.largest()) == 3
    assert len(found.cross.largest()) == 3 * (3 - 2)
    np.testing.assert_allclose(
        found.classes.largest().values, torch.linalg.eigvalsh(found.classes.dense()).flip(0)[:3], rtol=1e-9
    )


def test_each_eigenvalue_is_explained_in_full() -> None:
    objective = Objective(mlp(), dtype=torch.float64)
    found, gauss_newton = class_structure(objective), GaussNewton(objective)
    pairs = eigenpairs(gauss_newton, largest=6, rng=Rng(0)).largest
    shares, within = found.explained(pairs), found.within(gauss_newton).dense()
    assert shares.shape == (3, 6)
    np.testing.assert_allclose(shares.sum(0), 1)
    assert shares.min() > -1e-9
    vectors = pairs.vectors
    np.testing.assert_allclose(
        shares[2], (vectors * (within @ vectors)).sum(0) / torch.from_numpy(pairs.values), rtol=1e-7, atol=1e-9
    )
    assert shares[0, 0] > 0.3  # classes make the outliers


def test_layers_by_name() -> None:
    objective = Objective(mlp(), dtype=torch.float64)
    places = positions(objective, ["2"])
    whole, block = class_structure(objective), class_structure(objective, ["2"])
    for one, other in ((whole.classes, block.classes), (whole.cross, block.cross)):
        torch.testing.assert_close(one.dense()[places][:, places], other.dense(), rtol=1e-10, atol=1e-14)
    assert torch.equal(class_structure(objective, only="2").classes.dense(), block.classes.dense())
    for name in ("7", "02"):  # a string is one name, and no sequence of letters
        with pytest.raises(UnknownPart):
            class_structure(objective, name)


def test_what_has_no_classes_is_refused() -> None:
    for solution in (regression(), binary()):
        with pytest.raises(LossError, match="cross-entropy over classes"):
            class_structure(Objective(solution))
    soft = held(mlp().net.module, random(9, 2), random(9, 3).softmax(1), loss=CrossEntropy())
    with pytest.raises(LossError, match="argmax"):
        class_structure(Objective(soft))
    with pytest.raises(UsageError, match="only="):
        class_structure(Objective(mlp()), budget=1000)
