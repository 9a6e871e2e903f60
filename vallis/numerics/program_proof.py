"""Whether a program does what its network does: both are run on the same examples, and their bits compared.

A forward function may do what no graph shows: stop gradients, change the precision, call a layer whose own forward
function was replaced. So it is asked, not assumed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from vallis.core.functional import preserving_global_state
from vallis.numerics.program import Program
from vallis.numerics.program_kernels import Weights

_Found = tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]


def is_proved(program: Program, module: nn.Module, trained: Iterable[str], x: torch.Tensor) -> bool:
    """Whether outputs, slopes of all trainable parameters and running statistics have the bits of autograd's.

    Args:
        program: of the module, which is in training mode and stays as it is.
        module: what autograd differentiates.
        trained: the names of its trainable parameters.
        x: some examples; where they are numbers, random ones take their place, so that blank places tell something.
    """
    x = torch.empty_like(x).normal_(generator=_seeded()) if x.is_floating_point() else x
    trained = tuple(trained)
    try:
        with preserving_global_state():
            torch.default_generator.manual_seed(0)  # where the masks of dropout come from
            wanted = _by_autograd(copy.deepcopy(module), trained, x)
        found = _by_program(program, copy.deepcopy(module), trained, x)
    except Exception:  # whatever a network does not take is for its training to say
        return False
    return _are_equal({"": wanted[0]}, {"": found[0]}) and all(map(_are_equal, wanted[1:], found[1:]))


def _by_autograd(module: nn.Module, trained: tuple[str, ...], x: torch.Tensor) -> _Found:
    params = dict(module.named_parameters())
    with torch.enable_grad():
        outputs = module(x.clone())
    slopes = torch.autograd.grad(
        outputs, [params[name] for name in trained], _slope(outputs), allow_unused=True, materialize_grads=True
    )
    return outputs.detach(), dict(zip(trained, slopes, strict=True)), dict(module.named_buffers())


def _by_program(program: Program, module: nn.Module, trained: tuple[str, ...], x: torch.Tensor) -> _Found:
    held = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    slopes = {name: torch.zeros_like(held[name]) for name in trained}
    with torch.no_grad():
        weights = Weights(held, slopes, _seeded())
        outputs, tape = program.forward(weights, x.clone())
        program.backward(weights, tape, _slope(outputs))
    return outputs, slopes, {name: held[name] for name, _ in module.named_buffers()}


def _slope(outputs: torch.Tensor) -> torch.Tensor:
    return torch.randn(outputs.shape, generator=_seeded()).to(outputs.dtype)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _are_equal(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> bool:
    return wanted.keys() == found.keys() and all(torch.equal(value, found[name]) for name, value in wanted.items())
