"""The survey whose statements the landscape checks put to the test."""

from __future__ import annotations

from vallis.core.types import Source

SURVEY = Source(
    title="The global landscape of neural networks: an overview",
    authors="R. Sun, D. Li, S. Liang, T. Ding, R. Srikant",
    year=2020,
    url="https://arxiv.org/abs/2007.01429",
)
