"""Validation of X, y, and pairs, and the supported layouts of samples."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, time, timedelta
from math import prod
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.utils import (
    gen_batches,
)
from sklearn.utils.validation import validate_data
from skorch.helper import SliceDict
from torch.utils.data import Dataset

from sktriplet._classes import encode_classes, validate_class_labels
from sktriplet._input_layout import (
    INTEGERS,
    InputLayout,
    TableLayout,
    layout_of,
    layout_type_of,
)
from sktriplet._lazy_samples import LazySamples
from sktriplet._parameters import Interval, SequenceOf
from sktriplet._table_encoder import (
    TableEncoder,
    columns_of,
    find_categorical,
    has_objects,
    kind_of,
    to_floats,
)
from sktriplet.exceptions import (
    InputRangeWarning,
    InvalidParameterError,
)

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
# Images and sequences are on different scales if one has fractions up to the first number, as after
# division or standardization, and the other whole numbers above the second.
MAX_FRACTION, MIN_WHOLE = 3.0, 8.0
# Constraints of input_shape: sequences and images.
INPUT_SHAPES = [
    SequenceOf(Interval(Integral, 1, None, closed="left"), length=length) for length in (2, 3)
]


@dataclass
class TrainingData:
    """Validated training data, and the attributes of an estimator fitted on it.

    If there are several inputs, `X`, `layout` and `holds_integers` are dicts, and so are the
    attributes of the estimator that describe an input.
    """

    X: Any  # encoded tables in their own dtype, others as float32 or uint8
    labels: NDArray[np.int64]  # positions in classes, -1 if unlabeled
    classes: NDArray
    layout: Any  # as the network receives the samples
    holds_integers: Any  # which the network receives as int64
    fitted_attributes: dict[str, Any]


def validate_training_data(
    estimator: Any, X: Any, y: Any, *, reset: bool = True, is_chunk: bool = False
) -> TrainingData:
    """Validate X and y and encode the labels. The estimator is not changed.

    Tables are encoded. Samples with the estimator's ``unlabeled`` label have no class. With
    ``reset=False``, X must be consistent with an earlier fit. A chunk may hold no triplets.

    Raises
    ------
    TypeError
        If X is sparse and holds images.
    ValueError
        If X is neither a finite table nor images, if y does not hold class labels, or if no
        triplet exists.
    """
    owner = type(estimator).__name__
    if y is None and isinstance(X, Dataset | LazySamples):
        raise ValueError(
            f"{owner} requires y to be passed, but the target y is None. Labels in the items of a "
            "dataset are not used: pass those of all samples as an array, which torchvision's "
            "datasets have as targets."
        )
    y, is_labeled = validate_class_labels(y, owner, estimator.unlabeled)
    X = _wrap_datasets(X)
    validate = _validate_training_inputs if has_several_inputs(X) else _validate_training_samples
    X, layout, fitted_attributes = validate(estimator, X, y, reset=reset, is_chunk=is_chunk)
    classes, labels = encode_classes(y, is_labeled, estimator, is_chunk=is_chunk)
    holds_integers = fitted_attributes["_holds_integers"]
    fitted_attributes["classes_"] = classes
    return TrainingData(X, labels, classes, layout, holds_integers, fitted_attributes)


def _validate_training_samples(
    estimator: Any, X: Any, y: NDArray, *, reset: bool, is_chunk: bool
) -> tuple[Any, InputLayout, dict[str, Any]]:
    """Return validated and encoded samples, their layout, and attributes of the estimator."""
    if not reset and isinstance(estimator.input_shape_, dict):
        _raise_wrong_inputs(estimator, X)
    for name in ("input_shape", "standardize"):
        value = getattr(estimator, name)
        is_list = name == "standardize" and isinstance(value, Sequence | np.ndarray)
        if isinstance(value, dict) or is_list:
            raise InvalidParameterError(
                f"The {name!r} parameter can name keys only if X is a dict of several inputs. Got "
                f"{value!r} and {type(X).__name__}."
            )
    _check_supported(X, "X")
    probe = object.__new__(type(estimator))  # copy.copy would copy the net as if to pickle it
    vars(probe).update(vars(estimator))
    layout_type = layout_type_of(estimator, X)
    if not reset and not isinstance(layout_of(estimator), layout_type):
        _raise_wrong_shape(estimator, np.shape(X))
    encoder, chosen = None, estimator.categorical_features
    if not layout_type.is_table and not (chosen is None or isinstance(chosen, str)):
        raise InvalidParameterError(
            "The 'categorical_features' parameter has no effect on images or sequences. Got "
            f"{chosen!r}."
        )
    if layout_type.is_table and reset:
        is_inferred = isinstance(chosen, str)
        encoder = TableEncoder(find_categorical(X, chosen), is_inferred=is_inferred)
    elif layout_type.is_table:
        encoder = estimator._encoder
        _check_same_categorical(chosen, estimator._fit_parameters["categorical_features"])
    min_samples = 1 if is_chunk else 2
    X = _validate_array(probe, X, layout_type, encoder, ensure_min_samples=min_samples, reset=reset)
    if issparse(X):
        X = csr_array((X.data, X.indices, X.indptr), shape=X.shape)  # X may be the user's.
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
    _check_same_length(X, y)
    layout = layout_type.from_array(X, estimator.input_shape)
    if not reset and layout.shape != estimator.input_shape_:
        _raise_wrong_shape(estimator, X.shape)
    input_shape = layout.shape
    if encoder is not None:
        X = encoder.fit_transform(X) if reset else encoder.transform(X, warns=True)
        layout = TableLayout.from_encoder(encoder)
    holds_integers = _passes_integers(estimator, reset=reset) and (
        _holds_integers(X) or not reset  # in which case it is an error otherwise
    )
    if holds_integers:
        X = _to_int64(X)
    attributes = {
        "input_shape_": input_shape,
        "n_features_in_": prod(input_shape),
        "_encoder": encoder,
        "_holds_integers": holds_integers,
    }
    if hasattr(probe, "feature_names_in_"):
        attributes["feature_names_in_"] = probe.feature_names_in_
    return X, layout, attributes


def _validate_training_inputs(
    estimator: Any, X: Mapping[str, Any], y: NDArray, *, reset: bool, is_chunk: bool
) -> tuple[SliceDict, dict[str, InputLayout], dict[str, Any]]:
    """Validate a dict of inputs, each like the only one.

    The layouts are a dict, and so are the attributes that describe an input.
    """
    _check_inputs(estimator, X, reset=reset)
    samples, layouts, parts = {}, {}, {}
    for name in X:
        with _named_input(name):
            view = _view_of_input(estimator, name, reset=reset)
            samples[name], layouts[name], parts[name] = _validate_training_samples(
                view, X[name], y, reset=reset, is_chunk=is_chunk
            )
    attributes: dict[str, Any] = {
        attribute: {name: part[attribute] for name, part in parts.items()}
        for attribute in ("input_shape_", "_encoder", "_holds_integers")
    }
    attributes["_feature_names"] = {
        name: part.get("feature_names_in_") for name, part in parts.items()
    }
    attributes["n_features_in_"] = sum(part["n_features_in_"] for part in parts.values())
    return SliceDict(**samples), layouts, attributes


def _wrap_datasets(X: Any) -> Any:
    """Return torch's datasets, alone or among several inputs, as lazy samples."""
    if has_several_inputs(X):
        return {name: _wrap_datasets(part) for name, part in X.items()}
    return LazySamples(X) if isinstance(X, Dataset) else X


