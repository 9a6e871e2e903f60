"""What a part of each kind must offer. Parts are frozen dataclasses of plain values; state is passed in the open."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from vallis.core.figures import Figure
from vallis.core.types import Claim, Job, Net, Outcome, Packed, Result, Row, Solution, Source, StepInfo, Task

if TYPE_CHECKING:
    import torch

    from vallis.core.rng import Rng


@runtime_checkable
class Problem(Protocol):
    """Data to learn: builds its tasks, the same for the same rng."""

    version: ClassVar[int]

    def build(self, rng: Rng) -> tuple[Task, ...]:
        """The tasks, in the order in which they are learned."""
        ...


@runtime_checkable
class Model(Protocol):
    """An architecture: builds a net that fits the tasks, with initial weights drawn from rng."""

    version: ClassVar[int]

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        """The net, sized after the first batch of the first task."""
        ...


@runtime_checkable
class Training(Protocol):
    """A way to find a solution, one step at a time.

    The state is any object; `step` may change it in place, nobody else may. ``unpack(pack(state), ...)`` goes on bit
    for bit as `state` would have.
    """

    version: ClassVar[int]

    def init(
        self,
        net: Net,
        params: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        tasks: tuple[Task, ...],
        rng: Rng,
    ) -> Any:
        """The state before the first step."""
        ...

    def step(self, state: Any) -> StepInfo:
        """One step; the returned info says when training is done."""
        ...

    def solution(self, state: Any) -> Solution:
        """Where the state stands now, with tensors of its own."""
        ...

    def pack(self, state: Any) -> Packed:
        """The state at rest."""
        ...

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> Any:
        """The state that `pack` put to rest."""
        ...


@runtime_checkable
class Company(Protocol):
    """Trainings that step together."""

    def step(self) -> list[tuple[int, StepInfo]]:
        """One step of each that is not done, by its place; empty once all are."""
        ...


@runtime_checkable
class Companionable(Protocol):
    """What a `Training` offers beside, if many can step as one computation, each with the bits it would have alone."""

    version: ClassVar[int]

    def company(self, state: Any) -> Hashable | None:
        """What states must have in common to step together; None for one that must go alone."""
        ...

    @staticmethod
    def together(members: Sequence[tuple[Any, Any]]) -> Company:
        """The company of these trainings and their states, which nobody else may change until they are done."""
        ...


# What of `Measurement.takes` is given a path: the snapshots of a training, and its end.
PATHS = frozenset({"trajectory", "path_and_others"})


@runtime_checkable
class Measurement(Protocol):
    """A question about a solution, a whole path ("trajectory"), a path among others, or two solutions ("pair").

    `measure` is given a `Solution`, a sequence of them in the order of training, such a sequence with the ends of other
    trainings behind it ("path_and_others"), or a tuple of two.

    Attributes:
        takes: what `measure` is given.
        needs: traits without which the answer is "not applicable" (checked by the caller, not by `measure`).
        invariances: reparametrisations of the function that leave every value unchanged: "layer_rescaling",
            "unit_permutation"; where values differ in that, those of each by its name (of a value without a name there
            nothing is said). The conformance suite proves them, and that the others change something.
        panels: the panels of `vallis examine` it belongs to, each with the settings it has there (no others: ``{}``).
        sources: where the definition comes from.
    """

    version: ClassVar[int]
    takes: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    panels: ClassVar[Mapping[str, Mapping[str, Any]]]
    sources: ClassVar[tuple[Source, ...]]

    @property
    def invariances(self) -> frozenset[str] | Mapping[str, frozenset[str]]:
        """See above; a `ClassVar` of either type."""
        ...

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        """The answer, with error bars; the subject is untouched."""
        ...

    def figures(self, result: Result) -> tuple[Figure, ...]:
        """The pictures of a result."""
        ...

    def reading(self, result: Result) -> str:
        """The result in one or two plain sentences: what, how sure, compared with what."""
        ...


@runtime_checkable
class MeasuresMany(Protocol):
    """What a `Measurement` of a solution offers beside, if it can look at many in one computation."""

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        """The answer for each; the subjects are untouched.

        It is that of `measure` up to rounding; what is sought until it meets a tolerance, up to that tolerance.
        """
        ...


@runtime_checkable
class Watcher(Protocol):
    """A measurement that watches training (``takes = "training"``): it sees every step, and may not change any.

    The memory is a dict of tensors and plain values, so that an interrupted training keeps what was seen.
    """

    version: ClassVar[int]
    takes: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    panels: ClassVar[Mapping[str, Mapping[str, Any]]]
    sources: ClassVar[tuple[Source, ...]]

    def begin(self, tasks: tuple[Task, ...]) -> dict[str, Any]:
        """An empty memory."""
        ...

    def watch(self, memory: dict[str, Any], info: StepInfo) -> None:
        """Takes one step into memory."""
        ...

    def conclude(self, memory: Mapping[str, Any]) -> Outcome:
        """The answer."""
        ...

    def figures(self, result: Result) -> tuple[Figure, ...]:
        """The pictures of a result."""
        ...

    def reading(self, result: Result) -> str:
        """The result in one or two plain sentences."""
        ...


@runtime_checkable
class Theory(Protocol):
    """A curve or a bound that needs no trained network."""

    version: ClassVar[int]
    sources: ClassVar[tuple[Source, ...]]

    def compute(self, rng: Rng) -> Outcome:
        """The curve or the bound."""
        ...

    def figures(self, result: Result) -> tuple[Figure, ...]:
        """The pictures of a result."""
        ...

    def reading(self, result: Result) -> str:
        """The result in one or two plain sentences."""
        ...


@runtime_checkable
class Study(Protocol):
    """A paper to rerun: what to train, what to claim, what to draw. The rule of each claim is fixed before the run."""

    version: ClassVar[int]
    source: ClassVar[Source]

    def jobs(self, scale: str) -> Sequence[Job]:
        """Everything to train and measure at a scale: "smoke", "laptop" or "paper"."""
        ...

    def claims(self) -> Sequence[Claim]:
        """The claims, each with its rule."""
        ...

    def figures(self, rows: Sequence[Row]) -> Sequence[Figure]:
        """The pictures of the finished study."""
        ...
