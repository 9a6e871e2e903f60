"""The smallest parts of every kind: two clouds of points, a linear net, a descent that can be slow or fail."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.answers import Told
from vallis.core.capture import layers_of
from vallis.core.data import Arrays
from vallis.core.figures import Figure
from vallis.core.losses import CrossEntropy
from vallis.core.rng import Rng
from vallis.core.types import (
    Array,
    Claim,
    Estimate,
    Job,
    Net,
    Note,
    Outcome,
    Packed,
    Result,
    Row,
    Solution,
    Source,
    StepInfo,
    Task,
    Verdict,
)

SOURCE = Source(title="A toy", authors="Nobody", year=2026)


@dataclass(frozen=True, kw_only=True)
class Clouds:
    """Two clouds of points in the plane."""

    num_examples: int = 40
    distance: float = 2.0

    version: ClassVar[int] = 1

    def build(self, rng: Rng) -> tuple[Task, ...]:
        y = torch.arange(self.num_examples) % 2
        x = torch.randn(self.num_examples, 2, generator=rng.torch()) + self.distance * y[:, None]
        return (
            Task(name="clouds", splits={"train": Arrays(x=x, y=y, index=torch.arange(len(y)))}, loss=CrossEntropy()),
        )


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Logits that are linear in x, and a buffer that counts."""

    traits: tuple[str, ...] = ("differentiable", "smooth")

    version: ClassVar[int] = 1

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        module = torch.nn.Linear(2, 2)
        module.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        with torch.no_grad():
            module.weight.copy_(torch.randn(2, 2, generator=rng.torch()))
            module.bias.zero_()
        return Net(module=module, layers=layers_of(module), traits=frozenset(self.traits))


@dataclass
class State:
    net: Net
    params: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    tasks: tuple[Task, ...]
    rng: Rng
    step: int = 0
    best: float = float("inf")


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Noisy gradient descent on the whole data.

    Attributes:
        seconds: how long a step sleeps.
        fail_at: the step that raises, while the file `mended` does not exist.
    """

    max_steps: int = 5
    learning_rate: float = 0.1
    seconds: float = 0.0
    fail_at: int = -1
    mended: str = ""

    version: ClassVar[int] = 1

    def init(
        self,
        net: Net,
        params: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        tasks: tuple[Task, ...],
        rng: Rng,
    ) -> State:
        return State(net, {k: v.clone() for k, v in params.items()}, dict(buffers), tasks, rng)

    def step(self, state: State) -> StepInfo:
        if state.step == self.fail_at and not (self.mended and Path(self.mended).exists()):
            raise RuntimeError("this step\nfails on purpose")
        time.sleep(self.seconds)
        (batch,) = state.tasks[0].splits["train"]
        params = {name: value.requires_grad_() for name, value in state.params.items()}
        outputs = torch.func.functional_call(state.net.module, params, (batch.x,))
        losses = torch.nn.functional.cross_entropy(outputs, batch.y, reduction="none")
        gradients = torch.autograd.grad(losses.mean(), list(params.values()))
        losses = losses.detach()
        noise = state.rng.child("noise", state.step).torch()
        for (name, value), gradient in zip(params.items(), gradients, strict=True):
            kick = 0.01 * torch.randn(value.shape, generator=noise)
            state.params[name] = (value - self.learning_rate * gradient + kick).detach()
        state.buffers["calls"] = state.buffers["calls"] + 1
        state.step += 1
        state.best = min(state.best, float(losses.mean()))
        done = state.step >= self.max_steps
        return StepInfo(
            step=state.step,
            loss=float(losses.mean()),
            index=batch.index,
            answers=Told(losses=losses, correct=outputs.argmax(1) == batch.y),
            done=done,
            reason="max_steps" if done else "",
        )

    def solution(self, state: State) -> Solution:
        params = {name: value.clone() for name, value in state.params.items()}
        return Solution(net=state.net, params=params, buffers=dict(state.buffers), tasks=state.tasks, step=state.step)

    def pack(self, state: State) -> Packed:
        return Packed(tensors={**state.params, **state.buffers}, values={"step": state.step, "best": state.best})

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> State:
        params = {name: value for name, value in packed.tensors.items() if name != "calls"}
        buffers = {"calls": packed.tensors["calls"]}
        return State(net, params, buffers, tasks, rng, step=packed.values["step"], best=packed.values["best"])


class Quiet:
    """What the toy measurements have in common."""

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset()
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (SOURCE,)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return ()

    def reading(self, result: Result) -> str:
        return "A toy says nothing."


@dataclass(frozen=True, kw_only=True)
class Norm(Quiet):
    """The length of the weights, and their product with a random direction."""

    order: float = 2.0

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        vector = torch.cat([value.flatten() for value in subject.params.values()]).double()
        direction = torch.randn(len(vector), generator=rng.torch(), dtype=torch.float64)
        values = {
            "norm": Estimate(value=float(vector.norm(self.order)), stderr=0.0, n=len(vector), method="exact"),
            "along": Estimate(value=float(vector @ direction), n=1),
            "weights": Array(data=vector.numpy(), dims=("weight",), coords={"weight": np.arange(len(vector)) / 3}),
        }
        return Result(values=values, notes=(Note(code="toy", text="It is a toy."),))


@dataclass(frozen=True, kw_only=True)
class Slow(Norm):
    """The same, after a while."""

    seconds: float = 0.05

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        time.sleep(self.seconds)
        return super().measure(subject, rng)


@dataclass(frozen=True, kw_only=True)
class Way(Quiet):
    """The norm along the way."""

    takes: ClassVar[str] = "trajectory"

    def measure(self, subject: Sequence[Solution], rng: Rng) -> Outcome:
        steps = np.array([solution.step for solution in subject], dtype=np.float64)
        norms = np.array([float(solution.params["weight"].norm()) for solution in subject])
        return Result(values={"norm": Array(data=norms, dims=("step",), coords={"step": steps})})


@dataclass(frozen=True, kw_only=True)
class Beside(Way):
    """The norm along the way, and of the others behind it."""

    takes: ClassVar[str] = "path_and_others"


@dataclass(frozen=True, kw_only=True)
class Distance(Quiet):
    """How far two solutions lie from each other."""

    takes: ClassVar[str] = "pair"

    def measure(self, subject: tuple[Solution, Solution], rng: Rng) -> Outcome:
        first, second = subject
        return Result(
            values={"distance": Estimate(value=float((first.params["weight"] - second.params["weight"]).norm()))}
        )


@dataclass(frozen=True, kw_only=True)
class Curved(Norm):
    """Needs what a toy is not."""

    needs: ClassVar[frozenset[str]] = frozenset({"binary", "smooth"})


@dataclass(frozen=True, kw_only=True)
class Broken(Quiet):
    """Raises, while the file `mended` does not exist."""

    mended: str = ""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        if self.mended and Path(self.mended).exists():
            return Result(values={"mended": Estimate(value=1.0)})
        raise ZeroDivisionError("nothing can be\n divided by this")


@dataclass(frozen=True, kw_only=True)
class Careless(Norm):
    """Leaves every global setting changed."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        import random

        torch.manual_seed(1)
        torch.rand(3)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        torch.set_grad_enabled(False)
        return super().measure(subject, rng)


