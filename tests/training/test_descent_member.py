from __future__ import annotations

import pytest

from tests.training.runs import begin, ground
from vallis.training._descent_member import Member
from vallis.training.gradient_descent import GradientDescent


def test_a_member_has_a_line() -> None:
    net, tasks = ground()
    training = GradientDescent()
    state = begin(training, net, tasks)
    assert Member(training, state).line is state.line
    state.line = None
    with pytest.raises(AssertionError):
        _ = Member(training, state).line
