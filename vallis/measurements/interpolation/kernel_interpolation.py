"""The smoothest function through all training examples, by one linear solve: its error and its norm.

Definition: ``f`` of least norm in the space of a kernel k with ``f(x_i) = y_i``, which is ``sum_i alpha_i k(x, x_i)``
    with ``K alpha = y`` and ``|f|^2 = y' K^-1 y``, summed over outputs; y is one-hot for classes. The kernel is
    ``exp(-gamma |x - x'|^2)`` or ``<x, x'>``, of inputs or of fixed features of images. With an l2 penalty it is kernel
    ridge regression instead, ``(K + p I) alpha = y``, which passes near the examples.
Unit: 1; errors are shares in [0, 1], or mean squared errors of numbers.
Source: Zhang et al. (2017), section 5.
Cost: n^3 / 3 operations and 8 n^2 bytes of memory, or 4 n^2 bytes on disk where that is too much; no gradient.
Says little when: norms of different kernels or features are compared: each has units of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch

from vallis.core.errors import OutputError, SettingsError, UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements._sources import ZHANG
from vallis.measurements.interpolation._examples import Examples, read
from vallis.numerics.duplicates import distinct
from vallis.numerics.image_features import gabor_bank, gabor_features, random_convolutions, random_patches
from vallis.numerics.kernel_functions import Gaussian, Kernel, Linear, median_gamma
from vallis.numerics.kernel_interpolation import Interpolant, interpolate, interpolate_from
from vallis.problems._checks import check_choice, check_number

Kernels = Literal["gaussian", "linear"]
Features = Literal["inputs", "gabor", "random_convolutions"]
_INTERPOLATES, _FAILS = 1e-6, 1e-3
_RIVALS = {
    "test_noise": "that passes through random labels on the test examples as well",
    "random_centres": "around random centres",
}


@dataclass(frozen=True, kw_only=True)
class KernelInterpolation:
    """Interpolates the train split of a solution's task; the network itself is not looked at.

    Attributes:
        split: what is interpolated; copies with equal targets count once.
        test_split: on which the function is tried; left out when the task has none.
        kernel: "gaussian" or "linear".
        features: of what: the inputs as they are; the energies of Gabor filters (4 orientations, wavelengths of 4 and 8
            pixels, on a grid of 7 x 7 cells); or rectified convolutions with random patches of the images.
        gamma: of the Gaussian; None is 2 over the median squared distance of two examples. With inputs of MNIST in
            [0, 1] the authors take 0.02.
        num_filters: of the random convolutions.
        filter_size: their sides in pixels, at most those of the images.
        max_examples: of a larger split a random part of this size is interpolated; None takes all, be it by way
            of the disk: 60,000 examples take 14 GiB there.
        penalty: p, the l2 penalty, in units of the mean of the diagonal of K (1 for the Gaussian); 0 interpolates.
        rivals: whether two other functions through the examples are measured too: one that also passes through random
            labels on the test examples, and a sum of kernels around centres drawn as Gaussian noise with the mean and
            variance of the features.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (ZHANG,)

    split: str = "train"
    test_split: str = "test"
    kernel: Kernels = "gaussian"
    features: Features = "inputs"
    gamma: float | None = None
    num_filters: int = 256
    filter_size: int = 6
    max_examples: int | None = 10_000
    rivals: bool = False
    penalty: float = field(default=0.0, metadata={"was": 0.0})

    def __post_init__(self) -> None:
        check_choice("kernel_interpolation.kernel", self.kernel, Kernels)
        check_choice("kernel_interpolation.features", self.features, Features)
        check_number("kernel_interpolation.num_filters", self.num_filters)
        check_number("kernel_interpolation.filter_size", self.filter_size)
        if self.gamma is not None and not self.gamma > 0:
            raise SettingsError(f"a positive gamma was required, {self.gamma} came: raise it or leave it out")
        if not 0 <= self.penalty < math.inf:
            raise SettingsError(f"a penalty of 0 or more was required, {self.penalty} came: give such as 0.01")
        if self.penalty and self.rivals:
            raise SettingsError(
                "a penalty or rivals were required, both came: rivals pass through the examples; leave one of them out"
            )

    @classmethod
    def tiny(cls) -> KernelInterpolation:
        """The cheapest settings, for tests."""
        return cls(max_examples=30, rivals=True)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solution: Solution = subject
        names = {"train": self.split, "test": self.test_split}
        found = read(solution, names, self.max_examples, rng.child("examples"))
        if isinstance(found, NotApplicable):
            return found
        if self.features != "inputs" and any(held.x.ndim != 4 for held in found.values()):
            text = f"The inputs are no images (N, C, H, W), of which {self.features} are features."
            return NotApplicable(note=Note(code="no_images", text=text))
        seen = self._features(found, rng.child("filters"))
        try:
            kernel = self._kernel(seen["train"], rng)
            fitted = interpolate(kernel, seen["train"], found["train"].values, penalty=self.penalty)
        except OutputError:  # no room for the Gram matrix says nothing of the data
            raise
        except UsageError as error:
            return NotApplicable(note=Note(code="not_interpolable", text=f"Nothing interpolates these data: {error}."))
        largest = float(found["train"].values.abs().max())
        if not self.penalty and not fitted.residual <= _FAILS * largest:
            text = (
                f"No function of this kernel passes through the examples: it misses targets by {fitted.residual:.2g}."
            )
            return NotApplicable(note=Note(code="not_interpolable", text=text))
        values = _values(fitted, found, seen)
        if isinstance(kernel, Gaussian):
            values["gamma"] = Estimate(value=kernel.gamma, n=len(fitted.centres), method="as used")
        notes = [*found["train"].notes, *_notes(fitted)]
        if self.rivals:
            for name, rival in _rivals(kernel, fitted, found, seen, rng.child("rivals")).items():
                _add_rival(values, notes, name, rival, found, seen)
        return Result(values=values, notes=tuple(notes))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        norms = result.array("norm_by_output")
        figure = Figure(
            name="kernel_interpolation",
            title=f"Norm of the smoothest function {'near' if self.penalty else 'through'} all examples",
            x=Axis(label="output"),
            y=Axis(label="norm in the space of the kernel"),
            marks=(Mark(kind="bar", x=norms.coords["output"], y=norms.data),),
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        norm, train = result.estimate("norm"), result.estimate("train_error")
        what = "penalised function near" if self.penalty else "function of least norm through"
        said = f"The {what} {norm.n:,} examples has the norm {norm.value:.4g}"
        said += f" and an error of {train.value:.3g} on them"
        if "test_error" in result.values:
            test = result.estimate("test_error")
            said += f", of {test.value:.3g} on {test.n:,} unseen ones"
        others = [
            f"one {what} has the norm {result.estimate(f'{name}_norm').value:.4g}"
            for name, what in _RIVALS.items()
            if f"{name}_norm" in result.values
        ]
        return f"{'; '.join([said, *others])}."

    def _features(self, found: Mapping[str, Examples], rng: Rng) -> dict[str, torch.Tensor]:
        images = {name: held.x for name, held in found.items()}
        if self.features == "gabor":
            bank = gabor_bank(4, (4.0, 8.0))
            return {name: gabor_features(x, bank) for name, x in images.items()}
        if self.features == "random_convolutions":
            size = min(self.filter_size, *images["train"].shape[2:])
            filters = random_patches(images["train"], self.num_filters, size, rng)
            return {name: random_convolutions(x, filters) for name, x in images.items()}
        return {name: x.flatten(1) for name, x in images.items()}

    def _kernel(self, x: torch.Tensor, rng: Rng) -> Kernel:
        if self.kernel == "linear":
            return Linear()
        return Gaussian(gamma=median_gamma(x, rng) if self.gamma is None else self.gamma)


def _values(
    fitted: Interpolant, found: Mapping[str, Examples], seen: Mapping[str, torch.Tensor]
) -> dict[str, Estimate | Array]:
    n = len(fitted.centres)
    solved = "Cholesky factors of the Gram matrix, float64"
    norms = fitted.norms.numpy()
    values: dict[str, Estimate | Array] = {
        f"{name}_error": held.error(fitted(seen[name])) for name, held in found.items()
    }
    numbers = {
        "norm": fitted.norm,
        "residual": fitted.residual,
        "jitter": fitted.jitter,
        **({"penalty": fitted.penalty} if fitted.penalty else {}),
        "condition": fitted.condition,
        "num_copies": float(fitted.num_copies),
    }
    values |= {key: Estimate(value=value, n=n, method=solved) for key, value in numbers.items()}
    coords = {"output": torch.arange(len(norms)).double().numpy()}
    values["norm_by_output"] = Array(data=norms, dims=("output",), coords=coords)
    return values


def _rivals(
    kernel: Kernel,
    fitted: Interpolant,
    found: Mapping[str, Examples],
    seen: Mapping[str, torch.Tensor],
    rng: Rng,
) -> dict[str, Interpolant | str]:
    """Other functions through the same examples, or why there is none."""
    tried: dict[str, Interpolant | str] = {}
    train, x = found["train"], seen["train"].double()
    if "test" in found:
        test = found["test"]
        # Targets of other examples: random labels in the proportions of the classes, and as well random numbers.
        drawn = torch.randint(len(train.values), (len(test.values),), generator=rng.child("labels").torch())
        targets = torch.cat([train.values, train.values[drawn]])
        try:
            tried["test_noise"] = interpolate(kernel, torch.cat([x, seen["test"].double()]), targets)
        except UsageError as error:
            tried["test_noise"] = str(error)
    kept = distinct(x, train.values)
    std, mean = torch.std_mean(x, dim=0, correction=0)
    noise = torch.randn(len(kept), x.shape[1], generator=rng.child("centres").torch(), dtype=torch.float64)
    try:
        tried["random_centres"] = interpolate_from(kernel, mean + std * noise, x[kept], train.values[kept])
    except UsageError as error:
        tried["random_centres"] = str(error)
    return tried


def _add_rival(
    values: dict[str, Estimate | Array],
    notes: list[Note],
    name: str,
    rival: Interpolant | str,
    found: Mapping[str, Examples],
    seen: Mapping[str, torch.Tensor],
) -> None:
    if isinstance(rival, str):
        notes.append(Note(code=f"no_{name}", text=f"There is no function {_RIVALS[name]}: {rival}."))
        return
    method = f"of a function {_RIVALS[name]}"
    values[f"{name}_norm"] = Estimate(value=rival.norm, n=len(rival.centres), method=method)
    values[f"{name}_residual"] = Estimate(value=rival.residual, n=len(rival.centres), method=method)
    for split, held in found.items():
        error = held.error(rival(seen[split]))
        values[f"{name}_{split}_error"] = Estimate(value=error.value, n=error.n, method=method)


def _notes(fitted: Interpolant) -> list[Note]:
    notes = []
    if fitted.num_copies:
        text = f"{fitted.num_copies} examples are copies of others with the same target and count once."
        notes.append(Note(code="copies", text=text))
    if fitted.on_disk:
        text = "The memory had no room for the Gram matrix, so its factor was kept on disk; last digits differ."
        notes.append(Note(code="on_disk", text=text))
    if fitted.jitter:
        text = f"Rounding left no Cholesky factor, so {fitted.jitter:.2g} was added to the diagonal of the Gram matrix."
        notes.append(Note(code="jitter", text=text))
    if not fitted.penalty and fitted.residual > _INTERPOLATES:
        text = f"The function misses its targets by up to {fitted.residual:.2g}, so it does not interpolate."
        notes.append(Note(code="not_interpolated", text=text))
    return notes
