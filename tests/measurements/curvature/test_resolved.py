from __future__ import annotations

import numpy as np
import pytest
import torch

from vallis.measurements.curvature._resolved import not_converged, num_resolved


@pytest.mark.parametrize(
    ("values", "dtype", "number"),
    [
        ([], torch.float64, 0),
        ([0.0, 0.0], torch.float64, 0),
        ([-1.0], torch.float64, 0),
        ([2.0, 1.0, 1e-7, 1e-9], torch.float64, 3),
        ([2.0, 1.0, 1e-3, 1e-7], torch.float32, 3),
        ([2.0, 1.0, 1e-3, 1e-7], torch.bfloat16, 3),
        ([2.0, -1.0, 1.0], torch.float64, 1),
    ],
)
def test_rounding_ends_the_count(values: list[float], dtype: torch.dtype, number: int) -> None:
    assert num_resolved(np.array(values), dtype) == number


def test_layers_are_named_where_there_are_some() -> None:
    assert not_converged([]) == ()
    (note,) = not_converged(["layer a", "the root module"])
    assert note.code == "not_converged"
    assert note.text == "Not all eigenvectors that were asked for converged in layer a and the root module."
