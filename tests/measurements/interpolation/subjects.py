"""Small nets on digits and on the larger images, which a test does without where they are not on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from torch import nn

from vallis.core.errors import DataMissing
from vallis.core.own import coordinates
from vallis.core.protocols import Problem
from vallis.core.rng import Rng
from vallis.core.types import Net, Solution
from vallis.problems.digits import Digits
from vallis.problems.fashion_mnist import FashionMnist
from vallis.problems.mnist import Mnist

IMAGES: dict[str, Problem] = {
    "digits": Digits(test_fraction=0.5),
    "fashion_mnist": FashionMnist(num_train=1000, num_test=1000),
    "mnist": Mnist(num_train=1000, num_test=1000),
}
_BESIDE = Path(__file__).resolve().parents[4] / "shared" / "data"


def on(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> Solution:
    """Any net on the data of a problem: what is asked here does not look at it."""
    import sys

    monkeypatch.setitem(sys.modules, "pooch", None)  # nothing is downloaded
    if "VALLIS_DATA" not in os.environ and _BESIDE.is_dir():
        monkeypatch.setenv("VALLIS_DATA", str(_BESIDE))
    try:
        tasks = problem.build(Rng(0).child("problem"))
    except DataMissing as missing:
        pytest.skip(str(missing))
    module = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    module(next(iter(tasks[0].splits["train"])).x[:1])
    params, buffers = coordinates(module.eval())
    return Solution(net=Net(module=module), params=params, buffers=buffers, tasks=tasks)
