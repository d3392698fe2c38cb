import tracemalloc

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse
from torch.utils.data import Subset

from sktriplet._lazy_samples import LazySamples
from sktriplet.training._data import ArrayDataset, BatchLoader, as_tensor, labels_of, samples_of


def test_array_dataset_shares_memory():
    X = np.arange(6, dtype=np.float32).reshape(3, 2)
    dataset = ArrayDataset(X, np.array([0, 1, 1]))
    X[1, 0] = -1
    assert dataset.X[1, 0] == -1
    assert len(dataset) == 3


def test_as_tensor_copies_read_only_arrays():
    X = np.ones((3, 2), dtype=np.float32)
    X.setflags(write=False)
    tensor = as_tensor(X)
    tensor += 1
    assert (X == 1).all()


@pytest.mark.parametrize(
    "order", [np.s_[::-1, ::-1], np.s_[:, ::2]], ids=["reversed", "every second"]
)
def test_as_tensor_of_strided_views(order):
    X = np.arange(12, dtype=np.float32).reshape(3, 4)[order]
    assert_array_equal(as_tensor(X), X)
    assert_array_equal(ArrayDataset(X)[np.array([1, 0])][0], X[[1, 0]])


def test_array_dataset_of_fortran_array():
    X = np.asfortranarray(np.ones((200_000, 50), np.float32))
    dataset, indices = ArrayDataset(X), np.arange(10)
    tracemalloc.start()
    batch, _ = dataset[indices]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_array_equal(batch, X[:10])
    assert peak < 100_000


def test_array_dataset_without_labels():
    samples, labels = ArrayDataset(np.ones((3, 2)))[1:]
    assert samples.shape == (2, 2)
    assert labels.tolist() == [0, 0]


def test_batch_loader():
    dataset = ArrayDataset(np.arange(5), np.arange(5))
    loader = BatchLoader(dataset, batch_size=2)
    assert len(loader) == 3
    assert [samples.tolist() for samples, _ in loader] == [[0, 1], [2, 3], [4]]
    assert [labels.tolist() for _, labels in loader] == [[0, 1], [2, 3], [4]], "iterated again"


def test_batch_loader_with_batch_sampler():
    dataset = ArrayDataset(np.arange(5) * 10, np.arange(5))
    loader = BatchLoader(dataset, 2, batch_sampler=[np.array([4, 0, 0]), np.array([2])])
    assert len(loader) == 2
    samples, labels = zip(*loader, strict=True)
    assert [r.tolist() for r in samples] == [[40, 0, 0], [20]]
    assert torch.cat(labels).tolist() == [4, 0, 0, 2]


@pytest.mark.parametrize("indices", [2, slice(1, 3), [0, 2], np.array([2, 2, 0])], ids=str)
def test_array_dataset_returns_copies(indices):
    """Networks may write to their input."""
    X = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    X.setflags(write=False)
    dataset = ArrayDataset(X, [5, 6, 7])
    batch, labels = dataset[indices]
    assert_array_equal(batch, X[indices])
    assert_array_equal(labels, np.array([5, 6, 7])[indices])
    batch.zero_()
    assert X[2, 3] == 11


