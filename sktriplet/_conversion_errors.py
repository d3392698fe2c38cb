"""Explanations why samples cannot be converted to numbers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from os import PathLike
from typing import Any

import numpy as np
from scipy.sparse import issparse

from sktriplet._table_encoder import columns_of, has_objects, kind_of, to_floats

# What columns of a kind that is not supported hold, what should replace it, and how to compute that
# in pandas and in polars.
UNSUPPORTED_COLUMNS = {
    "date": (
        "dates or times",
        "numbers, as skrub's TableVectorizer does before this step",
        "pd.to_datetime({X}[{name!r}]).dt.year",
        "{X}[{name!r}].dt.year()",
    ),
    "duration": (
        "durations",
        "numbers",
        "pd.to_timedelta({X}[{name!r}]).dt.total_seconds()",
        "{X}[{name!r}].dt.total_seconds()",
    ),
    "nested": (
        "lists or other collections",
        "one number or category per sample, or by a column per element",
        "",
        "",
    ),
}
CONVERT_DATES = "convert them to numbers first, such as days or the hour of the day."
# Types of dates and times in arrays of objects.
TEMPORAL_TYPES = (date, time, timedelta, np.datetime64, np.timedelta64)


def check_supported(X: Any, argument: str) -> None:
    """Check that X is an array or a supported DataFrame, without dates or nested columns."""
    is_frame = hasattr(type(X), "columns")  # Those of a LazyFrame are expensive.
    methods = [name for name in ("compute", "collect", "to_pandas") if hasattr(X, name)]
    is_eager = hasattr(X, "get_columns") or (hasattr(X, "iloc") and "compute" not in methods)
    if is_frame and not is_eager:
        hint = f" Pass {argument}.{methods[0]}()." if methods else ""
        raise TypeError(
            f"{argument} must be an array, or a DataFrame of pandas or polars. Got "
            f"{type(X).__name__}.{hint}"
        )
    if not is_frame:
        if getattr(getattr(X, "dtype", None), "kind", "O") in "mM":
            raise ValueError(
                f"{argument} must hold numbers. Got dates or times ({X.dtype}): {CONVERT_DATES}"
            )
        if isinstance(X, np.ndarray) and X.ndim == 2:
            for number, column in enumerate(X.T):
                if _has_dates(column):
                    raise ValueError(
                        f"{argument} must hold numbers. Got dates or times in column {number}: "
                        f"{CONVERT_DATES}"
                    )
        return
    if not has_objects(X):
        return
    for name, column in columns_of(X):
        kind = kind_of(column)
        if kind not in UNSUPPORTED_COLUMNS:
            continue
        content, advice, pandas, polars = UNSUPPORTED_COLUMNS[kind]
        example = (pandas if hasattr(X, "iloc") else polars).format(X=argument, name=name)
        raise ValueError(
            f"{argument} must hold numbers or categories. Got {content} in column {name!r} "
            f"({column.dtype}): replace them by {advice}"
            + (f", for example by {example}." if example else ".")
        )


@contextmanager
def explained_errors(name: str, X: Any) -> Iterator[None]:
    """Add the name of the argument and an explanation to NumPy's conversion errors."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # An error reports what overflows.
            yield
    except (TypeError, ValueError) as error:
        reason = None if issparse(X) else _why_not_numeric(X)
        if reason is None:
            raise
        error_type = TypeError if isinstance(error, TypeError) else ValueError
        raise error_type(f"{name} must hold numbers. {reason}") from error


def column_error(name: Any, column: Any) -> TypeError | ValueError | None:
    """Return an error that explains why the numbers of a column cannot be used, if they cannot."""
    try:
        numbers = to_floats(column)
    except OverflowError:  # from Python's integers
        numbers = np.array(np.inf)
    except (TypeError, ValueError) as error:
        error_type = TypeError if isinstance(error, TypeError) else ValueError
        return error_type(f"Column {name!r} is not numeric: {error}.")
    if (np.abs(numbers) > np.finfo(np.float32).max).any():
        return ValueError(
            f"Column {name!r} contains infinity or a value too large for dtype('float32')."
        )
    return None


def how_to_encode(X: Any, column: Any) -> str:
    if kind_of(column) != "category":
        return ""
    is_frame = hasattr(X, "columns")
    return (
        f" {'List it in' if is_frame else 'Pass a DataFrame or set'} categorical_features, or "
        "encode categories first, for example with OneHotEncoder in a ColumnTransformer."
    )


def _why_not_numeric(X: Any) -> str | None:
    """Explain why X cannot be converted to an array of numbers; None if it can."""
    if isinstance(X, str | PathLike):
        return f"Got {X!r}: load image files first, for example with load_image_folder."
    if isinstance(X, Mapping):
        return f"Got a dict with the keys {list(X)[:5]}: pass a single array or DataFrame."
    if not hasattr(X, "__array__") and not isinstance(X, Sequence):
        return f"Got {type(X).__name__}: pass the samples as an array, and their labels as y."
    try:
        columns = list(columns_of(X))
    except ValueError as error:
        return f"{error} Samples must have the same shape; load_image_folder resizes images."
    is_frame = hasattr(X, "columns")
    for name, column in columns:
        if _has_dates(column):
            return f"Got dates or times in column {name!r}: {CONVERT_DATES}"
        if not is_frame and getattr(column.dtype, "kind", "O") not in "OSU":
            continue
        if len(columns) == 1 and np.ndim(X) == 1:
            if isinstance(X[0] if isinstance(X, Sequence) else column[0], str | PathLike):
                return (
                    "Got strings: convert texts to features first, for example with "
                    "TfidfVectorizer and TruncatedSVD, and image files with load_image_folder."
                )
            return "Got a column of objects: combine arrays with np.stack(list(X))."
        problem = column_error(name, column)
        if problem is not None:
            return f"{problem}{how_to_encode(X, column)}"
    return None


def _has_dates(column: Any) -> bool:
    is_of_objects = getattr(getattr(column, "dtype", None), "kind", None) == "O"
    return is_of_objects and any(
        isinstance(value, TEMPORAL_TYPES) and value == value  # NaT is a missing value.
        for value in column
    )
