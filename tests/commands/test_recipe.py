from __future__ import annotations

import argparse

import pytest

from vallis.commands import recipe
from vallis.commands.options import split
from vallis.core.errors import UsageError
from vallis.core.types import Job
from vallis.models.mlp import Mlp
from vallis.problems.digits import Digits
from vallis.training.gradient_descent import GradientDescent


def job(*words: str) -> Job:
    tree, rest = split(words)
    parser = argparse.ArgumentParser()
    parser.add_argument("problem", nargs="?", default=recipe.PROBLEM)
    recipe.add_network(parser)
    args = parser.parse_args(rest)
    args.tree = tree
    return recipe.job(args)


def test_the_defaults_are_what_the_help_says() -> None:
    found = job()
    assert (found.problem, found.model, found.seed) == (Digits(), Mlp(), 0)
    assert found.training == GradientDescent(momentum=0.9, weight_decay=0.001)


def test_one_setting_changes_one_setting() -> None:
    assert job("--training.learning_rate", "0.3").training == GradientDescent(
        momentum=0.9, weight_decay=0.001, learning_rate=0.3
    )


def test_a_training_that_is_named_has_its_own_defaults() -> None:
    assert job("--training", "gradient_descent").training == GradientDescent()


def test_where_the_usual_settings_do_not_fit_the_parts_own_hold() -> None:
    assert job("--training.optimizer", "Adam").training == GradientDescent(optimizer="Adam")
    with pytest.raises(UsageError, match="no optimizer is named"):
        job("--training.optimizer", "Adma")


def test_a_measurement_has_the_settings_of_its_panel_and_then_those_of_the_command_line() -> None:
    tree, _ = split(["--hessian_trace.num_probes=7"])
    assert recipe.measurement("hessian_trace", tree).num_probes == 7
    tree, _ = split([])
    panels = type(recipe.measurement("hessian_trace", tree)).panels
    for panel, settings in panels.items():
        part = recipe.measurement("hessian_trace", tree, panel)
        assert {key: getattr(part, key) for key in settings} == dict(settings)
