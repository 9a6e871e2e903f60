"""A spectrum of a million parameters on sixty thousand images, within minutes on two cores."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

import vallis
from vallis.core.errors import DataMissing
from vallis.core.rng import Rng
from vallis.core.types import Result, Solution


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trained() -> Solution:
    """976,110 parameters after one pass over Fashion-MNIST."""
    try:
        (task,) = vallis.load("problems", "fashion_mnist")().build(Rng(0))
    except DataMissing as missing:
        pytest.skip(str(missing))
    train = task.splits["train"]
    x, y = train.x.flatten(1), train.y
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(784, 700), nn.ReLU(), nn.Linear(700, 600), nn.ReLU(), nn.Linear(600, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for rows in torch.randperm(len(x), generator=generator).split(256):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return Solution.of(model, nn.CrossEntropyLoss(), train=(x, y), batch_size=2000)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("two_threads")
def test_the_spectrum_of_a_million_parameters() -> None:
    solution = trained()
    assert solution.num_parameters == 976_110
    started = time.perf_counter()
    found = vallis.measure(solution, "hessian_spectrum")
    seconds = time.perf_counter() - started
    assert isinstance(found, Result)
    assert not [note for note in found.notes if note.code == "not_converged"]
    top, residuals = found.array("eigenvalues_top").data, found.array("residuals_top").data
    assert np.all(np.diff(top) <= 0)
    assert np.all(residuals <= 1e-3 * top[0])
    print(f"{seconds:.0f} s, {found.estimate('num_products').value:.0f} products")
    assert seconds < 600
