from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from vallis.run.isolation import failure, isolated


def state() -> tuple[object, ...]:
    numpy = np.random.get_state()  # noqa: NPY002
    generators = (torch.get_rng_state().tolist(), random.getstate(), numpy[1].tolist(), numpy[2])
    return (*generators, torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())


def disturb() -> None:
    torch.rand(1)
    random.random()
    np.random.rand()  # noqa: NPY002
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(torch.get_num_threads() + 1)


def test_everything_global_is_put_back() -> None:
    before = state()
    with isolated():
        disturb()
        assert state() != before
    assert state() == before


def test_it_is_put_back_after_an_exception() -> None:
    before = state()
    with pytest.raises(RuntimeError), isolated(threads=1):
        disturb()
        raise RuntimeError
    assert state() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_the_threads_inside_are_those_asked_for(threads: int) -> None:
    with isolated(threads):
        assert torch.get_num_threads() == threads


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_numpy_and_scipy_compute_with_the_threads_asked_for() -> None:
    """Their sums are split among threads as torch's are: another count, other last bits."""
    matrix = np.random.default_rng(0).standard_normal((300, 300))
    with threadpool_limits(1, user_api="blas"):
        expected = (matrix @ matrix.T).tobytes()
    with threadpool_limits(2, user_api="blas"):
        with isolated(1):
            assert blas_threads() == {1}
            assert (matrix @ matrix.T).tobytes() == expected
        assert blas_threads() == {2}


def test_gradients_flow_inside_even_where_the_caller_switched_them_off() -> None:
    with torch.no_grad():
        with isolated():
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()


def test_the_working_folder_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with isolated():
        os.chdir("/")
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("allowed", ["medium", "high", "highest"])
def test_products_are_computed_in_float32_whatever_the_caller_allows(allowed: str) -> None:
    torch.set_float32_matmul_precision(allowed)
    try:
        with isolated():
            assert torch.get_float32_matmul_precision() == "highest"
            torch.set_float32_matmul_precision("medium")
        assert torch.get_float32_matmul_precision() == allowed
    finally:
        torch.set_float32_matmul_precision("highest")


class Speechless(Exception):
    """Its own words are as wrong as what raised it."""

    def __str__(self) -> str:
        raise ValueError("no words")


def test_a_failure_without_words_is_one_all_the_same() -> None:
    found = failure(Speechless())
    assert (found.error, found.message) == ("Speechless", "it cannot say what happened (ValueError)")


def test_a_failure_is_one_line() -> None:
    found = failure(ValueError("one\n  two"))
    assert (found.error, found.message) == ("ValueError", "one two")
