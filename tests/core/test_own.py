"""The bring-your-own door: whatever network comes, the numbers are plain torch's, and nothing of the caller's moves."""

import copy
import re
import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import InitVar, dataclass, field
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.core.caller import is_sentence, untouched
from tests.core.networks import CASES, Case, Returning, draw, made, mlp, reference
from vallis.core import own
from vallis.core.errors import DataError, ModelError, SettingsError
from vallis.core.objective import Objective
from vallis.core.types import Solution

X, Y = draw(10, 3).float(), torch.arange(10) % 4
CASE_NAMES = pytest.mark.parametrize("name", CASES)


def solution(case: Case, module: nn.Module, train: Any = None, **how: Any) -> Solution:
    data = case.batches if train is None else train
    return Solution.of(module, case.loss, train=data, test=case.batches, **{**case.how, **how})


def plain(module: nn.Module | None = None, **how: Any) -> Solution:
    return Solution.of(mlp() if module is None else module, nn.CrossEntropyLoss(), **{"train": (X, Y), **how})


# --------------------------------------------------------------------------------------- every kind of network


@CASE_NAMES
def test_loss_and_gradient_are_those_of_plain_torch(name: str) -> None:
    case = CASES[name]
    module = made(case)
    objective = Objective(solution(case, module))
    value, gradient = reference(case, module)
    assert objective.value() == pytest.approx(value, rel=1e-12, abs=1e-13)
    assert gradient.abs().max() > 1e-4, "the case says nothing"
    torch.testing.assert_close(objective.gradient(), gradient, rtol=1e-10, atol=1e-13)


@CASE_NAMES
def test_nothing_of_the_callers_moves(name: str) -> None:
    case = CASES[name]
    module = made(case)
    tensors = [value for pair in case.batches for value in pair if isinstance(value, torch.Tensor)]
    with untouched(module, *tensors):
        objective = Objective(solution(case, module))
        objective.value()
        objective.gradient()


@CASE_NAMES
def test_the_solution_owns_its_tensors(name: str) -> None:
    case = CASES[name]
    module = made(case)
    objective = Objective(solution(case, module))
    before = objective.value()
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            value.zero_()
    assert objective.value() == before


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.rows])
def test_the_cut_into_batches_changes_nothing(name: str) -> None:
    case = CASES[name]
    module = made(case)
    x, y = (_joined([pair[i] for pair in case.batches]) for i in (0, 1))
    value, gradient = reference(case, module)
    for size in (3, 10, 64):
        objective = Objective(solution(case, module, train=(x, y), batch_size=size))
        assert objective.value() == pytest.approx(value, rel=1e-12, abs=1e-13)
        torch.testing.assert_close(objective.gradient(), gradient, rtol=1e-10, atol=1e-13)


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {key: _joined([part[key] for part in parts]) for key in parts[0]}
    if isinstance(parts[0], tuple):
        return tuple(_joined(list(column)) for column in zip(*parts, strict=True))
    return torch.cat(parts)


@pytest.mark.parametrize("name", ["transformer", "lstm", "language_model", "resnet", "parametrized"])
def test_second_derivatives_exist(name: str) -> None:
    case = CASES[name]
    objective = Objective(solution(case, made(case)))
    term = next(objective.terms())
    point = [value.clone().requires_grad_() for value in objective.origin]
    slopes = torch.autograd.grad(term.loss(point), point, create_graph=True)
    bends = torch.autograd.grad(sum(slope.pow(2).sum() for slope in slopes), point)
    assert all(torch.isfinite(bend).all() for bend in bends)
    assert max(float(bend.abs().max()) for bend in bends) > 1e-6


# ------------------------------------------------------------------------------------- wherever the caller is


def _default_dtype() -> AbstractContextManager[None]:
    class Double:
        def __enter__(self) -> None:
            torch.set_default_dtype(torch.float64)

        def __exit__(self, *_: object) -> None:
            torch.set_default_dtype(torch.float32)

    return Double()


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default_float64": _default_dtype,
    "default_device_cpu": lambda: torch.device("cpu"),
    "default_device_meta": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("name", ["mlp", "transformer", "caching", "normed_by_hooks", "class_weights"])
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_the_callers_surroundings_change_no_number(surroundings: str, name: str) -> None:
    case = CASES[name]
    module = made(case)
    value, gradient = reference(case, module)
    with SURROUNDINGS[surroundings](), untouched(module):
        objective = Objective(solution(case, module))
        found, slope = objective.value(), objective.gradient()
    assert found == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(slope, gradient, rtol=1e-10, atol=1e-13)