def has_several_inputs(X: Any) -> bool:
    """Return whether X is a dict of inputs, and not a sparse matrix in scipy's dok format."""
    return isinstance(X, Mapping) and not issparse(X)


def _check_inputs(estimator: Any, X: Any, *, reset: bool) -> None:
    """Check the names of several inputs, and that they have the same number of samples."""
    owner = type(estimator).__name__
    if not reset and not (
        has_several_inputs(X)
        and isinstance(estimator.input_shape_, dict)
        and set(X) == set(estimator.input_shape_)
    ):
        _raise_wrong_inputs(estimator, X)
    if isinstance(estimator.module, str):
        raise InvalidParameterError(
            f"The 'module' parameter of {owner} must be a custom one if X is a dict of several "
            f"inputs: it is called with the keyword arguments {list(X)}. Got {estimator.module!r}."
        )
    if not X or not all(isinstance(name, str) and name.isidentifier() for name in X):
        raise ValueError(
            "The keys of X must be names of arguments of the module's forward method. Got "
            f"{list(X)}."
        )
    n_samples = {name: (np.shape(part) or (0,))[0] for name, part in X.items()}
    if len(set(n_samples.values())) > 1:
        raise ValueError(f"All inputs in X must have the same number of samples. Got {n_samples}.")
    for parameter in ("input_shape", "standardize"):
        value = getattr(estimator, parameter)
        if not (value is None or isinstance(value, bool | np.bool_)) and not (
            set(value) <= set(X) and isinstance(value, dict) == (parameter == "input_shape")
        ):
            raise InvalidParameterError(
                f"The {parameter!r} parameter must refer to the keys {list(X)} of X. Got {value!r}."
            )
    for name, shape in (estimator.input_shape or {}).items():
        if not any(constraint.is_satisfied_by(shape) for constraint in INPUT_SHAPES):
            raise InvalidParameterError(
                "The 'input_shape' parameter must hold (channels, length) or (channels, height, "
                f"width). Got {shape!r} for {name!r}."
            )
    chosen = estimator.categorical_features
    if not (chosen is None or isinstance(chosen, str)):
        raise InvalidParameterError(
            "The 'categorical_features' parameter must be 'from_dtype' or None if X is a dict of "
            f"several inputs. Got {chosen!r}."
        )


