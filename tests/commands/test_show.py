from __future__ import annotations

import pytest

from tests.commands.calls import Vallis
from tests.commands.conftest import Install
from vallis.core import catalog


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in catalog.KINDS for n in catalog.names(k)])
def test_every_part_can_be_shown(vallis: Vallis, kind: str, name: str) -> None:
    printed = vallis.good("show", kind, name)
    assert printed.startswith(f"{name}  ({kind})")
    assert catalog.summary(kind, name).split()[0] in printed


def test_a_measurement_with_everything(vallis: Vallis) -> None:
    printed = vallis.good("show", "hessian_trace")
    assert "Definition:" in printed
    assert "--hessian_trace.num_probes INT  (default: " in printed
    assert "how many random vectors" in printed
    assert "M. F. Hutchinson" in printed


def test_options_are_those_of_the_command_line(vallis: Vallis) -> None:
    assert "--problem.base PROBLEM  (required)" in vallis.good("show", "corrupted")
    assert "--model.widths int,...  (default: 128,128)" in vallis.good("show", "model", "mlp")


def test_a_name_of_two_kinds_is_shown_twice(vallis: Vallis, install: Install) -> None:
    install("models", digits="Linear")
    printed = vallis.good("show", "digits")
    assert "digits  (problems)" in printed
    assert "digits  (models)" in printed


@pytest.mark.usefixtures("toys")
def test_a_study_has_one_source(vallis: Vallis) -> None:
    assert "Nobody, A toy, 2026" in vallis.good("show", "toy_study")


def test_an_unknown_part_is_a_sentence(vallis: Vallis) -> None:
    assert "did you mean digits" in vallis.refused("show", "digts")
    assert "named 'digits'" in vallis.refused("show", "model", "digits")
    assert "no kind is named" in vallis.refused("show", "modle", "mlp")
    assert "after the kind model, none came: choose one of alexnet_small" in vallis.refused("show", "model")
    assert "show one part" in vallis.refused("show", "model", "mlp", "convnet")
