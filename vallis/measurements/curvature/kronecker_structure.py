"""What the curvature of each weight matrix is made of: a part of the outputs times a part of the inputs.

Definition: for each layer z = W x + b the block H of the Hessian of the mean loss in vec(W), row by row, beside
    E[M ⊗ x x'] and E[M] ⊗ E[x x'] with M the curvature of the loss in z: distances |H - .| / |H| in the Frobenius norm;
    the largest eigenvalues of H and of the product, with the overlap Tr(P Q) / k of the spaces of the first k
    eigenvectors. An eigenvector h of H as a matrix Mat(h) has a rank-one energy (the share of its largest singular
    value in all squares), the cosine of its first right singular vector with E[x], and shares |Mat(h) v_j|^2 and
    |Mat(h)' u_i|^2 along the eigenvectors of E[x x'] and of E[M]. Convolutions act on patches, as sums over positions.
Unit: nats/weight^2 for eigenvalues (nats is the loss's own unit where it is no log-likelihood); the rest are pure.
Source: Wu et al. (2020), Dissecting Hessian.
Cost: layers of up to dense_size weights are written out: m gradients, and two that prove it, where each example passes
    the layer once, else (tokens, convolutions) two for each weight. Larger ones take tens of products, two gradients
    each. C - 1 gradients for the factors of all layers (C classes).
Says little when: the loss is almost zero, where M is carried by a few examples; eigenvalues lie close together, whose
    vectors are any of their span.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.errors import LossError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import written
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Note, Outcome, Result, Source
from vallis.measurements.curvature._kronecker_structure_values import Asked, result_of, structure_of
from vallis.measurements.curvature._settings import must_be_at_least, must_be_positive
from vallis.measurements.curvature._without_factors import without_factors
from vallis.measurements.curvature._words import counted, spoken_name
from vallis.numerics.kronecker import factored_layers, factors
from vallis.numerics.surface import Precision, surface

_BOTH = frozenset({"unit_permutation", "layer_rescaling"})


@dataclass(frozen=True, kw_only=True)
class KroneckerStructure:
    """The Hessian of every weight matrix, taken apart.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        layers: by name; all that multiply their inputs with a matrix if empty.
        num_top: how many of the largest eigenvalues of each layer.
        dense_size: matrices of at most so many weights are solved exactly.
        tolerance: elsewhere residuals may be this large, relative to the largest eigenvalue.
        max_products: elsewhere the most products with the Hessian of a layer.
        num_probes: elsewhere random vectors that estimate the distances.
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[Mapping[str, frozenset[str]]] = {
        "eigenvalues": frozenset({"unit_permutation"}),
        "kronecker_eigenvalues": frozenset({"unit_permutation"}),
        "kronecker_overlaps": _BOTH,
        "rank_one_energies": _BOTH,
        "kronecker_distances": _BOTH,
        "num_output_directions": _BOTH,
    }
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
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
    num_top: int = 20
    dense_size: int = 2048
    tolerance: float = 1e-6
    max_products: int = 1000
    num_probes: int = 8
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # a list, when it comes from JSON
        must_be_at_least(0, self, "dense_size")
        must_be_at_least(1, self, "num_top", "max_products", "num_probes")
        must_be_positive(self, "tolerance")

    @classmethod
    def tiny(cls) -> KroneckerStructure:
        """The cheapest settings, for tests."""
        return cls(num_top=3, dense_size=150, num_probes=2, tolerance=1e-4)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, self.precision, self.max_examples, rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        objective = ground.objective
        layers, refused = factored_layers(objective, self.layers)
        if not layers:
            why = next(iter(refused.values()), "it has no layers")
            text = f"No layer multiplies its inputs with a matrix of its own: {why}."
            return NotApplicable(note=Note(code="no_kronecker_form", text=text))
        try:
            made = factors(objective, [layer.name for layer in layers])
        except LossError as error:
            text = f"The loss has no Kronecker factors: {str(error).partition(':')[0]}."
            return NotApplicable(note=Note(code="no_kronecker_form", text=text))
        asked = Asked(
            num_top=self.num_top,
            dense_size=self.dense_size,
            tolerance=self.tolerance,
            max_products=self.max_products,
            num_probes=self.num_probes,
        )
        found = [
            structure_of(objective, layer, made[layer.name], asked, rng.child("layer", layer.name)) for layer in layers
        ]
        without = without_factors(refused, len(layers) + len(refused))
        return result_of(found, f"{ground.unit}/weight^2", (*ground.notes, *without))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        energies, ranks = result.array("rank_one_energies"), result.array("eigenvalues").coords["rank"]
        told = np.isfinite(energies.data).any(1)
        if not told.any():
            return ()
        names, place = energies.coords["layer"], int(told.argmax())
        first = spoken_name(str(names[place]))
        spectra = [
            Mark(kind="scatter", x=ranks, y=result.array(key).data[place], label=label)
            for key, label in (("eigenvalues", "Hessian"), ("kronecker_eigenvalues", "E[M] ⊗ E[x x']"))
        ]
        rank_one = [
            Mark(kind="line", x=ranks, y=row, label=str(name))
            for name, row in zip(names[told], energies.data[told], strict=True)
        ]
        made = [
            Figure(
                name="kronecker_spectra",
                title=f"Eigenvalues of {first}, and of its Kronecker product",
                x=Axis(label="rank"),
                y=Axis(label=f"eigenvalue ({result.array('eigenvalues').unit})", scale="log"),
                marks=tuple(spectra),
            ),
            Figure(
                name="kronecker_rank_one",
                title="How nearly eigenvectors, as matrices, have rank one",
                x=Axis(label="rank of the eigenvalue"),
                y=Axis(label="rank-one energy"),
                marks=tuple(rank_one),
            ),
        ]
        return (*made, *(self._shares(result, place, first, key) for key in _SHARES))

    def reading(self, result: Result) -> str:
        energies, overlaps = result.array("rank_one_energies"), result.array("kronecker_overlaps").data
        told = energies.data[np.isfinite(energies.data)]
        if not len(told):
            return "No weight matrix has curvature that is more than rounding; biases are not looked at here."
        inner, number = overlaps[np.isfinite(overlaps)], int(np.isfinite(energies.data).any(1).sum())
        return (
            f"The sharpest directions of the weight matrices have a median rank-one energy of "
            f"{written(float(np.median(told)), digits=2)} over {counted(number, 'layer')}, and their "
            f"spans overlap by {written(float(np.median(inner)), digits=2)} with those of Kronecker products of a part "
            "of the outputs and a part of the inputs."
        )

    def _shares(self, result: Result, place: int, layer: str, key: str) -> Figure:
        table, (what, axis) = result.array(key).data[place], _SHARES[key]
        ranks, places = np.isfinite(table).any(1), np.isfinite(table).any(0)
        shown = table[ranks][:, places][:, : self.num_top]
        grid = (np.arange(1.0, shown.shape[1] + 1), np.arange(1.0, len(shown) + 1))
        return Figure(
            name=f"kronecker_{key}",
            title=f"Eigenvectors of {layer}, along those of {what}",
            x=Axis(label=f"eigenvector of {what}"),
            y=Axis(label="eigenvector of the Hessian"),
            z=Axis(label="share of its squared length"),
            marks=(Mark(kind="heatmap", x=grid[0], y=grid[1], z=shown),),
            caption=f"{what} is of {axis}; the largest eigenvalues come first.",
        )


_SHARES = {"input_shares": ("E[x x']", "the inputs"), "output_shares": ("E[M]", "the outputs")}
