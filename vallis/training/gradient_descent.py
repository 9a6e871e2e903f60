"""Gradient descent with any optimizer of torch.optim, resumable bit for bit.

Randomness is a function of the step, not of a generator that moves: epoch e is shuffled by the stream "order", e, and
the noise of step t (dropout, augmentation) comes from the streams "noise", t and "augmentation", t. So a state at rest
holds no generator, and the global ones are never touched. Several tasks are learned one after the other, each with a
fresh optimizer and `max_steps` of its own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from vallis.core import tree
from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Batch, Net, Packed, Solution, StepInfo, Task
from vallis.numerics.batch_statistics import normalises_alone
from vallis.training import _optimizer_state, _optimizers
from vallis.training._augmentation import augment
from vallis.training._descent_company import Company, company_of
from vallis.training._descent_line import Line
from vallis.training._descent_member import Member, Seen, seen_in
from vallis.training._descent_passes import all_right, evaluate, gradients
from vallis.training._descent_rules import check
from vallis.training._descent_state import State, may_draw, must_be_learnable, private_copy, without_gradients
from vallis.training._poison import SPLIT, Poison, beside, losses_of
from vallis.training._schedules import factor

Option = bool | int | float | str | tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class GradientDescent:
    """Gradient descent on the mean training loss.

    Attributes:
        optimizer: the name of a class in `torch.optim`: "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "LBFGS" ...
        options: further arguments of that class, e.g. ``{"nesterov": True}`` or ``{"betas": (0.9, 0.99)}``.
        batch_size: examples a step, drawn without replacement within an epoch, whose last batch may be smaller; None is
            all of them, unshuffled.
        schedule: "cosine" falls to zero at `max_steps`; "exponential" multiplies the rate by `decay` every epoch and
            "step" at each epoch in `milestones`.
        clip_norm: a longer gradient, over all parameters, is shortened to this; None leaves it.
        poison_factor: beta of ``(1 - beta) CE(train) + beta reverse CE(poison)``, in [0, 1], for a task with a split
            "poison" (see the problem `poisoned`): how much weight there is on getting poison wrong. 0 takes no poison;
            None weighs every example of the batch alike, so that beta is the share of poison in it.
        poison_batch_size: how many examples of poison go beside the others of a step, drawn without replacement until
            all were seen; None is all of them at every step.
        dropout: the p of every dropout layer; None leaves the network's own.
        augmentation: random changes of pictures ``(B, C, H, W)``, new at every step: "shift" by up to an eighth, "flip"
            left and right, "crop_flip" both; "rotate" by up to 25 degrees (bilinear, zeros outside), "flip_rotate" with
            "flip"; "colour" changes brightness, contrast, saturation and hue.
        max_steps: the most steps, for each task.
        stop_train_loss: stop once the mean loss over the train split, in eval mode, is at most this.
        stop_train_accuracy: stop once the share of targets that are classified rightly on it is at least this.
        check_every: how many epochs lie between two checks of the stop rules.
    """

    version: ClassVar[int] = 1

    optimizer: str = "SGD"
    options: Mapping[str, Option] = field(default_factory=dict)
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int | None = 128
    schedule: Literal["constant", "cosine", "step", "exponential"] = "constant"
    decay: float = 0.1
    milestones: tuple[int, ...] = ()
    clip_norm: float | None = field(default=None, metadata={"was": None})
    poison_factor: float | None = field(default=0.0, metadata={"was": 0.0})
    poison_batch_size: int | None = field(default=None, metadata={"was": None})
    dropout: float | None = None
    augmentation: Literal["none", "shift", "flip", "crop_flip", "rotate", "flip_rotate", "colour"] = "none"
    max_steps: int = 1000
    stop_train_loss: float | None = None
    stop_train_accuracy: float | None = None
    check_every: int = 1

    def __post_init__(self) -> None:
        # From JSON and from a caller alike: what is a list in one is a tuple in the other.
        options = {key: tuple(value) if isinstance(value, list) else value for key, value in self.options.items()}
        object.__setattr__(self, "options", options)
        check(self)
        self._arguments()

    @classmethod
    def tiny(cls) -> GradientDescent:
        """The cheapest settings, for tests."""
        return cls(learning_rate=0.05, momentum=0.9, batch_size=16, max_steps=7)

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
            ModelError: the weights are binary, or do not fit the net.
            DataError: a task has nothing to train on, or no poison that is asked for.
            LossError: there is poison, and the loss is no plain cross-entropy.
            SettingsError: the optimizer, the dropout or the batch size do not fit the net.
        """
        must_be_learnable(net, tasks)
        module, trainable = private_copy(net, params, buffers)
        self._set_dropout(module)
        self._must_normalise(module, tasks)
        line = Line.of(module, trainable, tasks, self.optimizer)
        learned = list(trainable.values()) if line is None else [line.flat]
        return State(
            net=net,
            tasks=tasks,
            rng=rng,
            done=self.max_steps == 0,
            reason="max_steps" if self.max_steps == 0 else "",
            module=module,
            params=trainable,
            line=line,
            rest=tuple(buffers),
            optimizer=self._fresh(learned),
            losses=losses_of(tasks, self.poison_factor),
            draws=may_draw(module),
            device=next(iter(trainable.values())).device,
        )

    def step(self, state: State) -> StepInfo:
        """One update. A state that is done stays as it is, and the loss of a step that was not made is NaN.

        Raises:
            SettingsError: the augmentation does not fit the inputs, or nothing is classified and the accuracy is to
                stop the training.
        """
        if state.done:
            return StepInfo(step=state.step, loss=math.nan, done=True, reason=state.reason)
        batch = self.next_batch(state)
        first, outputs = gradients(state, batch)
        loss = float(first)
        if math.isfinite(loss):
            self._update(state, batch, first)
        return self.moved(state, seen_in(state, loss, batch.index, outputs, batch.y))

    def moved(self, state: State, seen: Seen) -> StepInfo:
        """What the step saw, once the weights have moved; the state goes on to what comes next."""
        task = state.task
        state.step += 1
        ending = "" if math.isfinite(seen.loss) else "diverged"
        if state.step >= state.due:
            ending = ending or self._ending(state)
        if ending and (ending == "diverged" or state.place + 1 == len(state.tasks)):
            state.done, state.reason = True, ending
        elif ending:
            state.next_task(self._fresh(state.learned))
        return StepInfo(
            step=state.step,
            loss=seen.loss,
            index=seen.index,
            answers=seen.answers,
            task=task.name,
            done=state.done,
            reason=state.reason,
        )

    def rate(self, state: State) -> float:
        """The learning rate of the coming step."""
        taken = state.step - state.began
        epoch = taken // self._steps_an_epoch(state)
        progress = taken / self.max_steps
        return self.learning_rate * factor(
            self.schedule, epoch=epoch, progress=progress, decay=self.decay, milestones=self.milestones
        )

    def solution(self, state: State) -> Solution:
        return Solution(
            net=state.net,
            params=without_gradients(state.params),
            buffers=without_gradients(state.buffers),
            tasks=state.tasks,
            step=state.step,
        )

    def pack(self, state: State) -> Packed:
        tensors = {f"params/{name}": value for name, value in without_gradients(state.params).items()}
        tensors |= {f"buffers/{name}": value for name, value in without_gradients(state.buffers).items()}
        memory = _optimizer_state.pack(state.optimizer, tensors)
        values = {name: getattr(state, name) for name in ("step", "place", "began", "done", "reason")}
        return Packed(tensors=tensors, values={**values, "optimizer": memory})

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> State:
        device = next(net.module.parameters()).device
        params, buffers = (
            {name.removeprefix(kind): t.to(device) for name, t in packed.tensors.items() if name.startswith(kind)}
            for kind in ("params/", "buffers/")
        )
        state = self.init(net, params, buffers, tasks, rng)
        values = dict(packed.values)
        _optimizer_state.unpack(state.optimizer, values.pop("optimizer"), packed.tensors)
        for name, value in values.items():
            setattr(state, name, value)
        return state

    def company(self, state: State) -> Hashable | None:
        """See `vallis.core.protocols.Companionable`; a derived class goes alone: it may change any part."""
        return company_of(state) if type(self) is GradientDescent and not state.done else None

    @staticmethod
    def together(members: Sequence[tuple[GradientDescent, State]]) -> Company:
        """See `vallis.core.protocols.Companionable`."""
        return Company([Member(training, state) for training, state in members])

    def course(self, state: State) -> Hashable:
        """Two of one course have the same rate, and the same rule of update, at every step to come."""
        same = replace(self, stop_train_loss=None, stop_train_accuracy=None, check_every=1, dropout=None)
        return repr(same), self._steps_an_epoch(state), state.step - state.began, state.place, len(state.tasks)

    def _arguments(self) -> dict[str, Any]:
        return _optimizers.arguments(self.optimizer, self.learning_rate, self.momentum, self.weight_decay, self.options)

    def _fresh(self, learned: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return _optimizers.make(self.optimizer, learned, self._arguments())

    def _set_dropout(self, module: torch.nn.Module) -> None:
        layers = [part for part in module.modules() if isinstance(part, _DropoutNd)]
        if self.dropout and not layers:
            raise SettingsError(
                f"a net with dropout layers was required by dropout={self.dropout}, {type(module).__name__} has none: "
                "build it with some or leave dropout=None"
            )
        for layer in layers:
            layer.p = layer.p if self.dropout is None else self.dropout

    def _must_normalise(self, module: torch.nn.Module, tasks: tuple[Task, ...]) -> None:
        if self.poison_factor != 0 or not any(isinstance(part, _BatchNorm) for part in module.modules()):
            return  # beside poison no example stands alone
        device = next(module.parameters()).device
        for data in (task.splits["train"] for task in tasks):
            size = len(data)
            taken = min(self.batch_size or size, size)
            if taken > 1 and size % taken != 1:
                continue
            # A picture has many values a channel, and may be normalised by itself.
            one = data.take(torch.zeros(1, dtype=torch.int64))
            if not normalises_alone(module, tree.to(one.x, device)):
                raise SettingsError(
                    "at least 2 examples in every batch were required for batch normalisation, the last of "
                    f"{size} in batches of {self.batch_size} stands alone: choose another batch_size"
                )

    def next_batch(self, state: State) -> Batch:
        """The batch of the coming step, on the device of the weights."""
        batch = state.next_batch(self.batch_size)
        if self.poison_factor != 0:
            batch = beside(batch, self._poison(state).at(state.step - state.began))
        if self.augmentation == "none" and state.device.type == "cpu":
            return batch
        x, y = tree.to(batch.x, state.device), tree.to(batch.y, state.device)
        if self.augmentation != "none":
            x = augment(x, self.augmentation, state.rng.child("augmentation", state.step).torch(state.device))
        return Batch(x=x, y=y, index=batch.index)

    def _poison(self, state: State) -> Poison:
        if state.poison is None:
            stream = state.rng if state.place == 0 else state.rng.child("task", state.place)
            state.poison = Poison(state.task.splits[SPLIT], self.poison_batch_size, stream.child(SPLIT))
        return state.poison

    def shorten(self, state: State) -> None:
        """Cuts the gradient to `clip_norm`; of one vector, or of many, as its state holds them."""
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(state.learned, self.clip_norm)

    def _update(self, state: State, batch: Batch, first: torch.Tensor) -> None:
        optimizer = state.optimizer
        _optimizers.set_rate(optimizer, self.rate(state))
        self.shorten(state)
        if not _optimizers.needs_closure(self.optimizer):
            _optimizers.advance(optimizer)
            return
        known = [first]  # its first evaluation is the one that was just made
        optimizer.step(lambda: float(known.pop() if known else gradients(state, batch)[0]))

    def _steps_an_epoch(self, state: State) -> int:
        return math.ceil(len(state.data) / (self.batch_size or len(state.data)))

    def _ending(self, state: State) -> str:
        """Why the present task ends after this step; empty while it goes on."""
        taken, every = state.step - state.began, self._steps_an_epoch(state) * self.check_every
        state.due = state.began + min(self.max_steps, (taken // every + 1) * every)
        ending = "max_steps" if taken >= self.max_steps else ""
        if taken % every == 0:
            ending = self._fulfilled(state) or ending
        # Nothing looks at the loss after the last update.
        if ending and not all(bool(value.isfinite().all()) for value in state.learned):
            return "diverged"
        return ending

    def _fulfilled(self, state: State) -> str:
        if self.stop_train_loss is None and self.stop_train_accuracy is None:
            return ""
        if self.stop_train_loss is None and self.stop_train_accuracy == 1:
            reached = all_right(state)
        else:
            loss, accuracy = evaluate(state)
            if self.stop_train_loss is not None and loss <= self.stop_train_loss:
                return "train_loss"
            if self.stop_train_accuracy is None:
                return ""
            reached = None if accuracy is None else accuracy >= self.stop_train_accuracy
        if reached is None:
            raise SettingsError(
                f"a task with classes was required by stop_train_accuracy, {state.task.name} has none: "
                "use stop_train_loss"
            )
        return "train_accuracy" if reached else ""
