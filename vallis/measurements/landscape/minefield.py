"""The minefield: where a training went, and other minima around its path, on one picture.

Definition: the kernels (weights with two axes or more) of each network as one vector; their two principal components,
    and t-SNE of the first `num_components` components at several perplexities. A network of the path is marked by its
    step, another by its test accuracy. The distance between two networks is the mean over kernels of
    |W / r - W' / r|, r being the norms of the rows (filters) of the one on the path.
Unit: 1 for accuracies and for distances (in norms of filters); pictures have none: only what is near on t-SNE means
    something.
Source: Huang et al. (2019), figure 1.
Cost: a pass forward over both splits for each network; the embedding itself costs as many kernels squared.
Says little when: lengths are read off t-SNE; or networks of other seeds are shown, which differ by permuted units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.figures import Figure
from vallis.core.numbers import count, written
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements import _stages
from vallis.measurements._sources import HUANG
from vallis.measurements.landscape import _minefield_shown as shown
from vallis.numerics.embeddings import Floats, kernel_distance, kernels_of, principal_components, stacked, tsne
from vallis.numerics.path_profile import Seen, look
from vallis.numerics.surface import surface

_FEWEST_FOR_TSNE = 10
_WHICH = Note(
    code="which_is_path",
    text="Nothing tells which of the networks are the path: they were brought along, and their steps do not rise. Say "
    "num_path, how many at the beginning are.",
)


@dataclass(frozen=True, kw_only=True)
class Minefield:
    """A path of training among other minima.

    It takes the solutions of the path, in the order of training, and behind them the others, such as minima that
    poisoned trainings from points of the path have found (`fine_tuning`; a job names them in its `others`).

    Attributes:
        num_path: how many of the solutions are the path; None takes those at the beginning that come of one training
            and whose steps rise. Networks that were brought along do not say of which training they come, so there
            steps alone tell, and a note says so; without steps it must be said.
        perplexities: of t-SNE, a picture each; those that are too large for the number of networks are lowered.
        num_components: of the kernels, which t-SNE is given; lowered to the number of networks.
        outliers: other networks further than so many standard deviations from their mean in both coordinates are not
            drawn; 0 draws all.
        split: the examples that were learned.
        test_split: the examples that were not.
        seed: of t-SNE's random start.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "path_and_others"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (HUANG,)

    num_path: int | None = None
    perplexities: tuple[float, ...] = (5.0, 30.0, 50.0, 100.0)
    num_components: int = 50
    outliers: float = 1.5
    split: str = "train"
    test_split: str = "test"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "perplexities", tuple(self.perplexities))  # a list, when it comes from JSON
        if self.num_path is not None and self.num_path < 1:
            raise SettingsError(
                f"a path of at least one solution was required, num_path={self.num_path} came: raise it"
            )
        if not all(value >= 1 for value in self.perplexities) or self.num_components < 2 or not self.outliers >= 0:
            raise SettingsError(
                "perplexities of at least 1, two components and outliers of at least 0 were required, "
                f"{self.perplexities}, {self.num_components} and {self.outliers} came: change them"
            )

    @classmethod
    def tiny(cls) -> Minefield:
        """The cheapest settings, for tests."""
        return cls(perplexities=(2.0,), num_components=2)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        everybody: Sequence[Solution] = subject
        number = self._num_path(everybody)
        way, of_stages = _stages.last_of(everybody[:number])
        solutions, num_path = (*way, *everybody[len(everybody) if number is None else number :]), len(way)
        refused = _refused(solutions)
        if refused is not None or number is None:
            return NotApplicable(note=refused or _WHICH)
        splits = [name for name in (self.split, self.test_split) if name in solutions[0].task.splits]
        seen = [
            [look(ground, ground.origin) for ground in (surface(each, split).objective for split in splits)]
            for each in track(solutions, "networks", len(solutions))
        ]
        values, notes = self._embedded(stacked(solutions))
        notes += self._told(solutions, num_path)
        values |= _of_networks(solutions, num_path, seen)
        values |= _distances(solutions, num_path)
        return Result(values=values, notes=(*notes, *of_stages))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return shown.figures(result, self.outliers)

    def reading(self, result: Result) -> str:
        others = int(result.estimate("num_others").value)
        path = int((result.array("is_path").data == 1).sum())
        said = f"The path has {count(path)} networks"
        if "path_end_test_accuracy" in result.values:
            said += (
                f" and ends at a test accuracy of {written(result.estimate('path_end_test_accuracy').value, digits=3)}"
            )
        if not others:
            return f"{said}; there are no others around it."
        near = result.estimate("nearest_distance").value
        said += f"; around it are {count(others)} other networks, on the mean {near:.2g} of the filters' norms from it"
        if path > 1:
            said += f" (its own ends are {result.estimate('path_distance').value:.2g} apart)"
        if "others_test_accuracy" in result.values:
            means = [result.estimate(f"others_{split}_accuracy").value for split in ("train", "test")]
            said += f", with a mean accuracy of {means[0]:.3g} on the training and {means[1]:.3g} on the test examples"
        return f"{said}."

    def _num_path(self, solutions: Sequence[Solution]) -> int | None:
        """How many are the path; None where nothing tells."""
        if self.num_path is not None:
            return min(self.num_path, len(solutions))
        first, number = solutions[0].origin, len(solutions)
        for place, (before, here) in enumerate(pairwise(solutions), start=1):
            if here.origin != first or here.step <= before.step:
                number = place
                break
        return None if first is None and number == 1 else number

    def _told(self, solutions: Sequence[Solution], num_path: int) -> list[Note]:
        """That steps alone told the path from the others, if so."""
        if self.num_path is not None or solutions[0].origin is not None:
            return []
        text = (
            f"The first {num_path} networks, whose steps rise, were taken for the path: networks that were brought "
            "along do not say of which training they come. num_path says how long it is."
        )
        return [Note(code="path_by_steps", text=text)]

    def _embedded(self, points: Floats) -> tuple[dict[str, Estimate | Array], list[Note]]:
        number, notes = len(points), []
        flat = principal_components(points, 2)
        values: dict[str, Estimate | Array] = {
            "components": Array(data=flat.coordinates, dims=("network", "component"), unit="weight"),
            "explained_fraction": Array(data=flat.explained, dims=("component",)),
        }
        if number < _FEWEST_FOR_TSNE:
            text = (
                f"There are {number} networks: t-SNE needs at least {_FEWEST_FOR_TSNE}, so only components are shown."
            )
            return values, [Note(code="no_tsne", text=text)]
        kept = min(self.num_components, number - 1, points.shape[1])
        if kept < self.num_components:
            text = f"t-SNE was given {kept} principal components instead of {self.num_components}: there are no more."
            notes.append(Note(code="fewer_components", text=text))
        reduced = principal_components(points, kept).coordinates
        most = float(number - 1) / 3
        for perplexity in dict.fromkeys(min(float(value), most) for value in self.perplexities):
            found = tsne(reduced, perplexity, Rng(self.seed).child("tsne", perplexity))
            values[f"tsne_{perplexity:g}".replace(".", "_")] = Array(data=found, dims=("network", "component"))
        lowered = [value for value in self.perplexities if value > most]
        if lowered:
            text = f"A perplexity of at most {most:.3g} fits {number} networks: {len(lowered)} were lowered to it."
            notes.append(Note(code="perplexity_lowered", text=text))
        return values, notes


