"""The front door, on networks people bring: every panel measurement answers, and the module comes back as it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import vallis
from vallis.core.errors import DataError, ModelError, OutputError, UnknownPart, UsageError
from vallis.core.types import Failed, Result
from vallis.measurements.curvature.hessian_spectrum import HessianSpectrum
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.report import examine as door

N, CLASSES = 50, 3


@dataclass
class Brought:
    module: nn.Module
    loss: Any
    train: Any
    test: Any
    how: dict[str, Any]


class ResidualNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.norm1(self.first(x)))
        return self.head(F.relu(self.norm2(self.second(h)) + h).mean((2, 3)))


class EncoderClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.head(self.lstm(x)[0][:, -1])}


class LanguageModel(nn.Module):
    """Causal, with the embedding tied to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.block(self.embedding(tokens), src_mask=mask, is_causal=True))


def next_token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def brought(name: str) -> Brought:
    torch.manual_seed(0)
    y = torch.randint(0, CLASSES, (N,))
    if name == "mlp":
        module: nn.Module = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, CLASSES))
        return Brought(module, nn.CrossEntropyLoss(), (torch.randn(N, 8), y), (torch.randn(20, 8), y[:20]), {})
    if name == "resnet":
        images = torch.randn(N, 1, 6, 6)
        loader = DataLoader(TensorDataset(images, y), batch_size=16, shuffle=True)
        return Brought(ResidualNet(), F.cross_entropy, loader, TensorDataset(images[:9], y[:9]), {})
    if name == "transformer":
        data = {"words": torch.randn(N, 5, 8), "label": y}
        how = {"inputs": lambda batch: batch["words"], "targets": lambda batch: batch["label"]}
        return Brought(EncoderClassifier(), nn.CrossEntropyLoss(), data, None, how)
    if name == "lstm":
        return Brought(Recurrent(), nn.CrossEntropyLoss(), (torch.randn(N, 5, 8).numpy(), y.numpy()), None, {})
    tokens = torch.randint(0, 11, (N, 6))
    targets = tokens.roll(-1, 1)
    targets[:, -1] = -100
    targets[::3, 2:] = -100
    how = {"weight": lambda t: (t != -100).sum(), "batch_size": 16}
    return Brought(LanguageModel(), next_token_loss, (tokens, targets), (tokens[:7], targets[:7]), how)


NETWORKS = ("mlp", "resnet", "transformer", "lstm", "language_model")


def picture_of(module: nn.Module) -> dict[str, Any]:
    """Everything about a module that a careless guest could leave changed."""
    return {
        "modes": [part.training for part in module.modules()],
        "state": {key: value.clone() for key, value in module.state_dict().items()},
        "grads": [None if p.grad is None else p.grad.clone() for p in module.parameters()],
        "identities": [id(p) for p in module.parameters()]
        + [id(p.grad) for p in module.parameters() if p.grad is not None],
        "trainable": [p.requires_grad for p in module.parameters()],
        "hooks": [list(part._forward_hooks) + list(part._backward_hooks) for part in module.modules()],
    }


def assert_same_picture(one: dict[str, Any], two: dict[str, Any]) -> None:
    for key in ("modes", "identities", "trainable", "hooks"):
        assert one[key] == two[key], key
    assert all(torch.equal(one["state"][name], two["state"][name]) for name in one["state"])
    for before, after in zip(one["grads"], two["grads"], strict=True):
        assert (before is None) == (after is None)
        assert before is None or torch.equal(before, after)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_measurement_answers(name: str, tmp_path: Path) -> None:
    given = brought(name)
    given.module.train()
    given.module.register_forward_hook(lambda *_: None)
    next(given.module.parameters()).grad = torch.ones_like(next(given.module.parameters()))
    before, random_state = picture_of(given.module), torch.get_rng_state()
    found = vallis.examine(given.module, given.loss, train=given.train, test=given.test, out=tmp_path, **given.how)
    assert_same_picture(before, picture_of(given.module))
    assert torch.equal(random_state, torch.get_rng_state())
    twin = json.loads((tmp_path / "report.json").read_text())
    statuses = {key: held["status"] for key, held in twin["results"].items()}
    assert "failed" not in statuses.values(), twin["results"]
    # A loss of the user's own on sequences has no margin that could be told from outside.
    assert {key for key, status in statuses.items() if status != "ok"} <= (
        {"margins"} if name == "language_model" else set()
    )
    assert twin["solution"]["parameters"] == sum(p.numel() for p in given.module.parameters())
    assert found.page == tmp_path / "report.html"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_top_eigenvalue_is_that_of_the_dense_hessian(name: str) -> None:
    given = brought(name)
    found = vallis.examine(
        given.module,
        given.loss,
        train=given.train,
        measurements=[HessianSpectrum(num_top=2, num_bottom=1, tolerance=1e-8, precision="float64")],
        **given.how,
    )
    assert found.value("hessian_spectrum", "top_eigenvalue").value == pytest.approx(dense_top(given), rel=1e-6)


