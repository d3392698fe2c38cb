"""Validation of tables, arrays of more dimensions, and samples that are read later."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from sktriplet._conversion_errors import column_error, explained_errors, how_to_encode
from sktriplet._input_layout import InputLayout
from sktriplet._integers import INTEGERS
from sktriplet._lazy_samples import LazySamples
from sktriplet._table_encoder import TableEncoder, has_objects


def validate_array(
    estimator: Any,
    X: Any,
    layout_type: type[InputLayout],
    encoder: TableEncoder | None,
    *,
    accepts_ids: bool,
    reset: bool,
    ensure_min_samples: int = 1,
) -> Any:
    """Return X as an array of numbers, or unchanged if it has categorical features.

    scikit-learn's validation sets the attributes of the estimator with `reset`, and checks X
    against them otherwise.
    """
    if isinstance(X, LazySamples):
        return _validate_lazy(
            estimator, X, layout_type, reset=reset, ensure_min_samples=ensure_min_samples
        )
    if encoder is not None and (encoder.is_categorical is not None or has_objects(X)):
        return _validate_mixed(
            estimator, X, encoder, reset=reset, ensure_min_samples=ensure_min_samples
        )
    dtype = layout_type.dtype
    if isinstance(dtype, tuple) and accepts_ids:
        dtype += INTEGERS
    allows_nan = encoder is not None and not issparse(X)
    with explained_errors("X", X):
        X = validate_data(
            estimator,
            X,
            accept_sparse="csr",
            dtype=list(dtype) if isinstance(dtype, tuple) else dtype,
            ensure_2d=layout_type.is_table,
            allow_nd=not layout_type.is_table,
            ensure_all_finite="allow-nan" if allows_nan else True,
            ensure_min_samples=ensure_min_samples,
            reset=reset,
        )
        if X.dtype.kind == "O":  # scikit-learn does not convert pandas' categories.
            X = X.astype(np.float64)
        _check_range(X.data if issparse(X) else X, "X")
    return X


def _validate_lazy(
    estimator: Any,
    X: LazySamples,
    layout_type: type[InputLayout],
    *,
    reset: bool,
    ensure_min_samples: int,
) -> LazySamples:
    """Check the shape of samples that are not read yet."""
    if layout_type.is_table:
        raise ValueError(
            "X must be an array if it is a table. Got lazy samples, or a dataset, whose items have "
            f"shape {X.shape[1:]}: pass them as an array, such as a memory map, and labels as y."
        )
    validate_data(estimator, X, reset=reset, skip_check_array=True, ensure_2d=False)
    _check_n_samples(estimator, X, ensure_min_samples)
    return X


def _check_n_samples(estimator: Any, X: Any, n_min: int) -> None:
    if len(X) < n_min:
        raise ValueError(
            f"Found array with {len(X)} sample(s) (shape={X.shape}) while a minimum of {n_min} is "
            f"required by {type(estimator).__name__}."
        )


def _validate_mixed(
    estimator: Any, X: Any, encoder: TableEncoder, *, reset: bool, ensure_min_samples: int
) -> Any:
    """Check a table of columns of several types, which is not converted."""
    if hasattr(X, "columns"):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    else:
        dtype = None if isinstance(X, np.ndarray) else object
        X = validate_data(estimator, X, reset=reset, dtype=dtype, ensure_all_finite=False)
    _check_n_samples(estimator, X, ensure_min_samples)
    for name, column in encoder.select(X, categorical=False):
        error = column_error(name, column)
        if error is not None:
            raise type(error)(
                f"X must hold numbers in all features that are not categorical. {error}"
                + (how_to_encode(X, column) if reset else "")
            )
    return X


def _check_range(X: NDArray, name: str) -> None:
    """Check that the values of an array of any precision are finite in single precision."""
    if X.dtype.kind != "f" or X.dtype.itemsize <= 4 or not X.size:
        return
    # Missing values, where they are accepted, are ignored.
    largest = max(np.fmax.reduce(X, axis=None), -np.fmin.reduce(X, axis=None))
    if largest > np.finfo(np.float32).max:
        raise ValueError(
            f"Input {name} contains infinity or a value too large for dtype('float32')."
        )
