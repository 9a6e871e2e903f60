from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.run.toy import Beside, Clouds, Count, Descent, Distance, Linear, Norm, Way, job
from vallis.core.errors import SettingsError
from vallis.run.execute import execute
from vallis.run.plan import LAST, measure_node, missing, origin, plan, solution_digest, train_node
from vallis.run.store import Store


def test_what_jobs_share_is_one_node() -> None:
    found = plan([job(), job(tags={"again": True}), job(measurements=(Norm(), Norm(order=1.0)))])
    assert len(found.trainings) == 1
    assert len(found.measurements) == 2
    assert [row.node for row in found.asked[:3]] == [found.asked[0].node] * 3
    assert len({row.node for row in found.asked}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"problem": Clouds(distance=1.0)},
        {"model": Linear(traits=())},
        {"training": Descent(learning_rate=0.2)},
    ],
)
def test_everything_that_determines_a_training_names_it(change: dict[str, Any]) -> None:
    assert train_node(job()).digest != train_node(job(**change)).digest


@pytest.mark.parametrize(
    "change", [{"snapshots": (3,)}, {"measurements": ()}, {"tags": {"a": 1}}, {"partner": job()}, {"others": (job(),)}]
)
def test_nothing_else_does(change: dict[str, Any]) -> None:
    assert train_node(job()).digest == train_node(job(**change)).digest


def test_names_are_pinned() -> None:
    """These change only when results get another meaning: every store in the world is named by them."""
    node = train_node(job())
    assert node.digest == "3434ef483767ce11151b7a2f043adc6f97c2c35a3da0ff733fc796b4e825bb08"
    assert solution_digest(node.digest, LAST) == "cded78fa1cef228ed2389b139d1e8461eccb1b4718f183d188b7216e121b53b4"
    made = measure_node(Norm(), [node.digest])
    assert made is not None
    assert made.digest == "dcb53c50e5cf237b78f40651314c46bee2085cac5ec05a214f03615b5c09aee5"


def test_snapshots_of_several_jobs_are_united_but_a_trajectory_is_its_own() -> None:
    found = plan([job(measurements=(Way(),), snapshots=(4, 0)), job(measurements=(Way(),), snapshots=(2,)), job()])
    (training,) = found.trainings.values()
    assert training.snapshots == (0, 2, 4)
    assert [node.snapshots for node in found.measurements.values()] == [(0, 4), (2,), ()]


def test_a_solution_is_measured_once_whatever_the_snapshots() -> None:
    assert len(plan([job(snapshots=(1,)), job(snapshots=(2,))]).measurements) == 1


def test_a_negative_snapshot_is_refused() -> None:
    with pytest.raises(SettingsError, match="from 0 on"):
        plan([job(snapshots=(-1,))])


def test_a_watcher_joins_its_training() -> None:
    found = plan([job(measurements=(Count(),)), job(measurements=(Count(fail_at=2),))])
    (training,) = found.trainings.values()
    assert list(training.watchers.values()) == [Count(), Count(fail_at=2)]
    assert found.measurements == {}
    assert list(found.watched) == [row.node for row in found.asked]


def test_a_pair_looks_at_both_trainings() -> None:
    found = plan([job(measurements=(Distance(),), partner=job(seed=1))])
    (node,) = found.measurements.values()
    assert set(node.trainings) == set(found.trainings)
    assert len(node.trainings) == 2
    turned = plan([job(measurements=(Distance(),), seed=1, partner=job())])
    assert set(turned.trainings) == set(found.trainings)
    assert set(turned.measurements) != set(found.measurements)


def test_a_pair_without_a_partner_has_no_node() -> None:
    found = plan([job(measurements=(Distance(),))])
    assert found.measurements == {}
    assert found.asked[0].node is None


