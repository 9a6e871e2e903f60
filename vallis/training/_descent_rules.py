"""Which settings of gradient descent are possible."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vallis.core.errors import SettingsError
from vallis.training._augmentation import AUGMENTATIONS
from vallis.training._optimizers import needs_closure
from vallis.training._schedules import SCHEDULES

if TYPE_CHECKING:
    from vallis.training.gradient_descent import GradientDescent


def check(settings: GradientDescent) -> None:
    """Refuses impossible settings, in one sentence.

    Raises:
        SettingsError: a setting has an impossible value.
    """
    for name, possible, wanted in (*_numbers(settings), *_schedule(settings), *_stops(settings)):
        if not possible:
            raise SettingsError(
                f"gradient_descent.{name} must be {wanted}, {getattr(settings, name)!r} came: change it"
            )


def _numbers(settings: GradientDescent) -> Iterator[tuple[str, bool, str]]:
    for name in ("learning_rate", "momentum", "weight_decay"):
        value = getattr(settings, name)
        yield name, math.isfinite(value) and value >= 0, "a finite number, at least 0"
    factor, poison, clip = settings.poison_factor, settings.poison_batch_size, settings.clip_norm
    yield "poison_factor", factor is None or 0 <= factor <= 1, "in [0, 1], or None"
    yield "poison_batch_size", poison is None or poison >= 1, "at least 1, or None for all examples"
    yield "poison_batch_size", poison is None or factor != 0, "left alone without a poison_factor"
    yield "clip_norm", clip is None or (math.isfinite(clip) and clip > 0), "a finite number above 0, or None"
    at_once = clip is None or not needs_closure(settings.optimizer)
    yield "clip_norm", at_once, f"None with {settings.optimizer}, which follows several gradients in a step"
    size = settings.batch_size
    yield "batch_size", size is None or size >= 1, "at least 1, or None for all examples"
    yield "dropout", settings.dropout is None or 0 <= settings.dropout < 1, "at least 0 and below 1, or None"
    yield "augmentation", settings.augmentation in AUGMENTATIONS, f"one of {', '.join(AUGMENTATIONS)}"


def _schedule(settings: GradientDescent) -> Iterator[tuple[str, bool, str]]:
    yield "schedule", settings.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"
    yield "decay", math.isfinite(settings.decay) and settings.decay > 0, "a finite number above 0"
    rising = all(a < b for a, b in zip((0, *settings.milestones), settings.milestones, strict=False))
    yield "milestones", rising, "rising epochs, the first at least 1"
    wanted = settings.schedule == "step"
    yield "milestones", bool(settings.milestones) == wanted, 'given with schedule="step", and only then'


def _stops(settings: GradientDescent) -> Iterator[tuple[str, bool, str]]:
    loss, accuracy = settings.stop_train_loss, settings.stop_train_accuracy
    yield "max_steps", settings.max_steps >= 0, "at least 0"
    yield "check_every", settings.check_every >= 1, "at least 1 epoch"
    yield "stop_train_loss", loss is None or math.isfinite(loss), "a finite number, or None"
    yield "stop_train_accuracy", accuracy is None or 0 < accuracy <= 1, "above 0 and at most 1, or None"
