"""What the benchmarks of one product with a vector share: contenders whose operator is there, and the judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks import judges, peers, truth
from benchmarks.contest import Answer, Contender, Score
from benchmarks.fixtures import Setting
from benchmarks.truth import Product

# The relative error that is allowed to a product; how many are made in one time that is taken.
LIMIT, REPEATS = 1e-5, 10


def with_matvec(name: str, package: str, call: str, build: Callable[[Setting], Any]) -> Contender:
    """Ours, or hessian-eigenthings: both have `matvec`."""

    def ready(setting: Setting) -> Callable[[], Answer]:
        operator, vector = build(setting), judges.probe(setting)
        return lambda: Answer(operator.matvec(vector).detach(), 1)

    return Contender(name, package, "ours" if package == "vallis" else "peer", call, ready, REPEATS)


def curvlinops(kind: str) -> Contender:
    """The operator of this class of curvlinops."""

    def ready(setting: Setting) -> Callable[[], Answer]:
        operator, vector = peers.curvlinops_operator(setting, kind), judges.probe(setting)
        return lambda: Answer((operator @ vector).detach(), 1)

    return Contender("curvlinops", "curvlinops", "peer", f"{kind}(...) @ v", ready, REPEATS)


def judge(key: str, exact_product: Callable[[Setting], Product]) -> Callable[[Setting, Answer, bool], Score]:
    """Against the exact product, which is kept under this key."""

    def judged(setting: Setting, answer: Answer, thorough: bool) -> Score:
        vector = judges.probe(setting)
        exact = truth.cached(setting, key, lambda: exact_product(setting)(vector).numpy())
        return judges.product(setting, answer, torch.from_numpy(exact), LIMIT)

    return judged
