"""How names are spelled in words: by a key's own words, and as the field writes what is a name (Fisher-Rao, NTK)."""

from __future__ import annotations

import re

_NAMES = (
    *("AdamW", "AlexNet", "ASAM", "Bayes", "CIFAR-10", "CKA", "Entropy-SGD", "Fashion-MNIST", "Fisher", "Fisher-Rao"),
    *("Gabor", "Gauss-Newton", "Gaussian", "GGN", "Hessian", "KL", "Kronecker", "MLP", "MNIST", "NNGP", "NTK"),
    *("PAC-Bayes", "PCA", "Rademacher", "rank-one", "ReLU", "ResNet", "SAM", "SGD"),
)
_SPELLED = {re.sub("[^a-z0-9]", "", name.lower()): name for name in _NAMES}


def _pattern(name: str) -> str:
    """A number (resnet20) or a plural may follow, but no second number."""
    after = "s?" if name[-1].isdigit() else r"(?:s|\d+)?"
    return re.escape(name).replace(r"\-", "[- ]?") + rf"(?={after}\b)"


# The longest first, since PAC-Bayes has Bayes in it.
_FOUND = re.compile(rf"\b(?:{'|'.join(map(_pattern, sorted(_NAMES, key=len, reverse=True)))})", re.IGNORECASE)


def spelled(text: str) -> str:
    """The text with names as the field writes them: ``fisher rao norm`` -> ``Fisher-Rao norm``."""
    return _FOUND.sub(lambda found: _SPELLED[re.sub("[^a-z0-9]", "", found[0].lower())], text)


def in_words(key: str) -> str:
    """The key of a value, a setting or a part in words: ``pac_bayes_identities`` -> ``PAC-Bayes identities``."""
    return spelled(key.replace("_", " ").strip())
