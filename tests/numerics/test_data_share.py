"""Shares that each process cuts, or was given already cut, in real processes, against all of the data in one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.numerics.parallel_work import few_products
from tests.numerics.processes import in_processes
from tests.numerics.share_work import (
    DRAWN,
    LOSS,
    cut_before,
    ignored,
    mistakes,
    network,
    own_ignored,
    partly_ignored,
    whole,
)
from tests.numerics.solutions import mlp
from vallis.core.objective import Objective
from vallis.numerics.at import objective_of
from vallis.numerics.curvature import Hessian
from vallis.numerics.fisher import SampledFisher
from vallis.numerics.surface import in_eval_mode

WORLDS = [1, 2, pytest.param(3, marks=pytest.mark.slow)]


def near(found: torch.Tensor, truth: torch.Tensor) -> None:
    assert float((found - truth).norm()) <= 1e-12 * float(truth.norm())
    assert float(truth.norm()) > 0


@pytest.mark.parametrize("num_ranks", WORLDS)
def test_shares_that_were_cut_before_are_taken_as_they_are(num_ranks: int, tmp_path: Path) -> None:
    surface = objective_of(network(), LOSS, whole().tensors)
    truth = few_products(Hessian(surface))
    drawn = few_products(SampledFisher(surface, **DRAWN))  # type: ignore[arg-type]
    found = in_processes(cut_before, num_ranks, tmp_path)
    for one in found:
        for name in ("tensors", "dataset", "loader", "list", "stream"):
            near(one[name], truth)
            near(one[f"{name}.drawn"], drawn)
        near(one["sampler"], truth)
        near(one["gradient"], surface.gradient())
        near(one["loss"], torch.tensor(surface.value(), dtype=torch.float64))
        near(one["surface"], few_products(Hessian(Objective(in_eval_mode(mlp()), dtype=torch.float64))))
        assert all(torch.equal(one[name], value) for name, value in found[0].items())


@pytest.mark.parametrize("num_ranks", WORLDS)
def test_a_share_in_which_nothing_counts_has_weight_zero(num_ranks: int, tmp_path: Path) -> None:
    truth = few_products(Hessian(objective_of(network(), LOSS, partly_ignored().tensors)))
    found = in_processes(ignored, num_ranks, tmp_path)
    for one in found:
        for name in ("plain", "sampler", "already"):
            near(one[name], truth)
    assert torch.stack([one["shares"] for one in found]).sum(0).tolist() == pytest.approx([1, 1, 1])
    if num_ranks == 3:
        assert found[2]["shares"].tolist() == [0, 0, 0]


@pytest.mark.slow
def test_so_it_has_with_a_loss_of_ones_own(tmp_path: Path) -> None:
    truth = few_products(Hessian(objective_of(network(), LOSS, partly_ignored().tensors)))
    found = in_processes(own_ignored, 3, tmp_path)
    for one in found:
        near(one["hessian"], truth)
    assert len({int(one["kind"]) for one in found}) == 1  # each alone would see another on its first batch


CUT = r"same data on all processes was required, .* on rank 0; .* on rank 1 came: .*already_sharded=True"
SAID = {
    "tensors": CUT,
    "sizes": CUT,
    "dataset": CUT,
    "loader": CUT,
    "list": CUT,
    "batching": CUT,
    "shared surface": CUT,
    "solution": CUT,
    "seed": r"same order of the DistributedSampler .*seed=0.* on rank 0; .*seed=1.* on rank 1.*set_epoch",
    "foreign sampler": r"DistributedSampler of rank \d of 2 was required, one of rank \d of 5 came",
    "twice": r"same data on all processes .*leave the DistributedSampler out",
    "stream": r"takes each example of its dataset once was required, one with a Some came.*already_sharded=True",
    "said by one": r"same way to share the data on all processes was required",
    "kinds": r"same way to share the data on all processes was required",
    "nothing": r"at least one counted target was required, no process has one",
    "no examples": r"at least one counted target was required, no process has one",
    "weights": r"same weights on all processes was required",
    "loss": r"same weights on all processes was required",
    "gradient": r"same weights on all processes was required",
    "after": r"^$",
}


def test_what_is_wrong_with_shares_all_processes_hear_and_none_waits(tmp_path: Path) -> None:
    heard = in_processes(mistakes, 2, tmp_path)
    for name, pattern in SAID.items():
        assert all(re.search(pattern, one[name]) for one in heard), (name, [one[name] for one in heard])
    assert re.search("failed on another: rank 1: DataError", heard[0]["bad targets"])
    assert re.search("^DataError: classes 0 to 2 were required", heard[1]["bad targets"])
    assert set(heard[0]) == {*SAID, "bad targets"}
