"""How rows reach the training loop: tensors, sliced a whole batch at a time."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset


class ArrayDataset(Dataset):
    """Rows and labels as tensors that share memory with the arrays they come from.

    Parameters
    ----------
    X : ndarray of shape (n_rows, ...)
        Copied only where it is read-only.

    y : ndarray of shape (n_rows,), default=None
        Integer labels. Without them, zeros: skorch's iterators yield pairs.
    """

    def __init__(self, X: NDArray, y: NDArray | None = None):
        self.X = as_tensor(X)
        self.y = torch.zeros(len(X), dtype=torch.int64) if y is None else as_tensor(y)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: Any) -> tuple[Tensor, Tensor]:
        return self.X[rows], self.y[rows]


class BatchLoader:
    """Slices of a dataset, one for each array of row numbers.

    A :class:`torch.utils.data.DataLoader` fetches and collates row by row; on tensors
    one slice does the same.

    Parameters
    ----------
    dataset : ArrayDataset

    batch_size : int
        Without ``batch_sampler``: consecutive rows, this many at a time.

    batch_sampler : iterable of integer arrays, default=None
    """

    def __init__(
        self,
        dataset: ArrayDataset,
        batch_size: int,
        batch_sampler: Iterable[NDArray[np.int64]] | None = None,
    ):
        self.dataset = dataset
        self.batch_size = batch_size
        self.batch_sampler = batch_sampler

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.batch_sampler is None:
            starts = range(0, len(self.dataset), self.batch_size)
            return (self.dataset[start : start + self.batch_size] for start in starts)
        return (self.dataset[torch.from_numpy(rows)] for rows in self.batch_sampler)


def as_tensor(array: NDArray) -> Tensor:
    """Return the array as a tensor, sharing memory where torch may write to it."""
    return torch.from_numpy(np.require(array, requirements="W"))
