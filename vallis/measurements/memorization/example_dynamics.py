"""How each training example was learned and forgotten, from the answers that training gave anyway.

Definition: at each presentation (in the batch, before the update) an example is right or wrong, has a margin and
    a probability of its label. Forgetting events count how often it was wrong right after it was right; what was never
    right is never learned, and counted apart. Confidence and variability are mean and standard deviation of the
    probability, correctness the share right, the area under the margin the mean margin, and the error norm (EL2N) the
    mean of |softmax - one_hot| over the first presentations. Where a split "true_labels" says which labels are noisy,
    each score is tried as a detector of them. Where a training has stages, each from the first weights on, they are of
    the last alone.
Unit: a count, a share of examples, a probability; nats for margins.
Source: Toneva et al. (2019), section 3; Swayamdipta et al. (2020), section 2; Pleiss et al. (2020), equation 2; Paul et
    al. (2021), definition 2.2.
Cost: nothing beyond training but a few operations on the scores of each batch.
Says little when: examples are presented a few times only: in one epoch nothing can be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.errors import SettingsError
from vallis.core.figures import Figure
from vallis.core.numbers import quantity
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Source, StepInfo, Task
from vallis.measurements import _stages
from vallis.measurements.memorization import _example_dynamics_figures, _pending_answers
from vallis.numerics.dynamics import DynamicsRecorder
from vallis.numerics.example_scores import first_learned, within
from vallis.numerics.means import Floats, ratio
from vallis.numerics.noisy_labels import noisy_examples
from vallis.numerics.proportions import chance_of_order, share
from vallis.numerics.scores import ignored_target

_Values = dict[str, Estimate | Array]


@dataclass(frozen=True, kw_only=True)
class ExampleDynamics:
    """Forgetting, learning order, margins and the data map of every training example.

    Attributes:
        num_early: over how many first presentations the error norm is taken.
        num_named: how many of the most forgotten and of the hardest examples are named.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "training"
    needs: ClassVar[frozenset[str]] = frozenset()
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="An empirical study of example forgetting during deep neural network learning",
            authors="M. Toneva, A. Sordoni, R. Tachet des Combes, A. Trischler, Y. Bengio, G. J. Gordon",
            year=2019,
            url="https://arxiv.org/abs/1812.05159",
        ),
        Source(
            title="Dataset cartography: mapping and diagnosing datasets with training dynamics",
            authors="S. Swayamdipta, R. Schwartz, N. Lourie, Y. Wang, H. Hajishirzi, N. A. Smith, Y. Choi",
            year=2020,
            url="https://arxiv.org/abs/2009.10795",
        ),
        Source(
            title="Identifying mislabeled data using the area under the margin ranking",
            authors="G. Pleiss, T. Zhang, E. R. Elenberg, K. Q. Weinberger",
            year=2020,
            url="https://arxiv.org/abs/2001.10528",
        ),
        Source(
            title="Deep learning on a data diet: finding important examples early in training",
            authors="M. Paul, S. Ganguli, G. K. Dziugaite",
            year=2021,
            url="https://arxiv.org/abs/2107.07075",
        ),
    )

    num_early: int = 10
    num_named: int = 20

    def __post_init__(self) -> None:
        if self.num_early < 1 or self.num_named < 1:
            raise SettingsError(
                f"at least one presentation and one name were required, num_early={self.num_early} and "
                f"num_named={self.num_named} came: raise them"
            )

    @classmethod
    def tiny(cls) -> ExampleDynamics:
        """The cheapest settings, for tests."""
        return cls(num_early=3, num_named=5)

    def begin(self, tasks: tuple[Task, ...]) -> dict[str, Any]:
        index = torch.cat([batch.index.cpu() for task in tasks for batch in task.splits["train"]])
        memory = DynamicsRecorder(identities=index.unique()).memory()
        losses = {task.name: [task.loss.kind, ignored_target(task.loss)] for task in tasks}
        found = [noisy_examples(task) for task in tasks]
        # Whose label is noisy; of several tasks only where all know.
        if all(part is not None for part in found):
            names, marks = (torch.cat(parts) for parts in zip(*[part for part in found if part], strict=True))
            memory["noisy"] = marks[names.argsort()]
        return {**memory, "losses": losses, **_stages.none()}

    def watch(self, memory: dict[str, Any], info: StepInfo) -> None:
        if _stages.is_next(memory, info):
            memory.update(DynamicsRecorder(identities=memory["identities"]).memory(), pending=0)
        scores, targets = (None, None) if info.answers is None else (info.answers.scores, info.answers.targets)
        losses = memory["losses"]
        kind, ignored = losses.get(info.task) or next(iter(losses.values()))
        if info.index is None or scores is None or kind not in ("categorical", "binary"):
            return
        if not isinstance(targets, torch.Tensor):
            return
        parts = {"index": info.index, "scores": scores, "targets": targets}
        _pending_answers.take(memory, parts, info.step, kind, -100 if ignored is None else ignored)

    def conclude(self, memory: Mapping[str, Any]) -> Outcome:
        recorder = DynamicsRecorder.of_memory(_pending_answers.recorded(memory))
        if not int(recorder.seen.sum()):
            text = "The training told of no example what was answered and what was right."
            return NotApplicable(note=Note(code="nothing_classified", text=text))
        values = self._of_examples(recorder)
        values |= self._named(recorder) | _fractions(values) | _curves(recorder)
        if "noisy" in memory:
            values |= _of_noise(values, recorder, memory["noisy"])
        return Result(values=values, notes=(*_notes(recorder, values), *_stages.notes(memory)))

    def _of_examples(self, recorder: DynamicsRecorder) -> _Values:
        chosen = recorder.seen > 0
        coords = {"example": recorder.identities[chosen].double().numpy()}
        found = recorder.cartography()
        columns = {
            "presentations": (recorder.seen, "1"),
            "forgetting_events": (recorder.forgetting_events(), "1"),
            "first_right": (recorder.first_right(), "1"),
            "first_learned": (recorder.first_learned(), "1"),
            "area_under_margin": (recorder.area_under_margin(), "nats"),
            "error_norm": (recorder.error_norm(stop=self.num_early), "1"),
            "confidence": (found.confidence, "1"),
            "variability": (found.variability, "1"),
            "correctness": (found.correctness, "1"),
        }
        return {
            name: Array(data=column[chosen].double().numpy(), dims=("example",), unit=unit, coords=coords)
            for name, (column, unit) in columns.items()
        }

    def _named(self, recorder: DynamicsRecorder) -> _Values:
        found = {
            "most_forgotten_examples": recorder.most_forgotten(self.num_named),
            "hardest_examples": recorder.hardest(self.num_named),
        }
        return {name: Array(data=names.double().numpy(), dims=("rank",)) for name, names in found.items()}

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return _example_dynamics_figures.figures(result)

    def reading(self, result: Result) -> str:
        times = result.array("presentations").data
        often = _times(times.max()) if times.min() == times.max() else f"{times.min():.0f} to {_times(times.max())}"
        parts = {name: quantity(result.estimate(f"{name}_fraction")) for name in ("forgotten", "never_learned")}
        said = (
            f"Of {len(times):,} training examples, each presented {often}, a share of {parts['forgotten']} was learned "
        )
        said += f"and forgotten again at least once, and {parts['never_learned']} was never learned"
        names = result.array("most_forgotten_examples").data[:3]
        if len(names):
            events = result.array("forgetting_events").data.max()
            said += f". Most often forgotten ({'' if events == 1 else 'up to '}{_times(events)}): {_listed(names)}"
        names = result.array("hardest_examples").data[:3]
        if len(names):
            said += f". Smallest mean margins: {_listed(names)}"
        if "area_under_margin_auc" not in result.values:
            return f"{said}."
        chance = quantity(result.estimate("area_under_margin_auc"))
        return f"{said}. An example with a noisy label has a smaller margin than a clean one with a chance of {chance}."


