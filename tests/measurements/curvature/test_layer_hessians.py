"""The Hessians of layers against blocks of the dense Hessian, on everything awkward."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.numerics.layer_solutions import LAYERED, odd, rectified
from tests.numerics.solutions import AWKWARD, built, classes, held, mlp, random
from vallis.core.errors import SettingsError, UnknownPart
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.rng import Rng
from vallis.core.types import Estimate, NotApplicable, Result, Solution
from vallis.measurements.curvature.layer_hessians import LayerHessians
from vallis.numerics.affine import owners
from vallis.numerics.curvature import Hessian, positions
from vallis.numerics.kronecker import factors
from vallis.numerics.kronecker_operators import kronecker_block
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian

ALL = AWKWARD | LAYERED


def large() -> Solution:
    """Its first layer, of 300 parameters, is too large for the dense way."""
    make = lambda: nn.Sequential(nn.Linear(4, 60), nn.Tanh(), nn.Linear(60, 3))  # noqa: E731
    return held(built(make), random(30, 4), classes(30), batch_size=8)


def codes(found: Result) -> list[str]:
    return [note.code for note in found.notes]


@pytest.mark.parametrize("name", ALL)
def test_small_networks_exactly(name: str) -> None:
    solution = ALL[name]()
    found = measured(LayerHessians(num_top=3), solution)
    ready = in_eval_mode(solution)
    objective, hessian = Objective(ready, dtype=torch.float64), dense_hessian(ready)
    eigenvalues, traces = found.array("eigenvalues"), found.array("traces")
    layers = owners(objective)
    assert list(eigenvalues.coords["layer"]) == [layer or "(root module)" for layer in layers]
    for row, names in enumerate(layers.values()):
        places = positions(objective, names)
        block = hessian[places][:, places]
        truth = torch.linalg.eigvalsh(block).flip(0)[:3]
        np.testing.assert_allclose(eigenvalues.data[row, : len(truth)], truth, rtol=1e-7, atol=1e-9)
        assert np.isnan(eigenvalues.data[row, len(truth) :]).all()
        assert traces.data[row] == pytest.approx(float(block.trace()), rel=1e-8, abs=1e-9)
        assert found.array("num_parameters").data[row] == len(block)
    np.testing.assert_array_equal(found.array("trace_errors").data, 0)
    values, vectors = torch.linalg.eigh(hessian)
    assert found.estimate("top_eigenvalue").value == pytest.approx(float(values[-1]), rel=1e-8)
    shares = found.array("shares_of_top").data
    for row, names in enumerate(layers.values()):
        assert shares[row] == pytest.approx(float(vectors[positions(objective, names), -1].square().sum()), abs=1e-5)
    assert shares.sum() == pytest.approx(1)
    assert found.estimate("largest_share_fraction").value == shares.max()
    own = found.array("own_shares_of_top").data
    assert found.estimate("between_layers").value == pytest.approx(1 - own.sum())

    must_fit(found, objective)


def dense_hessian_of(objective: Objective, names: tuple[str, ...]) -> torch.Tensor:
    return Hessian(objective, only=names).dense()


def must_fit(found: Result, objective: Objective) -> None:
    """Factors are compared where there are some."""
    made, layers = factors(objective), owners(objective)
    fitting = [layer for layer, each in made.items() if each.names == layers[layer]]
    assert ("no_kronecker_form" in codes(found)) == (len(fitting) < len(layers))
    if not fitting:
        assert "kronecker_eigenvalues" not in found.values
        return
    table = found.array("kronecker_eigenvalues")
    assert list(table.coords["kronecker_layer"]) == [layer or "(root module)" for layer in fitting]
    for row, layer in zip(table.data, fitting, strict=True):
        each = made[layer]
        dense = torch.kron(each.outputs, each.joint_inputs if each.bias else each.inputs)
        truth = torch.linalg.eigvalsh(dense).flip(0)[:3]
        np.testing.assert_allclose(row[: len(truth)], truth, rtol=1e-7, atol=1e-10)
    far = found.array("kronecker_distances").data
    for row, layer in enumerate(fitting):
        if far[row] == far[row]:  # a layer without curvature is no distance from anything
            each = made[layer]
            hessian = dense_hessian_of(objective, each.names)
            near = kronecker_block(each).dense()
            assert far[row] == pytest.approx(float((hessian - near).norm() / hessian.norm()), rel=1e-7)
    np.testing.assert_array_equal(found.array("kronecker_distance_errors").data[np.isfinite(far)], 0)
    for key in ("kronecker_overlaps", "rank_one_energies", "mean_input_alignments"):
        told = found.array(key).data[np.isfinite(found.array(key).data)]
        assert ((told > -1e-9) & (told < 1 + 1e-9)).all()


def test_a_larger_network_by_iteration() -> None:
    solution = large()
    part = LayerHessians(num_top=4, tolerance=1e-6)
    found = measured(part, solution)
    objective, hessian = Objective(solution, dtype=torch.float64), dense_hessian(solution)
    assert found.notes == ()
    for row, names in enumerate(owners(objective).values()):
        places = positions(objective, names)
        truth = torch.linalg.eigvalsh(hessian[places][:, places]).flip(0)[:4]
        np.testing.assert_allclose(found.array("eigenvalues").data[row], truth, rtol=1e-5)
        assert (found.array("residuals").data[row] <= 1e-6 * float(truth[0])).all()


def test_only_some_layers() -> None:
    whole, some = measured(LayerHessians(), mlp()), measured(LayerHessians(layers=("4", "0")), mlp())
    assert list(some.array("eigenvalues").coords["layer"]) == ["0", "4"]
    np.testing.assert_allclose(some.array("eigenvalues").data, whole.array("eigenvalues").data[[0, 2]], rtol=1e-9)
    np.testing.assert_allclose(some.array("shares_of_top").data, whole.array("shares_of_top").data[[0, 2]], rtol=1e-6)
    assert "between_layers" not in some.values  # what the missing layer has is no curvature between these
    with pytest.raises(UnknownPart, match="no layer is named '1'"):
        LayerHessians(layers=("1",)).measure(mlp(), RNG)


def test_what_has_no_factors_is_said_with_the_reason() -> None:
    found = measured(LayerHessians(num_top=2), odd())
    (note,) = [note for note in found.notes if note.code == "no_kronecker_form"]
    assert note.text.startswith("8 of 10 layers have no Kronecker factors: embedding (it is an Embedding, and only")
    assert "; hooked and elsewhere (its weights act in another way" in note.text
    found = measured(LayerHessians(num_top=2, max_width=4), mlp())
    assert list(found.array("kronecker_ratios").coords["kronecker_layer"]) == ["4"]
    assert "wider than max_width=4" in found.notes[0].text
    found = measured(LayerHessians(num_top=2, max_width=0), mlp())
    assert found.notes == ()
    assert "kronecker_ratios" not in found.values


def test_a_network_without_any_matrix() -> None:
    class Curved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.shift = nn.LayerNorm(3), nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.norm(x) * self.shift)

    part = LayerHessians(num_top=2)
    found = measured(part, held(built(Curved), random(9, 3), classes(9)))
    assert codes(found) == ["no_kronecker_form"]
    assert found.notes[0].text.startswith("2 of 2 layers")
    assert set(found.array("eigenvalues").coords["layer"]) == {"norm", "(root module)"}
    assert "Kronecker" not in part.reading(found)
    assert [figure.name for figure in part.figures(found)] == ["layer_eigenvalues", "layer_shares"]


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, 2 * x


@pytest.mark.parametrize(
    ("module", "loss", "words"),
    [
        (
            nn.Sequential(nn.Linear(2, 1), Pair()),
            OwnLoss(function=lambda f, y: ((f[0] * f[1] - y) ** 2).mean()),
            "this one has none",
        ),
        (nn.Linear(2, 1), OwnLoss(function=lambda f, y: ((f**2 - y) ** 2).mean()), "bends down somewhere"),
    ],
)
def test_a_loss_without_scores_or_that_is_not_convex(module: nn.Module, loss: OwnLoss, words: str) -> None:
    found = measured(LayerHessians(num_top=2), held(module, random(9, 2), random(9, 1) + 3, loss=loss))
    assert codes(found) == ["no_kronecker_form"]
    assert found.notes[0].text.startswith("No layer has Kronecker factors, because the loss allows none")
    assert words in found.notes[0].text
    assert "kronecker_ratios" not in found.values
    assert np.isfinite(found.array("eigenvalues").data).all()


def test_factors_of_many_scores_are_sampled_and_that_is_said() -> None:
    found = measured(LayerHessians(num_top=2, max_columns=3), AWKWARD["tokens"]())
    assert "sampled_factors" in codes(found)
    exact = measured(LayerHessians(num_top=2), AWKWARD["tokens"]())
    assert "sampled_factors" not in codes(exact)
    one, other = (each.array("kronecker_ratios").data for each in (found, exact))
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, rtol=0.5)


def test_the_exact_form_is_the_block_where_the_network_is_piecewise_linear() -> None:
    """D1 of the paper's card: equal to 1e-8, and no negative eigenvalue."""
    found = measured(LayerHessians(num_top=2, num_bottom=1, exact=True), rectified())
    assert found.array("factorised_distances").data.max() <= 1e-8
    assert found.array("smallest_eigenvalues").data.min() >= -1e-9
    assert found.array("kronecker_distances").data.min() > 1e4 * found.array("factorised_distances").data.max()
    smooth = measured(LayerHessians(num_top=2, num_bottom=1, exact=True), mlp())
    assert smooth.array("factorised_distances").data[0] > 0.01
    assert smooth.array("factorised_distances").data[2] <= 1e-8  # nothing bends after the last layer
    assert smooth.array("smallest_eigenvalues").data[0] < 0


