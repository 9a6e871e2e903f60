"""A network cut from its loss: J, its transpose and the slopes against dense derivatives in float64."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tests.numerics.solutions import mlp, random, tokens
from vallis.core.objective import Objective
from vallis.numerics.cut import Forward, Linear


def test_the_linear_map_is_the_jacobian_and_its_transpose() -> None:
    objective = Objective(mlp(17), dtype=torch.float64)
    (term,) = objective.terms()
    network = Forward.of(term, (True,) * 6, twice=False)
    linear = Linear.of(network.leaves, network.live)
    flat = objective.vector(objective.origin)
    jacobian = torch.autograd.functional.jacobian(lambda v: term.outputs(objective.point(v)).reshape(-1), flat)
    v, u = random(61, seed=1).double(), random(17, 3, seed=2).double()
    (ahead,) = linear.forward(objective.point(v))
    torch.testing.assert_close(ahead.reshape(-1), jacobian @ v)
    torch.testing.assert_close(objective.vector(linear.back((u,))), jacobian.T @ u.reshape(-1))


def test_only_chosen_parameters_are_variables_and_slopes_are_those_of_the_mean() -> None:
    objective = Objective(mlp(17), dtype=torch.float64)
    (term,) = objective.terms()
    network = Forward.of(term, (False, True, False, False, False, False), twice=False)
    assert [leaf.shape for leaf in network.leaves] == [(6,)]
    (slope,) = network.slopes(term)
    truth = (network.returned.softmax(1) - F.one_hot(term.batch.y, 3)) / 17
    torch.testing.assert_close(slope, truth.detach())
    assert not slope.requires_grad


def test_what_a_network_returns_beside_its_scores_is_seen_and_has_no_slope() -> None:
    objective = Objective(tokens(), dtype=torch.float64)
    term = next(iter(objective.terms()))
    network = Forward.of(term, (True,) * len(objective.names), twice=False)
    hidden, logits = network.slopes(term)
    assert float(hidden.abs().max()) == 0
    assert float(logits.abs().max()) > 0
    none = Forward.of(term, (False,) * len(objective.names), twice=False)
    assert none.live == () and none.slopes(term) == ()