def _raise_wrong_inputs(estimator: Any, X: Any) -> None:
    expected, got = estimator.input_shape_, type(X).__name__
    if has_several_inputs(X):
        got = f"a dict with the keys {list(X)}"
    names = f"a dict with the keys {list(expected)}" if isinstance(expected, dict) else "one array"
    raise ValueError(f"X must be {names}, as in fit. Got {got}.")


def _view_of_input(estimator: Any, name: str, *, reset: bool) -> Any:
    """Return an estimator of which one of several inputs is the only one."""
    view = object.__new__(type(estimator))
    vars(view).update(vars(estimator))
    vars(view).pop("feature_names_in_", None)
    view.input_shape = (estimator.input_shape or {}).get(name)
    view.standardize = is_standardized(estimator.standardize, name)
    if not reset:
        for attribute in ("input_shape_", "_encoder", "_holds_integers"):
            setattr(view, attribute, getattr(estimator, attribute)[name])
        view.n_features_in_ = prod(view.input_shape_)
        if estimator._feature_names[name] is not None:
            view.feature_names_in_ = estimator._feature_names[name]
    return view


@contextmanager
def _named_input(name: str) -> Iterator[None]:
    """Begin errors with the name of one of several inputs."""
    try:
        yield
    except (TypeError, ValueError) as error:
        types = (InvalidParameterError, TypeError, ValueError)
        error_type = next(item for item in types if isinstance(error, item))
        raise error_type(f"X[{name!r}]: {error}") from error


def is_standardized(standardize: Any, name: str) -> bool:
    """Return whether one of several inputs is standardized."""
    return bool(standardize) if isinstance(standardize, bool | np.bool_) else name in standardize


def _passes_integers(estimator: Any, *, reset: bool) -> bool:
    """Return whether a custom module receives integers as they are, or did so in fit."""
    if not reset:
        return estimator._holds_integers
    return not isinstance(estimator.module, str) and not estimator.standardize


