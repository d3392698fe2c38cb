import numpy as np
import torch

from sktriplet.data import ArrayDataset, BatchLoader, as_tensor


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


def test_without_labels():
    rows, labels = ArrayDataset(np.ones((3, 2)))[1:]
    assert rows.shape == (2, 2)
    assert labels.tolist() == [0, 0]


def test_consecutive_batches():
    dataset = ArrayDataset(np.arange(5), np.arange(5))
    loader = BatchLoader(dataset, batch_size=2)
    assert [rows.tolist() for rows, _ in loader] == [[0, 1], [2, 3], [4]]
    assert [labels.tolist() for _, labels in loader] == [[0, 1], [2, 3], [4]], "a second time"


def test_sampled_batches():
    dataset = ArrayDataset(np.arange(5) * 10, np.arange(5))
    loader = BatchLoader(dataset, 2, batch_sampler=[np.array([4, 0, 0]), np.array([2])])
    rows, labels = zip(*loader, strict=True)
    assert [r.tolist() for r in rows] == [[40, 0, 0], [20]]
    assert torch.cat(labels).tolist() == [4, 0, 0, 2]
