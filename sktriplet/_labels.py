"""Labels: missing values, unlabeled samples, and exact combination of several sources."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import column_or_1d


def concatenate_labels(*parts: NDArray) -> NDArray:
    """Concatenate labels; as objects, if NumPy's common type would round one of them.

    Signed and unsigned integers have the common type float64, which has 53 bits.

    Examples
    --------
    >>> import numpy as np
    >>> from sktriplet._labels import concatenate_labels
    >>> parts = np.array([2**60 + 1]), np.array([2**60], dtype=np.uint64)
    >>> len(np.unique(concatenate_labels(*parts))), len(np.unique(np.concatenate(parts)))
    (2, 1)
    """
    joined = np.concatenate(parts)
    is_rounded = joined.dtype.kind in "fc" and any(_is_rounded(part, joined) for part in parts)
    return np.concatenate([part.astype(object) for part in parts]) if is_rounded else joined


def _is_rounded(part: NDArray, joined: NDArray) -> Any:
    with np.errstate(invalid="ignore"):
        restored = part.astype(joined.dtype).astype(part.dtype)
    return part.dtype.kind in "iu" and bool((restored != part).any())


def check_labels(values: Any, name: str) -> NDArray:
    """Return a vector of labels or groups, none of which may be missing.

    Raises
    ------
    ValueError
        If it has two dimensions or missing values. The message starts with the name.
    """
    try:
        # column_or_1d would convert pandas' nullable integers to floats.
        column = column_or_1d(np.asarray(values))
    except ValueError as error:
        raise ValueError(f"{name} must be one-dimensional. {error}") from error
    is_missing = find_missing(column)
    if is_missing.any():
        position = int(np.flatnonzero(is_missing)[0])
        raise ValueError(
            f"{name} must not have missing or infinite values. Got {column[position]!r} at "
            f"position {position}."
        )
    return column


def find_missing(column: NDArray) -> NDArray[np.bool_]:
    """Return which values are None, NaN, NaT, pandas.NA, or infinite."""
    if column.dtype.kind == "O":
        return np.fromiter(map(_is_missing, column), bool, len(column))
    if column.dtype.kind in "mM":
        return np.isnat(column)
    if column.dtype.kind in "fc":
        return ~np.isfinite(column)
    return np.zeros(len(column), bool)


def find_labeled(column: NDArray, unlabeled: Any) -> NDArray[np.bool_]:
    """Return which samples have a label other than the one that marks unlabeled samples, if any.

    Raises
    ------
    ValueError
        If NumPy has converted this label to a string.

    Examples
    --------
    >>> import numpy as np
    >>> from sktriplet._labels import find_labeled
    >>> find_labeled(np.array([0, -1, 1]), -1).tolist()
    [True, False, True]
    >>> find_labeled(np.array(["a", "b", -1], dtype=object), -1).tolist()
    [True, True, False]
    """
    if unlabeled is None:
        return np.ones(len(column), bool)
    if column.dtype.kind in "US" and not isinstance(unlabeled, str):
        if (column == str(unlabeled)).any():
            raise ValueError(
                f"y holds the string {str(unlabeled)!r}, but unlabeled={unlabeled!r} is a number. "
                f"Pass y as an array of dtype object, or unlabeled={str(unlabeled)!r}."
            )
        return np.ones(len(column), bool)
    return np.fromiter((label != unlabeled for label in column.tolist()), bool, len(column))


def may_mark_unlabeled(classes: NDArray) -> bool:
    """Return whether the first of some sorted classes looks like scikit-learn's mark, -1.

    It does if there are at least two others, which are not negative. Two classes may well be -1
    and 1.
    """
    if len(classes) < 3:
        return False
    if classes.dtype.kind in "if":
        return bool(classes[0] == -1 and classes[1] >= 0)
    return "-1" in classes.tolist()  # a number in a list of strings


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas.NA has no truth value.
        return True
