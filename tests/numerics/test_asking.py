"""Solvers that ask: the same alone and in step, whoever ends first."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from vallis.numerics.asking import Asking, Question, answered, answered_together, matrix_of
from vallis.numerics.operators import Dense, Operator, Scaled

MATRICES = [torch.diag(torch.arange(1.0, 4.0) * factor) for factor in (1.0, 2.0, 3.0)]


def powers(operator: Operator, count: int) -> Asking[float]:
    """The length of ``A^count 1``."""
    vector = torch.ones(operator.size)
    for _ in range(count):
        vector = yield operator, vector
    return float(vector.norm())


def one_by_one(questions: Sequence[Question]) -> list[torch.Tensor]:
    return [operator.matvec(vector) for operator, vector in questions]


def test_alone() -> None:
    operator = Dense(MATRICES[1])
    assert answered(powers(operator, 3)) == float((torch.linalg.matrix_power(MATRICES[1], 3) @ torch.ones(3)).norm())
    assert operator.num_products == 3


def test_in_step_with_different_ends_one_of_which_asks_nothing() -> None:
    counts, rounds = (2, 0, 5), []

    def answer(questions: Sequence[Question]) -> list[torch.Tensor]:
        rounds.append(len(questions))
        return one_by_one(questions)

    operators = [Dense(matrix) for matrix in MATRICES]
    found = answered_together([powers(*each) for each in zip(operators, counts, strict=True)], answer)
    assert found == [answered(powers(Dense(matrix), count)) for matrix, count in zip(MATRICES, counts, strict=True)]
    assert rounds == [2, 2, 1, 1, 1]
    assert [operator.num_products for operator in operators] == [2, 0, 5]


def test_nobody_asks() -> None:
    assert answered_together([], one_by_one) == []
    assert answered_together([powers(Dense(MATRICES[0]), 0)], one_by_one) == [pytest.approx(3**0.5)]


def test_what_one_raises_comes_out() -> None:
    def broken(operator: Operator) -> Asking[float]:
        yield operator, torch.ones(3)
        raise ValueError("not finite")

    with pytest.raises(ValueError, match="not finite"):
        answered_together([powers(Dense(MATRICES[0]), 4), broken(Dense(MATRICES[1]))], one_by_one)
    with pytest.raises(ValueError, match="not finite"):
        answered(broken(Dense(MATRICES[0])))


def test_the_matrix_costs_products_where_it_is_not_at_hand() -> None:
    held = Dense(MATRICES[2])
    assert torch.equal(answered(matrix_of(held)), MATRICES[2])
    assert held.num_products == 0
    hidden = Scaled(held, 2.0)
    assert torch.equal(answered(matrix_of(hidden)), 2 * MATRICES[2])
    assert hidden.num_products == 3


@pytest.mark.parametrize("raised", [KeyboardInterrupt, StopIteration])
def test_whatever_ends_an_answer_leaves_nobody_halfway(raised: type[BaseException]) -> None:
    """A bar of a solver that is left halfway would stay on the terminal for as long as the traceback is held."""
    left = []

    class Broken(Dense):
        def _product(self, vector: torch.Tensor) -> torch.Tensor:
            raise raised

    def asking(operator: Operator) -> Asking[None]:
        try:
            yield operator, torch.ones(3)
        finally:
            left.append(operator)

    operators = [Broken(matrix) for matrix in MATRICES]
    with pytest.raises(raised) as held:
        answered(asking(operators[0]))
    assert left == operators[:1] and held
    with pytest.raises(raised) as held:
        answered_together([asking(operator) for operator in operators], one_by_one)
    assert left[1:] == operators and held
