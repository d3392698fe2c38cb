"""What data may be: the checks of rows and labels, of images and of pairs."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import validate_data

# How many channels an image has where nobody says: grey, colour, colour and opacity.
CHANNELS = (1, 3, 4)


# What helps, by words of the errors that NumPy and scikit-learn raise.
HINTS = {
    "could not convert string": ". Encode text first, with OneHotEncoder in a ColumnTransformer.",
    "inhomogeneous": " Images must be of one shape: load_image_folder makes them so.",
}


def validate_training_data(
    estimator: Any, X: Any, y: Any, *, reset: bool = True
) -> tuple[NDArray | csr_array, NDArray[np.int64], dict[str, Any]]:
    """Check X and y, and number the classes. The estimator is left as it is.

    Parameters
    ----------
    estimator : estimator
        Where it has a parameter ``input_shape``, that says how images are to be read.

    X : {array-like, sparse matrix}

    y : array-like

    reset : bool, default=True
        Whether X says what rows are like. If not, they must be as in an earlier fit.

    Returns
    -------
    X : ndarray of shape (n_rows, ...), or CSR matrix
        float32, or uint8 where these are images of that type. A sparse matrix stores each
        value once, and the columns of a row in order.
    labels : ndarray of shape (n_rows,), int64
        Positions in ``classes_``.
    seen : dict
        Attributes that the estimator has to have after training: ``classes_``,
        ``n_features_in_``, ``input_shape_`` and, if there are any, ``feature_names_in_``.

    Raises
    ------
    TypeError
        If X is sparse and holds images.
    ValueError
        If X is no finite table and no images, y does not hold class labels, or no
        triplet exists.
    """
    probe = object.__new__(type(estimator))  # a copy by pickle's rules would copy the net
    vars(probe).update(vars(estimator))
    holds_images = _n_dims(X) > 2 or getattr(estimator, "input_shape", None) is not None
    _require_no_dates(X)
    _require_labels(y)
    if not reset and holds_images is not (len(estimator.input_shape_) > 1):
        _raise_wrong_shape(estimator, np.shape(X))
    with _named("X"):
        X, y = validate_data(
            probe,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float32, np.uint8] if holds_images else np.float32,
            ensure_2d=not holds_images,
            allow_nd=holds_images,
            ensure_min_samples=2,
            reset=reset,
        )
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()  # It may be the user's.
        X.sum_duplicates()
    input_shape = X.shape[1:]
    if holds_images:
        if hasattr(estimator, "input_shape"):
            _refuse_sparse(X, estimator.input_shape)
            input_shape = images_shape(X.shape, estimator.input_shape)
        if not reset and input_shape != estimator.input_shape_:
            _raise_wrong_shape(estimator, X.shape)
    classes, labels = _numbered_classes(y, type(estimator).__name__)
    seen = {
        "classes_": classes,
        "input_shape_": input_shape,
        "n_features_in_": prod(input_shape),
    }
    if hasattr(probe, "feature_names_in_"):
        seen["feature_names_in_"] = probe.feature_names_in_
    return X, labels, seen


def remember(estimator: Any, seen: dict[str, Any]) -> None:
    """Give an estimator the attributes that it has to have after training."""
    vars(estimator).pop("feature_names_in_", None)
    vars(estimator).update(seen)


def validate_rows(estimator: Any, X: Any) -> NDArray | csr_array:
    """Check rows for a fitted estimator. Sparse ones become a CSR matrix.

    Raises
    ------
    TypeError
        If X is sparse and fit has seen images.
    ValueError
        If X is not a finite table of the width seen in fit, or no images of the shape.
    """
    _require_no_dates(X)
    with _named("X"):
        if len(estimator.input_shape_) == 1:
            return validate_data(estimator, X, accept_sparse="csr", dtype=np.float32, reset=False)
        X = validate_data(
            estimator,
            X,
            accept_sparse="csr",
            dtype=[np.float32, np.uint8],
            ensure_2d=False,
            allow_nd=True,
            reset=False,
        )
    _refuse_sparse(X, estimator.input_shape_)
    if X.shape[1:] not in _shapes_to_expect(estimator):
        _raise_wrong_shape(estimator, X.shape)
    return X


def validate_names(estimator: Any, X: Any) -> None:
    """Check that a data frame has the columns that a fitted estimator has seen, in their order.

    Raises
    ------
    ValueError
        If they are others. Where the estimator knows no names, they may be any.
    """
    if hasattr(X, "columns") and hasattr(estimator, "feature_names_in_"):
        validate_data(estimator, X, reset=False, skip_check_array=True)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Let errors about an array name it, also those of NumPy, which does not know the name."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # an error says what is too large
            yield
    except (TypeError, ValueError) as error:
        message = str(error)
        if re.search(rf"\b({name}|y)\b|inconsistent numbers of samples|[Ff]eature names", message):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        if message.startswith("Input contains"):  # scikit-learn says "Input X" where it is X
            raise kind(f"y: {message}. A label must not be missing.") from error
        hint = next((HINTS[words] for words in HINTS if words in message), "")
        raise kind(
            f"{name} must hold finite numbers, in rows of one length. {message}{hint}"
        ) from error


def _require_no_dates(X: Any) -> None:
    dtype = np.asarray(X[:1]).dtype if hasattr(X, "columns") else getattr(X, "dtype", None)
    if getattr(dtype, "kind", None) in ("m", "M"):
        raise ValueError(
            f"X must hold numbers. Got dates or times, {dtype}: make numbers of them first, such "
            "as days or the hour of the day."
        )


def _require_labels(y: Any) -> None:
    try:
        kind = np.asarray(y).dtype.kind
    except ValueError as error:
        raise ValueError(f"y must hold one label for each row. {error}") from error
    if kind == "c":
        raise ValueError("y must hold class labels. Complex data not supported.")


def _require_classes(y: NDArray) -> None:
    """Check as scikit-learn does, but welcome a class for every other row: faces are like that."""
    kind = type_of_target(y, input_name="y")
    if kind not in ("binary", "multiclass"):
        raise ValueError(f"y must hold class labels. Unknown label type: {kind}.")


def images_shape(
    shape: tuple[int, ...], input_shape: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return channels, height and width of the images in an array.

    Parameters
    ----------
    shape : tuple of int
        Of the array: ``(n, h, w)``, or with channels first or last.

    input_shape : sequence of three int, default=None
        ``(channels, height, width)``, if it is known. Images may then be flat rows too.

    Raises
    ------
    ValueError
        If they are not, or cannot be told from the shape.

    Examples
    --------
    >>> from sktriplet._input_validation import images_shape
    >>> images_shape((60, 28, 28)), images_shape((60, 32, 32, 3))
    ((1, 28, 28), (3, 32, 32))
    """
    sizes = tuple(shape[1:])
    if input_shape is not None:
        if sizes not in _layouts(input_shape):
            raise ValueError(
                f"X must hold images of shape {_one_of(_layouts(input_shape))}, since "
                f"input_shape={input_shape}. Got X of shape {tuple(shape)}."
            )
        return tuple(input_shape)
    if len(sizes) == 2:
        return (1, *sizes)
    if len(sizes) != 3:
        raise ValueError(
            "X must be a table of shape (n, features), or images of shape (n, height, width), "
            "(n, channels, height, width) or (n, height, width, channels). Got X of shape "
            f"{tuple(shape)}."
        )
    is_first, is_last = sizes[0] in CHANNELS, sizes[2] in CHANNELS
    if is_first == is_last:
        raise ValueError(
            f"X of shape {tuple(shape)} could hold images with channels first or last. Pass "
            "input_shape=(channels, height, width)."
        )
    return sizes if is_first else (sizes[2], sizes[0], sizes[1])


