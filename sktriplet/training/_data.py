"""How rows reach the training loop: arrays, sliced a whole batch at a time.

Sparse matrices are sliced the same way, and what is sliced is made dense.
"""

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_consistent_length
from torch import Tensor
from torch.utils.data import Dataset, Sampler, Subset

from sktriplet.datasets import load_image_folder as load_image_folder


class ArrayDataset(Dataset):
    """Rows and labels, made tensors when they are asked for.

    Parameters
    ----------
    X : array-like of shape (n_rows, ...), or sparse matrix
        Not copied: a memory map stays on disk, and no more than a batch of it is read. No
        more than a batch of a sparse matrix is ever dense.

    y : array-like of shape (n_rows,), default=None
        Integer labels. Without them, zeros: skorch's iterators yield pairs.

    Raises
    ------
    ValueError
        If there is not one label for each row.
    """

    def __init__(self, X: ArrayLike | csr_array, y: ArrayLike | None = None):
        self.X: Any = csr_array(X) if issparse(X) else np.asarray(X)
        self.y = np.zeros(len(self), dtype=np.int64) if y is None else np.asarray(y)
        check_consistent_length(self.X, self.y)

    def __len__(self) -> int:
        return self.X.shape[0]

    def __getitem__(self, rows: Any) -> tuple[Tensor, Tensor]:
        labels = np.array(self.y[rows])
        if issparse(self.X):
            # Not every SciPy can take a single row.
            several = [rows] if isinstance(rows, Integral) else rows
            batch = self.X[several].toarray().reshape(*labels.shape, self.X.shape[1])
        elif isinstance(rows, np.ndarray) and self.X.flags.c_contiguous:
            # Twice as fast as indexing, but it would copy an array of another order whole.
            batch = self.X.take(rows, axis=0)
        else:
            batch = np.array(self.X[rows])
        return torch.from_numpy(batch), torch.from_numpy(labels)


def labels_of(dataset: Any) -> NDArray:
    """Return the label of each row of a dataset, or of that part of one."""
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[dataset.indices]
    return dataset.y


def rows_of(dataset: Any) -> NDArray | csr_array:
    """Return the rows of a dataset, or of that part of one, as sparse as they are."""
    if isinstance(dataset, Subset):
        return rows_of(dataset.dataset)[dataset.indices]
    return dataset.X


class BatchLoader:
    """Slices of a dataset, one for each array of row numbers.

    A :class:`torch.utils.data.DataLoader` fetches and collates row by row; on tensors
    one slice does the same.

    Parameters
    ----------
    dataset : ArrayDataset, or a part of one

    batch_size : int
        Without ``batch_sampler``: consecutive rows, this many at a time.

    batch_sampler : Sampler of integer arrays, default=None
    """

    def __init__(
        self,
        dataset: ArrayDataset | Subset,
        batch_size: int,
        batch_sampler: Sampler[NDArray[np.int64]] | None = None,
    ):
        self.dataset = dataset
        self.batch_size = batch_size
        self.batch_sampler = batch_sampler

    def __len__(self) -> int:
        if self.batch_sampler is None:
            return -(-len(self.dataset) // self.batch_size)
        return len(self.batch_sampler)  # type: ignore[arg-type]  # torch leaves __len__ out

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.batch_sampler is None:
            starts = range(0, len(self.dataset), self.batch_size)
            return (self.dataset[start : start + self.batch_size] for start in starts)
        return (self.dataset[rows] for rows in self.batch_sampler)


def as_tensor(array: NDArray | csr_array) -> Tensor:
    """Return the array as a tensor, sharing memory where torch may write to it.

    Torch has no negative strides, and says so only when it meets one. Sparse rows are made
    dense.
    """
    dense = csr_array(array).toarray() if issparse(array) else array
    return torch.from_numpy(np.require(dense, requirements=["C", "W"]))