def test_autocast_does_not_reach_the_loss() -> None:
    mix = draw(4, 4).float()
    wanted = Objective(Solution.of(mlp_of_seed(), lambda z, y: F.cross_entropy(z @ mix, y), train=(X, Y))).value()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Objective(Solution.of(mlp_of_seed(), lambda z, y: F.cross_entropy(z @ mix, y), train=(X, Y))).value()
    assert found == wanted


def mlp_of_seed(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mlp()


def test_modules_and_data_born_in_inference_mode() -> None:
    with torch.inference_mode():
        module, x = mlp_of_seed(), X.clone()
    for train in ((x, Y), [(x, Y)]):
        assert Objective(plain(module, train=train)).gradient().norm() > 0


@pytest.mark.parametrize("train", [(X, Y), [(X[:4], Y[:4]), (X[4:], Y[4:])]], ids=["tensors", "batches"])
def test_data_that_the_caller_writes_to_later_change_nothing(train: Any) -> None:
    mine = copy.deepcopy(train)
    objective = Objective(plain(mlp_of_seed(), train=mine))
    before = objective.value()
    for held in mine if isinstance(mine, list) else [mine]:
        held[0].zero_()
        held[1].zero_()
    assert objective.value() == before


# ------------------------------------------------------------------------------------------ wrappers and types


def test_wrappers_are_taken_off() -> None:
    module = mlp_of_seed()
    wanted = Objective(plain(module)).value()
    compiled = torch.compile(module, backend="eager")
    in_place = mlp_of_seed()
    in_place.compile(backend="eager")
    for wrapped in (compiled, nn.DataParallel(module), nn.DataParallel(nn.DataParallel(module)), in_place):
        found = plain(wrapped)
        assert Objective(found).value() == wanted
        assert list(found.params) == ["0.weight", "0.bias", "3.weight", "3.bias"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_to_float32(dtype: torch.dtype) -> None:
    module = mlp_of_seed().to(dtype)
    found = plain(module, train=(X.to(dtype), Y))
    objective = Objective(found)
    assert {value.dtype for value in found.params.values()} == {dtype}
    assert objective.dtype == objective.gradient().dtype == torch.float32
    raised = copy.deepcopy(module).float().eval()
    assert objective.value() == pytest.approx(float(F.cross_entropy(raised(X.to(dtype).float()), Y).detach()), rel=1e-6)


class Adapter(nn.Module):
    """A frozen body in half precision under a trained head, as people fine-tune large models."""

    def __init__(self, body: torch.dtype, head: torch.dtype, train_body: bool = False) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 5).to(body), nn.Linear(5, 4).to(head)
        self.body.requires_grad_(train_body)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x.to(self.body.weight.dtype)).to(self.head.weight.dtype))


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (Adapter(torch.bfloat16, torch.float32), torch.float32),
        (Adapter(torch.float32, torch.bfloat16, train_body=True), torch.float32),
        (Adapter(torch.float32, torch.float64, train_body=True), torch.float64),
        (Adapter(torch.float64, torch.float32), torch.float32),
    ],
    ids=["half frozen", "half trained", "single and double", "double frozen"],
)
def test_mixed_precision_is_raised_to_the_widest_that_is_trained(module: Adapter, wanted: torch.dtype) -> None:
    objective = Objective(plain(module))
    assert objective.dtype == objective.gradient().dtype == wanted
    assert objective.gradient().norm() > 0
    raised = copy.deepcopy(module).double()
    assert objective.value() == pytest.approx(float(F.cross_entropy(raised(X.double()), Y).detach()), rel=1e-5)


def test_buffers_of_another_precision_stay_as_they_are() -> None:
    module = mlp_of_seed()
    module.register_buffer("exact", torch.tensor(1 / 3, dtype=torch.float64))
    assert Objective(plain(module)).buffers["exact"].dtype == torch.float64


def test_tied_weights_count_once_and_frozen_ones_are_buffers() -> None:
    case = CASES["language_model"]
    found = solution(case, made(case))
    assert "head.weight" not in found.params
    assert found.num_parameters == 7 * 4 + (3 * 16 + 12) + (16 + 4)
    case = CASES["frozen"]
    found = solution(case, made(case))
    assert list(found.params) == ["3.weight", "3.bias"]
    assert list(found.buffers) == ["0.weight", "0.bias"]


def test_layers_traits_tasks_and_identities() -> None:
    found = plain(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)), test=(X[:3], Y[:3]), name="mine")
    assert [layer.name for layer in found.net.layers] == ["0", "2"]
    assert {"differentiable", "homogeneous", "feedforward"} <= found.net.traits
    assert (found.task.name, found.task.loss.kind, found.origin, found.step) == ("mine", "categorical", None, 0)
    index = torch.cat([batch.index for split in ("train", "test") for batch in found.task.splits[split]])
    assert index.tolist() == list(range(13))
    assert not found.net.module.training


