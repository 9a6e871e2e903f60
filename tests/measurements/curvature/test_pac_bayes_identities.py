"""The arithmetic of a bound holds on every network, and each of its checks notices when it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.numerics.layer_solutions import rectified
from tests.numerics.solutions import batch_norm, built, classes, held, mlp, one_parameter, random
from vallis.core.errors import SettingsError
from vallis.core.own_loss import OwnLoss
from vallis.core.types import NotApplicable
from vallis.measurements.curvature import pac_bayes_identities
from vallis.measurements.curvature.pac_bayes_identities import PacBayesIdentities
from vallis.numerics.axes import Axes, Block
from vallis.numerics.posterior import Posterior

ERRORS = ("orthogonality_error", "divergence_error", "inverse_error", "zero_error", "closed_form_error")


@pytest.mark.parametrize("make", [rectified, mlp, batch_norm])
def test_all_is_well(make: object) -> None:
    found = measured(PacBayesIdentities(), make())  # type: ignore[operator]
    for key in ERRORS:
        assert 0 <= found.estimate(key).value <= 1e-9, key
    assert found.estimate("smallest_rise").value >= 0


def test_axes_that_are_no_rotation_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = pac_bayes_identities.kronecker_axes

    def wrong(*given: object) -> Axes:
        first, *others = right(*given).blocks  # type: ignore[arg-type]
        return Axes([replace(first, outputs=1.01 * first.outputs), *others])

    monkeypatch.setattr(pac_bayes_identities, "kronecker_axes", wrong)
    found = measured(PacBayesIdentities(), rectified())
    assert found.estimate("orthogonality_error").value == pytest.approx(0.0201, rel=1e-3)
    assert found.estimate("divergence_error").value > 1e-3  # the formula no longer fits the covariance


def test_a_wrong_divergence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Posterior.divergence
    monkeypatch.setattr(Posterior, "divergence", lambda self, *given: 1.001 * right(self, *given))
    found = measured(PacBayesIdentities(), rectified())
    assert found.estimate("divergence_error").value == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "noticed"),
    [
        (lambda p, q, d: p + 1e-6 * (d == 0), "zero_error"),
        (lambda p, q, d: p * (1 - 1e-6) if q == 0 else p, "closed_form_error"),
        (lambda p, q, d: p - 1e-6 if d > 0 and 0 < q < p else p, "inverse_error"),
    ],
)
def test_a_wrong_inverse_is_noticed(wrong: object, noticed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = pac_bayes_identities.kl_inverse
    monkeypatch.setattr(pac_bayes_identities, "kl_inverse", lambda q, d: wrong(right(q, d), q, d))  # type: ignore[operator]
    assert pac_bayes_identities._inverse()[noticed].value > 1e-8


def test_an_inverse_that_falls_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = pac_bayes_identities.kl_inverse
    monkeypatch.setattr(pac_bayes_identities, "kl_inverse", lambda q, d: right(q, d if d < 3 else 0.5))
    assert pac_bayes_identities._inverse()["smallest_rise"].value < 0


def test_the_dense_divergence_is_that_of_torch() -> None:
    turn = torch.linalg.qr(random(4, 4).double()).Q
    mean, prior_mean, log_std = random(3, 4, seed=3).double().unbind()
    posterior = Posterior(
        mean=mean,
        log_std=log_std,
        axes=Axes((Block(start=0, outputs=turn),)),
        prior_mean=prior_mean,
        log_std_prior=-0.3,
        objectives=torch.empty(0).numpy(),
    )
    covariance = turn.T @ torch.diag((2 * log_std).exp()) @ turn
    variance = torch.tensor(-0.6, dtype=torch.float64).exp()
    one = torch.distributions.MultivariateNormal(mean, (covariance + covariance.T) / 2)
    other = torch.distributions.MultivariateNormal(prior_mean, variance * torch.eye(4).double())
    truth = float(torch.distributions.kl_divergence(one, other))
    assert pac_bayes_identities._dense_divergence(posterior) == pytest.approx(truth, rel=1e-9)


def test_where_there_is_nothing_to_check() -> None:
    found = PacBayesIdentities(max_size=1).measure(rectified(), RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "too_large"
    loss = OwnLoss(function=lambda f, y: ((f**2 - y) ** 2).mean())
    # At weights of zero it bends down in the outputs, where y is positive.
    quartic = held(built(lambda: nn.Linear(2, 1)), random(9, 2), random(9, 1).abs(), loss)
    quartic = replace(quartic, params={name: torch.zeros_like(value) for name, value in quartic.params.items()})
    found = PacBayesIdentities().measure(quartic, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "no_kronecker_form"
    normed = held(built(lambda: nn.LayerNorm(3)), random(9, 3), classes(9))
    found = PacBayesIdentities().measure(normed, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "no_kronecker_form"
    assert "No layer multiplies its inputs with a matrix of its own" in found.note.text
    measured(PacBayesIdentities(max_size=1), one_parameter())  # one weight has axes: itself
    with pytest.raises(SettingsError, match="max_size of at least 1"):
        PacBayesIdentities(max_size=0)
