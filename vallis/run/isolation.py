"""A room of its own for every piece of work: what it does to global state is undone when it leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import scipy.linalg  # noqa: F401  # brings a BLAS of its own, and only what is loaded can be limited
import torch
from threadpoolctl import threadpool_limits

from vallis.core.functional import preserving_global_state
from vallis.core.types import Failed

# What a part may raise without ending anything else. A part, or a library below it, that calls `sys.exit` would
# otherwise end everything without a word, and with the exit code of its own choice.
RAISED: Final = (Exception, SystemExit)


@contextmanager
def isolated(threads: int | None = None) -> Iterator[None]:
    """Puts global generators, default dtype, gradient mode, thread counts and working folder back afterwards.

    Inside, products of float32 matrices are computed in float32, whatever the caller allows torch: a result has one
    name, and must not depend on who asked for it.

    Args:
        threads: how many threads torch, numpy and scipy compute with inside. Sums are split among threads, so the last
            bits of a number depend on it; None keeps the caller's.
    """
    dtype, before = torch.get_default_dtype(), torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads, user_api="blas"), preserving_global_state(), _in_float32(), _folder_kept():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(before)


@contextmanager
def _in_float32() -> Iterator[None]:
    """Without the quicker products of float32 matrices that `torch.set_float32_matmul_precision` allows."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for each backend by itself, which torch can then no longer say in one word
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _folder_kept() -> Iterator[None]:
    """In the working folder of the caller again afterwards: reports go to paths that are relative to it."""
    before = None
    with suppress(OSError):  # it was removed
        before = os.getcwd()  # noqa: PTH109
    try:
        yield
    finally:
        if before is not None:
            with suppress(OSError):
                os.chdir(before)


def failure(error: BaseException) -> Failed:
    """What is kept of an exception: its class, and its message on one line."""
    try:
        said = str(error)
    except Exception as trouble:  # its own code, which may be as wrong as what raised it
        said = f"it cannot say what happened ({type(trouble).__name__})"
    return Failed(error=type(error).__name__, message=" ".join(said.split()))
