"""Whether two networks lie in one valley: how high the loss rises on ways from the one to the other.

Definition: the barrier of a way theta(t), t in [0, 1], is the most by which the mean loss lies above the straight line
    between its values at the two ends, max over t of L(theta(t)) - (1 - t) L(theta(0)) - t L(theta(1)); so it is for
    the error. Ways are the segment ("straight"), the segment to the second network after its units were put into the
    order most like that of the first ("aligned"), a Bezier curve trained to a low loss ("curve"), and a chain of
    pivots pulled down across its own direction ("band"). With batch normalisation the statistics are computed anew at
    each point. The moment of the barrier is located to `tolerance` in t, among the points of the first grid.
Unit: nats for the loss (its own unit where it is no log-likelihood), 1 for errors.
Source: Frankle et al. (2020), section 2; Garipov et al. (2018), section 3; Draxler et al. (2018), section 3;
    Ainsworth et al. (2023), section 3.2.
Cost: a third of a gradient a point of a way and split, some 30 points a way; `num_steps` gradients on a batch for the
    curve; steps times pivots for the band.
Says little when: a straight barrier is high, which permuted units alone can do; or when a trained way is low, for that
    a way was found at this budget says so, and that none was found says nothing; or when a low barrier is measured on
    few examples, for the highest of several means is too high on the average. Its interval allows for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from vallis.core.errors import ModelError, SettingsError
from vallis.core.figures import Figure
from vallis.core.numbers import count
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements.landscape import _mode_connectivity_shown as shown
from vallis.measurements.landscape._mode_connectivity_values import Found, plane_values, values_of
from vallis.numerics.elastic_band import Band
from vallis.numerics.path_profile import barrier_of
from vallis.numerics.paths import straight
from vallis.numerics.routes import Ends, aligned, band_between, curve_between, must_match
from vallis.numerics.surface import Surface, surface

Route = Literal["straight", "aligned", "curve", "band"]
ROUTES: tuple[Route, ...] = ("straight", "aligned", "curve", "band")
_TRAINED = frozenset({"curve", "band"})


@dataclass(frozen=True, kw_only=True)
class ModeConnectivity:
    """The barriers between two networks.

    Attributes:
        routes: which ways: "straight", "aligned", "curve", "band".
        align: curve and band lead to the second network with its units matched to those of the first.
        split: over which examples the loss is taken, and ways are trained: those of the first network.
        test_split: other examples that are looked at; left out when the task has none.
        max_examples: of more examples a random part of this size is looked at; ways are trained on all of them. None
            looks at all.
        num_points: of the first grid on a way, the ends among them.
        tolerance: the moment of a barrier is located to this, as a share of the way.
        batch_norm: "anew" computes running statistics at each point, "between" goes from those of the one network to
            those of the other.
        num_bends: of the Bezier curve.
        num_steps: gradients to train it with.
        learning_rate: of Adam, falling to zero.
        batch_size: examples a gradient; None takes all.
        num_cycles: of the band; in the second half its learning rate is a tenth.
        steps_per_cycle: gradients of each pivot.
        band_learning_rate: of the band's momentum descent.
        num_points_plane: on each side of the picture of the plane through both networks and the middle of the trained
            way; 0 draws none.
        seed: of the search for ways; what is found is a fact about the networks and this seed.
    """

    version: ClassVar[int] = 4
    takes: ClassVar[str] = "pair"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset()
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Linear mode connectivity and the lottery ticket hypothesis",
            authors="J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin",
            year=2020,
            url="https://arxiv.org/abs/1912.05671",
        ),
        Source(
            title="Loss surfaces, mode connectivity, and fast ensembling of DNNs",
            authors="T. Garipov, P. Izmailov, D. Podoprikhin, D. Vetrov, A. G. Wilson",
            year=2018,
            url="https://arxiv.org/abs/1802.10026",
        ),
        Source(
            title="Essentially no barriers in neural network energy landscape",
            authors="F. Draxler, K. Veschgini, M. Salmhofer, F. A. Hamprecht",
            year=2018,
            url="https://arxiv.org/abs/1803.00885",
        ),
        Source(
            title="Git Re-Basin: merging models modulo permutation symmetries",
            authors="S. K. Ainsworth, J. Hayase, S. Srinivasa",
            year=2023,
            url="https://arxiv.org/abs/2209.04836",
        ),
    )

    routes: tuple[Route, ...] = ("straight", "aligned", "curve")
    align: bool = False
    split: str = "train"
    test_split: str = "test"
    max_examples: int | None = None
    num_points: int = 21
    tolerance: float = 0.005
    batch_norm: Literal["anew", "between"] = "anew"
    num_bends: int = 1
    num_steps: int = 1000
    learning_rate: float = 0.01
    batch_size: int | None = 128
    num_cycles: int = 4
    steps_per_cycle: int = 50
    band_learning_rate: float = 0.1
    num_points_plane: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "routes", tuple(self.routes))  # a list, when it comes from JSON
        if not self.routes or not set(self.routes) <= set(ROUTES):
            raise SettingsError(f"routes among {', '.join(ROUTES)} were required, {self.routes} came: choose of these")
        least = {"num_points": 3, "num_bends": 1, "num_steps": 0, "num_cycles": 1, "steps_per_cycle": 0}
        for name, number in {**least, "num_points_plane": 0}.items():
            if getattr(self, name) < number:
                raise SettingsError(f"{name} must be at least {number}, {getattr(self, name)} came: raise it")
        for name in ("tolerance", "learning_rate", "band_learning_rate"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, {getattr(self, name)} came: raise it")

    @classmethod
    def tiny(cls) -> ModeConnectivity:
        """The cheapest settings, for tests."""
        return cls(num_points=3, tolerance=0.5, num_steps=3, num_points_plane=2)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        one, other = subject
        differ = must_match(one, other)
        if differ:
            text = f"The two networks are no points of one weight space: {differ}."
            return NotApplicable(note=Note(code="other_network", text=text))
        grounds = [surface(each, self.split, max_examples=self.max_examples, rng=rng) for each in (one, other)]
        for ground in grounds:
            diverged = ground.not_finite()
            if diverged is not None:
                return diverged
        first, second = (ground.objective for ground in grounds)
        learned = surface(one, self.split).objective
        ends = Ends.of(first, second, anew=self.batch_norm == "anew", learned=learned, rng=rng.child("statistics"))
        found, notes = self._walked(ends, self._test(one, rng), rng)
        values = values_of(found, ends, grounds[0].unit)
        bent = next((each for each in found if each.route in ("curve", "band")), None)
        if bent is not None and self.num_points_plane:
            values |= plane_values(bent, self.num_points_plane, grounds[0].unit)
        return Result(values=values, notes=(*grounds[0].notes, *notes, *_lost(found)))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return shown.figures(result)

    def reading(self, result: Result) -> str:
        return shown.reading(result)

    def _test(self, one: Solution, rng: Rng) -> Surface | None:
        if self.test_split not in one.task.splits:
            return None
        return surface(one, self.test_split, max_examples=self.max_examples, rng=rng)

    def _walked(self, ends: Ends, test: Surface | None, rng: Rng) -> tuple[list[Found], list[Note]]:
        # The search has a stream of its own: another one would find another way, and no error bar says how it differs.
        search, notes, found = Rng(self.seed).child("mode_connectivity"), [], []
        matched, others = None, () if test is None else (test.objective,)
        if test is not None:
            notes += [note for note in test.notes if note.code != "part_of_the_data"]
        if "aligned" in self.routes or self.align:
            try:
                matched = aligned(ends, search.child("match"))
                notes += _in_place(matched)
            except ModelError as trouble:
                notes.append(Note(code="not_aligned", text=f"The units were not matched: {trouble}."))
        differing = ends.differing()
        if differing and _TRAINED & set(self.routes):
            text = (
                f"The networks differ in what was not trained ({', '.join(differing[:3])}), and a way of trained "
                "weights alone does not lead from the one to the other: only straight ones were walked, on which the "
                "rest goes along."
            )
            notes.append(Note(code="frozen_differ", text=text))
        for route in self.routes:
            to = matched if route == "aligned" or (self.align and route != "straight") else ends
            if to is None or (route in _TRAINED and differing):
                continue
            path, pivots, told = self._path(route, to, search.child(route))
            notes += told
            profiles = to.profiles(path, others, self.num_points, self.tolerance)
            barriers = [
                {what: barrier_of(each, rng.child("resamples", route, what), what) for what in ("losses", "wrong")}
                for each in profiles
            ]
            found.append(Found(route, to, path, profiles, barriers, pivots))
        if not found:
            return self._straight_alone(ends, others, rng, notes)
        return found, notes

    def _straight_alone(
        self, ends: Ends, others: tuple[Any, ...], rng: Rng, notes: list[Note]
    ) -> tuple[list[Found], list[Note]]:
        """Where no way that was wanted can be walked, the segment is looked at instead."""
        path = straight(*ends.vectors)
        profiles = ends.profiles(path, others, self.num_points, self.tolerance)
        barriers = [{what: barrier_of(each, rng, what) for what in ("losses", "wrong")} for each in profiles]
        return [Found("straight", ends, path, profiles, barriers, 0)], notes

    def _path(self, route: Route, to: Ends, rng: Rng) -> tuple[Any, int, list[Note]]:
        if route in ("straight", "aligned") or bool((to.vectors[0] == to.vectors[1]).all()):
            return straight(*to.vectors), 0, []
        if route == "curve":
            how = {"num_bends": self.num_bends, "num_steps": self.num_steps, "learning_rate": self.learning_rate}
            return curve_between(to, rng=rng, batch_size=self.batch_size, **how), self.num_bends, []  # type: ignore[arg-type]
        late = self.num_cycles - self.num_cycles // 2
        rates = [self.band_learning_rate * (1.0 if cycle < late else 0.1) for cycle in range(self.num_cycles)]
        cycles = tuple((self.steps_per_cycle, rate) for rate in rates)
        band = band_between(to, rng=rng, cycles=cycles, batch_size=self.batch_size)
        return band.path, band.num_pivots[-1], _astray(band)


def _astray(band: Band) -> list[Note]:
    """That cycles of a band came to nothing."""
    if not band.num_diverged:
        return []
    text = (
        f"In {count(band.num_diverged)} of {count(len(band.num_pivots))} cycles the steps of the band led to no finite "
        "numbers, and it stayed as it was before: lower band_learning_rate."
    )
    return [Note(code="band_diverged", text=text)]


def _in_place(matched: Ends) -> list[Note]:
    """Which weights had no unit that could be matched, as around attention."""
    still = matched.in_place
    if not still:
        return []
    named = f"{', '.join(still[:4])}{' ...' if len(still) > 4 else ''}"
    text = (
        f"The units of {len(still)} weights ({named}) stayed in place: it is not known which of them may change "
        "places, so the barrier of the aligned way may be due to their order."
    )
    return [Note(code="partly_aligned", text=text)]


def _lost(found: list[Found]) -> list[Note]:
    lost = [each.route for each in found if not all(np.isfinite(profile.losses).all() for profile in each.profiles)]
    if not lost:
        return []
    text = f"On the way {' and '.join(lost)} the loss is no finite number somewhere, so the barrier there is infinite."
    return [Note(code="not_finite", text=text)]
