"""Whether two networks are sharp in the same directions: the overlap of the top eigenspaces of their layers.

Definition: for each weight matrix of m outputs and n inputs that both networks have, P_k and Q_k project on the k
    directions of D = m n weights in which the block of the Hessian of the mean loss bends most, in one network and in
    the other; overlap Tr(P_k Q_k) / k, for k = 1, 2, ... Hidden units are taken as they come: nothing is aligned. What
    chance gives is k / D, with its standard deviation; beside it stand overlaps with spaces that were drawn, and the
    overlap of a space with itself in other axes, which must be one.
Unit: 1: overlaps are within [0, 1].
Source: Wu et al. (2020), Dissecting Hessian.
Cost: m gradients and one dense solver for each layer, in both networks. A layer that examples pass more than once (of
    tokens, a convolution) takes two gradients for each weight, or above dense_size a few products for each eigenvector.
Says little when: eigenvalues at k and k + 1 lie close together, so that the space is any; only hidden units in
    another order tell the networks apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import written
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Note, Outcome, Result, Source
from vallis.measurements.curvature._eigenspace_overlap_values import Overlaps, checked, result_of
from vallis.measurements.curvature._resolved import num_resolved
from vallis.measurements.curvature._settings import must_be_at_least, must_be_positive
from vallis.measurements.curvature._words import counted, listed, shown_name, spoken_name
from vallis.numerics.affine import affine_layers
from vallis.numerics.eigenspaces import overlap_curve
from vallis.numerics.flows import Affine
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.layer_hessian import weight_hessian
from vallis.numerics.spectra import Spectrum
from vallis.numerics.surface import Precision, surface

_FREE = frozenset({"layer_rescaling"})


@dataclass(frozen=True, kw_only=True)
class EigenspaceOverlap:
    """Two networks of one architecture, layer by layer.

    Attributes:
        split: over which examples the loss of each network is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        layers: by name; all that multiply their inputs with a matrix, in both, if empty.
        num_top: how many eigenvectors of each layer; None takes twice as many as it has outputs.
        num_draws: random spaces that are drawn for comparison.
        dense_size: matrices of at most so many weights are solved exactly.
        tolerance: elsewhere residuals may be this large, relative to the largest eigenvalue.
        max_products: elsewhere the most products with the Hessian of a layer.
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
    """

    version: ClassVar[int] = 2
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
        must_be_at_least(0, self, "dense_size")
        must_be_at_least(1, self, "num_top", "max_products")
        must_be_at_least(2, self, "num_draws")
        must_be_positive(self, "tolerance")

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
        if isinstance(layers, Note):
            return NotApplicable(note=layers)
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
        curves, chance = result.array("overlaps"), result.array("random_overlaps").data
        outputs, said = result.array("num_outputs").data, []
        for name, row, random, most in zip(curves.coords["layer"], curves.data, chance, outputs, strict=True):
            number = min(int(most), int(np.isfinite(row).sum()))
            if number:
                beside = f"{counted(number, 'direction')}, chance {written(float(random[number - 1]), digits=2)}"
                overlap = written(float(row[number - 1]), digits=2)
                said.append(f"{overlap} in {spoken_name(str(name))} ({beside})")
        if not said:
            return "No weight matrix has a direction with curvature above rounding in both networks."
        return (
            f"The spaces of the sharpest directions of the two networks overlap by {listed(said)}: as many directions "
            "as the layer has outputs, or all that were found in both."
        )

    def _shared(self, one: Objective, other: Objective) -> list[Affine] | Note:
        """The layers that both have, or why there are none."""
        found = [affine_layers(objective, self.layers) for objective in (one, other)]
        for which, (layers, refused) in zip(("first", "second"), found, strict=True):
            if not layers:
                why = next(iter(refused.values()), "it has no layers")
                text = f"No layer of the {which} network multiplies its inputs with a matrix of its own: {why}."
                return Note(code="no_weight_matrix", text=text)
        (first, _), (second, _) = found
        shapes = {layer.name: layer.shape for layer in second}
        shared = [layer for layer in first if shapes.get(layer.name) == layer.shape]
        text = "No weight matrix of the one network has the name and the shape of one of the other."
        return shared or Note(code="nothing_shared", text=text)

    def _layer(self, layer: Affine, objectives: Sequence[Objective], rng: Rng) -> Overlaps:
        m, n = layer.shape
        asked = min(m * n, 2 * m if self.num_top is None else self.num_top)
        # One stream: a network beside itself has the same vectors twice.
        spectra = [self._spectrum(objective, layer, asked, rng.child("eigenpairs")) for objective in objectives]
        count = min(num_resolved(found.largest.values, objectives[0].dtype) for found in spectra)
        one, other = (found.largest.vectors[:, :count].cpu() for found in spectra)
        curve = np.full(asked, np.nan)
        if count:
            curve[:count] = overlap_curve(one, other)
        return Overlaps(
            name=shown_name(layer.name),
            num_outputs=m,
            size=m * n,
            curve=curve,
            checks=checked(one[:, :m], other[:, :m], self.num_draws, rng),
            converged=all(found.converged for found in spectra),
        )

    def _spectrum(self, objective: Objective, layer: Affine, count: int, rng: Rng) -> Spectrum:
        hessian = weight_hessian(objective, layer)
        return eigenpairs(
            hessian,
            largest=count,
            rng=rng,
            tolerance=self.tolerance,
            max_products=hessian.size if hessian.size <= self.dense_size else self.max_products,
            dense_size=self.dense_size,
        )
