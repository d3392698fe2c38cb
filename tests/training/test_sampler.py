import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from sktriplet.training import BalancedBatchSampler

learnable_labels = st.lists(st.integers(0, 12), min_size=3, max_size=120).filter(
    lambda labels: len(set(labels)) > 1 and len(set(labels)) < len(labels)
)


@given(labels=learnable_labels, batch_size=st.integers(3, 64), k=st.integers(2, 9))
def test_every_batch_holds_a_triplet_and_no_row_twice(labels, batch_size, k):
    labels = np.array(labels)
    for batch in BalancedBatchSampler(labels, batch_size, k, random_state=0):
        classes, counts = np.unique(labels[batch], return_counts=True)
        assert len(classes) >= 2
        assert counts.max() >= 2
        assert len(set(batch)) == len(batch)


@given(labels=learnable_labels, batch_size=st.integers(3, 64), k=st.integers(2, 9))
def test_every_row_is_reached_in_time(labels, batch_size, k):
    sampler = BalancedBatchSampler(labels, batch_size, k, random_state=0)
    seen = set()
    for _ in range(100):
        seen.update(*(batch.tolist() for batch in sampler))
    assert seen == set(range(len(labels)))


def test_classes_and_rows_come_once_before_any_comes_again():
    labels = np.repeat(np.arange(10), 12)
    sampler = BalancedBatchSampler(labels, batch_size=20, samples_per_class=4, random_state=0)
    batches = list(sampler)
    assert [len(batch) for batch in batches] == [20] * 6
    assert sorted(np.concatenate(batches)) == list(range(120))
    first, second = (np.unique(labels[batch]) for batch in batches[:2])
    assert sorted([*first, *second]) == list(range(10))


@pytest.mark.parametrize(
    ("sizes", "batch_size", "k", "expected"),
    [
        pytest.param([100] * 20, 32, 8, [8] * 4, id="P x K"),
        pytest.param([100] * 2, 32, 8, [16, 16], id="two classes give more each"),
        pytest.param([50] * 3, 128, 8, [42, 42, 42], id="three classes give more each"),
        pytest.param([2] * 50, 32, 8, [2] * 16, id="small classes: more of them"),
        pytest.param([1000, 2], 32, 8, [16, 2], id="imbalanced: what the small one has"),
        pytest.param([3, 2], 128, 8, [3, 2], id="tiny: all there is"),
        pytest.param([9, 1, 1, 1], 8, 4, [4, 1, 1, 1], id="singletons are dealt together"),
        pytest.param([2, 1], 8, 4, [2, 1], id="three rows"),
        pytest.param([100] * 5, 8, 8, [8, 8], id="never fewer than two classes"),
    ],
)
def test_composition(sizes, batch_size, k, expected):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    sampler = BalancedBatchSampler(labels, batch_size, k, min_batches=5, random_state=0)
    for batch in sampler:
        counts = np.bincount(labels[batch])
        assert sorted(counts[counts > 0], reverse=True) == expected


def test_composition_by_default():
    labels = np.repeat(np.arange(40), 10)
    sampler = BalancedBatchSampler(labels)
    assert len(sampler) == 4  # the least that show all 400 rows
    assert {len(batch) for batch in sampler} == {128}
    assert {np.bincount(labels[batch]).max() for batch in sampler} == {8}


def test_epoch_length():
    labels = np.repeat(np.arange(10), 100)
    assert len(BalancedBatchSampler(labels, 100, 10)) == 10
    assert len(BalancedBatchSampler(labels, 99, 10)) == 12  # 9 classes x 10 rows a batch
    assert len(BalancedBatchSampler(labels, 100, 10, min_batches=25)) == 25
    assert len(list(BalancedBatchSampler(labels, 100, 10, min_batches=25))) == 25


@pytest.mark.parametrize("n", [2, 3])
def test_processes_share_an_epoch(n):
    """Dealt out in turn, the batches are those that one process would have alone."""
    labels = np.repeat(np.arange(10), 12)
    settings = {"batch_size": 20, "samples_per_class": 4, "random_state": 0}
    alone = list(BalancedBatchSampler(labels, **settings))
    shares = [
        list(BalancedBatchSampler(labels, **settings, num_replicas=n, rank=r)) for r in range(n)
    ]
    assert [len(share) for share in shares] == [6 // n] * n
    for number, batch in enumerate(alone):
        assert batch.tolist() == shares[number % n][number // n].tolist()


def test_shares_are_equal_and_long_enough():
    labels = np.repeat(np.arange(10), 12)
    for rank in range(4):
        settings = {"batch_size": 20, "samples_per_class": 4, "num_replicas": 4, "rank": rank}
        for min_batches, expected in ((1, 2), (5, 5)):  # 6 batches do not go into 4
            sampler = BalancedBatchSampler(labels, **settings, min_batches=min_batches)
            assert len(sampler) == len(list(sampler)) == expected


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_that_is_not_there(rank):
    with pytest.raises(ValueError, match=f"rank must be .* [Gg]ot (rank=)?{rank}"):
        BalancedBatchSampler([0, 0, 1], num_replicas=2, rank=rank)


@pytest.mark.parametrize("name", ["rank", "num_replicas"])
def test_numbers_of_processes_are_integers(name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        BalancedBatchSampler([0, 0, 1], **{name: 1.5})


def test_an_epoch_depends_on_seed_and_number_alone():
    labels = np.repeat(np.arange(5), 20)

    def epoch(seed, number):
        sampler = BalancedBatchSampler(labels, 20, 4, random_state=seed)
        sampler.epoch = number
        return np.concatenate(list(sampler)).tolist()

    sampler = BalancedBatchSampler(labels, 20, 4, random_state=0)
    in_a_row = [np.concatenate(list(sampler)).tolist() for _ in range(3)]
    assert in_a_row == [epoch(0, number) for number in range(3)]
    assert in_a_row[0] != in_a_row[1]
    assert epoch(0, 0) != epoch(1, 0)
    assert epoch(None, 0) != epoch(None, 0)


def test_as_the_batch_sampler_of_a_data_loader():
    labels = torch.arange(4).repeat_interleave(5)
    dataset = TensorDataset(torch.arange(20), labels)
    sampler = BalancedBatchSampler(labels, 8, 4, random_state=0)
    for rows, batch_labels in DataLoader(dataset, batch_sampler=sampler):
        assert batch_labels.tolist() == labels[rows].tolist()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "got 0 class(es), the largest of 0 row(s)."),
        ([1], "got 1 class(es), the largest of 1 row(s)."),
        ([1, 1, 1], "got 1 class(es), the largest of 3 row(s)."),
        (["a", "b", "c"], "got 3 class(es), the largest of 1 row(s)."),
    ],
)
def test_labels_without_a_triplet(labels, message):
    wanted = (
        "labels must hold at least two classes, one of them with two rows or more, so that a "
        "triplet exists; "
    )
    with pytest.raises(ValueError, match=f"^{re.escape(wanted + message)}$"):
        BalancedBatchSampler(labels)


@pytest.mark.parametrize(
    ("parameter", "least"),
    [("batch_size", 3), ("samples_per_class", 2), ("min_batches", 1), ("random_state", 0)],
)
def test_numbers_too_small(parameter, least):
    BalancedBatchSampler([0, 0, 1], **{parameter: least})
    message = f"^{parameter} must be an integer, at least {least}; got {least - 1}.$"
    with pytest.raises(ValueError, match=message):
        BalancedBatchSampler([0, 0, 1], **{parameter: least - 1})
