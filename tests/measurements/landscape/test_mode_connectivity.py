"""Mode connectivity: no barrier to one's own permutation once it is undone, barriers as a plain loop finds them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.measurements.contract import measured
from tests.numerics.solutions import built, classes, held, lstm, random
from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result, Solution
from vallis.measurements.landscape.mode_connectivity import ModeConnectivity
from vallis.numerics import routes
from vallis.numerics.permutation_tracing import find_permutations
from vallis.numerics.permutations import permuted, random_permutations
from vallis.testing.awkward.loss_barrier import LossBarrier
from vallis.testing.toys.models import TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs
from vallis.testing.toys.solutions import trained

QUICK = ModeConnectivity(routes=("straight", "aligned"), num_points=9, tolerance=0.05)
BLOBS, BARS = Blobs(num_classes=3, double=True), Bars(double=True)
NETS = {
    "mlp": trained(BLOBS, TinyMlp(widths=(12, 8), activation="relu", double=True), Rng(0), 150),
    "convnet": trained(BARS, TinyConvnet(double=True), Rng(0), 60),
}


def moved(solution: Solution) -> Solution:
    """The same function with its units in random order."""
    batch = next(iter(solution.task.splits["train"]))
    spec = find_permutations(solution.net.module, batch.x)
    tensors = permuted(spec, {**solution.params, **solution.buffers}, random_permutations(spec, Rng(3)))
    return replace(
        solution,
        params={name: tensors[name] for name in solution.params},
        buffers={name: tensors[name] for name in solution.buffers},
    )


def pair(part: ModeConnectivity, one: Solution, other: Solution) -> Result:
    found = part.measure((one, other), Rng(0))
    assert isinstance(found, Result)
    return found


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("batch_norm", ["anew", "between"])
def test_no_barrier_to_ones_own_permutation_once_it_is_undone(name: str, batch_norm: str) -> None:
    part = replace(QUICK, batch_norm=batch_norm)
    found = pair(part, NETS[name], moved(NETS[name]))
    assert found.estimate("straight_barrier").value > 0.01
    assert found.estimate("aligned_barrier").value < 1e-10
    assert found.estimate("aligned_error_barrier").value == 0.0
    assert found.estimate("straight_barrier").stderr
    assert "nothing lies between" not in part.reading(found)


def test_the_straight_barrier_is_that_of_a_plain_loop() -> None:
    one, other = (trained(Blobs(num_classes=3, double=True), TinyMlp(double=True), Rng(seed), 60) for seed in (0, 1))
    other = replace(other, tasks=one.tasks)
    part = ModeConnectivity(routes=("straight",), num_points=11, tolerance=1.0)
    found, plain = pair(part, one, other), LossBarrier(num_points=11).measure((one, other), Rng(0))
    assert isinstance(plain, Result)
    assert found.estimate("straight_barrier").value == pytest.approx(max(plain.estimate("barrier").value, 0), rel=1e-9)
    assert found.array("straight_losses").data == pytest.approx(plain.array("loss").data)
    distance = torch.cat([(other.params[n] - one.params[n]).flatten() for n in one.params]).norm()
    assert found.estimate("distance").value == pytest.approx(float(distance))
    assert found.estimate("straight_length").value == pytest.approx(1.0)


def test_a_trained_way_is_lower_than_the_straight_one() -> None:
    one = NETS["mlp"]
    part = ModeConnectivity(
        routes=("straight", "curve", "band"), num_points=9, tolerance=0.05, num_steps=300, learning_rate=0.03,
        num_cycles=2, steps_per_cycle=30, num_points_plane=3,
    )  # fmt: skip
    found = pair(part, one, moved(one))
    straight = found.estimate("straight_barrier").value
    assert found.estimate("curve_barrier").value < 0.5 * straight
    assert found.estimate("band_barrier").value < 0.5 * straight
    assert found.estimate("curve_length").value > 1.0
    assert found.array("plane_losses").data.shape == (3, 3)
    assert [figure.name for figure in part.figures(found)] == [
        "mode_connectivity", "mode_connectivity_errors", "loss_barriers", "connecting_plane",
    ]  # fmt: skip


def test_ways_are_trained_on_all_examples_and_looked_at_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Watched(routes.RandomSlopes):
        def __init__(self, objective: Objective, *rest: Any, **more: Any) -> None:
            seen.append(len(objective.data))
            super().__init__(objective, *rest, **more)

    monkeypatch.setattr(routes, "RandomSlopes", Watched)
    part = ModeConnectivity(
        routes=("curve", "band"), num_points=3, tolerance=0.5, num_steps=2, num_cycles=1, steps_per_cycle=1,
        num_points_plane=0, max_examples=10,
    )  # fmt: skip
    found = pair(part, NETS["mlp"], moved(NETS["mlp"]))
    assert seen == [48, 48]
    assert found.estimate("curve_barrier").n == 10


def test_it_keeps_the_contract() -> None:
    class Both(ModeConnectivity):
        def measure(self, subject: Solution, rng: Rng) -> object:  # type: ignore[override]
            return super().measure((subject, subject), rng)

    found = measured(Both(num_points=3, tolerance=0.5, num_steps=2, num_points_plane=2), NETS["convnet"])
    assert all(found.estimate(f"{route}_barrier").value == 0.0 for route in ("straight", "aligned", "curve"))
    assert found.estimate("distance").value == 0.0


def frozen(seed: int) -> Solution:
    """A head with batch normalisation on a frozen layer of its own."""
    made = Rng(seed).child("frozen").torch()
    module = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)).eval()
    for value in module.parameters():
        value.data = torch.randn(value.shape, generator=made)
    module[0].requires_grad_(False)
    return held(module, random(20, 2), classes(20))


def test_what_was_frozen_goes_along_and_no_trained_way_is_claimed() -> None:
    one, other = frozen(0), frozen(1)
    part = ModeConnectivity(num_points=3, tolerance=0.5, num_steps=2, num_points_plane=2)
    found = pair(part, one, other)
    for route in ("straight", "aligned"):
        ends = found.array(f"{route}_losses").data[[0, -1]]
        alone = [pair(part, each, each).array("straight_losses").data[0] for each in (one, other)]
        assert ends == pytest.approx(alone, rel=1e-5)
    assert "curve_losses" not in found.values
    assert [note.code for note in found.notes] == ["frozen_differ"]
    only = pair(replace(part, routes=("band",)), one, other)
    assert "straight_losses" in only.values and "band_losses" not in only.values


def test_networks_that_do_not_go_together() -> None:
    outcome = QUICK.measure((NETS["mlp"], NETS["convnet"]), Rng(0))
    assert isinstance(outcome, NotApplicable) and outcome.note.code == "other_network"
    one = held(built(lambda: nn.Linear(2, 3)), random(9, 2), classes(9))
    wide = held(built(lambda: nn.Linear(3, 3)), random(9, 3), classes(9))
    outcome = QUICK.measure((one, wide), Rng(0))
    assert isinstance(outcome, NotApplicable) and "(3, 2)" in outcome.note.text


def test_units_that_cannot_be_matched_are_said() -> None:
    one = lstm()
    found = pair(
        replace(QUICK, routes=("aligned",)), one, replace(one, params={n: v + 0.1 for n, v in one.params.items()})
    )
    assert "not_aligned" in [note.code for note in found.notes]
    assert "straight_barrier" in found.values and "aligned_barrier" not in found.values


class Attends(nn.Module):
    """A residual stream with attention, whose units stay in place, and a layer beside it whose units may move."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(4, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down, self.out = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stream = self.into(x)
        stream = stream + self.attention(stream, stream, stream, need_weights=False)[0]
        stream = stream + self.down(torch.relu(self.up(stream)))
        return self.out(stream.mean(1))


