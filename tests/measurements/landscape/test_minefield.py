"""The minefield: toy minima around a toy path, their accuracies and distances, what is said and drawn of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.measurements.contract import RNG, must_be_shown, must_be_the_same
from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result, Solution
from vallis.measurements.landscape.minefield import Minefield
from vallis.numerics.embeddings import kernel_distance
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.testing.toys.solutions import path

WALKED = path(Blobs(num_classes=3, double=True), TinyMlp(double=True), Rng(0), tuple(range(0, 60, 3)))


def around(count: int) -> tuple[Solution, ...]:
    """Networks beside points of the path that say something else: their last layer is turned over."""
    found = []
    for place in range(count):
        start = WALKED[2 * place]
        noise = {name: 0.3 * torch.randn(value.shape, generator=Rng(place).child(name).torch(), dtype=value.dtype)
                 for name, value in start.params.items()}  # fmt: skip
        params = {name: value + noise[name] for name, value in start.params.items()}
        last = list(params)[-2]
        params[last] = -3 * params[last]
        found.append(replace(start, params=params, step=1))
    return tuple(found)


def asked(part: Minefield, solutions: Sequence[Solution]) -> Result:
    found = part.measure(solutions, RNG)
    assert isinstance(found, Result), found
    must_be_shown(part, found)
    return found


def test_the_path_is_told_from_the_others() -> None:
    part = Minefield(perplexities=(5.0, 300.0))
    found = asked(part, (*WALKED, *around(8)))
    assert found.array("is_path").data.tolist() == [1.0] * 20 + [0.0] * 8
    assert found.estimate("num_others").value == 8
    ends = found.estimate("path_end_test_accuracy").value
    others = found.estimate("others_test_accuracy")
    assert ends > others.value + 0.2
    accuracies = found.array("test_accuracies").data
    assert others.value == pytest.approx(accuracies[20:].mean())
    assert others.stderr == pytest.approx(accuracies[20:].std(ddof=1) / 8**0.5)
    solution = WALKED[-1]
    with torch.no_grad():
        module = torch.func.functional_call(solution.net.module, dict(solution.params), solution.task.splits["test"].x)  # type: ignore[attr-defined]
        right = (module.argmax(1) == solution.task.splits["test"].y).double().mean()  # type: ignore[attr-defined]
    assert ends == float(right)
    assert {note.code for note in found.notes} == {"fewer_components", "perplexity_lowered", "path_by_steps"}
    assert found.array("tsne_5").data.shape == found.array("tsne_9").data.shape == (28, 2)
    must_be_the_same(found, part.measure((*WALKED, *around(8)), RNG))


def test_the_path_ends_where_another_training_begins() -> None:
    """Minima found from its points have made more steps than its end: rising steps alone would take them for path."""
    path = tuple(replace(each, origin={"seed": 0}) for each in WALKED)
    others = tuple(
        replace(each, origin={"seed": 0, "from": place}, step=100 + place) for place, each in enumerate(around(4))
    )
    found = asked(Minefield(perplexities=()), (*path, *others))
    assert (found.array("is_path").data.sum(), found.estimate("num_others").value) == (20, 4)


def test_networks_that_were_brought_along_are_told_apart_by_steps_and_that_is_said() -> None:
    later = tuple(replace(each, step=100 + place) for place, each in enumerate(around(4)))
    found = asked(Minefield(perplexities=()), (*WALKED, *later))
    assert found.array("is_path").data.sum() == 24, "nothing tells them from the path"
    assert "The first 24 networks" in next(note.text for note in found.notes if note.code == "path_by_steps")
    said = asked(Minefield(perplexities=(), num_path=20), (*WALKED, *later))
    assert said.estimate("num_others").value == 4
    assert "path_by_steps" not in {note.code for note in said.notes}
    trained = tuple(replace(each, origin={"seed": 0}) for each in WALKED)
    assert "path_by_steps" not in {note.code for note in asked(Minefield(perplexities=()), trained).notes}


def test_without_steps_the_path_must_be_said() -> None:
    bare = tuple(replace(each, step=0) for each in (*WALKED[:6], *around(2)))
    refused = Minefield(perplexities=()).measure(bare, RNG)
    assert isinstance(refused, NotApplicable)
    assert refused.note.code == "which_is_path"
    assert asked(Minefield(perplexities=(), num_path=6), bare).estimate("num_others").value == 2


def test_distances_are_to_the_nearest_of_the_path() -> None:
    others = around(3)
    found = asked(Minefield(perplexities=()), (*WALKED, *others))
    distances = found.array("distances").data
    assert distances[1, 4] == pytest.approx(kernel_distance(WALKED[4], others[1]))
    assert found.estimate("nearest_distance").value == pytest.approx(distances.min(1).mean())
    assert found.estimate("path_distance").value == pytest.approx(kernel_distance(WALKED[-1], WALKED[0]))
    assert "its own ends are" in Minefield().reading(found)


def test_pictures_show_the_path_the_others_and_the_end() -> None:
    part = Minefield(perplexities=(5.0,))
    figures = part.figures(asked(part, (*WALKED, *around(8))))
    assert [figure.name for figure in figures] == ["minefield_components", "minefield_tsne_5"]
    line, others, end = figures[0].marks
    assert (len(line.x), len(others.x), len(end.x)) == (20, 8, 1)
    assert (line.x[-1], line.y[-1]) == (end.x[0], end.y[0])
    assert figures[0].z is not None and "test accuracy" in figures[0].z.label
    assert "8 other networks" in part.reading(asked(part, (*WALKED, *around(8))))


def test_a_path_alone_and_a_path_of_a_given_length() -> None:
    part = Minefield(perplexities=())
    alone = asked(part, WALKED)
    assert "no others" in part.reading(alone) and "distances" not in alone.values
    assert asked(replace(part, num_path=5), WALKED).estimate("num_others").value == 15
    few = asked(Minefield(), WALKED[:4])
    assert [note.code for note in few.notes] == ["no_tsne", "path_by_steps"]


def test_what_is_no_minefield() -> None:
    wide = path(Blobs(num_classes=3, double=True), TinyMlp(widths=(5, 4), double=True), Rng(0), (0,))
    far = replace(WALKED[0], params={name: value * np.nan for name, value in WALKED[0].params.items()})
    cases: list[tuple[Any, str]] = [
        (WALKED[:2], "too_few_networks"),
        ((*WALKED, *wide), "other_network"),
        ((*WALKED, far), "not_finite"),
        ((WALKED[0],) * 3, "one_point"),
    ]
    for solutions, code in cases:
        outcome = Minefield().measure(solutions, RNG)
        assert isinstance(outcome, NotApplicable) and outcome.note.code == code


@pytest.mark.parametrize("settings", [{"num_path": 0}, {"perplexities": (0.5,)}, {"num_components": 1}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        Minefield(**settings)  # type: ignore[arg-type]
