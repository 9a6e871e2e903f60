"""Data-parallel products in real processes, against the same operators in one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.numerics.parallel_work import (
    KINDS,
    SOLUTIONS,
    answers,
    few_products,
    halved,
    loaders,
    matrices,
    plain,
    surface,
    troubles,
)
from tests.numerics.processes import Work, in_processes
from tests.numerics.solutions import batch_norm, mlp, random
from vallis.core.errors import UsageError
from vallis.core.rng import Rng
from vallis.numerics.at import objective_of
from vallis.numerics.curvature import Hessian
from vallis.numerics.distributed import DataParallel
from vallis.numerics.fisher import SampledFisher

Found = list[dict[str, torch.Tensor]]
# Float64 everywhere; only the order in which batches are added differs.
CLOSE = {"rtol": 1e-12, "atol": 1e-14}


# A process takes its time to start: of three the tests are slow, and a world is started once for all that ask it.
WORLDS = [1, 2, pytest.param(3, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Work, int], Found]:
    kept: dict[tuple[Work, int], Found] = {}

    def start(work: Work, num_ranks: int) -> Found:
        if (work, num_ranks) not in kept:
            kept[work, num_ranks] = in_processes(work, num_ranks, tmp_path_factory.mktemp("ranks"))
        return kept[work, num_ranks]

    return start


@pytest.fixture(params=WORLDS)
def found(request: pytest.FixtureRequest, started: Callable[[Work, int], Found]) -> Found:
    return started(matrices, request.param)


@pytest.fixture(params=WORLDS[1:])
def read(request: pytest.FixtureRequest, started: Callable[[Work, int], Found]) -> Found:
    return started(loaders, request.param)


def near(found: torch.Tensor, truth: torch.Tensor, tolerance: float = 1e-12) -> None:
    assert float((found - truth).norm()) <= tolerance * float(truth.norm())
    assert float(truth.norm()) > 0


def test_every_operator_is_that_of_one_process(found: Found) -> None:
    for name, make in SOLUTIONS.items():
        for kind, operator in KINDS.items():
            near(found[0][f"{name}.{kind}"], few_products(operator(surface(make))))
    near(found[0]["block"], few_products(Hessian(surface(mlp), only=["2", "4.bias"])))


def test_so_are_the_mean_loss_and_its_gradient(found: Found) -> None:
    for name, make in SOLUTIONS.items():
        near(found[0][f"{name}.loss"], torch.tensor(surface(make).value(), dtype=torch.float64))
        near(found[0][f"{name}.gradient"], surface(make).gradient())


def test_all_processes_hold_the_same_bits(found: Found) -> None:
    for other in found[1:]:
        assert all(torch.equal(other[name], value) for name, value in found[0].items() if name != "share")


def test_so_they_do_when_each_reads_its_own_share(read: Found) -> None:
    for other in read[1:]:
        assert all(torch.equal(other[name], value) for name, value in read[0].items())


def test_algorithms_run_unchanged(found: Found) -> None:
    truth = answers(lambda: Hessian(surface(mlp)))
    for name in ("largest", "smallest", "trace"):
        near(found[0][name], truth[name], 1e-10)
    top = found[0]["largest"].abs().max()
    assert float(found[0]["residuals"].max()) <= 1e-6 * float(top)
    matrix, vectors = Hessian(surface(mlp)).dense(), found[0]["vectors"].double()
    near(matrix @ vectors, vectors * found[0]["largest"], 1e-5)


def test_half_precision_is_raised_and_products_are_counted(found: Found) -> None:
    assert found[0]["half"].dtype == torch.float32
    near(found[0]["half"], Hessian(surface(halved, None)) @ random(61, seed=3), 1e-5)
    assert found[0]["num_products"].tolist() == [3, 3]


def test_shares_count_tokens_and_not_ranks(found: Found) -> None:
    shares = [float(one["share"]) for one in found]
    y = torch.cat([batch.y for batch in surface(SOLUTIONS["tokens"]).data])
    counts = [int((part != -100).sum()) for part in y.tensor_split(len(found))]
    assert shares == pytest.approx([count / sum(counts) for count in counts])
    assert len(found) == 1 or len(set(counts)) > 1


def test_a_users_own_module_and_loader(read: Found) -> None:
    module, dataset = plain()
    hessian = Hessian(objective_of(module, nn.CrossEntropyLoss(), DataLoader(dataset, batch_size=4)))
    truth = few_products(hessian)
    for name in ("sampler", "dropping", "plain", "tensors"):
        near(read[0][name], truth)
    few = objective_of(module, nn.CrossEntropyLoss(), tuple(part[:2] for part in dataset.tensors))
    near(read[0]["few"], few_products(Hessian(few)))
    near(read[0]["few.plain"], few_products(Hessian(few)))
    assert float((few_products(Hessian(few)) - truth).norm()) > 0.1 * float(truth.norm())
    near(read[0]["solution"], few_products(Hessian(surface(batch_norm))))
    whole = objective_of(module, nn.CrossEntropyLoss(), dataset.tensors)
    near(read[0]["loss"], torch.tensor(whole.value(), dtype=torch.float64))


def test_drawn_targets_are_those_of_one_process(read: Found) -> None:
    module, dataset = plain()
    whole = objective_of(module, nn.CrossEntropyLoss(), DataLoader(dataset, batch_size=4))
    truth = few_products(SampledFisher(whole, Rng(2), 2))
    for name in ("sampler", "dropping", "plain", "tensors"):
        near(read[0][f"{name}.drawn"], truth)


def test_when_one_process_is_in_trouble_all_hear_of_it_and_none_waits(tmp_path: Path) -> None:
    heard = in_processes(troubles, 2, tmp_path)
    both = {
        "size": r"same number of parameters on all processes was required, 61 on rank 0; 18 on rank 1",
        "weights": r"same weights on all processes was required, .*broadcast parameters and buffers from rank 0",
        "step": r"same vector on all processes was required.*same Rng",
        "nothing": r"at least one counted target was required, no process has one",
        "after": r"^$",
    }
    for name, pattern in both.items():
        assert all(re.search(pattern, one[name]) for one in heard), (name, [one[name] for one in heard])
    own = {
        "making": ("failed on another: rank 1: RuntimeError: the graph fell over", "^RuntimeError: the graph fell"),
        "product": ("failed on rank 1", "^RuntimeError: out of memory"),
        "data": ("failed on another: rank 1: UsageError", "^UsageError: a loss and data were required"),
    }
    for name, patterns in own.items():
        for pattern, one in zip(patterns, heard, strict=True):
            assert re.search(pattern, one[name]), (name, one[name])


def test_without_a_group_it_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"process group was required.*torchrun.*init_process_group"):
        DataParallel(Hessian, surface(mlp))


SCRIPT = """
import sys
import torch
from torch import distributed, nn
from vallis.core.rng import Rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.distributed import DataParallel
from vallis.numerics.lanczos import eigenpairs

distributed.init_process_group("gloo")
generator = torch.Generator().manual_seed(0)
x = torch.randn(17, 2, generator=generator, dtype=torch.float64)
module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3)).double()
with torch.no_grad():
    for value in module.parameters():
        value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64))
hessian = DataParallel.of(Hessian, module, nn.CrossEntropyLoss(), (x, torch.arange(17) % 3))
found = eigenpairs(hessian, largest=2, rng=Rng(0), dense_size=0)
if distributed.get_rank() == 0:
    print(distributed.get_world_size(), *(repr(float(value)) for value in found.largest.values))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_a_script_under_torchrun_prints_the_same_numbers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    printed = []
    for num_ranks in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            [*command, script], capture_output=True, text=True, check=False, timeout=60, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]
        printed.append([float(word) for word in done.stdout.split()])
    assert [words[0] for words in printed] == [1, 2]
    assert printed[0][1:] == pytest.approx(printed[1][1:], rel=1e-10)