def _fractions(values: _Values) -> _Values:
    events, right = (_data(values, name) for name in ("forgetting_events", "correctness"))
    marks = {
        "forgotten_fraction": events > 0,
        "never_learned_fraction": right == 0,
        "unforgettable_fraction": (events == 0) & (right > 0),
    }
    made: _Values = {}
    for name, mark in marks.items():
        found = share(int(mark.sum()), len(mark))
        method = "share of the examples; the error bar is half of Wilson's interval at 68 %"
        made[name] = found.estimate(method)
    method = "mean over the examples that were learned; the error bar is over their choice"
    learned = events[right > 0]
    if len(learned):
        mean, stderr, n = ratio(learned, np.ones_like(learned))
        made["mean_forgetting_events"] = Estimate(value=mean, stderr=stderr, n=n, method=method)
    return made


def _curves(recorder: DynamicsRecorder, chosen: torch.Tensor | None = None, name: str = "") -> _Values:
    """By presentation: the share that is right, and (of all examples) the share that is right from there on."""
    correct, seen = recorder.recorded["correct"], recorder.seen
    if chosen is not None:
        correct, seen = correct[:, chosen], seen[chosen]
    counts = within(correct, seen).double().sum(1).numpy()
    most = int((counts > 0).sum())
    coords = {"presentation": np.arange(most, dtype=np.float64)}
    right = (correct & within(correct, seen)).double().sum(1).numpy()[:most] / counts[:most]
    made: _Values = {f"{name}right_fraction": Array(data=right, dims=("presentation",), coords=coords)}
    if chosen is None:
        since = first_learned(correct, seen)
        known = np.bincount(since[since >= 0].numpy(), minlength=most).astype(np.float64)
        share_learned = known.cumsum() / int((seen > 0).sum())
        made["learned_fraction"] = Array(data=share_learned[:most], dims=("presentation",), coords=coords)
    return made


