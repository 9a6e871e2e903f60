"""Labels and notes of what is found of layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tests.numerics.solutions import mlp
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.measurements.curvature._layer_hessians_values import Found, Layer, result_of
from vallis.numerics.affine import owners
from vallis.numerics.curvature import Hessian
from vallis.numerics.kronecker import factors
from vallis.numerics.kronecker_fit import kronecker_fit
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.layer_shares import layer_shares
from vallis.numerics.trace import Trace, trace


def found(num_top: int = 3) -> Found:
    objective = Objective(mlp(), dtype=torch.float64)
    made, layers = factors(objective), []
    for name, names in owners(objective).items():
        block = Hessian(objective, only=names)
        spectrum = eigenpairs(block, largest=num_top, rng=Rng(0))
        fit = kronecker_fit(made[name], spectrum.largest)
        estimate = trace(block, num_probes=2, rng=Rng(0))
        layers.append(Layer(name=name, names=names, block=block, spectrum=spectrum, trace=estimate, fit=fit))
    whole = eigenpairs(Hessian(objective), largest=2, rng=Rng(0))
    top = whole.largest
    shares = layer_shares(
        objective, top.vectors[:, 0], float(top.values[0]), [one.names for one in layers], [one.block for one in layers]
    )
    return Found(
        unit="nats/weight^2",
        layers=tuple(layers),
        whole=whole,
        shares=shares,
        reasons={},
        num_draws=0,
        num_top=num_top,
        tolerance=1e-3,
        notes=(),
    )


def test_everything_is_labelled() -> None:
    one = found()
    result = result_of(one)
    assert result.notes == ()
    for key in ("eigenvalues", "residuals", "traces", "trace_errors"):
        assert result.array(key).unit == "nats/weight^2"
        assert list(result.array(key).coords["layer"]) == ["0", "2", "4"]
    for key in ("kronecker_overlaps", "rank_one_energies", "mean_input_alignments"):
        assert result.array(key).data.shape == (3, 3)
        assert list(result.array(key).coords["kronecker_layer"]) == ["0", "2", "4"]
    spent = [layer.spectrum.num_products + (layer.trace.num_products if layer.trace else 0) for layer in one.layers]
    assert result.estimate("num_products").value == sum(spent) + 3 + one.whole.num_products  # three for the shares
    energies = result.array("rank_one_energies").data
    assert result.estimate("median_rank_one_energy").value == np.median(energies)
    assert result.estimate("median_rank_one_energy").n == 9
    ratios = [layer.fit.values[0] / layer.spectrum.largest.values[0] for layer in one.layers if layer.fit]
    np.testing.assert_allclose(result.array("kronecker_ratios").data, ratios)


def test_distances_have_errors_where_all_are_known() -> None:
    one = found()
    told = tuple(replace(layer, distance=(0.5, 0.1), exact_distance=(0.0, None)) for layer in one.layers)
    result = result_of(replace(one, layers=told))
    np.testing.assert_array_equal(result.array("kronecker_distances").data, 0.5)
    np.testing.assert_array_equal(result.array("kronecker_distance_errors").data, 0.1)
    assert "factorised_distances" in result.values
    assert "factorised_distance_errors" not in result.values
    some = result_of(replace(one, layers=(told[0], *one.layers[1:])))
    assert "kronecker_distances" not in some.values


def test_each_thing_that_is_missing_has_its_note() -> None:
    one = found()
    reasons = {"0": "it is odd", "2": "it is even"}
    assert "2 of 3 layers have no Kronecker factors: 0 (it is odd); 2 (it is even)." in [
        note.text for note in result_of(replace(one, reasons=reasons)).notes
    ]
    same = dict.fromkeys(("0", "2", "4"), "none wants any")
    assert result_of(replace(one, reasons=same)).notes[0].text.endswith("factors, because none wants any.")
    assert "from 7 random combinations" in result_of(replace(one, num_draws=7)).notes[0].text
    stopped = replace(one.layers[1], spectrum=replace(one.layers[1].spectrum, stop="max_products"))
    noted = result_of(replace(one, layers=(one.layers[0], stopped, one.layers[2]))).notes
    assert [note.code for note in noted] == ["not_converged"]
    assert "magnitude in layer 2, after" in noted[0].text
    close = replace(one.whole.largest, values=one.whole.largest.values[[0, 0]])
    noted = result_of(replace(one, whole=replace(one.whole, largest=close))).notes
    assert [note.code for note in noted] == ["direction_unsure"]


def test_what_the_traces_have_to_say_is_said_once() -> None:
    given = found()
    skewed = Trace.of_signs(np.array([1.0] * 30 + [30.0, 60.0]), torch.float64, 32, "hutchinson")
    layers = tuple(replace(layer, trace=skewed) for layer in given.layers)
    said = [note for note in result_of(replace(given, layers=layers)).notes if note.code == "skewed_samples"]
    assert len(said) == 1
    assert all(layer.word in said[0].text for layer in layers)


def test_gaps_where_there_are_fewer_parameters() -> None:
    result = result_of(found(num_top=17))
    assert [note.code for note in result.notes] == ["gaps"]
    assert np.isnan(result.array("eigenvalues").data[2, 15:]).all()
    assert result.notes[0].text == (
        "Entries are missing, because layer 4 has fewer parameters than num_top=17 and layers 0, 2 and 4 have no "
        "further direction with curvature above rounding."
    )


def test_without_shares_or_traces_or_factors() -> None:
    one = found()
    bare = replace(one, shares=None, layers=tuple(replace(layer, trace=None, fit=None) for layer in one.layers))
    assert list(result_of(bare).values) == [
        "eigenvalues",
        "residuals",
        "num_parameters",
        "top_eigenvalue",
        "num_products",
    ]
    some = replace(one, layers=one.layers[:2])
    assert "between_layers" not in result_of(some).values
