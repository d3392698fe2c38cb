"""Integers that a custom module receives as they are, such as the ids of tokens."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

# Types of ids. Bytes are pixels.
INTEGERS = (np.int64, np.int32, np.int16, np.int8, np.uint16, np.uint32, np.uint64)


def may_be_ids(X: Any) -> bool:
    """Return whether samples may be ids. Bytes are pixels, and sparse integers are counts."""
    return not issparse(X) and X.dtype.kind in "iu" and X.dtype != np.uint8


def to_int64(X: Any) -> NDArray[np.int64]:
    """Return samples that were ids in fit as int64.

    Raises
    ------
    ValueError
        If they are no ids now, or too large.
    """
    if not may_be_ids(X):
        got = "a sparse matrix" if issparse(X) else X.dtype
        raise ValueError(f"X must hold integers other than uint8, as in fit. Got {got}.")
    if X.dtype == np.uint64 and X.size and X.max() > np.iinfo(np.int64).max:
        raise ValueError(f"X holds {X.max()}, which is too large for dtype('int64').")
    return X.astype(np.int64, copy=False)


def select_extremes(X: Any, max_samples: int = 128) -> NDArray[np.int64]:
    """Return the indices of a few samples, with the extreme ids in total and per position.

    If a network accepts these, it accepts all. X may have several inputs; only those that are ids
    have extremes.
    """
    indices = list(range(X.shape[0])[:2])
    for part in X.values() if isinstance(X, dict) else [X]:
        if may_be_ids(part) and part.size:
            flat = part.reshape(len(part), -1)
            in_total = [flat.argmin() // flat.shape[1], flat.argmax() // flat.shape[1]]
            indices = [*in_total, *indices, *flat.argmin(axis=0), *flat.argmax(axis=0)]
    return np.array(list(dict.fromkeys(map(int, indices)))[:max_samples])
