import tracemalloc

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse
from torch.utils.data import Subset

from sktriplet.training._data import ArrayDataset, BatchLoader, as_tensor, labels_of, rows_of


def test_rows_share_memory_with_the_array():
    X = np.arange(6, dtype=np.float32).reshape(3, 2)
    dataset = ArrayDataset(X, np.array([0, 1, 1]))
    X[1, 0] = -1
    assert dataset.X[1, 0] == -1
    assert len(dataset) == 3


def test_a_read_only_array_is_copied_and_not_warned_about():
    X = np.ones((3, 2), dtype=np.float32)
    X.setflags(write=False)
    tensor = as_tensor(X)
    tensor += 1
    assert (X == 1).all()


@pytest.mark.parametrize(
    "order", [np.s_[::-1, ::-1], np.s_[:, ::2]], ids=["turned", "every second"]
)
def test_views_of_any_strides(order):
    X = np.arange(12, dtype=np.float32).reshape(3, 4)[order]
    assert_array_equal(as_tensor(X), X)
    assert_array_equal(ArrayDataset(X)[np.array([1, 0])][0], X[[1, 0]])


def test_an_array_in_column_order_is_not_copied_for_each_batch():
    X = np.asfortranarray(np.ones((200_000, 50), np.float32))
    dataset, rows = ArrayDataset(X), np.arange(10)
    tracemalloc.start()
    batch, _ = dataset[rows]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_array_equal(batch, X[:10])
    assert peak < 100_000


def test_without_labels():
    rows, labels = ArrayDataset(np.ones((3, 2)))[1:]
    assert rows.shape == (2, 2)
    assert labels.tolist() == [0, 0]


def test_consecutive_batches():
    dataset = ArrayDataset(np.arange(5), np.arange(5))
    loader = BatchLoader(dataset, batch_size=2)
    assert len(loader) == 3
    assert [rows.tolist() for rows, _ in loader] == [[0, 1], [2, 3], [4]]
    assert [labels.tolist() for _, labels in loader] == [[0, 1], [2, 3], [4]], "a second time"


def test_sampled_batches():
    dataset = ArrayDataset(np.arange(5) * 10, np.arange(5))
    loader = BatchLoader(dataset, 2, batch_sampler=[np.array([4, 0, 0]), np.array([2])])
    assert len(loader) == 2
    rows, labels = zip(*loader, strict=True)
    assert [r.tolist() for r in rows] == [[40, 0, 0], [20]]
    assert torch.cat(labels).tolist() == [4, 0, 0, 2]


@pytest.mark.parametrize("rows", [2, slice(1, 3), [0, 2], np.array([2, 2, 0])], ids=str)
def test_what_comes_out_is_new(rows):
    """A network may write to its input."""
    X = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    X.setflags(write=False)
    dataset = ArrayDataset(X, [5, 6, 7])
    batch, labels = dataset[rows]
    assert_array_equal(batch, X[rows])
    assert_array_equal(labels, np.array([5, 6, 7])[rows])
    batch.zero_()
    assert X[2, 3] == 11


def test_a_memory_map_stays_where_it_is(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    dataset = ArrayDataset(np.load(tmp_path / "rows.npy", mmap_mode="r"), np.zeros(3, int))
    assert not dataset.X.flags.owndata
    batch, _ = dataset[np.array([2, 0])]
    assert batch.dtype == torch.uint8
    assert batch.tolist() == [[[8, 9], [10, 11]], [[0, 1], [2, 3]]]


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array, sparse.coo_array])
class TestSparse:
    X = np.array([[0, 1, 0], [2, 0, 3], [0, 0, 0]], dtype=np.float32)

    @pytest.mark.parametrize("rows", [2, slice(1, 3), [0, 2], np.array([1, 1, 0]), []], ids=str)
    def test_what_comes_out_is_dense(self, kind, rows):
        batch, labels = ArrayDataset(kind(self.X), [5, 6, 7])[rows]
        assert_array_equal(batch, self.X[rows])
        assert_array_equal(labels, np.array([5, 6, 7])[rows])
        assert batch.dtype == torch.float32

    def test_tensor(self, kind):
        assert_array_equal(as_tensor(kind(self.X)), self.X)

    def test_without_labels(self, kind):
        dataset = ArrayDataset(kind(self.X))
        assert len(dataset) == 3
        assert dataset.y.tolist() == [0, 0, 0]

    def test_rows_stay_sparse(self, kind):
        rows = rows_of(Subset(ArrayDataset(kind(self.X)), np.array([1, 0])))
        assert sparse.issparse(rows)
        assert_array_equal(rows.toarray(), self.X[[1, 0]])


class TestParts:
    dataset = ArrayDataset(np.arange(6) * 10, np.arange(6))
    part = Subset(dataset, np.array([5, 3, 1]))

    def test_labels(self):
        assert_array_equal(labels_of(self.dataset), np.arange(6))
        assert_array_equal(labels_of(self.part), [5, 3, 1])
        assert_array_equal(labels_of(Subset(self.part, [2, 0])), [1, 5])

    def test_rows(self):
        assert_array_equal(rows_of(self.dataset), np.arange(6) * 10)
        assert_array_equal(rows_of(Subset(self.part, [2, 0])), [10, 50])

    def test_sampled_batches(self):
        ((rows, labels),) = BatchLoader(self.part, 2, batch_sampler=[np.array([0, 2])])
        assert rows.tolist() == [50, 10]
        assert labels.tolist() == [5, 1]

    def test_consecutive_batches(self):
        loader = BatchLoader(self.part, 2)
        assert [rows.tolist() for rows, _ in loader] == [[50, 30], [10]]


@pytest.mark.parametrize("n_labels", [2, 4])
def test_each_row_has_a_label(n_labels):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, "):
        ArrayDataset(np.zeros((3, 2)), np.zeros(n_labels, dtype=int))
