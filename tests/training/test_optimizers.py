from __future__ import annotations

import pytest
import torch

from vallis.core.errors import SettingsError, UnknownPart
from vallis.training import _optimizers


def test_classes_are_found_by_name() -> None:
    assert _optimizers.find("AdamW") is torch.optim.AdamW
    for name, said in (("AdmaW", "AdamW"), ("adamw", "did you mean AdamW"), ("lr_scheduler", "no optimizer")):
        with pytest.raises(UnknownPart, match=said):
            _optimizers.find(name)


def test_every_field_is_handed_over_where_it_is_taken() -> None:
    assert _optimizers.arguments("SGD", 0.1, 0.9, 0.01, {"nesterov": True}) == {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.01,
        "nesterov": True,
    }
    # The default weight decay of AdamW is not zero: what is written in the settings is what is done.
    assert _optimizers.arguments("AdamW", 0.1, 0.0, 0.0, {}) == {"lr": 0.1, "weight_decay": 0.0}
    assert _optimizers.arguments("LBFGS", 1.0, 0.0, 0.0, {}) == {"lr": 1.0}


def test_what_is_not_taken_is_refused() -> None:
    with pytest.raises(SettingsError, match="momentum"):
        _optimizers.arguments("Adam", 0.1, 0.9, 0.0, {})
    with pytest.raises(SettingsError, match="did you mean betas"):
        _optimizers.arguments("Adam", 0.1, 0.0, 0.0, {"beta": 0.9})
    for name in ("lr", "momentum", "weight_decay"):
        with pytest.raises(SettingsError, match="setting of its own"):
            _optimizers.arguments("SGD", 0.1, 0.0, 0.0, {name: 0.5})
    with pytest.raises(SettingsError, match="params"):
        _optimizers.arguments("SGD", 0.1, 0.0, 0.0, {"params": 0.5})


def test_what_torch_refuses_is_said_in_one_sentence() -> None:
    with pytest.raises(SettingsError, match="Adam accepts were required, it said: Invalid beta"):
        _optimizers.make("Adam", [torch.nn.Parameter(torch.zeros(1))], {"lr": 0.1, "betas": (0.9, 2.0)})
    with pytest.raises(UnknownPart):
        _optimizers.make("Adma", [], {})


def test_lbfgs_alone_needs_a_closure() -> None:
    assert _optimizers.needs_closure("LBFGS")
    assert not _optimizers.needs_closure("SGD")


@pytest.mark.parametrize("size", [1, 48, 1003, 2**14])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "rule",
    [
        {"momentum": 0.9},
        {"momentum": 0.9, "weight_decay": 0.01},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.3},
        {"momentum": 0.5, "dampening": 0.2, "maximize": True},
        {},
        {"weight_decay": 0.1},
    ],
)
def test_the_quick_step_of_sgd_has_the_bits_of_torchs_own(
    rule: dict[str, float], dtype: torch.dtype, size: int
) -> None:
    generator = torch.Generator().manual_seed(size)
    start = torch.randn(size, generator=generator, dtype=dtype)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    quick, plain = (torch.optim.SGD([each], 0.1, foreach=False, **rule) for each in (ours, theirs))
    for step in range(5):
        slope = torch.randn(size, generator=generator, dtype=dtype)
        for each, optimizer in ((ours, quick), (theirs, plain)):
            each.grad = slope.clone()
            _optimizers.set_rate(optimizer, 0.1 / 3**step)
        _optimizers.advance(quick)
        plain.step()
        assert torch.equal(ours, theirs)
        memories = [kept.state[each].get("momentum_buffer") for kept, each in ((quick, ours), (plain, theirs))]
        assert all(kept is None for kept in memories) or torch.equal(*memories)


def test_a_fused_step_that_rounds_otherwise_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = _optimizers._fused

    def otherwise(weights: torch.Tensor, *others: object) -> torch.Tensor | None:
        kept = fused(weights, *others)  # type: ignore[arg-type]
        weights[-1] *= 1 + 2**-23
        return kept

    _optimizers._fuses.cache_clear()
    monkeypatch.setattr(_optimizers, "_fused", otherwise)
    assert not _optimizers._fuses(torch.float32, "cpu", 0.0, 0.9, 0.0, False, False)
    _optimizers._fuses.cache_clear()
