"""Datasets and loaders that slice whole batches from arrays and sparse matrices."""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_consistent_length
from skorch.helper import SliceDict
from torch import Tensor
from torch.utils.data import Dataset, Sampler, Subset

from sktriplet._lazy_samples import LazySamples, read_ahead, reading_threads


class ArrayDataset(Dataset):
    """Samples and labels in arrays, converted to tensors on access.

    Samples are not copied: a memory map stays on disk, lazy samples are read, and a sparse matrix
    is converted to dense tensors, batch by batch. If y is None, labels are zeros, because skorch's
    iterators yield pairs. With cross-fitting, each sample is in a fold.
    """

    def __init__(
        self,
        X: ArrayLike | csr_array | LazySamples,
        y: ArrayLike | None = None,
        folds: NDArray | None = None,
    ):
        self.X: Any = X
        self.parts: dict[str, ArrayDataset] = {}
        if isinstance(X, SliceDict):
            self.parts = {name: ArrayDataset(part) for name, part in X.items()}
        elif not isinstance(X, LazySamples):
            self.X = csr_array(X) if issparse(X) else np.asarray(X)
        self.y = np.zeros(len(self), dtype=np.int64) if y is None else np.asarray(y)
        self.folds = folds
        check_consistent_length(self.X, self.y)

    def __len__(self) -> int:
        return self.X.shape[0]

    def __getitem__(self, indices: Any) -> tuple[Tensor, Tensor]:
        labels = np.array(self.y[indices])
        if self.parts:
            inputs: Any = {name: part[indices][0] for name, part in self.parts.items()}
            return inputs, torch.from_numpy(labels)
        if issparse(self.X):
            # Older versions of SciPy cannot select a single row.
            several = [indices] if isinstance(indices, Integral) else indices
            batch = self.X[several].toarray().reshape(*labels.shape, self.X.shape[1])
        elif isinstance(self.X, LazySamples):
            batch = np.array(self.X[indices])
        elif isinstance(indices, np.ndarray) and self.X.flags.c_contiguous:
            # Twice as fast as indexing, but it would copy arrays of another order as a whole.
            batch = self.X.take(indices, axis=0)
        else:
            batch = np.array(self.X[indices])
        return torch.from_numpy(batch), torch.from_numpy(labels)


def labels_of(dataset: Any) -> NDArray:
    """Return the labels of an `ArrayDataset` or of a subset of one."""
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[np.asarray(dataset.indices)]
    return dataset.y


def samples_of(dataset: Any) -> NDArray | csr_array | LazySamples:
    """Return the samples of an `ArrayDataset` or of a subset of one."""
    if isinstance(dataset, Subset):
        return samples_of(dataset.dataset)[np.asarray(dataset.indices)]
    return dataset.X


def folds_of(dataset: Any) -> NDArray | None:
    """Return the folds of the samples of a dataset, or of a subset of one, if it has any."""
    if isinstance(dataset, Subset):
        folds = folds_of(dataset.dataset)
        return None if folds is None else folds[np.asarray(dataset.indices)]
    return getattr(dataset, "folds", None)


class BatchLoader:
    """Loader that takes each batch as one slice: of the sampler, or of consecutive samples.

    A :class:`torch.utils.data.DataLoader` fetches and collates single samples. Lazy samples are
    read ahead in their threads. The attribute ``indices`` has the samples of the current batch.
    """

    indices: Any = None

    def __init__(
        self,
        dataset: ArrayDataset | Subset,
        batch_size: int,
        batch_sampler: Sampler[NDArray[np.int64]] | Sequence[NDArray[np.int64]] | None = None,
    ):
        if isinstance(dataset, Subset):  # torch's splitters use lists, which cannot be sliced.
            dataset = Subset(dataset.dataset, np.asarray(dataset.indices))  # type: ignore[arg-type]
        self.dataset = dataset
        self.batch_size = batch_size
        self.batch_sampler = batch_sampler

    def __len__(self) -> int:
        if self.batch_sampler is None:
            return -(-len(self.dataset) // self.batch_size)
        return len(self.batch_sampler)  # type: ignore[arg-type]  # torch declares no __len__

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches: Any = self.batch_sampler
        if batches is None:
            starts = range(0, len(self.dataset), self.batch_size)
            batches = (slice(start, start + self.batch_size) for start in starts)
        n_threads = reading_threads(_base_samples(self.dataset))
        for indices, batch in read_ahead(self.dataset.__getitem__, batches, n_threads):
            self.indices = indices
            yield batch


def _base_samples(dataset: Any) -> Any:
    """Return all samples of the dataset of which this one may be a subset."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return getattr(dataset, "X", None)


def as_tensor(array: NDArray | csr_array | LazySamples | SliceDict) -> Any:
    """Return a dense tensor, sharing memory with the array where torch may write to it.

    Several inputs become a dict of tensors. Arrays with negative strides, which torch does not
    support, are copied.
    """
    if isinstance(array, SliceDict):
        return {name: as_tensor(part) for name, part in array.items()}
    dense = csr_array(array).toarray() if issparse(array) else np.asarray(array)
    return torch.from_numpy(np.require(dense, requirements=["C", "W"]))
