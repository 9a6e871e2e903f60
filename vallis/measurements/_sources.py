"""Papers that several measurements rest on."""

from __future__ import annotations

from vallis.core.types import Source

ZHANG = Source(
    title="Understanding deep learning requires rethinking generalization",
    authors="C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals",
    year=2017,
    url="https://arxiv.org/abs/1611.03530",
)

HUANG = Source(
    title="Understanding generalization through visualizations",
    authors="W. R. Huang, Z. Emam, M. Goldblum, L. Fowl, J. K. Terry, F. Huang, T. Goldstein",
    year=2019,
    url="https://arxiv.org/abs/1906.03291",
)