def _holds_integers(X: Any) -> bool:
    """Return whether samples may be ids. Bytes are pixels, and sparse integers are counts."""
    return not issparse(X) and X.dtype.kind in "iu" and X.dtype != np.uint8


def _to_int64(X: Any) -> NDArray[np.int64]:
    if not _holds_integers(X):
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
    for part in X.values() if isinstance(X, SliceDict) else [X]:
        if _holds_integers(part) and part.size:
            flat = part.reshape(len(part), -1)
            in_total = [flat.argmin() // flat.shape[1], flat.argmax() // flat.shape[1]]
            indices = [*in_total, *indices, *flat.argmin(axis=0), *flat.argmax(axis=0)]
    return np.array(list(dict.fromkeys(map(int, indices)))[:max_samples])


def for_each_input(function: Any, X: Any, *arguments: Any) -> Any:
    """Apply a function to X, or to each of several inputs, with those arguments that belong to it.

    In the latter case, return a dict.
    """
    if not isinstance(X, SliceDict):
        return function(X, *arguments)
    return {
        name: function(part, *(a[name] if isinstance(a, dict) else a for a in arguments))
        for name, part in X.items()
    }


def convert(
    X: Any, offset: NDArray | None, in_fit: tuple[float, float, bool] | None, holds_integers: bool
) -> Any:
    """Return an input as the network receives it, and warn of a range that differs from fit."""
    if in_fit is not None:
        warn_of_other_range(X, in_fit)
    if issparse(X) and offset is not None:
        X = X.toarray()
    return X if holds_integers else to_single_precision(X, offset)


def value_range(X: NDArray, max_samples: int = 100) -> tuple[float, float, bool]:
    """Return the least and the greatest value in some samples, and whether all are whole."""
    some = np.asarray(X[:: -(-len(X) // max_samples)])
    is_whole = some.dtype.kind in "iub" or bool((some == np.floor(some)).all())
    return float(some.min()), float(some.max()), is_whole


def warn_of_other_range(X: NDArray, in_fit: tuple[float, float, bool]) -> None:
    """Warn if only one of X and the training samples seems to be divided, for example by 255."""
    now = value_range(X)
    if not (_is_fractional(now) and _is_whole(in_fit)) and not (
        _is_whole(now) and _is_fractional(in_fit)
    ):
        return
    descriptions = [
        f"{'whole' if is_whole else 'fractional'} numbers from {least:.3g} to {greatest:.3g}"
        for least, greatest, is_whole in (now, in_fit)
    ]
    warnings.warn(
        f"X holds {descriptions[0]}, but the samples in fit were {descriptions[1]}. Embeddings of "
        "values in other units are unreliable: divide both, for example by 255, or none.",
        InputRangeWarning,
        stacklevel=7,
    )


def _is_fractional(values: tuple[float, float, bool]) -> bool:
    least, greatest, is_whole = values
    return not is_whole and max(-least, greatest) <= MAX_FRACTION


def _is_whole(values: tuple[float, float, bool]) -> bool:
    least, greatest, is_whole = values
    return is_whole and max(-least, greatest) > MIN_WHOLE


def _check_same_categorical(now: Any, before: Any) -> None:
    if not np.array_equal(np.asarray(now, dtype=object), np.asarray(before, dtype=object)):
        raise InvalidParameterError(
            "The 'categorical_features' parameter must not change when training continues. Got "
            f"{now!r} after {before!r}."
        )


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


def set_fitted_attributes(estimator: Any, attributes: dict[str, Any]) -> None:
    """Set the attributes of a fitted estimator, all at once."""
    vars(estimator).pop("feature_names_in_", None)
    vars(estimator).update(attributes)


def validate_samples(estimator: Any, X: Any) -> NDArray | csr_array | LazySamples:
    """Validate and encode samples for a fitted estimator. Sparse ones become a CSR matrix.

    The values of lazy samples are checked later, when they are read.

    Raises
    ------
    TypeError
        If X is sparse and the estimator was fitted on images.
    ValueError
        If X is not finite, or not consistent with the training data.
    """
    X = _wrap_datasets(X)
    if has_several_inputs(X) or isinstance(estimator.input_shape_, dict):
        _check_inputs(estimator, X, reset=False)
        parts = {}
        for name in estimator.input_shape_:
            with _named_input(name):
                view = _view_of_input(estimator, name, reset=False)
                parts[name] = validate_samples(view, X[name])
        return SliceDict(**parts)
    layout, encoder = layout_of(estimator), estimator._encoder
    _check_supported(X, "X")
    X = _validate_array(estimator, X, type(layout), encoder, reset=False)
    if not layout.is_table:
        layout.check_dense(X)
        if X.shape[1:] not in layout.accepted_shapes:
            _raise_wrong_shape(estimator, X.shape)
    if encoder is not None:
        X = encoder.transform(X)
    return _to_int64(X) if _passes_integers(estimator, reset=False) else X


def _validate_array(
    estimator: Any,
    X: Any,
    layout_type: type[InputLayout],
    encoder: TableEncoder | None,
    *,
    reset: bool,
    ensure_min_samples: int = 1,
) -> Any:
    """Return X as an array of numbers, or unchanged if it has categorical features."""
    if isinstance(X, LazySamples):
        return _validate_lazy(
            estimator, X, layout_type, reset=reset, ensure_min_samples=ensure_min_samples
        )
    if encoder is not None and (encoder.is_categorical is not None or has_objects(X)):
        return _validate_mixed(
            estimator, X, encoder, reset=reset, ensure_min_samples=ensure_min_samples
        )
    dtype = layout_type.dtype
    if isinstance(dtype, tuple) and _passes_integers(estimator, reset=reset):
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
    if layout_type.is_table and X.ndim > 2:
        _raise_wrong_shape(estimator, X.shape)
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
        error = _column_error(name, column)
        if error is not None:
            raise type(error)(
                f"X must hold numbers in all features that are not categorical. {error}"
                + (_how_to_encode(X, column) if reset else "")
            )
    return X


def _column_error(name: Any, column: Any) -> TypeError | ValueError | None:
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


def _how_to_encode(X: Any, column: Any) -> str:
    if kind_of(column) != "category":
        return ""
    is_frame = hasattr(X, "columns")
    return (
        f" {'List it in' if is_frame else 'Pass a DataFrame or set'} categorical_features, or "
        "encode categories first, for example with OneHotEncoder in a ColumnTransformer."
    )


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
        problem = _column_error(name, column)
        if problem is not None:
            return f"{problem}{_how_to_encode(X, column)}"
    return None


def _check_supported(X: Any, argument: str) -> None:
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


def _has_dates(column: Any) -> bool:
    is_of_objects = getattr(getattr(column, "dtype", None), "kind", None) == "O"
    return is_of_objects and any(
        isinstance(value, TEMPORAL_TYPES) and value == value  # NaT is a missing value.
        for value in column
    )


def _check_same_length(X: Any, y: NDArray) -> None:
    n_samples = [X.shape[0], len(y)]
    if n_samples[0] != n_samples[1]:
        hint = " Pass a single sample as X[np.newaxis]." if len(y) == 1 else ""
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {n_samples}.{hint}"
        )


def _raise_wrong_shape(estimator: Any, shape: tuple[int, ...]) -> None:
    layout = layout_of(estimator)
    is_single = tuple(shape) in layout.accepted_shapes
    hint = " Pass a single sample as X[np.newaxis]." if is_single else ""
    raise ValueError(
        f"X has shape {tuple(shape)}, but {type(estimator).__name__} is expecting {layout}, as in "
        f"fit.{hint}"
    )
