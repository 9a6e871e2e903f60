"""Statistics of batch normalisation at a point: those of the examples there, and nothing that was held is touched."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.numerics.solutions import built, classes, held, random
from vallis.core.objective import Objective
from vallis.numerics.renewal import Renewal, has_statistics
from vallis.numerics.slices import Landscape
from vallis.numerics.surface import in_eval_mode


def objective(batch_size: int = 20) -> Objective:
    module = built(
        lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3))
    )
    return Objective(in_eval_mode(held(module, random(20, 3), classes(20), batch_size=batch_size)))


def test_they_are_the_moments_of_what_the_layer_sees() -> None:
    here = objective()
    point = [value + 0.3 for value in here.origin]
    found = Renewal(here).buffers(point)
    (batch,) = here.batches()
    seen = batch.x @ point[0].T + point[1]
    torch.testing.assert_close(found["1.running_mean"], seen.mean(0))
    torch.testing.assert_close(found["1.running_var"], seen.var(0))
    assert has_statistics(here.module)
    assert not has_statistics(nn.Linear(1, 1))


def test_over_batches_they_are_means_and_nothing_held_moves() -> None:
    here = objective(batch_size=8)
    before = {name: value.clone() for name, value in here.buffers.items()}
    found = Renewal(here).buffers(here.origin)
    means = [(batch.x @ here.origin[0].T + here.origin[1]).mean(0) for batch in here.batches()]
    shares = torch.tensor([8.0, 8.0, 4.0]) / 20
    torch.testing.assert_close(found["1.running_mean"], shares @ torch.stack(means))
    assert all(torch.equal(here.buffers[name], value) for name, value in before.items())
    assert not here.module.training


def test_with_them_the_scale_of_a_normalised_layer_does_not_matter() -> None:
    """Longer by any factor, a layer before normalisation says the same; with the first statistics it does not."""
    here = objective()
    direction = [here.origin[0], here.origin[1], *(torch.zeros_like(value) for value in here.origin[2:])]
    points = [(step,) for step in (0.0, 0.5, 2.0)]
    renewed = Landscape(here, [direction], Renewal(here)).losses(points)
    np.testing.assert_allclose(renewed, renewed[0], rtol=1e-3)
    assert np.ptp(Landscape(here, [direction]).losses(points)) > 0.01
    spread = Landscape(here, [direction], Renewal(here)).spread(points)
    np.testing.assert_allclose(spread.losses, renewed, rtol=1e-5)


def test_a_short_last_batch_counts_for_what_it_is() -> None:
    """As much as a whole one it moved the mean by a whole standard deviation."""
    short = objective(batch_size=18)
    seen = torch.cat([batch.x for batch in short.batches()]) @ short.origin[0].T + short.origin[1]
    found = Renewal(short).buffers(short.origin)
    torch.testing.assert_close(found["1.running_mean"], seen.mean(0))