def test_weights_whose_units_stay_in_place_are_said() -> None:
    one = held(built(Attends), random(20, 5, 4), classes(20))
    found = pair(QUICK, one, moved(one))
    assert found.estimate("aligned_barrier").value < 1e-6
    (text,) = [note.text for note in found.notes if note.code == "partly_aligned"]
    assert "into.weight" in text and "attention.in_proj_weight" in text and "up.weight" not in text
    assert "partly_aligned" not in {note.code for note in pair(QUICK, NETS["mlp"], moved(NETS["mlp"])).notes}


def test_an_end_that_has_diverged_is_no_end() -> None:
    one = NETS["mlp"]
    far = {name: value * (1e200 if "weight" in name else 1.0) for name, value in one.params.items()}
    outcome = replace(QUICK, routes=("straight",)).measure((one, replace(one, params=far)), Rng(0))
    assert isinstance(outcome, NotApplicable) and outcome.note.code == "not_finite"


@pytest.mark.parametrize(
    "settings", [{"routes": ()}, {"routes": ("around",)}, {"num_points": 2}, {"tolerance": 0.0}, {"num_bends": 0}]
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(settings))):
        ModeConnectivity(**settings)  # type: ignore[arg-type]


def test_a_band_that_goes_astray_is_said() -> None:
    one, other = (
        held(
            built(lambda: nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3)), seed=s), random(9, 2), classes(9)
        )
        for s in (0, 1)
    )
    part = ModeConnectivity(routes=("band",), num_cycles=2, steps_per_cycle=9, num_points=5, band_learning_rate=1e30,
                            num_points_plane=0)  # fmt: skip
    found = pair(part, one, other)
    assert [note.code for note in found.notes] == ["band_diverged"]
    assert found.estimate("band_length").value == pytest.approx(1.0)  # it stayed on the segment


@pytest.mark.parametrize("route", ["curve", "band"])
def test_the_last_example_of_a_pass_may_stand_alone_beside_batch_normalisation(route: Any) -> None:
    def normalised(seed: int) -> Solution:
        module = built(lambda: nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)), seed=seed)
        return held(module, random(17, 2), classes(17))

    part = ModeConnectivity(routes=(route,), batch_size=16, num_steps=4, num_cycles=1, steps_per_cycle=4, num_points=3,
                            tolerance=0.5, num_points_plane=0)  # fmt: skip
    assert pair(part, normalised(0), normalised(1)).estimate(f"{route}_barrier").value < float("inf")