@dataclass(frozen=True, kw_only=True)
class Threads(Quiet):
    """How many threads torch computes with."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        return Result(values={"threads": Estimate(value=torch.get_num_threads())})


@dataclass(frozen=True, kw_only=True)
class Stop(Quiet):
    """Presses Ctrl-C."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        raise KeyboardInterrupt


@dataclass(frozen=True, kw_only=True)
class Count:
    """Counts how often each example was classified rightly."""

    fail_at: int = -1

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "training"

    def begin(self, tasks: tuple[Task, ...]) -> dict[str, Any]:
        return {
            "right": torch.zeros(len(tasks[0].splits["train"]), dtype=torch.int64),
            "steps": 0,
            "lowest": float("inf"),
        }

    def watch(self, memory: dict[str, Any], info: StepInfo) -> None:
        if info.step == self.fail_at:
            raise RuntimeError("blinked")
        assert info.index is not None and info.correct is not None
        memory["right"][info.index] += info.correct
        memory["steps"] += 1
        memory["lowest"] = min(memory["lowest"], info.loss)

    def conclude(self, memory: Mapping[str, Any]) -> Outcome:
        values: dict[str, Estimate | Array] = {
            "steps": Estimate(value=memory["steps"]),
            "lowest": Estimate(value=memory["lowest"], unit="nats"),
            "right": Array(data=memory["right"].double().numpy(), dims=("example",)),
        }
        return Result(values=values)


@dataclass(frozen=True, kw_only=True)
class ToyStudy:
    """Longer steps, larger weights."""

    num_seeds: int = 3
    max_steps: int = 4
    seconds: float = 0.0

    version: ClassVar[int] = 1
    source: ClassVar[Source] = SOURCE

    def jobs(self, scale: str) -> Sequence[Job]:
        rates = {"smoke": (0.1, 1.0), "laptop": (0.1, 0.3, 1.0), "paper": ()}[scale]
        return [
            Job(
                problem=Clouds(),
                model=Linear(),
                training=Descent(learning_rate=rate, max_steps=self.max_steps, seconds=self.seconds),
                measurements=(Norm(), Slow(seconds=self.seconds), Way(), Count()),
                seed=seed,
                snapshots=(0, 2),
                tags={"rate": rate},
            )
            for rate in rates
            for seed in range(self.num_seeds)
        ]

    def claims(self) -> Sequence[Claim]:
        return [
            Claim(id="longer", says="Longer steps make longer weights.", where="here", test=longer),
            Claim(id="absurd", says="The rule breaks down.", where="nowhere", test=absurd),
        ]

    def figures(self, rows: Sequence[Row]) -> Sequence[Figure]:
        return []


def longer(rows: Sequence[Row]) -> Verdict:
    found: dict[Any, list[float]] = {}
    for row in rows:
        if row.measurement.lower().endswith("norm") and isinstance(row.outcome, Result):
            found.setdefault(row.tags["rate"], []).append(row.outcome.estimate("norm").value)
    short, long = np.mean(found[0.1]), np.mean(found[1.0])
    return Verdict(verdict="holds" if long > short else "fails", statistic=float(long - short), n=len(found[0.1]))


def absurd(rows: Sequence[Row]) -> Verdict:
    raise KeyError("a row that is not there")


def job(**changes: Any) -> Job:
    """A job on the toys."""
    whole = Job(problem=Clouds(), model=Linear(), training=Descent(), measurements=(Norm(),))
    return replace(whole, **changes)


def same(a: Solution, b: Solution) -> bool:
    """Whether two solutions are the same, bit for bit."""
    held = [{**s.params, **{f"buffers/{k}": v for k, v in s.buffers.items()}} for s in (a, b)]
    return held[0].keys() == held[1].keys() and all(torch.equal(held[0][k], held[1][k]) for k in held[0])
