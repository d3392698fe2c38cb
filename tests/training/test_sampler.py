import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from sktriplet.exceptions import InvalidParameterError
from sktriplet.training import BalancedBatchSampler

learnable_labels = st.lists(st.integers(0, 12), min_size=3, max_size=120).filter(
    lambda labels: len(set(labels)) > 1 and len(set(labels)) < len(labels)
)


@given(labels=learnable_labels, batch_size=st.integers(3, 64), k=st.integers(2, 9))
def test_batch_has_triplet_and_no_duplicates(labels, batch_size, k):
    labels = np.array(labels)
    for batch in BalancedBatchSampler(labels, batch_size, k, random_state=0):
        classes, counts = np.unique(labels[batch], return_counts=True)
        assert len(classes) >= 2
        assert counts.max() >= 2
        assert len(set(batch)) == len(batch)


@given(labels=learnable_labels, batch_size=st.integers(3, 64), k=st.integers(2, 9))
def test_all_samples_are_drawn(labels, batch_size, k):
    sampler = BalancedBatchSampler(labels, batch_size, k, random_state=0)
    seen = set()
    for _ in range(100):
        seen.update(*(batch.tolist() for batch in sampler))
    assert seen == set(range(len(labels)))


def test_drawing_is_without_replacement():
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
        pytest.param([100] * 2, 32, 8, [16, 16], id="two classes"),
        pytest.param([50] * 3, 128, 8, [42, 42, 42], id="three classes"),
        pytest.param([2] * 50, 32, 8, [2] * 16, id="small classes"),
        pytest.param([1000, 2], 32, 8, [30, 2], id="imbalanced"),
        pytest.param([3, 2], 128, 8, [3, 2], id="tiny"),
        pytest.param([9, 1, 1, 1], 8, 4, [5, 1, 1, 1], id="singletons"),
        pytest.param([2, 1], 8, 4, [2, 1], id="three samples"),
        pytest.param([100] * 5, 8, 8, [4, 4], id="at least two classes"),
        pytest.param([100] * 5, 10, 4, [4, 4, 2], id="last class fills"),
        pytest.param([100] * 5, 9, 4, [4, 4], id="not by a single sample"),
    ],
)
def test_batch_composition(sizes, batch_size, k, expected):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    sampler = BalancedBatchSampler(labels, batch_size, k, min_batches=5, random_state=0)
    for batch in sampler:
        counts = np.bincount(labels[batch])
        assert sorted(counts[counts > 0], reverse=True) == expected


def test_batch_composition_by_default():
    labels = np.repeat(np.arange(40), 10)
    sampler = BalancedBatchSampler(labels)
    assert len(sampler) == 4  # the minimum for 400 samples
    assert {len(batch) for batch in sampler} == {128}
    assert {np.bincount(labels[batch]).max() for batch in sampler} == {8}


def test_len():
    labels = np.repeat(np.arange(10), 100)
    assert len(BalancedBatchSampler(labels, 100, 10)) == 10
    assert len(BalancedBatchSampler(labels, 99, 10)) == 11  # 9 classes x 10 samples + 9 of another
    assert len(BalancedBatchSampler(labels, 100, 10, min_batches=25)) == 25
    assert len(list(BalancedBatchSampler(labels, 100, 10, min_batches=25))) == 25


@pytest.mark.parametrize("n", [2, 3])
def test_num_replicas_share_an_epoch(n):
    """They take turns with the batches that a single process would have."""
    labels = np.repeat(np.arange(10), 12)
    settings = {"batch_size": 20, "samples_per_class": 4, "random_state": 0}
    alone = list(BalancedBatchSampler(labels, **settings))
    shares = [
        list(BalancedBatchSampler(labels, **settings, num_replicas=n, rank=r)) for r in range(n)
    ]
    assert [len(share) for share in shares] == [6 // n] * n
    for number, batch in enumerate(alone):
        assert batch.tolist() == shares[number % n][number // n].tolist()


def test_num_replicas_have_equal_shares():
    labels = np.repeat(np.arange(10), 12)
    for rank in range(4):
        settings = {"batch_size": 20, "samples_per_class": 4, "num_replicas": 4, "rank": rank}
        for min_batches, expected in ((1, 2), (5, 5)):  # 6 batches cannot be divided among 4
            sampler = BalancedBatchSampler(labels, **settings, min_batches=min_batches)
            assert len(sampler) == len(list(sampler)) == expected


def test_random_state_and_epoch_determine_batches():
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


def test_data_loader():
    labels = torch.arange(4).repeat_interleave(5)
    dataset = TensorDataset(torch.arange(20), labels)
    sampler = BalancedBatchSampler(labels, 8, 4, random_state=0)
    for indices, batch_labels in DataLoader(dataset, batch_sampler=sampler):
        assert batch_labels.tolist() == labels[indices].tolist()


@pytest.mark.parametrize(
    ("labels", "n_classes", "largest"),
    [([], 0, 0), ([1], 1, 1), ([1, 1, 1], 1, 3), (["a", "b", "c"], 3, 1)],
)
def test_labels_without_triplets(labels, n_classes, largest):
    with pytest.raises(ValueError, match=rf"labels .*{n_classes} class.*{largest} sample"):
        BalancedBatchSampler(labels)


def test_labels_of_two_dimensions():
    with pytest.raises(ValueError, match=r"labels .*\(3, 2\)"):
        BalancedBatchSampler(np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("name", "lowest"),
    [
        ("batch_size", 3),
        ("samples_per_class", 2),
        ("min_batches", 1),
        ("random_state", 0),
        ("num_replicas", 1),
        ("rank", 0),
    ],
)
def test_invalid_parameter(name, lowest):
    BalancedBatchSampler([0, 0, 1], **{name: lowest})
    for value in (lowest - 1, lowest + 0.5, True, "a"):
        with pytest.raises(InvalidParameterError, match=f"'{name}' parameter.*{value}"):
            BalancedBatchSampler([0, 0, 1], **{name: value})


def test_rank_out_of_range():
    with pytest.raises(ValueError, match=r"rank=2.*num_replicas=2"):
        BalancedBatchSampler([0, 0, 1], num_replicas=2, rank=2)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=12).filter(lambda s: max(s) > 1),
    batch_size=st.integers(3, 70),
    samples_per_class=st.integers(2, 70),
)
def test_batches_are_valid(sizes, batch_size, samples_per_class):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    sampler = BalancedBatchSampler(
        labels, batch_size, samples_per_class, min_batches=4, random_state=0
    )
    batches = list(sampler)
    assert len(batches) == len(sampler)
    for batch in batches:
        classes, counts = np.unique(labels[batch], return_counts=True)
        assert len(batch) == len(set(batch.tolist())) <= batch_size
        assert len(classes) > 1
        assert counts.max() > 1


def test_imbalanced_classes_fill_batches():
    """Batches of 34 to 282 samples were drawn here."""
    labels = np.repeat(np.arange(60), [2] * 55 + [500] * 5)
    sampler = BalancedBatchSampler(labels, 128, 64, random_state=0)
    assert {len(batch) for batch in sampler} == {128}
    draws = np.bincount(np.concatenate(list(sampler)), minlength=len(labels))
    for label in range(60):
        of_class = draws[labels == label]
        assert of_class.max() - of_class.min() <= 1
