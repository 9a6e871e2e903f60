from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from tests.run.toy import Clouds, Linear, Norm, job, same
from vallis.core.errors import StoreError
from vallis.core.types import Job, Packed, Result
from vallis.run.execute import execute
from vallis.run.measure import measure
from vallis.run.plan import LAST, solution_digest, train_node
from vallis.run.solutions import InStore, get_solution, get_trajectory, load
from vallis.run.store import Store
from vallis.run.train import ground, train

JOB: Job = job(snapshots=(0, 2, 9))
NODE = train_node(JOB)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    execute([JOB], store)
    return store


def test_a_stored_solution_is_the_trained_one(store: Store) -> None:
    trained = train(JOB)
    path = get_trajectory(store, NODE, ground(Clouds(), Linear(), 0), JOB.snapshots)
    assert [solution.step for solution in path] == [0, 2, 5]
    for kept, fresh in zip(path, trained, strict=True):
        assert same(kept, fresh)
        assert list(kept.params) == list(fresh.params), "their order is that of the coordinates"
        assert kept.origin == fresh.origin


def test_a_network_is_loaded_by_the_beginning_of_its_name(store: Store) -> None:
    found = load(NODE.digest[:10], store.url)
    assert same(found, train(JOB)[-1])
    assert same(load(NODE.digest, store.url, step=5), found)
    assert same(load(NODE.digest, store.url, step=2), train(JOB)[1])
    assert isinstance(measure(found, Norm()), Result)


@pytest.mark.parametrize(("name", "step"), [("nothing", None), ("", 3), ("0" * 64, None)])
def test_what_is_not_there_is_a_sentence(store: Store, name: str, step: int | None) -> None:
    with pytest.raises(StoreError, match=r"(was|were) required"):
        load(name or NODE.digest, store.url, step)


def test_weights_that_turn_out_damaged_are_made_again_by_the_next_run(store: Store) -> None:
    """As the message says: nobody was going to look at them, since everything was measured."""
    weights = solution_digest(NODE.digest, LAST)
    (Path(store.url) / "objects" / weights[:2] / weights / "tensors.safetensors").write_bytes(b"no")
    for _ in range(2):
        with pytest.raises(StoreError, match=r"is damaged .*run again|has none: train it again"):
            load(NODE.digest, store.url)
    execute([JOB], store)
    assert load(NODE.digest, store.url).step == 5


def test_weights_without_a_record_are_a_sentence(tmp_path: Path) -> None:
    on = ground(Clouds(), Linear(), 0)
    with pytest.raises(StoreError, match="train it again"):
        get_solution(Store(tmp_path), NODE, on)
    with pytest.raises(StoreError, match="does not hold it"):
        get_trajectory(Store(tmp_path), NODE, on, ())


def test_checkpoints_come_after_their_time(tmp_path: Path) -> None:
    keeper = InStore(Store(tmp_path), NODE, every=0.05)
    assert not keeper.due()
    assert keeper.resume() is None
    time.sleep(0.06)
    assert keeper.due()
    keeper.checkpoint(Packed(tensors={"w": torch.ones(1)}, values={"step": 1}))
    assert not keeper.due()
    resumed = keeper.resume()
    assert resumed is not None
    assert resumed.values == {"step": 1}


def test_a_finished_training_leaves_no_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    execute([JOB], store, every=0.0)
    assert (tmp_path / "partial").is_dir(), "there was none on the way, so this test proves nothing"
    assert list((tmp_path / "partial").iterdir()) == []
