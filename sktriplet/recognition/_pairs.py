"""Pairs of samples: the forms in which they may come, and the distances within them."""

import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import _safe_indexing, column_or_1d, gen_batches
from sklearn.utils.validation import _num_samples

from sktriplet._conversion_errors import explained_errors
from sktriplet.recognition._labeled_samples import check_collection

# Numbers in a batch of pairs whose differences are computed at once, to stay in the cache.
BATCH_SIZE = 2**18


class Pairs:
    """Pairs of samples: rows of one or two tables.

    Rows are selected only when they are needed, and rows that are in several pairs are embedded
    once. Like an array, pairs can be indexed and have a length, so scikit-learn can split them,
    for example in :func:`~sklearn.model_selection.cross_validate`.

    Parameters
    ----------
    left : array-like, sparse matrix or DataFrame of shape (n_samples, ...)
        Table of the first samples of all pairs; of both samples, if there is no other table.
    right : array-like, sparse matrix or DataFrame, default=None
        Table of the second samples of all pairs.
    indices : array-like of int of shape (n_pairs, 2), default=None
        Rows of the first and the second samples in their tables. If None, each row of `left`
        forms a pair with the same row of `right`.

    Raises
    ------
    ValueError
        If `left` or `right` does not hold samples, if `right` and `indices` are both missing, if
        two tables without `indices` differ in length, or if `indices` are not pairs of rows.

    See Also
    --------
    PairVerifier : Decides for pairs whether both samples belong to the same class.

    Examples
    --------
    All pairs of three samples:

    >>> import numpy as np
    >>> from sktriplet import Pairs
    >>> X = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    >>> pairs = Pairs(X, indices=[(0, 1), (0, 2), (1, 2)])
    >>> len(pairs)
    3

    Each row of a table with the same row of another one, and some of these pairs:

    >>> names = Pairs(["Acme Ltd", "Duck Inc", "Ems AG"], ["ACME", "Ducks", "Ems"])
    >>> names[1:]
    Pairs(n_pairs=2)
    """

    def __init__(self, left: Any, right: Any = None, *, indices: Any = None):
        self._tables = tuple(
            check_collection(table, type(self).__name__, ensure_min_samples=0, input_name=name)
            for name, table in [("left", left), ("right", right)]
            if table is not None
        )
        sizes = [_num_samples(table) for table in self._tables]
        if indices is None:
            if len(sizes) < 2:
                raise ValueError("Pairs of the rows of one table need indices. Got none.")
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"Tables without indices must have the same length. Got {sizes[0]} and "
                    f"{sizes[1]} rows."
                )
            self._indices = np.column_stack([np.arange(sizes[0])] * 2)
        else:
            self._indices = _check_indices(indices, sizes[0], sizes[-1])

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of pairs, and of samples in a pair; scikit-learn indexes what has a shape."""
        return (len(self), 2)

    def __getitem__(self, key: Any) -> Self:
        selected = object.__new__(type(self))
        rows = np.atleast_1d(np.arange(len(self))[key])
        selected._tables, selected._indices = self._tables, self._indices[rows]
        return selected

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_pairs={len(self)})"

    def _distinct_samples(self) -> tuple[list[Any], NDArray[np.intp]]:
        """Return the samples without repetitions, in one or two tables, and their positions.

        The positions, (n_pairs, 2), are those in the concatenated tables. They are in the order
        in which samples appear first, so an array gives the same result in all forms of pairs.
        """
        indices = self._indices
        if len(self._tables) == 2:
            joined = _join(*self._tables)
            if joined is None:
                parts = [
                    _without_repetitions(table, rows)
                    for table, rows in zip(self._tables, indices.T, strict=True)
                ]
                (left, left_codes), (right, right_codes) = parts
                return [left, right], np.column_stack(
                    [left_codes, right_codes + _num_samples(left)]
                )
            table, indices = joined, indices + np.array([0, _num_samples(self._tables[0])])
        else:
            (table,) = self._tables
        samples, codes = _without_repetitions(table, indices.ravel())
        return [samples], codes.reshape(-1, 2)


def as_pairs(pairs: Any) -> Pairs:
    """Return pairs that may be an array of shape (n_pairs, 2, ...) or a tuple of two tables."""
    if isinstance(pairs, Pairs):
        return pairs
    if isinstance(pairs, tuple) and len(pairs) == 2:
        return Pairs(*pairs)
    stacked = _check_stacked(pairs)
    indices = np.arange(2 * len(stacked)).reshape(-1, 2)
    return Pairs(stacked.reshape(-1, *stacked.shape[2:]), indices=indices)


def pair_distances(
    pairs: Any, embed: Callable[[Any], NDArray]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the distances within pairs, and numbers (n_pairs, 2) of their samples."""
    with warnings.catch_warnings():
        if not isinstance(pairs, Pairs | tuple):  # Stacked samples cannot have feature names.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
        tables, codes = as_pairs(pairs)._distinct_samples()
        embeddings = np.concatenate([embed(table) for table in tables]).astype(float, copy=False)
    distances = np.empty(len(codes))
    for batch in gen_batches(len(codes), max(1, BATCH_SIZE // embeddings.shape[1])):
        left, right = codes[batch].T
        distances[batch] = np.linalg.norm(embeddings[left] - embeddings[right], axis=1)
    return distances, codes


def check_pair_labels(y: Any, n_pairs: int) -> NDArray[np.bool_]:
    """Check binary pair labels.

    Raises
    ------
    ValueError
        If there is not one truth value per pair.
    """
    same = column_or_1d(y)
    if len(same) != n_pairs:
        raise ValueError(f"y must hold a label for each of the {n_pairs} pairs. Got {len(same)}.")
    if not np.isin(same, [0, 1]).all():
        raise ValueError(
            "y must hold True for pairs of the same class and False for others. "
            f"Got {np.unique(same)[:5].tolist()}."
        )
    return same.astype(bool)


def _check_stacked(pairs: Any) -> NDArray:
    """Return an array of pairs, of shape (n_pairs, 2, ...), or (n_pairs, 2) for text.

    Raises
    ------
    TypeError
        If they are sparse.
    ValueError
        If the array has another shape.
    """
    if sparse.issparse(pairs):
        raise TypeError(
            "Sparse data was passed for pairs, which cannot be stacked: pass Pairs(X, "
            "indices=indices) or Pairs(X_left, X_right)."
        )
    with explained_errors("pairs", pairs):
        stacked = np.asarray(pairs)
    is_text = stacked.ndim == 2 and (
        stacked.dtype.kind in "UST" or all(isinstance(value, str) for value in stacked.flat)
    )
    if stacked.shape[1:2] != (2,) or (stacked.ndim == 2 and not is_text):
        raise ValueError(
            "pairs must be an array of shape (n_pairs, 2, ...), a tuple (X_left, X_right), or "
            f"Pairs(X, indices=indices). Got an array of shape {stacked.shape}."
        )
    return stacked


def _check_indices(indices: Any, n_left: int, n_right: int) -> NDArray[np.intp]:
    indices = np.asarray(indices)
    if indices.ndim != 2 or indices.shape[1] != 2 or indices.dtype.kind not in "iu":
        raise ValueError(
            "indices must be an array of integers of shape (n_pairs, 2). Got shape "
            f"{indices.shape} of {indices.dtype}."
        )
    is_outside = (indices < 0) | (indices >= np.array([n_left, n_right]))
    if is_outside.any():
        raise ValueError(
            f"indices must be rows of tables with {n_left} and {n_right} samples. Got "
            f"{indices[is_outside][0]}."
        )
    return indices.astype(np.intp, copy=False)


def _join(left: Any, right: Any) -> Any:
    """Concatenate two tables, or return None if their types have no exact concatenation."""
    if isinstance(left, list) and isinstance(right, list):
        return left + right
    if sparse.issparse(left) and sparse.issparse(right) and left.shape[1] == right.shape[1]:
        return sparse.vstack([left, right], format="csr")
    is_array = isinstance(left, np.ndarray) and isinstance(right, np.ndarray)
    if is_array and left.shape[1:] == right.shape[1:] and left.dtype.kind == right.dtype.kind:
        return np.concatenate([left, right])
    return None


def _without_repetitions(table: Any, rows: NDArray[np.intp]) -> tuple[Any, NDArray[np.intp]]:
    """Return the distinct samples in these rows, and the position of each row among them."""
    first, codes = _first_seen(rows.tolist())
    rows = rows[first]
    if isinstance(table, np.ndarray):
        keys = table[rows].tolist() if table.ndim == 1 else (table[row].tobytes() for row in rows)
        with suppress(TypeError):  # Dicts and lists in an array of objects are not hashable.
            first, distinct = _first_seen(keys)
            rows, codes = rows[first], distinct[codes]
    return _safe_indexing(table, rows), codes


def _first_seen(keys: Iterable) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions at which keys appear first, and the number of each key."""
    numbers: dict[Any, int] = {}
    codes = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)
    return np.unique(codes, return_index=True)[1], codes
