"""Encoding of tables with categorical features and missing values as numbers."""

import warnings
from collections.abc import Iterator
from numbers import Integral, Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, issparse
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import gen_batches

from sktriplet._labels import find_missing
from sktriplet.exceptions import InvalidParameterError, SuspiciousFeatureWarning

# Rarer categories share a column, and so do those that exceed the limit of
# HistGradientBoostingClassifier: no column identifies single samples. In small data, categories may
# be rarer, down to this fraction.
MIN_FREQUENCY, MIN_RELATIVE_FREQUENCY, MAX_CATEGORIES = 5, 0.05, 255
# Fewer samples are not sufficient to recognize unsuitable columns.
MIN_SUSPICIOUS_SAMPLES = 20


class TableEncoder:
    """Encode categorical features one-hot, and fill missing numbers with the mean.

    The output has the numeric features, an indicator for each of them that has missing values
    in fit, and the one-hot encoded categorical features, for which a missing value is a category.
    In the first layer of a network, the weights of a category's column are its embedding.

    Parameters
    ----------
    is_categorical : ndarray of bool of shape (n_features,), or None
        Mask of the categorical features. None if all features are numbers.
    is_inferred : bool, default=False
        Whether they were selected by dtype, and may be something else.

    Attributes
    ----------
    n_outputs : int
        Number of encoded features.
    """

    def __init__(
        self, is_categorical: NDArray[np.bool_] | None = None, *, is_inferred: bool = False
    ):
        self.is_categorical = is_categorical
        self.is_inferred = is_inferred

    def fit(self, X: Any) -> "TableEncoder":
        """Learn the means of numeric features, and the categories of the others.

        Parameters
        ----------
        X : DataFrame, ndarray or CSR matrix of shape (n_samples, n_features)
            Training samples. A CSR matrix has no missing values.
        """
        self.one_hot: OneHotEncoder | None = None
        n_samples, n_categories = X.shape[0], 0
        min_frequency = min(MIN_FREQUENCY, max(1, int(MIN_RELATIVE_FREQUENCY * n_samples)))
        if self.is_categorical is not None:
            categories = self._categories(X)
            if self.is_inferred:
                columns = self.select(X, categorical=True)
                for (name, column), values in zip(columns, categories.T, strict=True):
                    if not _has_categorical_dtype(column):
                        _warn_of_suspicious_text(name, values)
            self.one_hot = OneHotEncoder(
                min_frequency=min_frequency,
                max_categories=MAX_CATEGORIES,
                handle_unknown="infrequent_if_exist",
                sparse_output=False,
                dtype=np.float32,
            ).fit(categories)
            n_categories = len(self.one_hot.get_feature_names_out())
        numbers = self._numbers(X)
        n_features = numbers.shape[1]
        self.fill_values = np.zeros(n_features)
        self.has_indicator = np.zeros(n_features, bool)
        if issparse(numbers):
            self.fill_values = np.asarray(numbers.mean(axis=0)).ravel()
        else:
            n_missing, total = np.zeros(n_features, int), np.zeros(n_features)
            for chunk in _chunks(numbers):
                n_missing += np.isnan(chunk).sum(axis=0)
                total += np.nansum(chunk, axis=0, dtype=np.float64)
            self.fill_values = total / np.maximum(n_samples - n_missing, 1)
            self.has_indicator = n_missing >= min_frequency
        self.n_outputs = n_features + int(self.has_indicator.sum()) + n_categories
        return self

    def transform(self, X: Any) -> NDArray | csr_array:
        """Return the encoded samples; X itself if all its features are numbers."""
        numbers = self._numbers(X)
        if issparse(numbers):  # without missing values
            n_indicators = int(self.has_indicator.sum())
            empty = csr_array((numbers.shape[0], n_indicators), dtype=numbers.dtype)
            return csr_array(hstack([numbers, empty])) if n_indicators else numbers
        if self.one_hot is None and not self.has_indicator.any():
            has_missing = numbers.dtype.kind == "f" and any(
                np.isnan(chunk).any() for chunk in _chunks(numbers)
            )
            if not has_missing:
                return numbers
        parts = [numbers]
        is_missing = np.isnan(numbers)
        if is_missing.any():
            parts = [np.where(is_missing, self.fill_values.astype(numbers.dtype), numbers)]
        parts.append(is_missing[:, self.has_indicator].astype(numbers.dtype))
        if self.one_hot is not None:
            parts.append(self.one_hot.transform(self._categories(X)).astype(numbers.dtype))
        return np.concatenate(parts, axis=1)

    def _numbers(self, X: Any) -> Any:
        if self.is_categorical is None:
            return X
        columns = [to_floats(column) for _, column in self.select(X, categorical=False)]
        return np.column_stack(columns) if columns else np.empty((len(X), 0))

    def _categories(self, X: Any) -> NDArray[np.object_]:
        columns = self.select(X, categorical=True)
        return np.column_stack([_to_categories(column) for _, column in columns])

    def select(self, X: Any, *, categorical: bool) -> list[tuple[Any, Any]]:
        """Return the names and values of the categorical features, or of the others."""
        pairs = zip(columns_of(X), self.is_categorical, strict=True)  # type: ignore[arg-type]
        return [column for column, is_category in pairs if is_category == categorical]