def _layouts(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shapes in which an image of shape (C, H, W) may come."""
    channels, height, width = shape
    layouts = [(channels, height, width), (height, width, channels), (prod(shape),)]
    return [*layouts, (height, width)] if channels == 1 else layouts


def _shapes_to_expect(estimator: Any) -> list[tuple[int, ...]]:
    """Return the shapes in which images may come to a fitted estimator."""
    if not hasattr(estimator, "input_shape"):
        return [estimator.input_shape_]
    return [
        shape
        for shape in _layouts(estimator.input_shape_)
        if len(shape) > 1 or estimator.input_shape is not None
    ]


def _one_of(shapes: Collection[tuple[int, ...]]) -> str:
    return " or ".join(map(str, dict.fromkeys(shapes)))


def _n_dims(X: Any) -> int:
    if hasattr(X, "ndim"):
        return X.ndim
    return 1 + np.ndim(X[0]) if isinstance(X, Sequence) and len(X) else 2


def _refuse_sparse(X: Any, shape: Sequence[int]) -> None:
    """Check that images are dense."""
    if issparse(X):
        raise TypeError(
            f"X must be dense, since its rows are images of shape {tuple(shape)}. Got a sparse "
            f"matrix of shape {X.shape}: pass X.toarray()."
        )


def _raise_wrong_shape(estimator: Any, shape: tuple[int, ...]) -> None:
    expected = estimator.input_shape_
    if len(expected) == 1:
        expecting = f"a table of {expected[0]} features"
    else:
        expecting = f"images of shape {_one_of(_shapes_to_expect(estimator))}"
    raise ValueError(
        f"X has shape {tuple(shape)}, but {type(estimator).__name__} is expecting {expecting}, as "
        "in fit."
    )


def _numbered_classes(y: NDArray, owner: str) -> tuple[NDArray, NDArray[np.int64]]:
    try:
        _require_classes(y)
        classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    except (TypeError, ValueError) as error:
        if y.dtype.kind != "O":
            raise
        kinds = ", ".join(sorted({type(label).__name__ for label in y}))
        raise ValueError(
            f"{owner} requires the labels in y to be of one kind, none of them missing. Got "
            f"{kinds}. {error}"
        ) from error
    if classes.dtype.kind in "mM" and np.isnat(classes).any():
        raise ValueError(f"{owner} requires that no label in y is missing. Got NaT.")
    if len(classes) < 2:
        raise ValueError(
            f"{owner} requires y to hold at least 2 classes. Got 1 class: {classes.tolist()}."
        )
    if counts.max() < 2:
        raise ValueError(
            f"{owner} requires a class with at least 2 rows in y, so that there is a pair to "
            f"learn from. Got {len(classes)} classes of 1 row each."
        )
    return classes, labels.astype(np.int64, copy=False)


def merged_classes(known: NDArray, new: NDArray) -> NDArray:
    """Return the classes of both arrays, in order.

    Raises
    ------
    ValueError
        If one holds numbers and the other strings, say.
    """
    try:
        kinds = known.dtype.kind, new.dtype.kind
        if "O" not in kinds and (kinds[0] in "US") != (kinds[1] in "US"):
            raise TypeError
        return np.union1d(known, new)
    except TypeError as error:
        raise ValueError(
            "The labels in y must be of the kind that was seen before. Got "
            f"{new[:3].tolist()}, ... after {known[:3].tolist()}, ..."
        ) from error


def validate_enrolment(
    estimator: Any, X: Any, y: Any, classes: NDArray
) -> tuple[NDArray | csr_array, NDArray]:
    """Check rows and their classes for a fitted estimator that may not know these classes.

    Raises
    ------
    ValueError
        If X does not fit what fit has seen, or y is of another kind than the known classes.
    """
    X, y = validate_rows(estimator, X), column_or_1d(y)
    check_consistent_length(X, y)
    _require_classes(y)
    merged_classes(classes, y)
    return X, y


def validate_pairs(estimator: Any, pairs: Any) -> NDArray:
    """Check pairs of rows for a fitted estimator.

    Raises
    ------
    ValueError
        If they are no finite array of shape (n_pairs, 2, ...), with rows as in fit.
    """
    expected = (2, *estimator.input_shape_)
    with _named("pairs"):
        pairs = check_array(
            pairs,
            dtype=[np.float32, np.uint8] if len(expected) > 2 else np.float32,
            ensure_2d=False,
            allow_nd=True,
            input_name="pairs",
        )
    if pairs.shape[1:] != expected:
        raise ValueError(
            f"pairs must be an array of shape (n_pairs, {', '.join(map(str, expected))}): two "
            f"rows as in fit. Got shape {pairs.shape}."
        )
    return pairs


def validate_same(y: Any, n_pairs: int) -> NDArray[np.bool_]:
    """Check what says of pairs whether they are the same.

    Raises
    ------
    ValueError
        If there is not one truth value for each pair.
    """
    same = column_or_1d(y)
    if len(same) != n_pairs:
        raise ValueError(f"y must hold a value for each of the {n_pairs} pairs. Got {len(same)}.")
    if not np.isin(same, [0, 1]).all():
        raise ValueError(
            "y must say of each pair whether it is the same, True or False. "
            f"Got {np.unique(same)[:5].tolist()}."
        )
    return same.astype(bool)