def test_a_path_among_others_looks_at_all_of_them() -> None:
    others = tuple(job(seed=seed) for seed in (3, 1))
    found = plan([job(measurements=(Beside(), Way(), Norm()), snapshots=(2,), others=others)])
    among, alone, last = found.measurements.values()
    assert among.trainings == tuple(train_node(each).digest for each in (job(), *others))
    assert (among.snapshots, alone.snapshots, last.snapshots) == ((2,), (2,), ())
    assert alone.trainings == last.trainings == among.trainings[:1], "others are no part of any other path"
    assert set(found.trainings) == set(among.trainings)
    turned = plan([job(measurements=(Beside(),), snapshots=(2,), others=others[::-1])])
    assert set(turned.measurements).isdisjoint(found.measurements)


def test_others_change_no_name_but_of_what_looks_at_them() -> None:
    parts = (Norm(), Way(), Beside())
    bare, beside = (plan([job(measurements=parts, others=held)]) for held in ((), (job(seed=1),)))
    assert len(set(bare.measurements) & set(beside.measurements)) == 2
    (path,) = (name for name, node in bare.measurements.items() if node.measurement == Way())
    made = measure_node(Way(), [train_node(job()).digest])
    assert made is not None
    assert made.digest == path == "92dc280bf414910e551abf0a38b479c90d07614111851e08414cd16c0cdaa5de"


def test_origin_says_what_made_it() -> None:
    made_by = origin(train_node(job(seed=3)))
    assert made_by["seed"] == 3
    assert made_by["training"]["settings"]["learning_rate"] == 0.1


JOB = job(measurements=(Norm(), Way(), Count()), snapshots=(0, 2))


def lacking(store: Store, *jobs: Any) -> tuple[int, int]:
    found = missing(plan(jobs), store)
    return len(found.trainings), len(found.measurements)


def test_what_is_in_the_store_is_not_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert lacking(store, JOB) == (1, 2)
    execute([JOB], store)
    assert lacking(store, JOB) == (0, 0)
    assert lacking(store, job(measurements=(Norm(order=1.0),))) == (0, 1)
    assert lacking(store, job(seed=1)) == (1, 1)


def test_another_watcher_or_snapshot_trains_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    execute([JOB], store)
    assert lacking(store, job(measurements=(Count(fail_at=99),))) == (1, 0)
    assert lacking(store, job(snapshots=(3,))) == (1, 0)
    assert lacking(store, job(snapshots=(5, 9))) == (0, 0), "the training ends at 5, so there is no more to keep"


def test_a_lost_or_damaged_record_is_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    execute([JOB], store)
    wanted = plan([JOB])
    (training,) = wanted.trainings
    measurement = next(iter(wanted.measurements))
    weights = tmp_path / "objects" / solution_digest(training, LAST)[:2] / solution_digest(training, LAST)
    (weights / "tensors.safetensors").write_bytes(b"rubbish")
    assert lacking(store, JOB) == (0, 0), "nobody needs the weights"
    (tmp_path / "objects" / measurement[:2] / measurement / "record.json").write_text("{")
    assert lacking(store, JOB) == (1, 1), "the measurement needs the weights"
    assert len(list((tmp_path / "damaged").iterdir())) == 2


@pytest.mark.parametrize("beside", ["a snapshot", "the training", "who watched"])
def test_weights_that_are_damaged_beside_something_else_are_made_again_at_once(tmp_path: Path, beside: str) -> None:
    """What was found first hid them from the look at the store; then they stood in the way of what was trained anew."""
    asked = job(measurements=(Norm(), Count()), snapshots=(2,))
    store = Store(tmp_path)
    before = execute([asked], store)
    training = train_node(asked).digest
    (watched,) = plan([asked]).watched
    (norm,) = plan([asked]).measurements
    first = {"a snapshot": solution_digest(training, 2), "the training": training, "who watched": watched}[beside]
    for name in (first, norm, solution_digest(training, LAST)):
        (tmp_path / "objects" / name[:2] / name / "record.json").write_text("{}")
    assert repr(execute([asked], store).rows) == repr(before.rows)
