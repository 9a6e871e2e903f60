"""How sharply the loss bends layer by layer, and how simple the curvature of each layer is.

Definition: for each layer the largest eigenvalues of its block of the Hessian of the mean loss, with residuals, and its
    trace; the share of each layer in the sharpest direction v of the whole network, |v_l|^2, and what its own block
    has of the largest eigenvalue, v_l' H_ll v_l / lambda. Where the layer multiplies its inputs x with a matrix W (a
    linear layer, a convolution on patches), the block is compared with E[M] ⊗ E[x x'], M the curvature of the loss in
    the outputs of the layer: eigenvalues, the overlap of the spaces of the first k eigenvectors, Tr(P Q) / k, and the
    distance over the size of the block, in the Frobenius norm. The
    rank-one energy of an eigenvector, as a matrix [W b], is the share of its largest singular value in all squares.
Unit: nats/weight^2 (nats is the loss's own unit where it is no log-likelihood); shares and overlaps are pure numbers.
Source: Wu et al. (2020), Dissecting Hessian.
Cost: two gradients for each product; tens of products a layer, and C - 1 gradients for all factors (C classes).
Says little when: networks of different scale are compared, because rescaling the layers of a ReLU network moves
    curvature from layer to layer; overlaps, when eigenvalues lie close together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vallis.core.catalog import unknown
from vallis.core.errors import LossError
from vallis.core.figures import Figure
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Outcome, Result, Source
from vallis.measurements.curvature._layer_hessians_shown import figures, reading
from vallis.measurements.curvature._layer_hessians_values import Block, Found, Layer, result_of
from vallis.measurements.curvature._settings import must_be_at_least, must_be_positive
from vallis.numerics.affine import owners
from vallis.numerics.blocks import layer_blocks
from vallis.numerics.curvature import Hessian
from vallis.numerics.distances import relative_distance
from vallis.numerics.kronecker import Factors, factored_layers, factors
from vallis.numerics.kronecker_fit import kronecker_fit
from vallis.numerics.kronecker_operators import kronecker_block
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.layer_curvature import LayerGaussNewton
from vallis.numerics.layer_shares import Shares, layer_shares
from vallis.numerics.spectra import Spectrum
from vallis.numerics.surface import Precision, surface
from vallis.numerics.trace import trace


@dataclass(frozen=True, kw_only=True)
class LayerHessians:
    """The Hessian of every layer by itself.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        layers: by name; all with trainable parameters if empty.
        num_top: how many of the largest eigenvalues of each layer.
        tolerance: residuals may be this large, relative to the largest magnitude of an eigenvalue of the layer.
        max_products: the most products with the Hessian of a layer; what has not converged by then is said so.
        search: after convergence, products spent on looking for copies of multiple eigenvalues, of which the iteration
            by itself finds one.
        num_bottom: how many of the smallest eigenvalues of each layer.
        num_probes: random vectors that estimate the trace of each layer, and how far its block is from the Kronecker
            product of its factors; 0 for none of this.
        exact: whether the block is compared with E[M ⊗ x x'], too; both are one where the network is piecewise linear.
        max_width: Kronecker factors are made for layers with at most so many inputs and outputs; 0 makes none.
        max_columns: gradients for the factors; with more scores in an example, so many random combinations stand for
            all, and a note says so.
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"full": {"max_examples": 2000}}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Dissecting Hessian: understanding common structure of Hessian in neural networks",
            authors="Y. Wu, X. Zhu, C. Wu, A. Wang, R. Ge",
            year=2020,
            url="https://arxiv.org/abs/2010.04261",
        ),
        Source(
            title="Optimizing neural networks with Kronecker-factored approximate curvature",
            authors="J. Martens, R. Grosse",
            year=2015,
            url="https://arxiv.org/abs/1503.05671",
        ),
    )

    split: str = "train"
    max_examples: int | None = None
    layers: tuple[str, ...] = ()
    num_top: int = 10
    num_bottom: int = 0
    tolerance: float = 1e-3
    max_products: int = 500
    search: int = 10
    num_probes: int = 8
    exact: bool = False
    max_width: int = 4096
    max_columns: int = 200
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # a list, when it comes from JSON
        must_be_at_least(0, self, "num_probes", "max_width", "search", "num_bottom")
        must_be_at_least(1, self, "num_top", "max_products", "max_columns")
        must_be_positive(self, "tolerance")

    @classmethod
    def tiny(cls) -> LayerHessians:
        """The cheapest settings, for tests."""
        return cls(num_top=2, tolerance=1e-2, max_products=30, search=0, num_probes=1)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, self.precision, self.max_examples, rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        objective = ground.objective
        layers = self._layers(objective)
        made, reasons = self._factors(objective, layers, rng.child("factors"))
        whole = self._whole(objective, rng.child("whole"))
        blocks = self._blocks(objective, layers)
        found = [
            self._layer(objective, name, layers[name], block, made.get(name), rng.child("layer", name))
            for name, block in blocks.items()
        ]
        shares = _shares(objective, whole, found)
        for block in blocks.values():
            block.clear()
        return result_of(
            Found(
                unit=f"{ground.unit}/weight^2",
                layers=tuple(found),
                whole=whole,
                shares=shares,
                reasons=reasons,
                num_draws=max((each.num_draws for each in made.values()), default=0),
                num_top=self.num_top,
                tolerance=self.tolerance,
                notes=ground.notes,
            )
        )

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return figures(result)

    def reading(self, result: Result) -> str:
        return reading(result)

    def _layers(self, objective: Objective) -> Mapping[str, tuple[str, ...]]:
        """The layers that are asked for, with their parameters."""
        known = owners(objective)
        for name in self.layers:
            if name not in known:
                raise unknown("layer", name, known)
        return {name: names for name, names in known.items() if not self.layers or name in self.layers}

    def _factors(
        self, objective: Objective, layers: Mapping[str, tuple[str, ...]], rng: Rng
    ) -> tuple[Mapping[str, Factors], Mapping[str, str]]:
        """The factors of all layers that have some, and why the others have none."""
        if not self.max_width:
            return {}, {}
        affine, refused = factored_layers(objective, tuple(layers))
        reasons, wanted = dict(refused), []
        for layer in affine:
            if max(layer.shape) > self.max_width:
                reasons[layer.name] = f"it is wider than max_width={self.max_width}"
            elif layers[layer.name] != layer.names:
                reasons[layer.name] = "its bias does not belong to one matrix"
            else:
                wanted.append(layer.name)
        try:
            if not wanted:
                return {}, reasons
            return factors(objective, wanted, max_columns=self.max_columns, rng=rng), reasons
        except LossError as error:
            return {}, dict.fromkeys(layers, f"the loss allows none: {str(error).partition(':')[0]}")

    def _blocks(self, objective: Objective, layers: Mapping[str, tuple[str, ...]]) -> Mapping[str, Block]:
        """The block of each layer; all from one graph a batch, save where only some are asked for."""
        shared = {} if self.layers else layer_blocks(objective)
        return {
            # Parameters of the network itself are a layer here, and one each there.
            name: shared[name] if name in shared else Hessian(objective, only=names)
            for name, names in layers.items()
        }

    def _layer(
        self,
        objective: Objective,
        name: str,
        names: tuple[str, ...],
        block: Block,
        made: Factors | None,
        rng: Rng,
    ) -> Layer:
        spectrum = eigenpairs(
            block,
            largest=self.num_top,
            smallest=self.num_bottom,
            rng=rng.child("eigenpairs"),
            tolerance=self.tolerance,
            max_products=self.max_products,
            search=self.search,
        )
        pairs, probes = spectrum.largest, self.num_probes
        estimate = distance = exact = None
        if probes:
            known = pairs if len(pairs) else None
            estimate = trace(block, num_probes=probes, rng=rng.child("trace"), known=known)
        if probes and made is not None:
            near, stream = kronecker_block(made), rng.child("distance")
            distance = relative_distance(block, near, num_probes=probes, rng=stream)
            if self.exact:
                equal = LayerGaussNewton(objective, name)
                exact = relative_distance(block, equal, num_probes=probes, rng=stream)
        fit = kronecker_fit(made, pairs) if made is not None and len(pairs) else None
        return Layer(
            name=name,
            names=names,
            block=block,
            spectrum=spectrum,
            trace=estimate,
            fit=fit,
            distance=distance,
            exact_distance=exact,
        )

    def _whole(self, objective: Objective, rng: Rng) -> Spectrum:
        """The two sharpest directions of the network: the second tells how sure the first is."""
        hessian = Hessian(objective)
        spectrum = eigenpairs(
            hessian,
            largest=2,
            rng=rng,
            tolerance=self.tolerance,
            max_products=self.max_products,
            search=self.search,
        )
        hessian.clear()
        return spectrum


def _shares(objective: Objective, whole: Spectrum, layers: Sequence[Layer]) -> Shares | None:
    pairs = whole.largest
    if not len(pairs) or pairs.values[0] <= 0:
        return None
    names, blocks = [layer.names for layer in layers], [layer.block for layer in layers]
    return layer_shares(objective, pairs.vectors[:, 0], float(pairs.values[0]), names, blocks)
