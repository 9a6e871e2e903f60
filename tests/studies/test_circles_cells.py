"""The circles: at every scale a network for each gap, the paper's where it is more than a trial."""

from __future__ import annotations

import pytest
import torch

from vallis.core import spec
from vallis.core.rng import Rng
from vallis.problems.concentric_circles import ConcentricCircles
from vallis.studies._circles_cells import GAPS, circles, tags


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_only_the_gap_differs(scale: str) -> None:
    jobs = list(circles(scale, 3, drawn=False))
    problems = [job.problem for job in jobs]
    gaps = [problem.gap for problem in problems if isinstance(problem, ConcentricCircles)]
    assert [job.tags for job in jobs] == [tags(gap) for gap in gaps]
    assert gaps == list(GAPS) if scale != "smoke" else {gaps[0], gaps[-1]} == {GAPS[0], GAPS[-1]}
    assert len({spec.digest((job.model, job.training, job.seed, job.measurements)) for job in jobs}) == 1
    drawn = list(circles(scale, 3, drawn=True))
    assert all(len(more.measurements) == len(job.measurements) + 1 for more, job in zip(drawn, jobs, strict=True))


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_points_and_network_are_the_papers(scale: str) -> None:
    """Card 1.3.6: 40, 80 and 10 points; nine hidden layers of 100 units."""
    job = list(circles(scale, 0, drawn=False))[-1]
    tasks = job.problem.build(Rng(0))
    train = tasks[0].splits["train"]
    assert len(train) == 130 and int(train.take(torch.arange(130)).y.sum()) == 40
    assert sum(value.numel() for value in job.model.build(tasks, Rng(0)).module.parameters()) == 81_302
