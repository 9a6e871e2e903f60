"""Training on noisy labels with a corrected loss: with a known transition matrix, or one that is estimated first.

Estimated, there are two stages. A first training learns the noisy labels with cross-entropy, and the transition matrix
is read off what it says of the training inputs. Then the network starts again from its first weights, and learns with
the corrected loss. Both stages get the stream that the whole is given: the first finds what it would find alone, and a
correction by the identity finds what `base` would.

Source: Patrini et al. (2017), Making deep neural networks robust to label noise: a loss correction approach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch

from vallis.core.corrected_losses import BackwardCorrected, CorrectedCrossEntropy, ForwardCorrected
from vallis.core.errors import DataError, LossError, SettingsError
from vallis.core.losses import CrossEntropy
from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.types import Net, Packed, Solution, StepInfo, Task
from vallis.numerics.transition_matrix import estimate_transition, mixed_with_identity, predicted_probabilities
from vallis.problems._checks import check_choice, check_part, check_share
from vallis.training._nested import in_stage, only_task, pack_within, packed_within

Correction = Literal["forward", "backward"]
# The names of its stages.
ESTIMATING, CORRECTED = "estimating the transition matrix", "with the corrected loss"
_CORRECTIONS: Mapping[str, type[CorrectedCrossEntropy]] = {"forward": ForwardCorrected, "backward": BackwardCorrected}


@dataclass(kw_only=True, eq=False)
class State:
    """Everything the next step depends on.

    Attributes:
        inner: the state of the present stage's training.
        tasks: as they came, for solutions.
        start: the weights both stages begin with.
        transition: ``(C, C)`` T; None in the first stage.
        before: how many steps the first stage took.
    """

    inner: Any
    net: Net
    tasks: tuple[Task, ...]
    rng: Rng
    start: tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]
    transition: torch.Tensor | None = None
    before: int = 0


@dataclass(frozen=True, kw_only=True)
class LossCorrection:
    """`base` with the cross-entropy of its task corrected for label noise; the task itself stays as it is.

    Attributes:
        base: the training that learns with the corrected loss.
        correction: "forward" or "backward", see `vallis.core.corrected_losses`.
        transition: ``(C, C)`` T as rows of numbers; None estimates it.
        first: the training on noisy labels that it is estimated from, as `early_stopping`; None is `base`.
        percentile: see `vallis.numerics.transition_matrix.estimate_transition`; None takes the largest probability.
        identity_share: T is mixed with so much of the identity.
        least_probability: see `vallis.core.corrected_losses.CorrectedCrossEntropy`.
    """

    version: ClassVar[int] = 3

    base: Training
    correction: Correction = "forward"
    transition: tuple[tuple[float, ...], ...] | None = None
    first: Training | None = None
    percentile: float | None = 97.0
    identity_share: float = 0.0
    least_probability: float = 1e-7

    def __post_init__(self) -> None:
        check_part("loss_correction.base", self.base, "init")
        check_choice("loss_correction.correction", self.correction, Correction)
        check_share("loss_correction.identity_share", self.identity_share, zero=True, one=True)
        if self.percentile is not None and not 0 < self.percentile < 100:
            raise SettingsError(
                f"loss_correction.percentile must be in (0, 100), {self.percentile} came: give 97, or None"
            )
        if self.transition is not None:
            object.__setattr__(self, "transition", tuple(map(tuple, self.transition)))
            if self.first is not None:
                raise SettingsError(
                    "a transition matrix or a first training to estimate it from was required, both came: leave one"
                )
            self._loss(torch.tensor(self.transition, dtype=torch.float64), CrossEntropy())

    @classmethod
    def tiny(cls) -> LossCorrection:
        """The cheapest settings, for tests."""
        from vallis.testing.awkward.company import StackedDescent

        return cls(base=StackedDescent(max_steps=4), first=StackedDescent(max_steps=5))

    def init(
        self,
        net: Net,
        params: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        tasks: tuple[Task, ...],
        rng: Rng,
    ) -> State:
        """The state before the first step.

        Raises:
            SettingsError: there are several tasks.
            LossError: the loss of the task is no plain cross-entropy.
            DataError: there is a first stage, and the targets are no classes, one an example.
            UsageError: a stage's training cannot train this.
        """
        task = only_task(tasks, "loss_correction")
        _cross_entropy(task)
        if self.transition is None:
            _must_be_classes(task)
        start = tuple({name: value.detach().clone() for name, value in held.items()} for held in (params, buffers))
        state = State(inner=None, net=net, tasks=tasks, rng=rng, start=(start[0], start[1]))
        if self.transition is None:
            state.inner = self._first.init(net, *state.start, tasks, rng)
        else:
            self._correct(state, torch.tensor(self.transition, dtype=torch.float64))
        return state

    def step(self, state: State) -> StepInfo:
        """One step of the present stage.

        Raises:
            DataError: the first stage ended without finite probabilities ``(N, C)`` to estimate from.
            LossError: the estimate has no inverse, and the correction is backward.
        """
        if state.transition is not None:
            info = in_stage(self.base.step(state.inner), self._stage(state))
            return replace(info, step=state.before + info.step)
        info = in_stage(self._first.step(state.inner), self._stage(state))
        if not info.done:
            return info
        state.before = info.step
        solution = self._first.solution(state.inner)
        labels = torch.cat([batch.y for batch in solution.task.splits["train"]])
        probabilities = predicted_probabilities(solution)
        self._correct(state, estimate_transition(probabilities, labels=labels, percentile=self.percentile).matrix)
        # Of no steps, the first stage made none now either.
        return replace(info, done=False, reason="") if info.step else self.step(state)

    def solution(self, state: State) -> Solution:
        training = self._first if state.transition is None else self.base
        found = in_stage(training.solution(state.inner), self._stage(state))
        return replace(found, tasks=state.tasks, step=state.before + found.step)

    def pack(self, state: State) -> Packed:
        inner = (self._first if state.transition is None else self.base).pack(state.inner)
        tensors = {} if state.transition is None else {"transition": state.transition.clone()}
        for kind, held in zip(("params", "buffers"), state.start, strict=True):
            tensors |= {f"start/{kind}/{name}": value.clone() for name, value in held.items()}
        return pack_within(inner, tensors, {"before": state.before})

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> State:
        kept = packed.tensors
        device = next(net.module.parameters()).device
        # The order of weights is that of the module: a state at rest keeps none.
        names = [*dict(net.module.named_parameters()), *dict(net.module.named_buffers())]
        params, buffers = (
            {name: kept[kind + name].clone().to(device) for name in names if kind + name in kept}
            for kind in ("start/params/", "start/buffers/")
        )
        transition, before = kept.get("transition"), packed.values["before"]
        state = State(inner=None, net=net, tasks=tasks, rng=rng, start=(params, buffers), before=before)
        if transition is None:
            state.inner = self._first.unpack(packed_within(packed), net, tasks, rng)
        else:
            state.transition = transition.clone()
            state.inner = self.base.unpack(packed_within(packed), net, self._corrected(tasks, transition), rng)
        return state

    @property
    def _first(self) -> Training:
        return self.base if self.first is None else self.first

    def _stage(self, state: State) -> str:
        """The name of the present stage; none where a matrix was given, and there is no other."""
        if self.transition is not None:
            return ""
        return ESTIMATING if state.transition is None else CORRECTED

    def _correct(self, state: State, transition: torch.Tensor) -> None:
        """Begins the stage with the corrected loss."""
        state.transition = mixed_with_identity(transition, self.identity_share)
        corrected = self._corrected(state.tasks, state.transition)
        state.inner = self.base.init(state.net, *state.start, corrected, state.rng)

    def _corrected(self, tasks: tuple[Task, ...], transition: torch.Tensor) -> tuple[Task, ...]:
        return tuple(replace(task, loss=self._loss(transition, _cross_entropy(task))) for task in tasks)

    def _loss(self, transition: torch.Tensor, loss: CrossEntropy) -> CorrectedCrossEntropy:
        return _CORRECTIONS[self.correction](
            transition=transition.tolist(),
            least_probability=self.least_probability,
            ignore_index=loss.ignore_index,
        )


def _cross_entropy(task: Task) -> CrossEntropy:
    loss = task.loss
    if not isinstance(loss, CrossEntropy) or loss.label_smoothing:
        raise LossError(
            "a cross-entropy over classes without smoothing was required for its correction, task "
            f"{task.name} has another loss: choose a problem of classes"
        )
    return loss


def _must_be_classes(task: Task) -> None:
    """Here, and not when the first stage has ended."""
    y = next(iter(task.splits["train"])).y
    if not isinstance(y, torch.Tensor) or y.is_floating_point() or y.ndim != 1:
        came = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, torch.Tensor) else f"a {type(y).__name__}"
        raise DataError(
            f"one class an example was required to estimate a transition matrix, task {task.name} has targets {came}: "
            "choose a problem of classes, or give the matrix"
        )
