from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from vallis.core.corrected_losses import BackwardCorrected, ForwardCorrected
from vallis.core.errors import LossError, SettingsError
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result
from vallis.measurements.fit import correction_identities
from vallis.measurements.fit.correction_identities import CorrectionIdentities, backward_gap, forward_minimiser
from vallis.numerics.transition_matrix import asymmetric, symmetric
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.testing.toys.solutions import start, trained

RNG = Rng(0)
T = asymmetric(4, ((0, 1), (2, 3), (3, 2)), 0.6)
P = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(4), 6))


def test_both_are_zero_for_a_trained_network() -> None:
    found = CorrectionIdentities().measure(trained(Blobs(num_classes=3), TinyMlp(), RNG), RNG)
    assert isinstance(found, Result)
    assert 0 <= found.estimate("backward_gap").value < 1e-13
    assert 0 < found.estimate("forward_distance").value < 1e-9
    assert not found.notes
    assert "1e-" in CorrectionIdentities().reading(found) or "e-1" in CorrectionIdentities().reading(found)


def test_a_loss_with_another_matrix_has_a_gap() -> None:
    """The gap sees an error of a thousandth in the inverse."""
    loss = BackwardCorrected(transition=T.tolist())
    assert backward_gap(P, loss) < 1e-12
    loss.__dict__["inverse"] = torch.linalg.inv(T) + 1e-3
    assert backward_gap(P, loss) > 1e-4


def test_the_minimiser_against_scipy() -> None:
    """For chances that come from no posterior, so that the answer lies on the edge or where nobody put it."""
    chances = np.array([0.4, 0.3, 0.2, 0.1])
    found = minimize(
        lambda p: -chances @ np.log(np.maximum(T.numpy().T @ p, 1e-300)),
        np.full(4, 0.25),
        method="SLSQP",
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"ftol": 1e-15},
    )
    asked = torch.from_numpy(chances @ np.linalg.inv(T.numpy()))[None]
    answer, _ = forward_minimiser(asked, ForwardCorrected(transition=T.tolist()))
    np.testing.assert_allclose(answer[0].numpy(), found.x, atol=1e-3)
    within, still = forward_minimiser((P + 0.25) / 2, ForwardCorrected(transition=T.tolist()))
    assert still
    torch.testing.assert_close(within, (P + 0.25) / 2, rtol=0, atol=1e-9)


def test_a_loss_with_another_matrix_has_another_minimiser() -> None:
    loss = ForwardCorrected(transition=T.tolist())
    wrong = ForwardCorrected(transition=symmetric(4, 0.2).tolist())
    found, _ = forward_minimiser(P @ loss.matrix @ torch.linalg.inv(wrong.matrix), wrong)
    assert float((found - P).abs().max()) > 0.05


def test_a_minimiser_that_still_moves_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correction_identities, "_MOST_STEPS", 20)
    flat = symmetric(3, 2 / 3 - 1e-4)
    rows = tuple(tuple(row) for row in flat.tolist())
    found = CorrectionIdentities(transition=rows).measure(trained(Blobs(num_classes=3), TinyMlp(), RNG), RNG)
    assert isinstance(found, Result)
    assert [note.code for note in found.notes] == ["not_converged"]


def test_where_it_does_not_apply() -> None:
    solution = trained(Blobs(num_classes=3), TinyMlp(), RNG)
    lost = replace(solution, params={name: value * torch.nan for name, value in solution.params.items()})
    two = CorrectionIdentities(transition=((0.9, 0.1), (0.2, 0.8)))
    regression = start(LinearRegression(), LinearModel(), RNG)
    cases = ((two, solution, "other_classes"), (CorrectionIdentities(), lost, "other_classes"))
    for part, held, code in (*cases, (CorrectionIdentities(), regression, "not_classification")):
        found = part.measure(held, RNG)
        assert isinstance(found, NotApplicable)
        assert found.note.code == code


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="num_examples"):
        CorrectionIdentities(num_examples=0)
    with pytest.raises(LossError, match="transition matrix"):
        CorrectionIdentities(transition=((0.5, 0.6), (0.0, 1.0)))
