"""Named, independent random streams.

``Rng(0).child("data")`` and ``Rng(0).child("init")`` never share a number, and adding a stream changes no other: a
stream is the hash of the path of names that leads to it. Nothing here touches the global generators.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vallis.core.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Rng:
    """A node in the tree of random streams.

    Attributes:
        root: the seed a user chose.
        path: the names that lead from the root to this stream.
    """

    root: int = 0
    path: tuple[str, ...] = ()

    def child(self, *names: object) -> Rng:
        """The independent stream under these names; ``child("epoch", 3)`` and ``child("epoch").child(3)`` are one."""
        return Rng(self.root, self.path + tuple(str(name) for name in names))

    @property
    def seed(self) -> int:
        """A 63-bit seed: the SHA-256 of root and path."""
        text = "\x1f".join((str(self.root), *self.path))
        return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big") >> 1

    def torch(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh torch generator at the start of this stream."""
        import torch

        return torch.Generator(device=device).manual_seed(self.seed)

    def numpy(self) -> np.random.Generator:
        """A fresh numpy generator at the start of this stream."""
        import numpy as np

        return np.random.default_rng(self.seed)


def must_be_rng(rng: object) -> None:
    """Lets a stream pass.

    Raises:
        SettingsError: it is something else, such as a plain seed.
    """
    if not isinstance(rng, Rng):
        seed = rng if isinstance(rng, int) else 0
        raise SettingsError(
            f"an Rng was required for rng, {rng!r} came: give Rng({seed}), the stream that starts from this seed"
        )
