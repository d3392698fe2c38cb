"""Statistics of training samples: mean and scale, large offsets, and the range of values."""

import copy
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

from sktriplet._input_layout import InputLayout
from sktriplet._lazy_samples import LazySamples, read_ahead, reading_threads

# A feature is centered before its conversion to single precision if its mean exceeds this many
# standard deviations.
MAX_RELATIVE_OFFSET = 10_000
# Images and sequences are on different scales if one has fractions up to the first number, as after
# division or standardization, and the other whole numbers above the second.
MAX_FRACTION, MIN_WHOLE = 3.0, 8.0


@dataclass(frozen=True)
class ValueRange:
    """The least and the greatest value in some samples, and whether all are whole numbers."""

    least: float
    greatest: float
    is_whole: bool

    @classmethod
    def of(cls, X: NDArray, max_samples: int = 100) -> Self:
        """Return the range of evenly spaced samples."""
        some = np.asarray(X[:: -(-len(X) // max_samples)])
        is_whole = some.dtype.kind in "iub" or bool((some == np.floor(some)).all())
        return cls(float(some.min()), float(some.max()), is_whole)

    def has_other_unit(self, other: Self) -> bool:
        """Return whether only one of both seems to be divided, for example by 255."""
        return (self._is_small and other._is_large) or (self._is_large and other._is_small)

    @property
    def _is_small(self) -> bool:
        return not self.is_whole and max(-self.least, self.greatest) <= MAX_FRACTION

    @property
    def _is_large(self) -> bool:
        return self.is_whole and max(-self.least, self.greatest) > MIN_WHOLE

    def __str__(self) -> str:
        kind = "whole" if self.is_whole else "fractional"
        return f"{kind} numbers from {self.least:.3g} to {self.greatest:.3g}"


def partial_fit_scaler(
    scaler: StandardScaler | None, X: NDArray | csr_array | LazySamples, layout: InputLayout
) -> StandardScaler:
    """Return the mean and scale of features, or of image channels, updated with more samples.

    The samples are passed to scikit-learn in chunks, because it copies them.
    """
    # The network does the scaling. This scaler only computes statistics, and accepts sparse
    # samples only if it does not center them.
    scaler = copy.deepcopy(scaler) or StandardScaler(with_mean=False)
    n_samples = X.shape[0]
    size = X.size if issparse(X) else n_samples * prod(layout.shape)
    parts = gen_batches(n_samples, max(1, 2**21 * n_samples // max(size, 1)))

    def read(part: slice) -> Any:
        return np.asarray(X[part]) if isinstance(X, LazySamples) else X[part]

    for _, chunk in read_ahead(read, parts, reading_threads(X)):
        if not issparse(chunk):
            chunk = layout.to_rows(chunk)
        else:
            # scikit-learn sums dense samples in double precision, but sparse ones in their own,
            # and its older versions require 32-bit indices.
            indices, starts = chunk.indices.astype(np.int32), chunk.indptr.astype(np.int32)
            chunk = csr_array((chunk.data.astype(np.float64), indices, starts), shape=chunk.shape)
        scaler.partial_fit(chunk)
    return scaler


def large_offsets(
    scaler: StandardScaler | None, X: NDArray | csr_array, layout: InputLayout
) -> NDArray | None:
    """Return the means of features that single precision would round too coarsely, else zeros.

    None if there are no such features, and for sparse tables, whose zeros are exact.
    """
    if scaler is None or issparse(X) or not layout.is_table:
        return None
    is_large = np.abs(scaler.mean_) > MAX_RELATIVE_OFFSET * scaler.scale_
    is_large &= scaler.scale_ == np.sqrt(scaler.var_)  # else constant, and exactly zero anyway
    return np.where(is_large, scaler.mean_, 0.0) if is_large.any() else None


def to_single_precision(X: NDArray | csr_array, offset: NDArray | None = None) -> Any:
    """Convert a table to float32, after subtracting an offset from its features if it is dense.

    This is done in chunks, without a copy of the table in its own precision.
    """
    if X.dtype in (np.float32, np.uint8) and offset is None:
        return X
    if issparse(X):
        return X.astype(np.float32)
    if offset is not None:
        offset = offset[: X.shape[1]]  # Indices of one-hot columns have none.
    converted = np.empty(X.shape, np.float32)
    for part in gen_batches(len(X), max(1, 2**20 // max(prod(X.shape[1:]), 1))):
        converted[part] = X[part] if offset is None else X[part] - offset
    return converted
