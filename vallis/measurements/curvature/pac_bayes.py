"""A guarantee for networks drawn around this one: a PAC-Bayes bound on their error on new examples.

Definition: the prior over weights is N(w_0, lambda I) with w_0 that no example chose: where training began, or zero.
    The posterior is N(w, Q' diag(e^2s) Q); w, s and lambda are found by minimising the loss of drawn networks (over log
    2 with two classes, so that it is nowhere below the error) plus B = sqrt((KL + 2 log(b log(c / lambda)) + log(pi^2 m
    / (6 delta))) / (2 (m - 1))) over m examples. bound is kl^-1(e || 2 B^2), with e an upper bound on the training
    error of drawn networks, from num_draws of them. Axes Q: "standard" those of the parameters (Dziugaite and Roy),
    "curvature" the eigenvectors of the Kronecker factors E[M] and E[x x'] of each layer at the network, "refreshed" the
    same computed anew at the mean as it moves. Each bound holds by itself with probability 1 - failure - draws_failure
    over training sets and draws; the smallest of k with k times these chances taken off.
Unit: 1: bounds and errors are probabilities. Divergences are in nats.
Source: Dziugaite and Roy (2017), sections 2 to 4; Wu et al. (2020), Dissecting Hessian, section 5.
Cost: one gradient of a batch for each step, so epochs gradients for each kind of axes; num_draws networks forward on a
    batch; for axes of the curvature C - 1 gradients over C classes, each time that they are computed.
Says little when: the examples are few, since B falls with the root of their number; when the bound exceeds the error of
    guessing it is vacuous, and the result says so. It is about drawn networks, not about the one in the middle,
    and about examples drawn as the training ones were: where those have random labels, so have the new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from vallis.core.errors import LossError, SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import written
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Outcome, Result, Solution, Source
from vallis.measurements.curvature import _pac_bayes_ground as ground_of
from vallis.measurements.curvature._settings import must_be_at_least
from vallis.measurements.curvature._words import counted, listed
from vallis.numerics.certificate import certify, errors_of_examples
from vallis.numerics.means import Floats
from vallis.numerics.posterior import Fitting, Posterior, fit, start
from vallis.numerics.proportions import share_by_example

Basis = Literal["standard", "curvature", "refreshed"]
_BASES: tuple[Basis, ...] = ("standard", "curvature", "refreshed")
_SHOWN = {"bound": "bound", "train_error": "training error", "test_error": "test error"}


@dataclass(frozen=True, kw_only=True)
class PacBayes:
    """PAC-Bayes bounds around the last solution of a path, whose first one is the centre of the prior.

    Attributes:
        split: the examples that were learned.
        test_split: those that were not, on which drawn networks are tried too; left out when the task has none.
        max_examples: of more training examples a random part of this size is taken, for which the bound holds as well.
        axes: along which the posterior's coordinates are independent; a bound for each, with equal budgets.
        epochs: passes over the examples; the papers have 1000 to 2000, with a tenth of this learning rate.
        batch_size: examples a step, and for each draw.
        learning_rate: of RMSprop.
        decay: the rate is multiplied by this after each `decay_every` epochs.
        decay_every: how many epochs.
        refresh_every: after how many epochs "refreshed" axes are computed anew.
        num_draws: networks that are drawn to certify the training error; the paper has 50,000.
        num_test_draws: networks that are drawn for the test error.
        failure: the chance, over training sets, that a bound does not hold.
        draws_failure: the chance, over draws, that it does not.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "trajectory"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # `vallis examine` shows no path
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Computing nonvacuous generalization bounds for deep (stochastic) neural networks with many more "
            "parameters than training data",
            authors="G. K. Dziugaite, D. M. Roy",
            year=2017,
            url="https://arxiv.org/abs/1703.11008",
        ),
        Source(
            title="Dissecting Hessian: understanding common structure of Hessian in neural networks",
            authors="Y. Wu, X. Zhu, C. Wu, A. Wang, R. Ge",
            year=2020,
            url="https://arxiv.org/abs/2010.04261",
        ),
    )

    split: str = "train"
    test_split: str = "test"
    max_examples: int | None = None
    axes: tuple[Basis, ...] = ("standard", "curvature")
    epochs: int = 100
    batch_size: int = 100
    learning_rate: float = 1e-2
    decay: float = 0.1
    decay_every: int = 75
    refresh_every: int = 10
    num_draws: int = 5000
    num_test_draws: int = 100
    failure: float = 0.025
    draws_failure: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))  # a list, when it comes from JSON
        if not self.axes or len(set(self.axes)) < len(self.axes) or not set(self.axes) <= set(_BASES):
            raise SettingsError(f"axes among {_BASES}, each once, were required, {self.axes} came: choose some")
        if not (0 < self.failure < 1 and 0 < self.draws_failure < 1 and self.failure + self.draws_failure < 1):
            raise SettingsError(
                f"chances above 0 that add to less than 1 were required, failure={self.failure} and "
                f"draws_failure={self.draws_failure} came: lower them"
            )
        must_be_at_least(1, self, "num_draws", "num_test_draws")
        self._fitting()

    @classmethod
    def tiny(cls) -> PacBayes:
        """The cheapest settings, for tests."""
        return cls(axes=_BASES, epochs=4, batch_size=24, refresh_every=2, num_draws=20, num_test_draws=5)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        path: Sequence[Solution] = subject
        ground = ground_of.prepare(path, self.split, self.max_examples, rng)
        if isinstance(ground, NotApplicable):
            return ground
        values: dict[str, Estimate | Array] = dict(ground_of.of_the_network(ground))
        smallest, walks, lost = 1.0, dict[str, Floats](), dict[str, LossError]()
        test = ground_of.unseen(path[-1], self.test_split, self.split)
        for basis in self.axes:
            try:
                posterior = self._posterior(ground, basis, rng.child("posterior"))
            except LossError as error:
                if basis == "standard":
                    raise
                lost[basis] = error  # a loss without Kronecker factors, which only these axes need
                continue
            found = self._certified(ground, posterior, basis, rng.child("certificate"))
            values |= found
            bound = found[f"bound_{basis}"].value
            if test is not None:
                errors = errors_of_examples(
                    test, posterior, num_draws=self.num_test_draws, rng=rng.child("certificate", "test")
                )
                values[f"test_error_{basis}"] = self._test_error(errors)
            values[f"objective_{basis}"] = Array(
                data=posterior.objectives,
                dims=("epoch",),
                coords={"epoch": np.arange(1.0, len(posterior.objectives) + 1)},
            )
            smallest, walks = min(smallest, bound), {**walks, basis: posterior.objectives}
        without = ground_of.without_axes(lost)
        if not walks:
            return NotApplicable(note=without[0])
        verdict, notes = ground_of.judged(ground, smallest)
        return Result(values=values | verdict, notes=(*ground.notes, *without, *notes, *ground_of.settling(walks)))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        marks = []
        for key, label in _SHOWN.items():
            found = {basis: result.values.get(f"{key}_{basis}") for basis in self._found(result)}
            shown = {basis: one for basis, one in found.items() if isinstance(one, Estimate)}
            if shown:
                heights = np.array([one.value for one in shown.values()])
                known = [one.stderr or 0.0 for one in shown.values()]
                errors = np.array(known) if any(known) else None
                marks.append(Mark(kind="bar", x=list(shown), y=heights, error=errors, label=label))
        guessing, majority = (_share(result.estimate(f"{key}_error").value) for key in ("guessing", "majority"))
        bars = Figure(
            name="pac_bayes",
            title="What is guaranteed, and what is seen",
            x=Axis(label="axes of the posterior", scale="category"),
            y=Axis(label="error of drawn networks"),
            marks=tuple(marks),
            caption=f"To draw the answer among the classes errs on {guessing}, to answer always the most frequent one "
            f"on {majority} of the training examples.",
        )
        lines = [(basis, result.array(f"objective_{basis}")) for basis in self._found(result)]
        walk = Figure(
            name="pac_bayes_objective",
            title="How the posteriors were found",
            x=Axis(label="epoch"),
            y=Axis(label="loss + penalty", scale="log"),
            marks=tuple(Mark(kind="line", x=f.coords["epoch"], y=f.data, label=basis) for basis, f in lines),
        )
        return (bars, walk) if self.epochs else (bars,)

    def reading(self, result: Result) -> str:
        bases = self._found(result)
        basis = min(bases, key=lambda one: result.estimate(f"bound_{one}").value)
        bound, seen = result.estimate(f"bound_{basis}").value, result.estimate(f"train_error_{basis}").value
        # The smallest of several bounds is chosen by looking at them: all must hold for it to hold.
        sure = max(0.0, 1 - len(bases) * (self.failure + self.draws_failure))
        unseen = ""
        if f"test_error_{basis}" in result.values:
            unseen = f" ({_share(result.estimate(f'test_error_{basis}').value)} of the test examples)"
        said = (
            f"Networks drawn around this one, along {basis} axes, err on a share of {_share(seen)} of the training "
            f"examples{unseen} and, with probability {sure:.4g}, on a share of at most {_share(bound)} of new ones"
        )
        if len(bases) > 1:
            others = [f"{_share(result.estimate(f'bound_{one}').value)} along {one}" for one in bases if one != basis]
            said += f"; the bound is {listed(others)} axes"
        return " ".join([f"{said}.", *self._doubts(result, bound)])

    def _doubts(self, result: Result, bound: float) -> list[str]:
        """Why the bound may say little, or nothing."""
        guessing, majority = (result.estimate(f"{key}_error").value for key in ("guessing", "majority"))
        often = f"to answer always the most frequent class errs on {_share(majority)} of the training examples"
        doubts = []
        if result.estimate("vacuous").value:
            doubts.append(
                f"That is vacuous: to draw the answer among the classes, all alike, errs on {_share(guessing)}, and "
                f"{often}."
            )
        elif bound >= majority:
            doubts.append(f"That says little: {often}.")
        if not result.estimate("valid").value:
            doubts.append(
                "It is no guarantee, because the network also computes with tensors that may come from the training "
                "data."
            )
        return doubts

    def _found(self, result: Result) -> tuple[Basis, ...]:
        """Along which axes there is a bound."""
        return tuple(basis for basis in self.axes if f"bound_{basis}" in result.values)

    def _fitting(self) -> Fitting:
        return Fitting(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            decay=self.decay,
            decay_every=self.decay_every,
            refresh_every=self.refresh_every,
        )

    def _posterior(self, ground: ground_of.Ground, basis: Basis, rng: Rng) -> Posterior:
        begin = start(ground.objective, ground.prior_mean, ground_of.axes_at(ground, basis))
        return fit(
            ground.objective,
            begin,
            fitting=self._fitting(),
            failure=self.failure,
            factor=ground.factor,
            rng=rng,  # the same for all axes: they differ in nothing else
            refreshed=ground.axes_at_mean if basis == "refreshed" else None,
            label=f"posterior, {basis} axes",
        )

    def _certified(self, ground: ground_of.Ground, posterior: Posterior, basis: Basis, rng: Rng) -> dict[str, Estimate]:
        found = certify(
            ground.objective,
            posterior,
            num_draws=self.num_draws,
            batch_size=self.batch_size,
            failure=self.failure,
            draws_failure=self.draws_failure,
            rng=rng,
        )
        m, draws = len(ground.objective.data), found.num_draws
        sure = f"{1 - self.failure - self.draws_failure:.4g}"
        of_draws = f"share of wrong answers over {counted(draws, 'drawn network')}; another run finds another posterior"
        return {
            f"bound_{basis}": Estimate(
                value=found.bound, stderr=None, n=m, method=f"PAC-Bayes-kl, holds with probability {sure}"
            ),
            f"train_error_{basis}": Estimate(value=found.train_error, stderr=None, n=draws, method=of_draws),
            f"divergence_{basis}": Estimate(
                value=found.divergence, stderr=None, unit="nats", method="KL of posterior and prior, exact for this one"
            ),
            f"prior_variance_{basis}": Estimate(
                value=found.prior_variance,
                stderr=None,
                unit="weight^2",
                method="lambda, on the grid of the union bound",
            ),
        }

    def _test_error(self, errors: Floats) -> Estimate:
        value, stderr, n = share_by_example(errors, np.ones(len(errors)))
        method = f"mean over examples of the error of {counted(self.num_test_draws, 'drawn network')}"
        return Estimate(value=value, stderr=stderr, n=n, method=method)


def _share(value: float) -> str:
    return str(written(value, digits=2))
