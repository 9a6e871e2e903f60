"""Shares of data: together they are the whole, each example once, with its own identity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

from tests.numerics.solutions import classes, mlp, random
from vallis.core.data import Arrays, Batches, Stream
from vallis.core.errors import DataError, UsageError
from vallis.core.objective import Objective
from vallis.numerics.shards import Dealt, Numbered, loader_of, order_of, probes_of, shard

x, y = random(17, 2), classes(17)
ARRAYS = Arrays(x=x, y=y, index=torch.arange(17), batch_size=5)
DATASET = TensorDataset(torch.arange(17), y)


def pairs() -> Any:
    return [(batch.x, batch.y) for batch in ARRAYS]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 20])
@pytest.mark.parametrize("data", [ARRAYS, Batches(kept=tuple(ARRAYS)), Stream(pairs)])
def test_shares_are_a_partition(data: Any, num_ranks: int) -> None:
    shares = [shard(data, rank, num_ranks) for rank in range(num_ranks)]
    seen = [batch for share in shares for batch in share]
    index = torch.cat([batch.index for batch in seen])
    assert sorted(index.tolist()) == list(range(17))
    assert torch.equal(torch.cat([batch.x for batch in seen]), x[index])
    assert sum(len(share) for share in shares) == 17
    if data is ARRAYS:
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_solutions_and_surfaces_are_cut_and_the_whole_stays() -> None:
    solution = mlp()
    share = shard(solution, 1, 3)
    assert len(share.task.splits["train"]) == 6
    assert share.params is solution.params
    assert len(solution.task.splits["train"]) == 17
    surface = shard(Objective(solution), 1, 3)
    assert (surface.counted, Objective(solution).counted) == (6, 17)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 20])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_distributed_sampler_neither_repeats_nor_drops(num_ranks: int, drop_last: bool, shuffle: bool) -> None:
    seen: list[int] = []
    for rank in range(num_ranks):
        sampler: Any = DistributedSampler(DATASET, num_ranks, rank, shuffle=shuffle, seed=4, drop_last=drop_last)
        sampler.set_epoch(3)
        loader, index = loader_of(
            DataLoader(DATASET, batch_size=4, sampler=sampler, drop_last=drop_last), rank, num_ranks
        )
        read = [] if loader is None else [place for batch in loader for place in batch[0].tolist()]
        assert read == index.tolist()
        seen += read
        given = list(sampler)
        assert drop_last or read == given[: len(read)]
        assert sampler.drop_last is drop_last
    assert sorted(seen) == list(range(17))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_plain_loader_is_cut_and_keeps_its_settings(shuffle: bool) -> None:
    collate = lambda items: torch.stack([item[0] for item in items]) * 2  # noqa: E731
    state = torch.random.get_rng_state()
    shares = [
        shard(DataLoader(DATASET, batch_size=4, shuffle=shuffle, collate_fn=collate), rank, 2) for rank in range(2)
    ]
    read = [torch.cat(list(share)).tolist() for share in shares]
    assert sorted(read[0] + read[1]) == list(range(0, 34, 2))
    assert [len(batch) for batch in shares[1]] == [4, 4]
    torch.random.set_rng_state(state)


def test_what_a_loader_drops_no_process_sees() -> None:
    """One process alone would not see it either."""
    loader: Any = DataLoader(DATASET, batch_size=5, drop_last=True)
    seen = [index.tolist() for index in (loader_of(loader, rank, 2)[1] for rank in range(2))]
    assert sorted(seen[0] + seen[1]) == list(range(15))
    shuffled: Any = DataLoader(DATASET, batch_size=5, drop_last=True, shuffle=True)
    with pytest.raises(DataError, match="shuffles and drops its last batch"):
        loader_of(shuffled, 0, 2)
    assert len(loader_of(DataLoader(DATASET, batch_size=17, drop_last=True, shuffle=True), 0, 2)[1]) == 9


def test_what_chooses_examples_in_its_own_way_is_refused() -> None:
    class Endless(IterableDataset[int]):
        def __iter__(self) -> Any:
            return iter(range(3))

    sampler = WeightedRandomSampler([1.0] * 17, 17)
    for loader in (DataLoader(DATASET, sampler=sampler), DataLoader(Endless()), DataLoader(DATASET, batch_size=None)):
        with pytest.raises(DataError, match="each example of its dataset once was required"):
            shard(loader, 0, 2)
    with pytest.raises(DataError, match="at least one example a process"):
        shard(DataLoader(TensorDataset(x[:1], y[:1])), 1, 2)
    with pytest.raises(UsageError, match=r"rank in 0\.\.1 was required, 2 of 2"):
        shard(ARRAYS, 2, 2)
    with pytest.raises(UsageError, match="a list came"):
        shard([1, 2], 0, 2)  # type: ignore[type-var]


def test_identities_are_given_in_the_order_of_a_pass() -> None:
    index = torch.arange(17).flip(0) * 10
    numbered = Numbered(ARRAYS, index)
    assert torch.cat([batch.index for batch in numbered]).tolist() == index.tolist()
    assert numbered.take(torch.tensor([2, 0])).index.tolist() == [140, 160]
    assert (len(numbered), numbered.fingerprint()) == (17, ARRAYS.fingerprint())
    with pytest.raises(UsageError, match="17 identities were required, 3 came"):
        Numbered(ARRAYS, torch.arange(3))


def test_dealt_batches_have_no_random_access_and_a_name_of_their_own() -> None:
    one, other = Dealt(ARRAYS, 0, 2), Dealt(ARRAYS, 1, 2)
    assert one.fingerprint() != other.fingerprint()
    with pytest.raises(DataError, match="random access"):
        one.take(torch.tensor([0]))


def test_a_few_examples_from_end_to_end_stand_for_a_dataset() -> None:
    ragged = [(torch.full((1 + place % 3,), place), place) for place in range(100)]
    read = [int(target) for _, target in probes_of(DataLoader(ragged, batch_size=3, shuffle=True))]  # type: ignore[arg-type]
    assert (len(read), read[0], read[-1]) == (32, 0, 99)
    assert read == sorted(set(read))
    assert [int(target) for _, target in probes_of(DataLoader(ragged[:5]))] == [0, 1, 2, 3, 4]  # type: ignore[arg-type]
    assert probes_of(DataLoader(ragged[:0])) == []  # type: ignore[arg-type]


def test_the_order_of_a_distributed_sampler_is_its_settings() -> None:
    sampler: Any = DistributedSampler(DATASET, 2, 1, seed=4)
    sampler.set_epoch(3)
    assert order_of(DataLoader(DATASET, sampler=sampler))[1] == "shuffle=True, seed=4, epoch=3"
    assert order_of(DataLoader(DATASET, shuffle=True))[1] == ""
    with pytest.raises(DataError, match="of rank 0 of 2 was required, one of rank 1 of 2 came"):
        loader_of(DataLoader(DATASET, sampler=sampler), 0, 2)