def test_array_dataset_does_not_read_memory_maps(tmp_path):
    np.save(tmp_path / "X.npy", np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    dataset = ArrayDataset(np.load(tmp_path / "X.npy", mmap_mode="r"), np.zeros(3, int))
    assert not dataset.X.flags.owndata
    batch, _ = dataset[np.array([2, 0])]
    assert batch.dtype == torch.uint8
    assert batch.tolist() == [[[8, 9], [10, 11]], [[0, 1], [2, 3]]]


@pytest.mark.parametrize("convert", [sparse.csr_matrix, sparse.csr_array, sparse.coo_array])
class TestSparse:
    X = np.array([[0, 1, 0], [2, 0, 3], [0, 0, 0]], dtype=np.float32)

    @pytest.mark.parametrize("indices", [2, slice(1, 3), [0, 2], np.array([1, 1, 0]), []], ids=str)
    def test_batches_are_dense(self, convert, indices):
        batch, labels = ArrayDataset(convert(self.X), [5, 6, 7])[indices]
        assert_array_equal(batch, self.X[indices])
        assert_array_equal(labels, np.array([5, 6, 7])[indices])
        assert batch.dtype == torch.float32

    def test_as_tensor(self, convert):
        assert_array_equal(as_tensor(convert(self.X)), self.X)

    def test_without_labels(self, convert):
        dataset = ArrayDataset(convert(self.X))
        assert len(dataset) == 3
        assert dataset.y.tolist() == [0, 0, 0]

    def test_samples_of_is_sparse(self, convert):
        samples = samples_of(Subset(ArrayDataset(convert(self.X)), np.array([1, 0])))
        assert sparse.issparse(samples)
        assert_array_equal(samples.toarray(), self.X[[1, 0]])


class TestSubset:
    dataset = ArrayDataset(np.arange(6) * 10, np.arange(6))
    part = Subset(dataset, np.array([5, 3, 1]))

    def test_labels_of(self):
        assert_array_equal(labels_of(self.dataset), np.arange(6))
        assert_array_equal(labels_of(self.part), [5, 3, 1])
        assert_array_equal(labels_of(Subset(self.part, [2, 0])), [1, 5])

    def test_samples_of(self):
        assert_array_equal(samples_of(self.dataset), np.arange(6) * 10)
        assert_array_equal(samples_of(Subset(self.part, [2, 0])), [10, 50])

    def test_batch_loader_with_batch_sampler(self):
        ((samples, labels),) = BatchLoader(self.part, 2, batch_sampler=[np.array([0, 2])])
        assert samples.tolist() == [50, 10]
        assert labels.tolist() == [5, 1]

    def test_batch_loader(self):
        loader = BatchLoader(self.part, 2)
        assert [samples.tolist() for samples, _ in loader] == [[50, 30], [10]]


class TestLazySamples:
    X = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)

    @pytest.mark.parametrize("indices", [2, slice(1, 3), [0, 2], np.array([2, 2, 0]), []], ids=str)
    def test_same_as_array(self, indices):
        batch, labels = ArrayDataset(LazySamples(self.X), np.arange(6))[indices]
        assert_array_equal(batch, self.X[indices])
        assert_array_equal(labels, np.arange(6)[indices])
        assert batch.dtype == torch.uint8
        batch.zero_()
        assert self.X[2, 1, 1] == 11, "networks may write to their input"

    def test_samples_of_is_lazy(self):
        samples = samples_of(Subset(ArrayDataset(LazySamples(self.X)), np.array([1, 0])))
        assert isinstance(samples, LazySamples)
        assert_array_equal(as_tensor(samples), self.X[[1, 0]])

    @pytest.mark.parametrize("n_jobs", [None, 3])
    @pytest.mark.parametrize("sampler", [None, [np.array([4, 0, 0]), np.array([2])] * 5])
    def test_batch_loader(self, sampler, n_jobs):
        """While a batch is used, its indices are known, also if other batches are being read."""
        dataset = Subset(ArrayDataset(LazySamples(self.X, n_jobs), np.arange(6)), [5, 4, 3, 2, 1])
        loader = BatchLoader(dataset, 2, sampler)
        n_batches = 0
        for batch, labels in loader:
            assert_array_equal(batch, self.X[:0:-1][loader.indices])
            assert_array_equal(labels, np.arange(5, 0, -1)[loader.indices])
            n_batches += 1
        assert n_batches == len(loader)


@pytest.mark.parametrize("n_labels", [2, 4])
def test_array_dataset_needs_one_label_per_sample(n_labels):
    with pytest.raises(ValueError, match=rf"\[3, {n_labels}\]"):
        ArrayDataset(np.zeros((3, 2)), np.zeros(n_labels, dtype=int))
