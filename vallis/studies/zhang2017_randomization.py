"""Can a network fit noise? True labels against random labels and random pixels, on the same net with the same training.

The claims are those of sections 2 to 5 of the paper, each about one data set: what is fitted, what regularisers change,
what can be built in closed form, and which solution gradient descent finds. A claim about single networks is put to the
seeds: a seed meets the written rule or it does not, and the claim holds where an exact binomial test rejects that no
more than half of all seeds would meet it (five seeds must all do so, eight may miss it once). A claim that two numbers
are equal is put to two one-sided t-tests. The thresholds were written before the networks were trained.

At the scale "laptop" networks are fully connected, or small and convolutional, and the data the digits and parts of
Fashion-MNIST, and with ``cifar10="mini"`` or "full" a part of CIFAR-10. The architectures of the paper on the whole of
CIFAR-10 are at the scale "paper". Gaussian pixels are independent and all have the one mean and variance of the data;
up to version 2 of the study each place had its own. In version 4 the construction is asked for exactly 2n + d weights,
too, and the small AlexNet no longer for what the paper's own did not do: to fit random labels with weight decay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

from vallis.core.errors import SettingsError
from vallis.core.figures import Figure
from vallis.core.types import Claim, Job, Row, Source, Verdict
from vallis.problems._checks import check_choice
from vallis.studies import _closed_form_rules, _randomization_figures, _regularization_rules
from vallis.studies import _randomization_rules as rules
from vallis.studies._randomization_cells import SCALES, photographs
from vallis.studies._randomization_rules import DATA_SETS, Fractions


@dataclass(frozen=True, kw_only=True)
class Zhang2017Randomization:
    """Trains networks on the true data and on each way to make them random, regularised and not; builds others.

    Attributes:
        fractions: the probabilities, beside 0 and 1, with which a training label is made random.
        cifar10: "mini" or "full" takes 1,000 images of it in at the scale "laptop", out of either data set (see
            `vallis.problems.cifar10`); "none" leaves them out there, for not everybody has the data.
    """

    fractions: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    cifar10: Literal["none", "mini", "full"] = field(default="none", metadata={"was": "none"})

    version: ClassVar[int] = 4
    source: ClassVar[Source] = Source(
        title="Understanding deep learning requires rethinking generalization",
        authors="C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals",
        year=2017,
        url="https://arxiv.org/abs/1611.03530",
    )

    def __post_init__(self) -> None:
        rising = list(self.fractions) == sorted(set(self.fractions))
        if not (rising and all(0 < fraction < 1 for fraction in self.fractions)):
            raise SettingsError(
                f"fractions must rise between 0 and 1, {self.fractions} came: give such as (0.2, 0.4, 0.6, 0.8)"
            )

        check_choice("zhang2017_randomization.cifar10", self.cifar10, Literal["none", "mini", "full"])

    def jobs(self, scale: str) -> Sequence[Job]:
        settings = SCALES[scale]()
        if scale == "laptop" and self.cifar10 != "none":
            settings += photographs(self.cifar10)
        return [job for setting in settings for job in setting.jobs(self._shares)]

    def claims(self) -> Sequence[Claim]:
        randomized = [
            Claim(
                id=f"{name}_{data}",
                says=f"On {held.title}: {says}{held.aside(name)}.",
                where=where,
                test=partial(rule, data=data, fractions=self._shares),
                about=held.title,
                shows=shows,
            )
            for data, held in DATA_SETS.items()
            for name, (rule, says, where, shows) in RULES.items()
            if held.asks(name)
        ]
        return [*randomized, *_regularization_rules.claims(), *_closed_form_rules.claims()]

    def figures(self, rows: Sequence[Row]) -> Sequence[Figure]:
        return _randomization_figures.figures(rows, self._shares)

    @property
    def _shares(self) -> Fractions:
        return (0.0, *self.fractions, 1.0)


# ------------------------------------------------------------------------------------------------------------ claims

RULES: dict[str, tuple[Callable[..., Verdict], str, str, str]] = {
    "fits_anything": (
        rules.fits_anything,
        "the training accuracy is at least 0.99 on true labels, on every share of random labels, and on shuffled, "
        "random and Gaussian pixels, with one and the same training",
        "section 2.1, figure 1a, table 1",
        "lowest training accuracy, median over seeds",
    ),
    "random_labels_teach_nothing": (
        rules.only_guesses,
        "the test accuracy after training on random labels is within 0.03 of the 0.1 of guessing",
        "section 2.1, table 1",
        "test accuracy, median over seeds",
    ),
    "error_grows_with_random_labels": (
        rules.error_grows,
        "the rank correlation of the test error with the share of random labels is at least 0.95",
        "section 2.1, figure 1c",
        "rank correlation, median over seeds",
    ),
    "random_labels_take_longer": (
        rules.takes_longer,
        "to fit random labels takes between 1.3 and 6 times the steps that true labels take",
        "section 2.1, figure 1b",
        "ratio of steps, median over seeds",
    ),
    "random_pixels_are_fitted_sooner": (
        rules.noise_is_sooner,
        "random pixels and Gaussian pixels take fewer steps to fit than random labels",
        "section 2.1, figure 1a",
        "ratio of steps to those of random labels, median over seeds",
    ),
    "noise_is_fitted_in_this_order": (
        rules.in_this_order,
        "the convolutional network fits true images in fewer steps than shuffled pixels, those in fewer than random "
        "and Gaussian pixels, and these in fewer than random labels",
        "section 2.1, figure 1a",
        "steps of shuffled over steps of true pixels, median over seeds",
    ),
    "mlp_does_not_see_places": (
        rules.mlp_is_blind,
        "one permutation of the pixels changes the mean test accuracy of the fully connected network by less than 0.02",
        "section 2.1: a consequence of its symmetry",
        "mean change of the test accuracy",
    ),
    "convnet_sees_places": (
        rules.convnet_sees,
        "a convolutional network is less accurate with its pixels permuted",
        "section 2.1",
        "loss of test accuracy, median over seeds",
    ),
    "weight_decay_changes_little": (
        rules.decay_changes_little,
        "weight decay changes the test accuracy on true labels by less than 0.05",
        "section 3, table 1",
        "change of the test accuracy, median over seeds",
    ),
    "weight_decay_stops_nothing": (
        rules.decay_stops_nothing,
        "with weight decay the training accuracy on random labels is still at least 0.99",
        "section 3, table 4",
        "training accuracy, median over seeds",
    ),
}
