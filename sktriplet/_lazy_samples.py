"""Samples that are read one batch at a time, such as images in files."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from numbers import Integral
from typing import Any, ClassVar, TypeVar

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from sktriplet._parameters import Interval, validate_parameters

Key = TypeVar("Key")
Batch = TypeVar("Batch")


class LazySamples:
    """Array-like of samples that are read when they are needed.

    Pass it as X to :class:`~sktriplet.TripletEmbedder`, which holds only a few batches of samples
    in memory. Like an array, it has a shape and a dtype, and scikit-learn can split it: a selection
    of samples is lazy, too, except that of a single one. ``numpy.asarray`` reads all samples into
    an array.

    The embedder reads all samples once to compute the mean and standard deviation of each channel,
    unless ``standardize=False``, and once in each epoch.

    Parameters
    ----------
    samples : Dataset or sequence
        Map-style :class:`torch.utils.data.Dataset`, or any object with a length and integer
        indices. Its items are arrays, tensors or Pillow images of the same shape, of type uint8 or
        floating point numbers, which are converted to float32. If items are tuples, such as
        pairs of a sample and a label, the first elements are the samples, and the others are
        ignored. An item must be the same whenever it is read: use the embedder's `augment`
        for random transformations.
    n_jobs : int, default=None
        Number of threads that read batches in advance, during training and embedding. None means
        1, which reads a batch when it is needed, and -1 means all processors. With several,
        items are read concurrently, which `samples` must allow. Reading image files benefits from
        threads; Python code does not. The result does not depend on it.

    Attributes
    ----------
    shape : tuple of int
        Number of samples, followed by the shape of a sample.
    dtype : dtype
        Type of the samples: uint8 or float32.

    Raises
    ------
    InvalidParameterError
        If `n_jobs` is 0 or not an integer.
    TypeError
        If `samples` is not a map-style dataset, or its items are not arrays of uint8 or floating
        point numbers.
    ValueError
        If `samples` is empty. When samples are read: if one has another shape or type than the
        first one, or is not finite; the message has its index.

    See Also
    --------
    load_image_folder : Return image files as lazy samples with ``lazy=True``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sktriplet import TripletEmbedder
    >>> from sktriplet.datasets import LazySamples
    >>> digits = load_digits()
    >>> class Enlarged:
    ...     def __len__(self):
    ...         return 200
    ...
    ...     def __getitem__(self, index):
    ...         return np.kron(digits.images[index], np.ones((2, 2)))
    >>> X, y = LazySamples(Enlarged()), digits.target[:200]
    >>> X.shape, X[:3].shape, X[0].shape
    ((200, 16, 16), (3, 16, 16), (16, 16))
    >>> TripletEmbedder(2, max_epochs=1).fit(X, y).transform(X[:3]).shape
    (3, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_jobs": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Integral, None, -1, closed="right"),
            None,
        ],
    }

    def __init__(self, samples: Any, n_jobs: int | None = None):
        validate_parameters(self, n_jobs=n_jobs)
        has_items = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
        if not has_items or isinstance(samples, IterableDataset):
            raise TypeError(
                "samples must be a map-style dataset, with __len__ and __getitem__. Got "
                f"{type(samples).__name__}."
            )
        if len(samples) == 0:
            raise ValueError("samples must hold at least one sample. Got none.")
        self.samples = samples
        self.n_jobs = n_jobs
        self._indices = np.arange(len(samples))
        first = _read_item(samples, 0)
        self._sample_shape, self.dtype = first.shape, first.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples, followed by the shape of a sample."""
        return (len(self._indices), *self._sample_shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions, including that of the samples."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of all samples."""
        return prod(self.shape)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:  # as scikit-learn does
            key = key[0]
        if isinstance(key, tuple):
            raise IndexError(f"LazySamples can be indexed by samples only. Got {key!r}.")
        if isinstance(key, list) and not key:
            key = slice(0, 0)
        indices = self._indices[key]
        if indices.ndim == 0:
            return self._read(int(indices))
        if indices.ndim > 1:
            raise IndexError(
                "LazySamples must be indexed by an integer, a slice or a vector. Got an index of "
                f"shape {indices.shape}."
            )
        selected = object.__new__(type(self))
        vars(selected).update(vars(self), _indices=indices)
        return selected

    def __iter__(self) -> Iterator[NDArray]:
        # Without this, an IndexError in a dataset would end the iteration.
        return map(self._read, self._indices.tolist())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        if copy is False:
            raise ValueError("LazySamples have no array: they must be read into a new one.")
        array = np.empty(self.shape, self.dtype)
        for position, sample in enumerate(self):
            array[position] = sample
        return array if dtype is None else array.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"LazySamples(shape={self.shape}, dtype={self.dtype})"

    def _read(self, index: int) -> NDArray:
        sample = _read_item(self.samples, index)
        if sample.shape != self._sample_shape or sample.dtype != self.dtype:
            raise ValueError(
                f"All samples must have the shape {self._sample_shape} and the type {self.dtype} "
                f"of the first one. Got shape {sample.shape} and type {sample.dtype} at index "
                f"{index} of {type(self.samples).__name__}."
            )
        return sample


def _read_item(samples: Any, index: int) -> NDArray:
    """Return a sample of type uint8 or float32."""
    origin = f"at index {index} of {type(samples).__name__}"
    try:
        item = samples[index]
    except Exception as error:
        error.add_note(f"Raised {origin}.")
        raise
    if isinstance(item, tuple) and item:
        item = item[0]
    sample = item.numpy(force=True) if isinstance(item, Tensor) else np.asarray(item)
    if sample.dtype != np.uint8 and sample.dtype.kind != "f":
        raise TypeError(
            "Samples must be arrays of uint8 or floating point numbers. Got "
            f"{type(item).__name__} of type {sample.dtype} {origin}."
        )
    if sample.dtype == np.uint8:
        return sample
    with np.errstate(over="ignore"):
        sample = sample.astype(np.float32, copy=False)
    if not np.isfinite(sample).all():
        raise ValueError(
            "Samples must be finite. Got NaN, infinity or a value too large for dtype('float32') "
            f"{origin}."
        )
    return sample


def read_ahead(
    read: Callable[[Key], Batch], keys: Iterable[Key], n_threads: int
) -> Iterator[tuple[Key, Batch]]:
    """Yield each key with ``read(key)``, in order; several threads read the next ones.

    One thread means the current one, which reads when it is asked for the next batch.

    Examples
    --------
    >>> from sktriplet._lazy_samples import read_ahead
    >>> list(read_ahead("abc".upper().__getitem__, [2, 0], n_threads=2))
    [(2, 'C'), (0, 'A')]
    """
    if n_threads == 1:
        for key in keys:
            yield key, read(key)
        return
    pool = ThreadPoolExecutor(n_threads)
    pending: deque = deque()
    try:
        for key in keys:
            pending.append((key, pool.submit(read, key)))
            if len(pending) > n_threads:
                key, batch = pending.popleft()
                yield key, batch.result()
        while pending:
            key, batch = pending.popleft()
            yield key, batch.result()
    finally:
        pool.shutdown(cancel_futures=True)


def reading_threads(X: Any) -> int:
    """Return the number of threads that read samples, or several inputs; 1 for arrays."""
    parts = X.values() if isinstance(X, dict) else [X]
    lazy = [part for part in parts if isinstance(part, LazySamples)]
    return max((effective_n_jobs(part.n_jobs) for part in lazy), default=1)
