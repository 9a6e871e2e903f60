from __future__ import annotations

import random

import numpy as np
import pytest
import torch

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


def test_gradients_flow_inside_even_where_the_caller_switched_them_off() -> None:
    with torch.no_grad():
        with isolated():
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()


def test_a_failure_is_one_line() -> None:
    found = failure(ValueError("one\n  two"))
    assert (found.error, found.message) == ("ValueError", "one two")
