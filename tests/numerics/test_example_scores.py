"""Scores of examples against one example at a time in plain Python."""

from __future__ import annotations

import math

import pytest
import torch

from tests.numerics.histories import History
from vallis.numerics.example_scores import (
    area_under_margin,
    cartography,
    error_norm,
    first_learned,
    first_right,
    forgetting_events,
    never_learned,
)


def drawn(seed: int, num_examples: int = 40, most: int = 9) -> tuple[list[History], torch.Tensor, torch.Tensor]:
    """Histories of different lengths, none among them, with the correct answers and the numbers seen as tensors."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, most + 1, (num_examples,), generator=generator)
    lengths[0], lengths[1] = 0, most
    # What lies beyond an example's own presentations must not matter: it is random too.
    margins = torch.randn(most, num_examples, generator=generator, dtype=torch.float64)
    histories = []
    for column, length in enumerate(lengths.tolist()):
        held = margins[:length, column].tolist()
        probabilities = [1 / (1 + math.exp(-value)) for value in held]
        histories.append(History([value > 0 for value in held], held, probabilities, [1 - p for p in probabilities]))
    return histories, margins, lengths


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_drawn_histories(seed: int) -> None:
    histories, margins, seen = drawn(seed)
    correct, chances = margins > 0, margins.sigmoid()
    assert forgetting_events(correct, seen).tolist() == [one.forgetting_events for one in histories]
    assert never_learned(correct, seen).tolist() == [one.never_learned for one in histories]
    assert first_right(correct, seen).tolist() == [one.first_right for one in histories]
    assert first_learned(correct, seen).tolist() == [one.first_learned for one in histories]
    same(area_under_margin(margins, seen), [one.area_under_margin for one in histories])
    for start, stop in ((0, None), (0, 3), (2, 5), (8, 9)):
        same(error_norm(1 - chances, seen, start, stop), [one.error_norm(start, stop) for one in histories])
    found = cartography(chances, correct, seen)
    same(found.confidence, [one.confidence for one in histories])
    same(found.variability, [one.variability for one in histories])
    same(found.correctness, [one.correctness for one in histories])


def same(found: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12, equal_nan=True
    )


def test_the_sequences_of_the_definition() -> None:
    """0 1 1 0 1 0 is learned first at 1 and forgotten twice, 1 1 1 1 is never forgotten, 0 0 never learned."""
    rows = [[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1]]
    correct, seen = torch.tensor(rows).T.bool(), torch.tensor([6, 4, 2, 6])
    assert forgetting_events(correct, seen).tolist() == [2, 0, 0, 1]
    assert never_learned(correct, seen).tolist() == [False, False, True, False]
    assert first_right(correct, seen).tolist() == [1, 0, -1, 2]
    assert first_learned(correct, seen).tolist() == [-1, 0, -1, 4]


def test_nothing_recorded() -> None:
    correct, seen = torch.zeros(0, 3, dtype=torch.bool), torch.zeros(3, dtype=torch.long)
    assert forgetting_events(correct, seen).tolist() == [0, 0, 0]
    assert first_right(correct, seen).tolist() == first_learned(correct, seen).tolist() == [-1, -1, -1]
    assert not never_learned(correct, seen).any()
    assert bool(area_under_margin(torch.zeros(0, 3), seen).isnan().all())
