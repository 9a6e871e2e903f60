"""Every test of this folder starts from the same seeds, so that none depends on which ran before it."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def same_seeds() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