def test_without_a_test_split_there_is_none() -> None:
    assert list(plain().task.splits) == ["train"]


def test_more_splits_are_read_and_counted_on() -> None:
    batches = [(X[:7], Y[:7]), (X[7:], Y[7:])]
    found = plain(test=(X[:3], Y[:3]), other_splits={"true_labels": (X, (Y + 1) % 4), "shifted": batches})
    assert list(found.task.splits) == ["train", "test", "true_labels", "shifted"]
    index = torch.cat([batch.index for split in found.task.splits.values() for batch in split])
    assert index.tolist() == list(range(33))
    (true,) = found.task.splits["true_labels"]
    assert torch.equal(true.y, (Y + 1) % 4)
    without = plain(other_splits={"true_labels": (X, Y)})
    assert [int(next(iter(split)).index[0]) for split in without.task.splits.values()] == [0, 10]


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": (X, Y)}, "train came: use train="),
        ({"test": (X, Y)}, "test came: use test="),
        ({"two words": (X, Y)}, "'two words' came"),
        ({"": (X, Y)}, "'' came"),
        ({3: (X, Y)}, "3 came"),
        ((X, Y), "a tuple came"),
    ],
    ids=["train", "test", "words", "empty", "number", "tuple"],
)
def test_names_of_splits_that_cannot_be_are_refused_in_a_sentence(splits: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)) as refused:
        plain(other_splits=splits)
    assert is_sentence(str(refused.value))


def test_a_further_split_is_proved_like_the_others() -> None:
    with pytest.raises(DataError, match="true_labels holds 4"):
        plain(other_splits={"true_labels": (X, Y + 1)})
    with pytest.raises(DataError, match="true_labels inputs must be numbers"):
        plain(other_splits={"true_labels": (X * torch.nan, Y)})


def test_hooks_run_on_the_copy_and_the_callers_list_of_hooks_is_left_alone() -> None:
    module, calls = mlp_of_seed(), []
    handle = module[0].register_forward_hook(lambda part, inputs, output: calls.append(part))
    with untouched(module):
        objective = Objective(plain(module))
    before = len(calls)
    objective.value()
    assert len(calls) == before + 1, "one batch, one call"
    assert all(part is not module[0] for part in calls)
    handle.remove()
    objective.value()
    assert len(calls) == before + 2, "the copy has hooks of its own"


def test_a_module_that_holds_settings_keeps_them() -> None:
    @dataclass
    class Config:
        width: int
        seed: InitVar[int | None] = None
        born: int = field(default=0, init=False)

        def __post_init__(self, seed: int | None) -> None:
            if seed is None:
                raise ValueError("born once")
            self.born += 1

    module = mlp_of_seed()
    module.config, module.shape = Config(3, 1), torch.Size([2, 3])
    with untouched(module):
        found = plain(module)
    assert found.net.module.config == module.config
    assert found.net.module.shape == torch.Size([2, 3])


# -------------------------------------------------------------------------------------------- what is refused


def _poisoned(value: float) -> nn.Module:
    module = mlp()
    with torch.no_grad():
        module[3].weight[1, 2] = value
    return module


def _uncopyable() -> nn.Module:
    module = mlp()
    module.lock = threading.Lock()
    return module


def _scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(mlp())


MODULES: dict[str, tuple[Callable[[], Any], str]] = {
    "no module": (lambda: F.relu, "a function came"),
    "a class": (lambda: nn.Linear, "a type came"),
    "NaN weight": (lambda: _poisoned(float("nan")), "3.weight has 1 NaN or infinite of 24"),
    "infinite weight": (lambda: _poisoned(float("inf")), "3.weight has 1 NaN or infinite of 24"),
    "nothing trainable": (lambda: mlp().requires_grad_(False), "Sequential has none"),
    "no parameters": (nn.Identity, "Identity has none"),
    "never run": (lambda: nn.LazyLinear(4), "weight has no values"),
    "no values": (lambda: nn.Linear(3, 4, device="meta"), "weight has no values"),
    "complex": (lambda: nn.Linear(3, 4, dtype=torch.complex64), "weight is complex"),
    "uncopyable": (_uncopyable, "cannot pickle"),
    "scripted": (_scripted, "ScriptModule came"),
}


