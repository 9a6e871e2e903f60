"""Ends of spectra that are made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vallis.core.types import Result
from vallis.measurements.curvature import _spectrum_ends as spectrum_ends
from vallis.numerics.spectra import Eigenpairs, Spectrum, Stop


def pairs(*values: float) -> Eigenpairs:
    size = len(values)
    return Eigenpairs(
        values=np.array(values),
        vectors=torch.eye(max(size, 1), size, dtype=torch.float64),
        residuals=np.full(size, 0.1),
        converged=np.ones(size, dtype=bool),
    )


def spectrum(top: tuple[float, ...], bottom: tuple[float, ...] = (), stop: Stop = "converged") -> Spectrum:
    return Spectrum(largest=pairs(*top), smallest=pairs(*bottom), scale=1.0, num_products=3, stop=stop)


def test_only_the_ends_that_were_asked_for() -> None:
    assert list(spectrum_ends.ends(spectrum((3.0, 2.0), (-1.0,)))) == ["top", "bottom"]
    assert list(spectrum_ends.ends(spectrum((), (-1.0,)))) == ["bottom"]


@pytest.mark.parametrize(("stop", "word"), [("dense", "dense solver"), ("converged", "Lanczos")])
def test_the_method_is_the_one_that_was_used(stop: Stop, word: str) -> None:
    found = spectrum_ends.extreme(spectrum((3.0,), (-1.0,), stop), "bottom", "1/weight^2")
    assert (found.value, found.stderr, found.unit) == (-1.0, 0.1, "1/weight^2")
    assert word in found.method


def test_at_one_point_ranks_and_along_a_path_steps() -> None:
    one = spectrum_ends.tables("top", [pairs(3.0, 2.0)], "u")
    assert one["eigenvalues_top"].dims == ("rank",)
    np.testing.assert_array_equal(one["eigenvalues_top"].data, [3, 2])
    np.testing.assert_array_equal(one["eigenvalues_top"].coords["rank"], [1, 2])
    path = spectrum_ends.tables("top", [pairs(3.0, 2.0), pairs(4.0)], "u", np.array([0.0, 7.0]))
    assert path["residuals_top"].dims == ("step", "rank")
    np.testing.assert_array_equal(path["eigenvalues_top"].data, [[3], [4]])
    np.testing.assert_array_equal(path["eigenvalues_top"].coords["step"], [0, 7])


def test_figures_of_both_kinds() -> None:
    kinds: dict[str, Any] = {
        "scatter": Result(values={**spectrum_ends.tables("top", [pairs(3.0, 2.0)], "u")}),
        "line": Result(values={**spectrum_ends.tables("bottom", [pairs(-3.0, -2.0)] * 2, "u", np.array([0.0, 7.0]))}),
    }
    labels = {"scatter": ["largest"], "line": ["smallest", "smallest, rank 2"]}
    for kind, result in kinds.items():
        figure = spectrum_ends.figure(result, name="n", title="t")
        assert {mark.kind for mark in figure.marks} == {kind}
        assert [mark.label for mark in figure.marks] == labels[kind]
        assert figure.y.label == "eigenvalue (u)"
    np.testing.assert_array_equal(figure.marks[1].y, [-2, -2])


def test_each_reason_is_said_once() -> None:
    assert spectrum_ends.not_converged("They are", [spectrum((1.0,))], 0.1) == ()
    looks = [spectrum((1.0,), stop=stop) for stop in ("max_products", "dense", "rounding", "max_products")]  # type: ignore[arg-type]
    (note,) = spectrum_ends.not_converged("They are", looks, 0.1)
    assert note.text == (
        "They are not within the tolerance of 0.1, because the most products that were allowed were spent and rounding "
        'hides what is left (precision="float64" resolves more).'
    )
