from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from vallis.core.errors import SettingsError
from vallis.training._descent_rules import check
from vallis.training.gradient_descent import GradientDescent

POSSIBLE = vars(GradientDescent(schedule="step", milestones=(1, 4), dropout=0.0, batch_size=None, max_steps=0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", math.inf),
        ("momentum", -0.1),
        ("weight_decay", math.nan),
        ("batch_size", -1),
        ("dropout", -0.1),
        ("augmentation", "Flip"),
        ("schedule", "stairs"),
        ("schedule", "constant"),  # the milestones would be ignored in silence
        ("decay", -1.0),
        ("milestones", (0, 1)),
        ("milestones", (2, 2)),
        ("milestones", ()),
        ("max_steps", -1),
        ("check_every", 0),
        ("stop_train_loss", math.inf),
        ("stop_train_accuracy", 0.0),
    ],
)
def test_each_setting_has_its_rule(name: str, value: Any) -> None:
    check(SimpleNamespace(**POSSIBLE))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"gradient_descent\.\w+ must be .+ came: change it"):
        check(SimpleNamespace(**{**POSSIBLE, name: value}))  # type: ignore[arg-type]
