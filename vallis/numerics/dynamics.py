"""Records what every example goes through in training: loss, margin, probability, error norm and correctness.

In a loop of one's own::

    recorder = DynamicsRecorder(num_examples=len(dataset))
    recorder.update(index, logits, targets)  # in the loop, with the logits that the loss was computed from
    recorder.forgetting_events(), recorder.area_under_margin(), recorder.cartography()

An example's first presentation is its presentation 0, whenever it comes, so examples may be seen any number of times.
"""

from __future__ import annotations

import json
import operator
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vallis.core import files
from vallis.core.errors import DataError, SettingsError
from vallis.numerics import example_scores
from vallis.numerics.example_scores import Cartography
from vallis.numerics.presentations import QUANTITIES, Kind, Presentations, must_be_classes, presentations
from vallis.numerics.timelines import Timelines, rank_among_equals

_FORMAT = "vallis example dynamics 1"
# Several threads may record; one of two appends at once would be lost. (Not a recorder's own, which can be copied.)
_ONE_AT_A_TIME = threading.Lock()


class DynamicsRecorder:
    """Tensor buffers of what was seen of each example, and the scores that follow from them.

    Args:
        num_examples: N; identities are 0 to N - 1.
        identities: ``(N,)`` distinct int64 identities of the examples, in place of `num_examples`; scores come in their
            ascending order. With neither, examples are taken in as they come.
        num_presentations: for how many presentations of each example room is made in advance; it grows by doubling.
        keep: what is recorded beside correctness, of "losses", "margins", "probabilities", "error_norms"; each takes
            4 bytes a presentation, correctness 1, the number of the update 4.
        kind: see `vallis.numerics.presentations.presentations`.
        ignore_index: targets of this value do not count; any other that is no class is refused.
        device: where the buffers lie.

    Raises:
        SettingsError: a size is no positive number, a quantity or the kind is unknown, or both ways to name examples
            were given.
        DataError: identities are no distinct integers.
    """

    def __init__(
        self,
        num_examples: int | None = None,
        *,
        identities: torch.Tensor | Sequence[int] | None = None,
        num_presentations: int = 16,
        keep: Sequence[str] = QUANTITIES,
        kind: Kind | None = None,
        ignore_index: int = -100,
        device: torch.device | str = "cpu",
    ) -> None:
        num_examples = None if num_examples is None else _number(num_examples)
        num_presentations = _number(num_presentations)
        if kind not in (None, "categorical", "binary"):
            raise SettingsError(f'kind "categorical", "binary" or None was required, {kind!r} came: choose one of them')
        keep = (keep,) if isinstance(keep, str) else keep
        if num_examples is not None and identities is not None:
            raise SettingsError("num_examples or identities was required, both came: leave one out")
        if (num_examples is not None and num_examples < 1) or num_presentations < 1:
            raise SettingsError(
                "at least one example and one presentation were required, "
                f"num_examples={num_examples} and num_presentations={num_presentations} came: raise them"
            )
        unknown = sorted(set(keep) - set(QUANTITIES))
        if unknown:
            raise SettingsError(f"keep must be of {', '.join(QUANTITIES)}, {', '.join(unknown)} came: leave it out")
        self.kind, self.ignore_index, self.num_updates = kind, ignore_index, 0
        known = None if num_examples is None else torch.arange(num_examples, device="cpu")
        if identities is not None:
            known = _integers(identities)
        kept = tuple(name for name in QUANTITIES if name in keep)
        with torch.inference_mode(False):  # or nothing could be written into the buffers outside of it
            self.timelines = Timelines(known, num_presentations, kept, torch.device(device))

    def __repr__(self) -> str:
        seen = self.seen
        least, most = (int(seen.min()), int(seen.max())) if len(seen) else (0, 0)
        times = f"{most}" if least == most else f"{least} to {most}"
        return f"DynamicsRecorder({len(seen):,} examples, presentations of each: {times})"

    @property
    def identities(self) -> torch.Tensor:
        """``(N,)`` int64: which example each column of the buffers, and each entry of a score, belongs to."""
        return self.timelines.identities

    @property
    def seen(self) -> torch.Tensor:
        """``(N,)`` int64: how often each example was presented."""
        return self.timelines.seen[: self.timelines.num_examples]

    @property
    def recorded(self) -> dict[str, torch.Tensor]:
        """``(T, N)`` what was recorded, by name: "correct" (bool), "updates" (int32) and the quantities kept (float32).

        Of each column the first `seen` entries count. These are views: copy what is to stay.
        """
        last = int(self.seen.max()) if len(self.seen) else 0
        return {name: held[:last, : len(self.seen)] for name, held in self.timelines.buffers.items()}

    def update(
        self,
        index: torch.Tensor | Sequence[int],
        logits: torch.Tensor,
        targets: torch.Tensor,
        *,
        losses: torch.Tensor | None = None,
        step: int | None = None,
    ) -> None:
        """Takes in one batch; an example that is in it twice is presented twice, in the order of the batch.

        Args:
            index: ``(B,)`` the identities.
            logits: ``(B, C)``, ``(B, C, T)`` or ``(B,)``, with or without a graph, of any floating type and device.
            targets: what they are judged against, a tensor or an array; an example none of whose targets counts is not
                presented.
            losses: ``(B,)`` to be recorded in place of the cross-entropy, a tensor or an array.
            step: the number of the step, by which `merged` orders presentations; None counts the updates.

        Raises:
            DataError: the shapes do not fit, an identity is unknown, a target is no class and not `ignore_index`, or
                the step is no whole number of 32 bits.
        """
        with torch.inference_mode(False), torch.no_grad():
            held = targets if isinstance(targets, torch.Tensor) else torch.as_tensor(targets)
            seen = presentations(logits, held, self.kind, self.ignore_index)
            must_be_classes(logits, held, self.kind, self.ignore_index)
            own = None if losses is None else torch.as_tensor(losses)
            self.record(index, seen, losses=own, step=None if step is None else _step(step))

    def record(
        self,
        index: torch.Tensor | Sequence[int],
        seen: Presentations,
        *,
        losses: torch.Tensor | None = None,
        step: int | torch.Tensor | None = None,
    ) -> None:
        """Takes in presentations that are computed already; see `update`.

        The step may be one number an example ``(B,)``, for presentations of several steps at once.
        """
        identities = _integers(index)
        if len(identities) != len(seen.correct):
            raise DataError(
                f"one identity an example was required, {len(identities)} identities came for "
                f"{len(seen.correct)} examples: give index one entry a row of logits, and tokens as logits (B, C, T)"
            )
        if losses is not None and losses.shape != seen.correct.shape:
            raise DataError(
                f"one loss an example was required, losses of shape {tuple(losses.shape)} came for {len(seen.correct)} "
                'examples: take them with reduction="none", and of tokens the mean of each example'
            )
        counted = seen.counted.to("cpu")
        values = {name: getattr(seen, name) for name in (*self.timelines.kept, "correct")}
        if losses is not None and "losses" in values:
            values["losses"] = losses.detach()
        if isinstance(step, torch.Tensor):
            values["updates"] = step
        if not bool(counted.all()):
            identities = identities[counted]
            values = {name: value[counted.to(value.device)] for name, value in values.items()}
        with _ONE_AT_A_TIME:
            update = None if isinstance(step, torch.Tensor) else self.num_updates if step is None else step
            self.timelines.append(identities, values, update)
            self.num_updates += 1

    def forgetting_events(self) -> torch.Tensor:
        """See `vallis.numerics.example_scores.forgetting_events`; so with the scores below. ``(N,)`` each."""
        return example_scores.forgetting_events(self.recorded["correct"], self.seen)

    def never_learned(self) -> torch.Tensor:
        """Seen, and never right."""
        return example_scores.never_learned(self.recorded["correct"], self.seen)

    def first_right(self) -> torch.Tensor:
        """The first presentation at which it was right, or -1."""
        return example_scores.first_right(self.recorded["correct"], self.seen)

    def first_learned(self) -> torch.Tensor:
        """The presentation from which on it stayed right, or -1."""
        return example_scores.first_learned(self.recorded["correct"], self.seen)

    def area_under_margin(self) -> torch.Tensor:
        """AUM: the mean margin, in nats."""
        return example_scores.area_under_margin(self._held("margins"), self.seen)

    def error_norm(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """EL2N over presentations start to stop - 1.

        Raises:
            SettingsError: they are no whole numbers with 0 <= start < stop, or no error norms are kept.
        """
        return example_scores.error_norm(self._held("error_norms"), self.seen, start, stop)

    def mean_loss(self) -> torch.Tensor:
        """The mean loss over the presentations, float64; NaN for what was never seen."""
        return example_scores.mean_of(self._held("losses"), self.seen)

    def cartography(self) -> Cartography:
        """Confidence, variability and correctness."""
        return example_scores.cartography(self._held("probabilities"), self.recorded["correct"], self.seen)

    def most_forgotten(self, count: int) -> torch.Tensor:
        """The identities of those that were forgotten most often, most first; never learned is not forgotten.

        Among equals the one that was right less often goes first, then the one that comes first. There are fewer where
        fewer were forgotten.

        Raises:
            SettingsError: the count is no whole number from 0 on.
        """
        count = _count(count)
        events = self.forgetting_events()
        share = example_scores.mean_of(self.recorded["correct"].double(), self.seen)
        order = torch.argsort(share.nan_to_num(2.0), stable=True)
        order = order[torch.argsort(events[order], descending=True, stable=True)]
        chosen = order[events[order] > 0][:count]
        return self.identities[chosen.cpu()]

    def hardest(self, count: int) -> torch.Tensor:
        """The identities of those with the smallest area under the margin, smallest first; fewer where fewer were seen.

        Raises:
            SettingsError: the count is no whole number from 0 on, or no margins are kept.
        """
        count = _count(count)
        area = self.area_under_margin()
        order = torch.argsort(area.nan_to_num(torch.inf), stable=True)
        chosen = order[~area[order].isnan()][:count]
        return self.identities[chosen.cpu()]

    def merged(self, other: DynamicsRecorder) -> DynamicsRecorder:
        """Both records in one, e.g. those of two processes: presentations in the order of their step.

        At equal steps those of this one come first.

        Raises:
            DataError: the other is no recorder.
            SettingsError: they keep different quantities.
        """
        if not isinstance(other, DynamicsRecorder):
            raise DataError(f"another recorder was required to merge with, a {type(other).__name__} came: give one")
        mine, others = self.timelines, other.timelines
        if set(mine.kept) != set(others.kept):
            raise SettingsError(
                f"two records of the same quantities were required, {', '.join(mine.kept)} and "
                f"{', '.join(others.kept)} came: give both the same keep="
            )
        (names, held), (more_names, more) = mine.entries(), others.entries()
        names = torch.cat([names, more_names])
        held = {key: torch.cat([held[key], more[key].to(mine.device)]) for key in held}
        order = torch.argsort(held["updates"].cpu(), stable=True)
        names, held = names[order], {key: value[order.to(value.device)] for key, value in held.items()}
        known = torch.cat([self.identities, other.identities]).unique()
        is_open = mine.is_open or others.is_open
        most = int(rank_among_equals(names).max()) + 1 if len(names) else 1
        whole = DynamicsRecorder(
            identities=None if is_open else known,
            num_presentations=most,
            keep=mine.kept,
            kind=self.kind,
            ignore_index=self.ignore_index,
            device=mine.device,
        )
        whole.timelines.rows(known)
        whole.timelines.append(names, held, None)
        whole.num_updates = max(self.num_updates, other.num_updates)
        return whole

    def memory(self) -> dict[str, Any]:
        """All of it, as tensors and plain values by name; the tensors are the buffers themselves."""
        held = self.timelines
        plain = {"num_updates": self.num_updates, "kind": self.kind or "", "ignore_index": self.ignore_index}
        tensors = {f"recorded_{name}": buffer for name, buffer in held.buffers.items()}
        return {**plain, "is_open": held.is_open, "identities": self.identities, "seen": held.seen, **tensors}

    @classmethod
    def of_memory(cls, memory: Mapping[str, Any], device: torch.device | str = "cpu") -> DynamicsRecorder:
        """The recorder that `memory` describes; it goes on in the same buffers where they lie on the device."""
        buffers = {name[9:]: held for name, held in memory.items() if name.startswith("recorded_")}
        made = cls(keep=(), kind=memory["kind"] or None, ignore_index=memory["ignore_index"], device=device)
        made.num_updates = memory["num_updates"]
        made.timelines.restore(memory["identities"], memory["seen"], buffers, is_open=memory["is_open"])
        return made

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a safetensors file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        from safetensors.torch import save

        memory = self.memory()
        plain = {key: value for key, value in memory.items() if not isinstance(value, torch.Tensor)}
        tensors = {f"recorded_{name}": held for name, held in self.recorded.items()}
        tensors |= {"identities": self.identities, "seen": self.seen}
        ready = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        return files.write_bytes(path, save(ready, metadata={"format": _FORMAT, "settings": json.dumps(plain)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> DynamicsRecorder:
        """The recorder that `save` wrote; it can go on recording.

        Raises:
            DataError: the file is not there or is none of ours.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), framework="pt", device="cpu") as file:
                said = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (OSError, SafetensorError) as error:
            raise DataError(f"a file of recorded dynamics was required, {path} raised {error}: give another") from error
        if said.get("format") != _FORMAT:
            raise DataError(f"a file of recorded dynamics was required, {path} holds other tensors: give another")
        return cls.of_memory({**json.loads(said["settings"]), **tensors}, device)

    def _held(self, name: str) -> torch.Tensor:
        if name not in self.timelines.kept:
            raise SettingsError(
                f"recorded {name} were required, this recorder keeps {', '.join(self.timelines.kept) or 'none'}: "
                f"name {name} in keep="
            )
        return self.recorded[name]


def _number(number: Any) -> int:
    try:
        return operator.index(number)
    except TypeError as error:
        raise SettingsError(
            f"whole numbers of examples and presentations were required, a {type(number).__name__} came: give "
            "such as len(dataset)"
        ) from error


def _step(step: Any) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        number = None
    if number is None or not -(2**31) <= number < 2**31:
        raise DataError(f"a whole number of at most 32 bits was required as step, {step!r} came: count steps from 0")
    return number


def _count(count: Any) -> int:
    """How many examples are asked for."""
    try:
        number = -1 if isinstance(count, bool) else operator.index(count)
    except TypeError:
        number = -1
    if number < 0:
        raise SettingsError(f"a number of examples from 0 on was required, {count!r} came: give such as 10")
    return number


def _integers(index: torch.Tensor | Sequence[int]) -> torch.Tensor:
    try:
        found = torch.as_tensor(index, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"one integer identity an example was required, a {type(index).__name__} of other things came: "
            "let the data set return the number of each example"
        ) from error
    if found.ndim != 1 or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        if found.numel():
            raise DataError(
                f"one integer identity an example was required, {tuple(found.shape)} {found.dtype} came: "
                "let the data set return the number of each example"
            )
        found = found.reshape(-1)
    return found.long()
