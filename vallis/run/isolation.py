"""A room of its own for every piece of work: what it does to global state is undone when it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import scipy.linalg  # noqa: F401  # brings a BLAS of its own, and only what is loaded can be limited
import torch
from threadpoolctl import threadpool_limits

from vallis.core.functional import preserving_global_state
from vallis.core.types import Failed


@contextmanager
def isolated(threads: int | None = None) -> Iterator[None]:
    """Puts the global generators, the default dtype, the gradient mode and the thread counts back afterwards.

    Args:
        threads: how many threads torch, numpy and scipy compute with inside. Sums are split among threads, so the last
            bits of a number depend on it; None keeps the caller's.
    """
    dtype, before = torch.get_default_dtype(), torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads, user_api="blas"), preserving_global_state():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(before)


def failure(error: BaseException) -> Failed:
    """What is kept of an exception: its class, and its message on one line."""
    return Failed(error=type(error).__name__, message=" ".join(str(error).split()))