@pytest.mark.parametrize("what", MODULES)
def test_a_network_that_cannot_be_examined_is_refused_in_a_sentence(what: str) -> None:
    make, came = MODULES[what]
    module = make()
    theirs = module if isinstance(module, nn.Module) else None
    with untouched(theirs, X, Y), pytest.raises(ModelError) as caught:
        plain(module)
    assert came in str(caught.value)
    assert is_sentence(str(caught.value)), str(caught.value)


# ------------------------------------------------------------------------------------------------ small things


def test_one_example_is_enough() -> None:
    found = plain(mlp_of_seed(), train=(X[:1], Y[:1]))
    module = mlp_of_seed().eval()
    assert Objective(found).value() == pytest.approx(float(F.cross_entropy(module(X[:1]), Y[:1]).detach()))


def test_the_digest_is_of_weights_architecture_loss_and_data() -> None:
    found = own.digest(plain(mlp_of_seed()))
    assert found == own.digest(plain(mlp_of_seed()))
    others = [
        plain(mlp_of_seed(1)),
        plain(mlp_of_seed(), train=(X + 1, Y)),
        plain(mlp_of_seed(), train=(X, Y.flip(0))),
        plain(mlp_of_seed(), test=(X, Y)),
        Solution.of(mlp_of_seed(), nn.CrossEntropyLoss(label_smoothing=0.1), train=(X, Y)),
        plain(nn.Sequential(*mlp_of_seed()[:2], nn.Dropout(0.1), mlp_of_seed()[3])),
    ]
    assert len({found, *map(own.digest, others)}) == len(others) + 1


def test_a_loss_that_is_trained_too_is_copied() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.scale * F.cross_entropy(z, y)

    loss, module = Scaled(), mlp_of_seed()
    with untouched(loss):
        objective = Objective(Solution.of(module, loss, train=(X, Y)))
        slope = objective.gradient()
    wanted = Objective(plain(module))
    torch.testing.assert_close(slope, 2 * wanted.gradient())
    with torch.no_grad():
        loss.scale.zero_()
    assert objective.value() == pytest.approx(2 * wanted.value())


def test_a_second_optimizer_step_of_the_caller_goes_on_as_without_us() -> None:
    def train(module: nn.Sequential, look: bool) -> torch.Tensor:
        optimizers = [
            torch.optim.SGD(module[0].parameters(), 0.1, momentum=0.9),
            torch.optim.Adam(module[3].parameters()),
        ]
        torch.manual_seed(5)
        for step in range(3):
            loss = F.cross_entropy(module(X), Y)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            if look and step == 1:
                Objective(plain(module)).gradient()
            for optimizer in optimizers:
                optimizer.step()
        return torch.cat([value.detach().reshape(-1) for value in module.parameters()])

    with torch.random.fork_rng():
        assert torch.equal(train(mlp_of_seed(), look=True), train(mlp_of_seed(), look=False))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_a_network_on_another_device_takes_data_from_the_first() -> None:
    module = mlp_of_seed().cuda()
    found = Objective(plain(module))
    assert found.gradient().is_cuda
    assert found.value() == pytest.approx(Objective(plain(mlp_of_seed())).value(), rel=1e-5)


def test_examples_reach_a_module_whose_forward_takes_anything() -> None:
    class Anything(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 4)

        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return self.body(args[0] if args else kwargs["pixels"])

    by_position, by_name = plain(Anything()), plain(Anything(), train=({"pixels": X}, Y))
    assert Objective(by_position).value() > 0
    assert Objective(by_name).value() > 0


def test_the_module_of_a_solution_is_a_copy_in_all_its_parts() -> None:
    module = Returning(lambda logits, hidden: logits)
    found = plain(module)
    assert found.net.module is not module
    theirs = {value.data_ptr() for value in module.parameters()}
    mine = [*found.net.module.parameters(), *found.params.values()]
    assert not theirs & {value.data_ptr() for value in mine}
    assert len({value.data_ptr() for value in mine}) == len(mine)


@pytest.mark.parametrize("how", [{"sparse": True}, {"scale_grad_by_freq": True}])
def test_how_an_embedding_stores_its_gradient_is_no_matter_of_the_function(how: dict[str, bool]) -> None:
    x, y = torch.tensor([[0, 1, 1], [2, 0, 3], [1, 1, 1], [3, 2, 0]]), torch.arange(4)
    gradients = []
    for options in ({}, how):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = nn.Sequential(nn.Embedding(4, 2, **options), nn.Flatten(), nn.Linear(6, 4))
        gradients.append(Objective(plain(module, train=(x, y), batch_size=3)).gradient())
        assert all(getattr(module[0], name) is value for name, value in options.items())
    torch.testing.assert_close(*gradients)
