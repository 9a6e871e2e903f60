from __future__ import annotations

import pytest
import torch

from vallis.core.protocols import Model, Problem
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.testing.oracles import dense_vector
from vallis.testing.symmetries import SYMMETRIES, layer_rescaling, unit_permutation
from vallis.testing.toys.models import TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs
from vallis.testing.toys.solutions import start, trained

RELU = TinyMlp(activation="relu", double=True)
PLAIN = TinyConvnet(normalised=False, dropout=0.0, double=True)


def outputs(solution: Solution) -> torch.Tensor:
    (batch,) = solution.task.splits["train"]
    found: torch.Tensor = torch.func.functional_call(solution.net.module, dict(solution.params), (batch.x,))
    return found.detach()


@pytest.mark.parametrize(
    ("name", "problem", "model"),
    [
        ("layer_rescaling", Blobs(double=True), RELU),
        ("unit_permutation", Blobs(double=True), RELU),
        ("unit_permutation", Blobs(double=True), TinyMlp(widths=(5, 4, 3), double=True)),
    ],
)
def test_the_function_stays_and_the_weights_do_not(name: str, problem: Problem, model: Model) -> None:
    solution = trained(problem, model, Rng(0))
    other = SYMMETRIES[name](solution, Rng(1))
    assert other is not None
    assert torch.allclose(outputs(other), outputs(solution), atol=1e-12)
    for parameter, value in solution.params.items():
        if parameter != list(solution.params)[-1]:
            assert not torch.allclose(other.params[parameter], value), parameter
    assert other.tasks is solution.tasks


def test_other_nets_have_none_that_is_known() -> None:
    tanh = start(Blobs(double=True), TinyMlp(double=True), Rng(0))
    normalised = start(Bars(), TinyConvnet(), Rng(0))
    assert layer_rescaling(tanh, Rng(0)) is None
    assert layer_rescaling(normalised, Rng(0)) is None
    assert unit_permutation(normalised, Rng(0)) is None
    assert unit_permutation(start(Bars(double=True), PLAIN, Rng(0)), Rng(0)) is None


def test_rescaling_a_tanh_net_would_change_it() -> None:
    """The condition on the traits is no empty one."""
    solution = trained(Blobs(double=True), TinyMlp(double=True), Rng(0))
    relu = start(Blobs(double=True), RELU, Rng(0))
    disguised = Solution(net=relu.net, params=solution.params, buffers={}, tasks=solution.tasks)
    changed = layer_rescaling(disguised, Rng(1))
    assert changed is not None
    back = Solution(net=solution.net, params=changed.params, buffers={}, tasks=solution.tasks)
    assert not torch.allclose(outputs(back), outputs(solution), atol=1e-3)
    assert not torch.allclose(dense_vector(back), dense_vector(solution))
