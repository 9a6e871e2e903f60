"""Approximate message passing with reinforcement on a binary perceptron: a training that goes down no gradient.

Patterns with their labels absorbed, ``xi (M, N)``; magnetisations m, the mean of each weight; reinforcement turns the
mean fields of one sweep into a bias of the next, until every m is close to plus or minus one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from vallis.core.answers import Told
from vallis.core.errors import ModelError
from vallis.core.functional import call
from vallis.core.rng import Rng
from vallis.core.types import Net, Packed, Solution, StepInfo, Task

_LEAST_VARIANCE = 1e-10  # all weights decided: nothing is left to divide by


@dataclass(kw_only=True, eq=False)
class Messages:
    """The state of a sweep.

    Attributes:
        patterns: ``(M, N)`` float64, multiplied by their labels.
        means: ``(N,)`` magnetisations of the weights.
        pulls: ``(M,)`` what each pattern asks for, of the sweep before (the Onsager term needs it).
        bias: ``(N,)`` the field of reinforcement.
    """

    net: Net
    tasks: tuple[Task, ...]
    patterns: torch.Tensor
    means: torch.Tensor
    pulls: torch.Tensor
    bias: torch.Tensor
    step: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ReinforcedMessages:
    """Sweeps of reinforced message passing until all patterns are right.

    Attributes:
        rate: how much the reinforcement x grows in a sweep; the bias is ``x / (1 - x)`` times the field.
        damping: the share of the old messages that is kept.
        max_steps: the most sweeps.
    """

    version: ClassVar[int] = 1

    rate: float = 0.005
    damping: float = 0.5
    max_steps: int = 1000

    def init(
        self,
        net: Net,
        params: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        tasks: tuple[Task, ...],
        rng: Rng,
    ) -> Messages:
        """The state before the first sweep: a faint memory of the given weights, and no messages.

        Raises:
            ModelError: the net is not a binary perceptron.
        """
        if "binary" not in net.traits or list(params) != ["weight"]:
            raise ModelError("a binary perceptron was required, another net came: use a training for its weights")
        patterns = _patterns(tasks)
        return Messages(
            net=net,
            tasks=tasks,
            patterns=patterns,
            means=0.01 * params["weight"].double(),
            pulls=torch.zeros(len(patterns), dtype=torch.float64),
            bias=torch.zeros(patterns.shape[1], dtype=torch.float64),
        )

    def step(self, state: Messages) -> StepInfo:
        (batch,) = state.tasks[0].splits["train"]
        loss = state.tasks[0].loss
        outputs = call(state.net.module, {"weight": _signs(state.means)}, {}, batch.x)
        if not state.reason:
            self._sweep(state)
            state.step += 1
            solved = bool((state.patterns @ _signs(state.means).double() > 0).all())
            state.reason = "solved" if solved else "max_steps" if state.step >= self.max_steps else ""
        return StepInfo(
            step=state.step,
            loss=float(loss.mean(outputs, batch.y)),
            index=batch.index,
            answers=Told(
                losses=loss.per_example(outputs, batch.y)[0],
                correct=(outputs > 0) == (batch.y > 0.5),
                scores=outputs,
                targets=batch.y,
            ),
            done=bool(state.reason),
            reason=state.reason,
        )

    def solution(self, state: Messages) -> Solution:
        return Solution(
            net=state.net, params={"weight": _signs(state.means)}, buffers={}, tasks=state.tasks, step=state.step
        )

    def pack(self, state: Messages) -> Packed:
        tensors = {name: getattr(state, name).clone() for name in ("means", "pulls", "bias")}
        return Packed(tensors=tensors, values={"step": state.step, "reason": state.reason})

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> Messages:
        held: dict[str, Any] = {name: tensor.clone() for name, tensor in packed.tensors.items()}
        return Messages(net=net, tasks=tasks, patterns=_patterns(tasks), **held, **packed.values)

    def _sweep(self, state: Messages) -> None:
        xi, m = state.patterns, state.means
        variance = (1 - m**2).sum() + _LEAST_VARIANCE
        omega = xi @ m - variance * state.pulls
        pulls = self._damped(_inverse_mills(omega / variance.sqrt()) / variance.sqrt(), state.pulls)
        onsager = (pulls * (pulls + omega / variance)).sum()
        field = pulls @ xi + m * onsager
        x = min(self.rate * state.step, 1 - self.rate)
        state.bias = x / (1 - x) * field
        state.means = self._damped(torch.tanh(field + state.bias), m)
        state.pulls = pulls

    def _damped(self, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        return (1 - self.damping) * new + self.damping * old


def _patterns(tasks: tuple[Task, ...]) -> torch.Tensor:
    (batch,) = tasks[0].splits["train"]
    signs = 2 * batch.y.double() - 1
    absorbed: torch.Tensor = signs[:, None] * batch.x.double()
    return absorbed


def _signs(means: torch.Tensor) -> torch.Tensor:
    return torch.where(means >= 0, 1.0, -1.0)


def _inverse_mills(x: torch.Tensor) -> torch.Tensor:
    """The Gaussian density over its distribution function, at x; in logarithms, because both vanish."""
    return torch.exp(-(x**2) / 2 - 0.5 * math.log(2 * math.pi) - torch.special.log_ndtr(x))