def _of_noise(values: _Values, recorder: DynamicsRecorder, noisy: torch.Tensor) -> _Values:
    """The curves of noisy and clean examples, and how well each score tells them apart."""
    seen = recorder.seen > 0
    bad, good = noisy & seen, ~noisy & seen
    if not bool(bad.any()) or not bool(good.any()):
        return {}
    made = _curves(recorder, bad, "noisy_") | _curves(recorder, good, "clean_")
    marks = noisy[seen].numpy()
    method = "chance that {} of a noisy example is {} than of a clean one, ties half; the error bar is "
    method += "the larger of DeLong's and Newcombe's"
    scores = {
        "forgetting_events": (1.0, method.format("the number of forgetting events", "larger")),
        "area_under_margin": (-1.0, method.format("the mean margin", "smaller")),
        "error_norm": (1.0, method.format("the early error norm", "larger")),
    }
    for name, (sign, words) in scores.items():
        column = sign * _data(values, name)
        if name == "forgetting_events":  # never learned counts as forgotten most
            column = np.where(_data(values, "correctness") == 0, np.inf, column)
        if not np.isnan(column).any():
            value, stderr = chance_of_order(column[marks], column[~marks])
            made[f"{name}_auc"] = Estimate(value=value, stderr=stderr, n=int(marks.sum()), method=words)
    return made


def _notes(recorder: DynamicsRecorder, values: _Values) -> tuple[Note, ...]:
    notes = []
    if int(recorder.seen.max()) < 2:
        text = "Each example was presented once, so none could be forgotten: train for more epochs."
        notes.append(Note(code="one_presentation", text=text))
    unseen = int((recorder.seen == 0).sum())
    if unseen:
        notes.append(Note(code="not_all_seen", text=f"{unseen:,} training examples were never presented."))
    if not all(np.isfinite(value.data).all() for value in values.values() if isinstance(value, Array)):
        text = "Some scores are not finite: the training has diverged, or an answer was infinitely wrong."
        notes.append(Note(code="not_finite", text=text))
    return tuple(notes)


def _data(values: _Values, name: str) -> Floats:
    found = values[name]
    assert isinstance(found, Array)
    return found.data


def _times(number: float) -> str:
    return "once" if number == 1 else f"{number:,.0f} times"


def _listed(names: Floats) -> str:
    *others, last = [f"{name:.0f}" for name in names]
    return f"examples {', '.join(others)} and {last}" if others else f"example {last}"
