"""Whether two networks are sharp in the same directions: the overlap of the top eigenspaces of their layers.

Definition: for each weight matrix of m outputs and n inputs that both networks have, P_k and Q_k project on the k
    directions of D = m n weights in which the block of the Hessian of the mean loss bends most, in one network and in
    the other; overlap Tr(P_k Q_k) / k, for k = 1, 2, ... Hidden units are taken as they come: nothing is aligned. What
    chance gives is k / D, with its standard deviation; beside it stand overlaps with spaces that were drawn, and the
    overlap of a space with itself in other axes, which must be one.
Unit: 1: overlaps are within [0, 1].
Source: Wu et al. (2020), Dissecting Hessian.
Cost: layers of up to dense_size weights are written out: two gradients for each weight, in both networks. Larger ones
    take a few products for each eigenvector.
Says little when: eigenvalues at k and k + 1 lie close together, so that the space is any; only hidden units in
    another order tell the networks apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.errors import SettingsError
from vallis.core.numbers import written
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Axis, Figure, Mark, NotApplicable, Note, Outcome, Result, Source
from vallis.measurements.curvature._eigenspace_overlap_values import Overlaps, checked, result_of
from vallis.numerics.affine import affine_layers
from vallis.numerics.curvature import Hessian
from vallis.numerics.eigenspaces import overlap_curve
from vallis.numerics.flows import Affine
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.spectra import Spectrum
from vallis.numerics.surface import Precision, surface

_FREE = frozenset({"layer_rescaling"})
# Below this share of the largest eigenvalue, a direction is rounding.
_RESOLVED = {torch.float64: 1e-8, torch.float32: 1e-4}


@dataclass(frozen=True, kw_only=True)
class EigenspaceOverlap:
    """Two networks of one architecture, layer by layer.

    Attributes:
        split: over which examples the loss of each network is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        layers: by name; all that multiply their inputs with a matrix, in both, if empty.
        num_top: how many eigenvectors of each layer; None takes four times as many as it has outputs.
        num_draws: random spaces that are drawn for comparison.
        dense_size: matrices of at most so many weights are solved exactly.
        tolerance: elsewhere residuals may be this large, relative to the largest eigenvalue.
        max_products: elsewhere the most products with the Hessian of a layer.
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "pair"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[Mapping[str, frozenset[str]]] = {"overlaps": _FREE, "overlaps_at_outputs": _FREE}
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # `vallis examine` shows one network
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Dissecting Hessian: understanding common structure of Hessian in neural networks",
            authors="Y. Wu, X. Zhu, C. Wu, A. Wang, R. Ge",
            year=2020,
            url="https://arxiv.org/abs/2010.04261",
        ),
    )

    split: str = "train"
    max_examples: int | None = None
    layers: tuple[str, ...] = ()
    num_top: int | None = None
    num_draws: int = 20
    dense_size: int = 2048
    tolerance: float = 1e-6
    max_products: int = 2000
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # a list, when it comes from JSON
        if (self.num_top is not None and self.num_top < 1) or self.num_draws < 2 or self.max_products < 1:
            raise SettingsError(f"at least one eigenvector and two draws were required, {self} came: raise the counts")
        if not self.tolerance > 0:
            raise SettingsError(f"a tolerance above 0 was required, {self} came: raise it")

    @classmethod
    def tiny(cls) -> EigenspaceOverlap:
        """The cheapest settings, for tests."""
        return cls(num_top=3, num_draws=4, dense_size=150, tolerance=1e-5)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        grounds = [
            surface(each, self.split, self.precision, self.max_examples, rng.child(place))
            for place, each in enumerate(subject)
        ]
        for ground in grounds:
            diverged = ground.not_finite()
            if diverged is not None:
                return diverged
        one, other = (ground.objective for ground in grounds)
        layers = self._shared(one, other)
        if not layers:
            text = "The two networks have no weight matrix of the same name and shape."
            return NotApplicable(note=Note(code="nothing_shared", text=text))
        found = [self._layer(layer, (one, other), rng.child("layer", layer.name)) for layer in layers]
        notes = dict.fromkeys(note for ground in grounds for note in ground.notes)
        return result_of(found, tuple(notes))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        overlaps, chance = result.array("overlaps"), result.array("random_overlaps")
        marks = []
        for name, row, random in zip(overlaps.coords["layer"], overlaps.data, chance.data, strict=True):
            told = np.isfinite(row)
            if told.any():
                counts = overlaps.coords["count"][told]
                marks.append(Mark(kind="line", x=counts, y=row[told], label=str(name)))
                marks.append(Mark(kind="line", x=counts, y=random[told], label=f"{name}, chance"))
        if not marks:
            return ()
        return (
            Figure(
                name="eigenspace_overlap",
                title="How alike the sharpest directions of two networks are",
                x=Axis(label="number of eigenvectors k"),
                y=Axis(label="overlap of their spaces"),
                marks=tuple(marks),
                caption="One for the same space; chance is k over the number of weights.",
            ),
        )

    def reading(self, result: Result) -> str:
        found, chance = result.array("overlaps_at_outputs"), result.array("random_at_outputs").data
        told = np.isfinite(found.data)
        if not told.any():
            return "No weight matrix has as many directions as outputs with curvature above rounding in both networks."
        said = [
            f"{written(float(value), digits=2)} in layer {name} (chance {written(float(random), digits=2)})"
            for name, value, random in zip(found.coords["layer"][told], found.data[told], chance[told], strict=True)
        ]
        return (
            "The spaces of as many of the sharpest directions as a layer has outputs overlap by "
            f"{', '.join(said[:-1])}{' and ' if len(said) > 1 else ''}{said[-1]}."
        )

    def _shared(self, one: Objective, other: Objective) -> list[Affine]:
        first, second = (affine_layers(objective, self.layers)[0] for objective in (one, other))
        shapes = {layer.name: layer.shape for layer in second}
        return [layer for layer in first if shapes.get(layer.name) == layer.shape]

    def _layer(self, layer: Affine, objectives: Sequence[Objective], rng: Rng) -> Overlaps:
        m, n = layer.shape
        asked = min(m * n, 4 * m if self.num_top is None else self.num_top)
        # One stream: a network beside itself has the same vectors twice.
        spectra = [self._spectrum(objective, layer, asked, rng.child("eigenpairs")) for objective in objectives]
        count = min(_num_told(found, objectives[0].dtype) for found in spectra)
        one, other = (found.largest.vectors[:, :count].cpu() for found in spectra)
        curve = np.full(asked, np.nan)
        if count:
            curve[:count] = overlap_curve(one, other)
        return Overlaps(
            name=layer.name or "(the network)",
            num_outputs=m,
            size=m * n,
            curve=curve,
            checks=checked(one[:, :m], other[:, :m], self.num_draws, rng),
            converged=all(found.converged for found in spectra),
        )

    def _spectrum(self, objective: Objective, layer: Affine, count: int, rng: Rng) -> Spectrum:
        hessian = Hessian(objective, only=(layer.weight,))
        written_out = hessian.size <= self.dense_size
        found = eigenpairs(
            hessian,
            largest=count,
            rng=rng,
            tolerance=self.tolerance,
            max_products=hessian.size if written_out else self.max_products,
            dense_size=self.dense_size,
        )
        hessian.clear()
        return found


def _num_told(found: Spectrum, dtype: torch.dtype) -> int:
    """How many of the first eigenvalues, falling, are more than rounding."""
    values = found.largest.values
    if not len(values) or not values[0] > 0:
        return 0
    return int((values > _RESOLVED.get(dtype, 1e-4) * values[0]).cumprod().sum())