def dense_top(given: Brought) -> float:
    """By autograd on the module itself, over all data as one batch, in float64."""
    module = copy.deepcopy(given.module).double().eval()
    params = [p for p in module.parameters() if p.requires_grad]
    if isinstance(given.train, DataLoader):
        x, y = given.train.dataset.tensors  # type: ignore[attr-defined]
    elif isinstance(given.train, dict):
        x, y = given.train["words"], given.train["label"]
    else:
        x, y = (torch.as_tensor(held) for held in given.train)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        outputs = module(x.double() if x.is_floating_point() else x)
        loss = given.loss(outputs["logits"] if isinstance(outputs, dict) else outputs, y)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, params, create_graph=True)])
    rows = []
    for entry in gradient:
        row = torch.autograd.grad(entry, params, retain_graph=True, materialize_grads=True, allow_unused=True)
        rows.append(torch.cat([part.flatten() for part in row]))
    return float(np.linalg.eigvalsh(torch.stack(rows).numpy())[-1])


def test_the_numbers_do_not_depend_on_how_data_are_batched(tmp_path: Path) -> None:
    given = brought("mlp")
    x, y = given.train
    ways: list[Any] = [
        (x, y),
        TensorDataset(x, y),
        DataLoader(TensorDataset(x, y), batch_size=7),
        [(x[:49], y[:49]), (x[49:], y[49:])],
    ]
    for measurement, key in (
        (GeneralizationGap(), "train_loss"),
        (HessianSpectrum(precision="float64"), "top_eigenvalue"),
    ):
        found = [vallis.examine(given.module, given.loss, train=way, measurements=[measurement]) for way in ways]
        values = [one.value(vallis.core.spec.name_of(measurement), key).value for one in found]  # type: ignore[attr-defined]
        assert values == pytest.approx([values[0]] * len(ways), rel=1e-6)


def test_a_result_that_is_missing_says_why() -> None:
    given = brought("mlp")
    found = vallis.examine(
        nn.Linear(8, 1), nn.MSELoss(), train=(torch.randn(9, 8), torch.randn(9, 1)), measurements=["margins"]
    )
    with pytest.raises(UsageError, match="margins"):
        found.value("margins", "median_margin_train")
    with pytest.raises(UnknownPart, match="did you mean margins"):
        found.value("margin", "median")
    assert given is not None


def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    given = brought("mlp")
    cases: list[tuple[Callable[[], Any], type[Exception]]] = [
        (
            lambda: vallis.examine(given.module, given.loss, train=given.train, out=tmp_path / "a", panel="quik"),
            UnknownPart,
        ),
        (lambda: vallis.examine(given.module, given.loss, train=(), out=tmp_path / "a"), DataError),
        (lambda: vallis.examine(given.module, given.loss, train=given.train, measurements=["margin"]), UnknownPart),
        (lambda: vallis.examine(None, given.loss, train=given.train, out=tmp_path / "a"), ModelError),  # type: ignore[arg-type]
    ]
    for act, kind in cases:
        with pytest.raises(kind):
            act()
    assert not list(tmp_path.rglob("report*"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        vallis.examine(given.module, given.loss, train=given.train, out=tmp_path / "file")


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = brought("mlp")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HessianSpectrum, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vallis.examine(
            given.module,
            given.loss,
            train=given.train,
            out=tmp_path,
            measurements=["generalization_gap", "hessian_spectrum"],
        )
    assert list(json.loads((tmp_path / "report.json").read_text())["results"]) == ["generalization_gap"]


def test_one_that_raises_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    given = brought("mlp")

    def broken(*_: Any) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(HessianSpectrum, "measure", broken)
    found = vallis.examine(
        given.module, given.loss, train=given.train, measurements=["hessian_spectrum", "generalization_gap"]
    )
    assert isinstance(found.results["hessian_spectrum"], Failed)
    assert isinstance(found.results["generalization_gap"], Result)
    assert "no such luck" in str(found)


def test_the_reading_names_finite_numbers() -> None:
    given = brought("mlp")
    found = vallis.examine(given.module, given.loss, train=given.train, test=given.test)
    assert found.reading
    assert not any("nan" in line.lower().split() for line in found.reading)
    assert door.PANELS[0] == "quick"


def test_further_splits_reach_the_measurements() -> None:
    """Four of the twelve labels are not the true ones."""
    module = nn.Linear(2, 3)
    x, true = torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    y = torch.where(true == 0, 1, true)
    found = vallis.examine(
        module,
        nn.functional.cross_entropy,
        train=(x, y),
        other_splits={"true_labels": (x, true)},
        measurements=["memorization_gap"],
    )
    share = found.value("memorization_gap", "noisy_fraction")
    assert (share.value, share.n) == (4 / 12, 12)
