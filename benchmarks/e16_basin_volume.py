"""E16: the log-volume of a basin of small divergence, from as many evaluations as the peer's twenty rays took."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.func import functional_call, vmap

from benchmarks import ours
from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import Setting

NUM_REPEATS, CUTOFF, TOLERANCE = 10, 1e-2, 1e-2
# What twenty rays of the peer took when it was measured; so many of the naive rays written anew take as much.
MOST_EVALUATIONS = 281
NUM_RAYS, NUM_NAIVE_RAYS = 20, 25
_FIRST_STEP = 0.1


@dataclass(frozen=True)
class Volumes:
    """``(10,)`` estimates from as many seeds, in nats, and how much their single rays scatter on average."""

    values: list[float]
    spread_of_rays: float


def _ours(setting: Setting) -> Callable[[], Answer]:
    data = setting.data()
    at = ours.divergence(setting, data)

    def run() -> Answer:
        found = [ours.basin_volume(at, CUTOFF, NUM_RAYS, seed) for seed in range(NUM_REPEATS)]
        spread = float(np.mean([each.spread for each in found]))
        return Answer(Volumes([each.value for each in found], spread), max(each.num_evaluations for each in found))

    return run


def _naive(setting: Setting) -> Callable[[], Answer]:
    """Rays of Gaussian noise, scaled filter by filter: doubled or halved to a bracket, then bisected, all together."""
    module, (x, _) = setting.module(), setting.data()
    params = {name: value.detach() for name, value in module.named_parameters()}
    scales = {name: value.flatten(1).norm(dim=1) for name, value in params.items() if value.ndim > 1}
    num_dimensions = sum(params[name].numel() for name in scales)
    log_ball = num_dimensions / 2 * math.log(math.pi) - math.lgamma(1 + num_dimensions / 2)
    with torch.no_grad():
        own = module(x).log_softmax(1)

    def divergences(directions: dict[str, torch.Tensor], steps: torch.Tensor) -> torch.Tensor:
        moved = {name: params[name] + steps[:, None, None] * directions[name] for name in scales}

        def one(part: dict[str, torch.Tensor]) -> torch.Tensor:
            other = functional_call(module, {**params, **part}, (x,)).log_softmax(1)
            return (own.exp() * (own - other)).sum(1).mean()

        chunks = [vmap(one)({name: value[[k]] for name, value in moved.items()}) for k in range(len(steps))]
        return torch.cat(chunks).nan_to_num(math.inf)

    def estimate(seed: int, num_rays: int = NUM_NAIVE_RAYS) -> tuple[float, float, int]:
        generator = torch.Generator().manual_seed(seed)
        noise = {name: torch.randn(num_rays, *params[name].shape, generator=generator) for name in scales}
        length = sum(part.flatten(1).square().sum(1) for part in noise.values()).sqrt()
        unit = math.sqrt(sum(len(norms) for norms in scales.values()))
        directions = {n: part * scales[n][:, None] * (unit / length)[:, None, None] for n, part in noise.items()}
        low, high = torch.zeros(num_rays), torch.full((num_rays,), math.inf)
        # Another start for every seed: bisections of one start end on the same few steps, and look alike for that.
        steps, count = torch.full((num_rays,), _FIRST_STEP) * 2 ** torch.rand(1, generator=generator), 0
        while bool(((high - low) > TOLERANCE * low).logical_and(low < 1).any()):
            with torch.no_grad():
                below = divergences(directions, steps) < CUTOFF
            count += num_rays  # rays that are done are computed as well
            low, high = torch.where(below, steps, low), torch.where(below, high, steps)
            middle = torch.where(low > 0, (low + high) / 2, high / 2)
            steps = torch.where(high.isinf(), (2 * low).clamp(max=1.0), middle)
        radii = torch.where(high.isinf(), low, (low + high) / 2).clamp(max=1.0).double()
        terms = log_ball + num_dimensions * radii.log()
        value = torch.logsumexp(terms, 0) - math.log(num_rays)
        return float(value), float(terms.std()), count

    def run() -> Answer:
        found = [estimate(seed) for seed in range(NUM_REPEATS)]
        spread = float(np.mean([each[1] for each in found]))
        return Answer(Volumes([each[0] for each in found], spread), max(each[2] for each in found))

    return run


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    found: Volumes = answer.value
    values = np.asarray(found.values)
    error = float(values.std(ddof=1))
    details = {"mean_log_volume": float(values.mean()), "sd_between_rays": found.spread_of_rays}
    # The naive rays set the budget; ours must keep to it.
    is_fair = answer.num_products is not None and answer.num_products <= MOST_EVALUATIONS
    return Score(error, is_fair or not thorough, details)


BENCHMARK = Benchmark(
    id="E16",
    title="Log-volume of a basin from some 280 evaluations",
    work=f"{NUM_REPEATS} estimates from {NUM_REPEATS} seeds",
    limit=f"at most {MOST_EVALUATIONS} evaluations, one of a curvature counted as its gradients, each as three",
    target=0.5,
    settings=(Setting("D-MLP-32", 1797), Setting("D-MLP", 1797)),
    contenders=(
        Contender("Vallis", "vallis", "ours", ours.VOLUME_CALL, _ours),
        Contender("naive Gaussian rays", "torch", "peer", "bisection on all rays, in plain torch", _naive),
    ),
    judge=_judge,
    compared="error",
    remarks=(
        "The error is the standard deviation of the log-volume between seeds, in nats; the ratio is of errors. The "
        "basin is where the divergence of the outputs from the network's own is below 1e-2, within the ball of radius "
        "1 in units of the filters. The exact volume is not known, but either estimate exceeds it by k nats in at most "
        "exp(-k) of all cases, so the larger mean is the nearer one.",
        "basin-volume, which the naive rays follow, is on no package index: its published algorithm is written anew, "
        "with uniform weights in place of the Gaussian prior, and with 25 rays for about as many evaluations.",
    ),
)
