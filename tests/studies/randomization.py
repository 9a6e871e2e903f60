"""Tables of the randomisation study as they would come out if the paper were right, or wrong in one point."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vallis.core.types import Estimate, Failed, Outcome, Result, Row
from vallis.studies._randomization_rules import DATA_SETS, NOISES, WEIGHT_DECAY, cell

Tags = Mapping[str, str | float]
Change = Callable[[dict[str, float], Tags, int], None]
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def as_the_paper_says(tags: Tags, seed: int) -> dict[str, float]:
    """Numbers that meet every rule, a little different for each seed."""
    labels, pixels = float(tags["labels"]), str(tags["pixels"])
    test, steps = 0.9 - 0.8 * labels, 1000 * (1 + labels)
    if pixels == "shuffled":
        steps = 1100
        test -= 0.001 * seed if "mlp" in str(tags["network"]) else 0.05
    elif pixels != "none":
        test, steps = 0.12, 1200
    return {"train_accuracy": 1.0, "test_accuracy": test + 0.001 * (seed % 3), "steps": steps + 10 * seed}


def rows_of(
    data: str, num_seeds: int, change: Change | None = None, missing: Callable[[Tags, int], bool] | None = None
) -> list[Row]:
    """The rows of every cell of a data set, changed or failed where wished."""
    held = DATA_SETS[data]
    variants = [{"labels": share} for share in SHARES] + [{"pixels": noise} for noise in NOISES]
    variants += [{"labels": labels, "weight_decay": WEIGHT_DECAY} for labels in (0.0, 1.0)]
    rows = []
    for network in dict.fromkeys((*held.networks, held.convnet)):
        for variant in variants:
            tags = cell(data, network, variant)  # type: ignore[arg-type]
            for seed in range(num_seeds):
                numbers = as_the_paper_says(tags, seed)
                if change is not None:
                    change(numbers, tags, seed)
                outcome: Outcome = Result(values={key: Estimate(value=value) for key, value in numbers.items()})
                if missing is not None and missing(tags, seed):
                    outcome = Failed(error="DataMissing", message="nowhere")
                rows.append(Row(tags=tags, seed=seed, measurement="generalization_gap", outcome=outcome))
    return rows
