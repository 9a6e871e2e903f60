"""The second derivative of any loss in the scores, example by example, and a square root of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vallis.core.errors import LossError
from vallis.numerics.derivatives import Tensors, pull

# Above this many numbers the curvature of a batch's loss, (N, K, K), is not written out.
_LARGEST = 2**27


@dataclass(frozen=True, eq=False)
class Bends:
    """The second derivative of a loss in its scores: one block ``(K, K)`` an example.

    Attributes:
        free: the scores, as variables, each with the examples on its first axis.
        slopes: the derivatives of the loss by them, which can be differentiated.
        num_examples: N.
    """

    free: Tensors
    slopes: Tensors
    num_examples: int

    @property
    def width(self) -> int:
        """K, the scores of an example."""
        return sum(leaf.numel() for leaf in self.free) // self.num_examples

    def root(self) -> torch.Tensor:
        """``(N, K, K)`` R with blocks ``R R'``; ``(N, K)``, the diagonal of R, where the scores do not mix.

        Raises:
            LossError: a block has a negative eigenvalue, or the blocks are too large to be written out.
        """
        if not self.free:
            return torch.zeros(self.num_examples, 0)
        diagonal = self._diagonal()
        if diagonal is not None:
            _must_be_positive(diagonal, diagonal.abs().amax(1, keepdim=True))
            return diagonal.clamp(min=0).sqrt()
        blocks = self._blocks().double()
        values, vectors = torch.linalg.eigh((blocks + blocks.transpose(1, 2)) / 2)
        _must_be_positive(values, values.abs().amax(1, keepdim=True))
        found: torch.Tensor = vectors * values.clamp(min=0).sqrt()[:, None, :]
        return found.to(self.free[0].dtype)

    def _diagonal(self) -> torch.Tensor | None:
        """``(N, K)`` if the blocks are diagonal: then ``s * (A s)`` is the diagonal for whatever signs s."""
        generator = torch.Generator("cpu").manual_seed(0)
        seen = []
        for _ in range(2):
            drawn = torch.randint(
                0, 2, (self.num_examples, self.width), generator=generator, dtype=torch.int8, device="cpu"
            )
            signs = drawn.to(self.free[0]) * 2 - 1
            seen.append(signs * self._times(signs))
        apart = (seen[0] - seen[1]).abs() > 1e-5 * (seen[0].abs() + seen[1].abs()).amax(1, keepdim=True)
        return None if bool(apart.any()) else seen[0]

    def _blocks(self) -> torch.Tensor:
        width, num_examples = self.width, self.num_examples
        if num_examples * width**2 > _LARGEST:
            raise LossError(
                f"a loss whose curvature in the {width} scores of an example can be written out was required, "
                f"{num_examples} examples of it are too many: use smaller batches, or CrossEntropy() or SquaredError()"
            )
        rows = []
        for place in range(width):
            unit = self.free[0].new_zeros(num_examples, width)
            unit[:, place] = 1
            rows.append(self._times(unit))
        return torch.stack(rows, 1)

    def _times(self, flat: torch.Tensor) -> torch.Tensor:
        """``(N, K)`` the product of every example's block with a vector."""
        found = pull(self.slopes, self.free, unflattened(flat, self.free))
        return torch.cat([part.reshape(len(flat), -1) for part in found], 1)


def unflattened(flat: torch.Tensor, like: Tensors) -> Tensors:
    """``(N, K)`` cut into tensors of these shapes, N rows each."""
    widths = [leaf.numel() // len(leaf) for leaf in like]
    return tuple(part.reshape(leaf.shape) for part, leaf in zip(flat.split(widths, 1), like, strict=True))


def _must_be_positive(values: torch.Tensor, scale: torch.Tensor) -> None:
    if bool((values < -1e-4 * scale).any()):
        raise not_convex()


def not_convex() -> LossError:
    """What to say of a loss without a square root."""
    return LossError(
        "a loss that is convex in the scores was required, this one bends down somewhere: "
        "use the Hessian itself, or GaussNewton, which need no square root"
    )