def test_gaps_and_what_did_not_converge_are_noted() -> None:
    found = measured(LayerHessians(num_top=20), mlp())
    assert codes(found) == ["gaps"]
    assert "layers 0 and 4 have fewer parameters than num_top=20" in found.notes[0].text
    assert np.isnan(found.array("eigenvalues").data[0, 18:]).all()
    found = measured(LayerHessians(num_top=4, tolerance=1e-9, max_products=6), large())
    assert "not_converged" in codes(found)
    (text,) = [note.text for note in found.notes if note.code == "not_converged"]
    assert "the network as a whole" in text


def test_a_sharpest_direction_that_is_not_sure_is_noted() -> None:
    """Two equal halves: every mixture of their sharpest directions is as sharp."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(30, 10, bias=False), nn.Linear(30, 10, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.one(x), self.other(x)], 1)

    module = Halves()
    x = random(40, 30)
    loss = OwnLoss(function=lambda f, y: f.square().sum(1).mean())
    part = LayerHessians(num_top=1, num_probes=1, search=40)
    assert "direction_unsure" in codes(measured(part, held(module, x, random(40), loss=loss)))
    assert "direction_unsure" not in codes(measured(LayerHessians(num_top=1), mlp()))


@pytest.mark.slow
def test_traces_cover_within_their_error_bars() -> None:
    solution = large()
    truth = dense_hessian(solution)
    objective = Objective(solution, dtype=torch.float64)
    part = LayerHessians(layers=("0",), num_top=2, tolerance=1e-2, search=0, num_probes=6, max_width=0)
    places = positions(objective, ["0"])
    true = float(truth[places, places].sum())
    inside = 0
    for seed in range(60):
        found = part.measure(solution, Rng(seed))
        assert isinstance(found, Result)
        (value,), (error,) = found.array("traces").data, found.array("trace_errors").data
        assert error > 0
        inside += abs(value - true) <= 2.571 * error  # Student's t with 5 degrees of freedom, 95 %
    assert inside >= 52  # of an honest interval, fewer of 60 come three times in 1000


def test_a_probe_alone_has_no_error_and_none_no_trace() -> None:
    found = measured(LayerHessians(num_top=1, num_probes=1), large())
    assert "trace_errors" not in found.values
    assert "traces" not in measured(LayerHessians(num_top=1, num_probes=0), mlp()).values


def test_figures_and_words() -> None:
    part = LayerHessians(num_top=3)
    found = measured(part, rectified())
    names = [figure.name for figure in part.figures(found)]
    assert names == [
        "layer_eigenvalues",
        "layer_shares",
        "kronecker_eigenvalues",
        "rank_one_energies",
        "kronecker_overlaps",
    ]
    words = part.reading(found)
    for said in ("layer 4 is the sharpest", "sharpest direction lies in layer", "Kronecker factors give", "rank-one"):
        assert said in words
    assert {mark.kind for figure in part.figures(found)[3:] for mark in figure.marks} == {"line"}
    many = built(lambda: nn.Sequential(*(nn.Linear(2, 2) for _ in range(7)), nn.Linear(2, 3)))
    found = measured(part, held(many, random(9, 2), classes(9)))
    assert {mark.kind for figure in part.figures(found)[3:] for mark in figure.marks} == {"heatmap"}
    single = measured(part, held(built(lambda: nn.Linear(2, 3)), random(9, 2), classes(9)))
    assert part.reading(single).startswith("The only layer that was measured, the root module, has")


def test_a_network_that_bends_nowhere_up() -> None:
    loss = OwnLoss(function=lambda f, y: -f.square().mean())
    part = LayerHessians(num_top=2)
    found = measured(
        part,
        held(built(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))), random(9, 2), random(9, 1), loss=loss),
    )
    assert isinstance(found.values["top_eigenvalue"], Estimate)
    if found.estimate("top_eigenvalue").value <= 0:
        assert "no direction in which the loss bends up" in part.reading(found)


def test_one_convolution_and_a_diverged_network() -> None:
    solution = mlp()
    solution.params["0.weight"][0] = torch.inf
    found = LayerHessians().measure(solution, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "not_finite"


def test_impossible_settings_are_refused() -> None:
    for bad in (
        {"num_top": 0},
        {"max_products": 0},
        {"num_probes": -1},
        {"max_width": -1},
        {"max_columns": 0},
        {"tolerance": 0.0},
    ):
        with pytest.raises(SettingsError):
            LayerHessians(**bad)  # type: ignore[arg-type]
    assert replace(LayerHessians.tiny(), num_top=3).num_top == 3