def _refused(solutions: Sequence[Solution]) -> Note | None:
    """Why there is no picture."""
    if len(solutions) < 3:
        text = f"A picture needs three networks or more, {len(solutions)} came."
        return Note(code="too_few_networks", text=text)
    shapes = [{name: value.shape for name, value in kernels_of(each).items()} for each in solutions]
    if not shapes[0]:
        return Note(code="no_kernels", text="No parameter is a weight of two axes or more.")
    if any(held != shapes[0] for held in shapes):
        return Note(code="other_network", text="The networks are no points of one weight space.")
    if not all(bool(value.isfinite().all()) for each in solutions for value in kernels_of(each).values()):
        return Note(
            code="not_finite", text="A network has weights that are no finite numbers: its training has diverged."
        )
    flat = stacked(solutions)
    if min(flat.shape) < 2 or bool((flat == flat[0]).all()):
        return Note(code="one_point", text="The kernels of all networks are on one line or are the same.")
    return None


def _of_networks(
    solutions: Sequence[Solution], num_path: int, seen: Sequence[Sequence[Seen]]
) -> dict[str, Estimate | Array]:
    """What each network is, and the means of the others."""
    number = len(solutions)
    is_path = np.arange(number) < num_path
    steps = np.array([float(each.step) for each in solutions])
    values: dict[str, Estimate | Array] = {
        "is_path": Array(data=is_path.astype(np.float64), dims=("network",)),
        "steps": Array(data=steps, dims=("network",), unit="steps"),
        "num_others": Estimate(value=number - num_path, stderr=0.0, unit="networks", method="counted"),
    }
    for place, split in enumerate(("train", "test")[: len(seen[0])]):
        accuracies = 1 - np.array([held[place].error for held in seen])
        if not np.isfinite(accuracies).all():
            continue
        values[f"{split}_accuracies"] = Array(data=accuracies, dims=("network",))
        end = Estimate(value=float(accuracies[num_path - 1]), n=1, method="of the last network of the path")
        values[f"path_end_{split}_accuracy"] = end
        if num_path < number:
            others = accuracies[num_path:]
            error = float(others.std(ddof=1) / len(others) ** 0.5) if len(others) > 1 else None
            method = "mean over the other networks; the error bar is over them"
            mean = Estimate(value=float(others.mean()), stderr=error, n=len(others), method=method)
            values[f"others_{split}_accuracy"] = mean
    return values


def _distances(solutions: Sequence[Solution], num_path: int) -> dict[str, Estimate | Array]:
    if num_path == len(solutions):
        return {}
    rows = [[kernel_distance(good, other) for good in solutions[:num_path]] for other in solutions[num_path:]]
    found = np.array(rows)
    method = "mean over the other networks of the distance to the nearest on the path"
    near = Estimate(value=float(found.min(1).mean()), n=len(found), method=method)
    ends = kernel_distance(solutions[num_path - 1], solutions[0])
    return {
        "distances": Array(data=found, dims=("other", "on_path")),
        "nearest_distance": near,
        "path_distance": Estimate(value=ends, n=1, method="of the first network of the path from the last"),
    }
