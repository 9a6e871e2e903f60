"""The networks of the randomisation tests; that cells are apart is in test_zhang2017_randomization."""

from __future__ import annotations

import torch
from torch.nn import BatchNorm2d

from vallis.core import spec
from vallis.core.data import Arrays
from vallis.core.losses import CrossEntropy
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.measurements.fit.early_stopping_potential import EarlyStoppingPotential
from vallis.studies._randomization_cells import PAPER, moments
from vallis.studies.zhang2017_randomization import Zhang2017Randomization
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent

STUDY = Zhang2017Randomization()


def test_the_networks_of_the_paper() -> None:
    """Weights as counted from the paper's description, batch normalisation apart; nothing is trained here."""
    counts = {
        "inception": 1_649_402,
        "inception_without_norm": 1_649_402,
        "alexnet": 1_387_786,
        "mlp_3x512": 1_735_178,
        "mlp_1x512": 1_209_866,
    }
    assert list(PAPER) == list(counts)
    x, y = torch.zeros(2, 3, 28, 28), torch.tensor([0, 9])
    split = Arrays(x=x, y=y, index=torch.arange(2))
    task = Task(name="pictures", splits={"train": split}, loss=CrossEntropy())
    for name, (model, rate) in PAPER.items():
        net = model.build((task,), Rng(0))
        norms = {
            id(weight) for part in net.module.modules() if isinstance(part, BatchNorm2d) for weight in part.parameters()
        }
        assert sum(w.numel() for w in net.module.parameters() if id(w) not in norms) == counts[name]
        assert rate == (0.1 if name.startswith("inception") else 0.01)


def test_the_jobs_of_the_paper_are_tables_1_and_4() -> None:
    jobs = [job for job in STUDY.jobs("paper") if job.seed == 0]
    for job in jobs:
        assert spec.from_spec(spec.to_spec(job.training)) == job.training
        assert spec.from_spec(spec.to_spec(job.problem)) == job.problem
        assert spec.from_spec(spec.to_spec(job.model)) == job.model
    asked = {
        (job.tags["network"], job.tags["labels"], job.tags["regularizer"], job.tags["weight_decay"] > 0) for job in jobs
    }
    for network in PAPER:
        assert {(network, labels, "none", decay) for labels in (0.0, 1.0) for decay in (False, True)} <= asked
    for network in ("inception", "alexnet"):
        assert {(network, 0.0, "crop", False), (network, 0.0, "crop", True), (network, 1.0, "crop", False)} <= asked
        assert {(network, 1.0, "crop_flip", False), (network, 1.0, "flip_rotate", False)} <= asked
    (noisy,) = [
        j for j in jobs if (j.tags["network"], j.tags["labels"], j.tags["regularizer"]) == ("alexnet", 1.0, "crop")
    ]
    assert isinstance(noisy.training, GradientDescent)
    assert (noisy.training.augmentation, noisy.training.decay, noisy.training.max_steps) == ("shift", 0.999, 78_200)


def test_a_regularizer_is_what_its_tag_says() -> None:
    for job in STUDY.jobs("laptop"):
        name, training = job.tags["regularizer"], job.training
        assert isinstance(training, EarlyStopping) == (name == "early_stopping")
        inner = training.base if isinstance(training, EarlyStopping) else training
        assert isinstance(inner, GradientDescent)
        assert inner.weight_decay == job.tags["weight_decay"]
        augmentation = "shift" if name == "crop" else name if name in ("crop_flip", "flip_rotate") else "none"
        assert inner.augmentation == augmentation
        assert getattr(job.model, "dropout", 0.0) == (0.5 if name == "dropout" else 0.0)
        assert getattr(job.model, "batch_norm", False) == (job.tags["network"] == "convnet_with_norm")


def test_a_training_is_looked_at_twice_a_doubling() -> None:
    assert moments(60) == (8, 11, 16, 23, 32, 45)
    assert moments(64)[-1] == 45
    assert moments(65)[-1] == 64
    assert moments(5) == ()


def test_only_plain_networks_on_true_labels_are_looked_at_on_the_way() -> None:
    looked = [job for job in STUDY.jobs("laptop") if EarlyStoppingPotential() in job.measurements]
    assert {(job.tags["data"], job.tags["network"]) for job in looked} == {
        (data, network) for data in ("few_digits", "few_clothes") for network in ("convnet", "convnet_with_norm")
    }
    for job in looked:
        assert (job.tags["labels"], job.tags["pixels"], job.tags["regularizer"]) == (0.0, "none", "none")
        assert job.snapshots == moments(3000)