def find_categorical(X: Any, categorical_features: Any) -> NDArray[np.bool_] | None:
    """Return a mask of the categorical features, or None if there are none.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_features)
        Training samples.
    categorical_features : "from_dtype", array-like of bool, int or str, or None
        As in `TripletEmbedder`.

    Raises
    ------
    InvalidParameterError
        If names, indices or a mask do not fit X.
    """
    is_frame = hasattr(X, "columns")
    if isinstance(categorical_features, str):
        if not is_frame:
            return None
        mask = np.array([_has_categories(column) for _, column in columns_of(X)], bool)
        return mask if mask.any() else None
    chosen = np.asarray([] if categorical_features is None else categorical_features)
    if chosen.size == 0 or not (is_frame or np.ndim(X) == 2):
        return None
    names = np.array(X.columns if is_frame else range(np.shape(X)[1]), dtype=object)
    mask = np.zeros(len(names), bool)
    if chosen.dtype.kind == "b" and chosen.shape == mask.shape:
        mask |= chosen
    elif (
        chosen.ndim == 1
        and chosen.dtype.kind in "iu"
        and ((chosen >= 0) & (chosen < len(names))).all()
    ):
        mask[chosen] = True
    elif is_frame and chosen.ndim == 1 and chosen.dtype.kind in "OU" and set(chosen) <= set(names):
        mask |= np.isin(names, chosen)
    else:
        raise InvalidParameterError(
            "The 'categorical_features' parameter must be 'from_dtype', None, a mask of shape "
            f"({len(names)},), indices below {len(names)}, or names of columns of a DataFrame. "
            f"Got {categorical_features!r}."
        )
    return mask if mask.any() else None


def columns_of(X: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the name or index, and the values, of each column of a DataFrame or an array."""
    if hasattr(X, "columns"):
        if hasattr(X, "iloc"):  # Names may be duplicated.
            return ((name, X.iloc[:, i]) for i, name in enumerate(X.columns))
        return ((name, X[name]) for name in X.columns)
    array = np.asarray(X)
    return enumerate(array.T if array.ndim == 2 else [array])


def _has_categories(column: Any) -> bool:
    """Return whether a column has a categorical or text dtype, or objects that are no numbers."""
    dtype = column.dtype
    if hasattr(dtype, "is_numeric"):  # polars
        return not (dtype.is_numeric() or dtype.is_temporal() or str(dtype) in ("Boolean", "Null"))
    if _has_categorical_dtype(column) or type(dtype).__name__ == "StringDtype":
        return True
    if getattr(dtype, "kind", "O") in "biufcmM":
        return False
    values = np.asarray(column, dtype=object)
    values = values[~find_missing(values)]
    return not all(isinstance(value, Number) for value in values)


def _has_categorical_dtype(column: Any) -> bool:
    return type(column.dtype).__name__ in ("CategoricalDtype", "Categorical", "Enum")


def to_floats(column: Any) -> NDArray[np.float64]:
    """Return the numbers in a column of any dtype, with NaN for missing ones."""
    if np.iscomplexobj(column):
        raise ValueError("complex data is not supported")
    try:
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.asarray(column, dtype=object)
        return np.where(find_missing(values), np.nan, values).astype(np.float64)


def _to_categories(column: Any) -> NDArray[np.object_]:
    """Return the categories of a column as text, with NaN for missing values.

    Equal numbers of different types, such as 1 and 1.0, are the same category.
    """
    values = np.asarray(column, dtype=object)
    is_missing = find_missing(values)
    categories = np.full(len(values), np.nan, dtype=object)
    categories[~is_missing] = [_as_text(value) for value in values[~is_missing]]
    return categories


def _as_text(value: Any) -> str:
    if isinstance(value, Integral):
        return str(int(value))  # Floats would round identifiers.
    if not isinstance(value, Number):
        return str(value)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (OverflowError, TypeError):  # large or complex numbers
        return str(value)
    return str(int(number)) if number.is_integer() else str(np.float32(number))


def _warn_of_suspicious_text(name: Any, categories: NDArray[np.object_]) -> None:
    """Warn of columns that are probably numbers with a marker, identifiers, or dates."""
    known = categories[categories == categories]  # NaN is missing.
    if len(known) < MIN_SUSPICIOUS_SAMPLES:
        return
    distinct, counts = np.unique(known.astype(str), return_counts=True)
    texts = distinct.tolist()
    is_number = np.array([_is_number(text) for text in texts])
    if not is_number.all() and counts[is_number].sum() > len(known) / 2:
        examples = ", ".join(map(repr, distinct[~is_number][:3].tolist()))
        warnings.warn(
            f"Column {name!r} is encoded as categories, because not all of its values are "
            f"numbers, but most are. Got {examples}: replace such values by NaN if they denote "
            "missing values.",
            SuspiciousFeatureWarning,
            stacklevel=2,
        )
    elif len(distinct) > len(known) / 2:
        warnings.warn(
            f"Column {name!r} is encoded as categories, but has {len(distinct)} different values "
            f"in {len(known)} samples, such as {texts[0]!r}. Drop identifiers, convert dates "
            "and numbers, and encode free text first.",
            SuspiciousFeatureWarning,
            stacklevel=2,
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _chunks(X: NDArray) -> Iterator[NDArray]:
    return (X[part] for part in gen_batches(len(X), max(1, 2**20 // max(X.shape[1], 1))))
