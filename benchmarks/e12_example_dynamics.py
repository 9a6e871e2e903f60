"""E12: recording what 20,000 examples go through in ten epochs."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.contest import Answer, Benchmark, Contender, Score
from benchmarks.fixtures import FIXTURES, Setting, digits

NUM_EXAMPLES, NUM_EPOCHS = 20_000, 10
_LABEL_NOISE, _PIXEL_NOISE, _EXAMPLES_A_STEP = 0.2, 0.2, 128

Epochs = list[tuple[torch.Tensor, torch.Tensor]]


@functools.cache
def recording(fixture: str) -> tuple[torch.Tensor, Epochs]:
    """``(N,)`` the labels; for each epoch the order ``(N,)`` of the examples and their logits ``(N, 10)`` in it."""
    generator = torch.Generator().manual_seed(0)
    x, y = digits(FIXTURES[fixture].is_image)
    drawn = torch.randint(len(y), (NUM_EXAMPLES,), generator=generator)
    inputs = x[drawn] + _PIXEL_NOISE * torch.randn((NUM_EXAMPLES, *x.shape[1:]), generator=generator)
    wrong = torch.rand(NUM_EXAMPLES, generator=generator) < _LABEL_NOISE
    labels = torch.where(wrong, torch.randint(10, (NUM_EXAMPLES,), generator=generator), y[drawn])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = FIXTURES[fixture].make()
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    epochs: Epochs = []
    for _ in range(NUM_EPOCHS):
        order, said = torch.randperm(NUM_EXAMPLES, generator=generator), []
        for part in order.split(_EXAMPLES_A_STEP):
            logits = module(inputs[part])
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels[part]).backward()
            optimizer.step()
            said.append(logits.detach())
        epochs.append((order, torch.cat(said)))
    return labels, epochs


def batches(setting: Setting) -> list[list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """Identities, logits and labels, in batches, by epoch."""
    labels, epochs = recording(setting.fixture)
    size = setting.batch_size
    return [
        list(zip(order.split(size), logits.split(size), labels[order].split(size), strict=True))
        for order, logits in epochs
    ]


@functools.cache
def truth(fixture: str) -> tuple[np.ndarray, np.ndarray]:
    """``(N,)`` forgetting events and ``(N,)`` never learned, counted epoch by epoch with NumPy."""
    labels, epochs = recording(fixture)
    right = np.zeros((NUM_EPOCHS, NUM_EXAMPLES), dtype=bool)
    for epoch, (order, logits) in enumerate(epochs):
        right[epoch, order.numpy()] = logits.numpy().argmax(1) == labels[order].numpy()
    return ((right[:-1] > right[1:]).sum(0), ~right.any(0))


def _ours(setting: Setting) -> Callable[[], Answer]:
    from vallis.numerics.dynamics import DynamicsRecorder

    seen = batches(setting)

    def run() -> Answer:
        recorder = DynamicsRecorder(num_examples=NUM_EXAMPLES)
        for epoch in seen:
            for index, logits, y in epoch:
                recorder.update(index, logits, y)
        return Answer((recorder.forgetting_events().numpy(), recorder.never_learned().numpy()))

    return run


def _traintools(setting: Setting) -> Callable[[], Answer]:
    from traintools.dynamics import ExampleDynamicsTracker

    seen = batches(setting)

    def run() -> Answer:
        tracker = ExampleDynamicsTracker()
        for step, epoch in enumerate(seen):
            for index, logits, y in epoch:
                tracker.update(index, logits, y, step=step)
        held = [tracker.examples[name] for name in range(NUM_EXAMPLES)]
        counts = np.array([one.forgetting_events for one in held])
        return Answer((counts, np.array([one.first_learned_step is None for one in held])))

    return run


def _judge(setting: Setting, answer: Answer, thorough: bool) -> Score:
    counts, never = truth(setting.fixture)
    wrong = (np.asarray(answer.value[0]) != counts) | (np.asarray(answer.value[1]) != never)
    details = {"forgotten_fraction": float((counts > 0).mean()), "never_learned_fraction": float(never.mean())}
    return Score(float(wrong.sum()), not wrong.any(), details if thorough else {})


BENCHMARK = Benchmark(
    id="E12",
    title="Dynamics of 20,000 examples over ten epochs",
    work="recording every presentation, then forgetting events and never learned for each example",
    limit="the same counts for every example as NumPy finds in the matrix of right answers",
    target=0.03,
    settings=(Setting("D-MLP-32", NUM_EXAMPLES), Setting("D-MLP-32", 512)),
    contenders=(
        Contender("Vallis", "vallis", "ours", "DynamicsRecorder(num_examples=20000), update", _ours),
        Contender("traintools", "traintools", "peer", "ExampleDynamicsTracker(), update", _traintools),
    ),
    judge=_judge,
    remarks=(
        "The 20,000 examples are digits with noise on pixels and labels; their logits are those of ten epochs of a "
        "fresh network of the fixture's shape, recorded before the clock starts and handed over in batches of the size "
        "that is named (20,000: one update an epoch, at which traintools is fastest, for each of its updates ends in a "
        "summary of all examples). `error` is the number of examples with a wrong count. Vallis records loss, margin, "
        "probability and error norm beside correctness, traintools the probability.",
    ),
)
