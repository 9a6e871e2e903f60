from __future__ import annotations

import math

import pytest
import torch

from tests.problems.expect import arrays, build
from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.problems.spirals import Spirals, noiseless, swiss_roll


def test_the_noiseless_spiral_is_the_papers_formula() -> None:
    curve = noiseless(200)
    for t in (0, 1, 57, 199):
        angle = t * (1.5 * 2 * math.pi / 200)
        expected = [5 * math.sqrt(angle) * math.cos(angle), 5 * math.sqrt(angle) * math.sin(angle)]
        assert curve[t].tolist() == pytest.approx(expected)


def test_the_setting_of_the_minefield_figure() -> None:
    task = build(Spirals(train_fraction=0.33, scale=1.0))
    train, test = arrays(task, "train"), arrays(task, "test")
    assert (len(train), len(test)) == (132, 268)
    x, y, index = (torch.cat([getattr(s, k) for s in (train, test)]) for k in ("x", "y", "index"))
    order = index.argsort()
    assert torch.bincount(y).tolist() == [200, 200]
    torch.testing.assert_close(x[order][:200].double(), noiseless(200), atol=1e-5, rtol=1e-5)
    assert x[order][200:].equal(-x[order][:200])


def test_the_swiss_roll_lies_about_its_arm() -> None:
    exact = swiss_roll(4000, 0.0, Rng(0))
    radius = exact.norm(dim=1) / 1.5
    torch.testing.assert_close(exact, 1.5 * radius[:, None] * torch.stack([-radius.cos(), radius.sin()], 1))
    longest = 10 * math.pi / 3
    assert radius.max() <= longest
    # Uniform in the square of the angle: its mean is a half.
    assert float((radius / longest).square().mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / 4000) ** 0.5)
    noise = swiss_roll(4000, 0.5, Rng(0)) - exact
    assert float(noise.std()) == pytest.approx(0.5, rel=0.05)


def test_settings_matter() -> None:
    roll = Spirals(shape="swiss_roll")
    assert not arrays(build(roll, 0), "train").x.equal(arrays(build(roll, 1), "train").x)
    small, large = (arrays(build(Spirals(scale=scale)), "train").x for scale in (0.1, 1.0))
    torch.testing.assert_close(10 * small, large)
    assert float(small.abs().max()) < 1.6
    assert build(Spirals(loss="binary_cross_entropy")).loss.kind == "binary"
    assert build(Spirals()).loss.kind == "categorical"


@pytest.mark.parametrize(
    "settings",
    [{"num_per_class": 1}, {"train_fraction": 1.0}, {"noise_std": -1.0}, {"scale": 0.0}, {"shape": "x"}, {"loss": "x"}],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"spirals.{next(iter(settings))}"):
        Spirals(**settings)  # type: ignore[arg-type]
