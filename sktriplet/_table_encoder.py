"""Encoding of tables with categorical features and missing values as numbers."""

import datetime
import re
from collections.abc import Collection, Iterator
from numbers import Integral, Number
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, issparse
from sklearn.utils import gen_batches

from sktriplet._labels import find_missing
from sktriplet._warnings import warn_user
from sktriplet.exceptions import (
    InvalidParameterError,
    SuspiciousFeatureWarning,
    UnknownCategoryWarning,
)

# Rarer categories share a column, and so do those that exceed the limit of
# HistGradientBoostingClassifier: no column identifies single samples. In small data, categories may
# be rarer, down to this fraction.
MIN_FREQUENCY, MIN_RELATIVE_FREQUENCY, MAX_CATEGORIES = 5, 0.05, 255
# Fewer samples are not sufficient to recognize unsuitable columns, or unknown categories.
MIN_SAMPLES = 20
# Increase of the share of samples in rare or unknown categories when training continues.
MAX_UNKNOWN_INCREASE = 0.25
# Almost all samples of identifiers that occur several times are in rare categories.
MAX_RARE_FRACTION = 0.9
# Columns with more different numbers are probably quantities, not codes.
MAX_CODES = 20
# Text that denotes a missing value, in lower case.
MARKERS = {"", "?", "-", ".", "*", "na", "n/a", "#n/a", "nan", "null", "none", "missing", "unknown"}
# Codes, such as postal codes, have leading zeros.
CODE = re.compile(r"0\d")
DATE = re.compile(
    r"""\d{4}([-/.])\d{1,2}\1\d{1,2}([T ].*)?  # 2024-01-31 or 2024-01-31T12:00
    | \d{1,2}([-/.])\d{1,2}\3\d{4}([T ].*)?    # 31.01.2024
    | \d{1,2}/\d{1,2}/\d{2}([T ].*)?           # 1/31/24""",
    re.VERBOSE,
)
MISSING_TYPES = ("NoneType", "NAType", "NaTType")


class Categories(NamedTuple):
    """The categories of a feature, and those of its samples."""

    name: Any  # of the feature
    is_declared: bool  # by a categorical dtype
    texts: list[str]  # distinct and sorted
    codes: NDArray[np.intp]  # positions in texts, -1 for missing values

    def counts(self) -> NDArray[np.intp]:
        """Return the number of samples of each category, and of missing values as the last."""
        return np.bincount(self.codes % (len(self.texts) + 1), minlength=len(self.texts) + 1)

    @property
    def n_known(self) -> int:
        """Number of samples that are not missing."""
        return int((self.codes >= 0).sum())


class TableEncoder:
    """Encode categorical features as one-hot columns, and fill missing numbers with the mean.

    An encoded table has the numeric features, an indicator for each of them that has missing
    values in fit, and the one-hot columns of categorical features, for which a missing value is
    a category. In the first layer of a network, the weights of a category's column are its
    embedding. The one-hot columns are not stored: in their place, `transform` returns the index of
    the column that is one, per categorical feature, and
    :class:`~sktriplet.networks._embedding_network.OneHot` expands batches of samples.

    Parameters
    ----------
    is_categorical : ndarray of bool of shape (n_features,), or None
        Mask of the categorical features. None if all features are numbers.
    is_inferred : bool, default=False
        Whether they were selected by dtype, and may be something else.

    Attributes
    ----------
    n_plain : int
        Number of encoded features that are not one-hot: numbers and indicators.
    n_numbers : int
        Number of numeric features.
    n_outputs : int
        Number of encoded features, with one-hot columns.
    """

    def __init__(
        self, is_categorical: NDArray[np.bool_] | None = None, *, is_inferred: bool = False
    ):
        self.is_categorical = is_categorical
        self.is_inferred = is_inferred

    @property
    def has_categories(self) -> bool:
        """Whether a feature is categorical."""
        return self.is_categorical is not None and bool(self.is_categorical.any())

    def fit_transform(self, X: Any) -> NDArray | csr_array:
        """Learn the means of numeric features and the categories of the others, and encode them.

        Parameters
        ----------
        X : DataFrame, ndarray or CSR matrix of shape (n_samples, n_features)
            Training samples. A CSR matrix has no missing values.

        Returns
        -------
        encoded : ndarray or CSR matrix of shape (n_samples, n_plain + n_categorical)
            Encoded samples. The columns of categorical features are indices of one-hot columns.
        """
        n_samples = X.shape[0]
        min_frequency = min(MIN_FREQUENCY, max(1, int(MIN_RELATIVE_FREQUENCY * n_samples)))
        numbers, features = self._numbers(X), self._categories(X)
        self.n_numbers = numbers.shape[1]
        self.has_indicator = np.zeros(self.n_numbers, bool)
        if issparse(numbers):
            self.fill_values = np.asarray(numbers.mean(axis=0)).ravel()
        else:
            n_missing, total = np.zeros(self.n_numbers, int), np.zeros(self.n_numbers)
            for chunk in _chunks(numbers):
                n_missing += np.isnan(chunk).sum(axis=0)
                total += np.nansum(chunk, axis=0, dtype=np.float64)
            self.fill_values = total / np.maximum(n_samples - n_missing, 1)
            self.has_indicator = n_missing >= min_frequency
        self.n_plain = self.n_outputs = self.n_numbers + int(self.has_indicator.sum())
        # Per categorical feature: columns of frequent categories, and those of missing values, and
        # of rare and unknown categories. -1 is no column.
        self.columns: list[dict[str, int]] = []
        self.missing_columns: list[int] = []
        self.rare_columns: list[int] = []
        self.rare_fractions: list[float] = []
        for feature in features:
            self._assign_columns(feature, min_frequency)
            if self.is_inferred and not feature.is_declared:
                _warn_of_suspicious_text(feature, self.rare_fractions[-1])
        return self._encode(numbers, features)

    def fit(self, X: Any) -> "TableEncoder":
        """Learn the means of numeric features, and the categories of the others."""
        self.fit_transform(X)
        return self

    def transform(self, X: Any, *, warns: bool = False) -> NDArray | csr_array:
        """Return the encoded samples; X itself if all its features are numbers.

        With `warns`, warn if many more values than in fit are in rare or unknown categories.
        """
        features = self._categories(X)
        if warns:
            for position, feature in enumerate(features):
                self._warn_of_unknown_categories(feature, position)
        return self._encode(self._numbers(X), features)

    def sum_by_column(self, values: NDArray) -> NDArray:
        """Add up values of outputs, (n_samples, n_outputs), that belong to the same column of X."""
        is_categorical = self.is_categorical
        if is_categorical is None:
            is_categorical = np.zeros(self.n_numbers, bool)
        numbers, indicators = np.split(values[:, : self.n_plain], [self.n_numbers], axis=1)
        plain = numbers.copy()
        plain[:, self.has_indicator] += indicators
        sums = np.empty((len(values), len(is_categorical)), values.dtype)
        sums[:, ~is_categorical] = plain
        special = zip(self.missing_columns, self.rare_columns, strict=True)
        positions = np.flatnonzero(is_categorical)
        for position, known, others in zip(positions, self.columns, special, strict=True):
            outputs = {*known.values(), *others} - {-1}
            sums[:, position] = values[:, sorted(outputs)].sum(axis=1)
        return sums

    def _assign_columns(self, feature: Categories, min_frequency: int) -> None:
        # As OneHotEncoder does, with missing values as the last category.
        counts = feature.counts()
        is_rare = (counts < min_frequency) & (counts > 0)
        n_kept = (counts > 0).sum() - max(is_rare.sum() - 1, 0)
        if n_kept > MAX_CATEGORIES:
            is_rare[np.argsort(counts, kind="stable")[: 1 - MAX_CATEGORIES]] = True
        frequent = np.flatnonzero((counts > 0) & ~is_rare).tolist()
        columns = {code: self.n_outputs + position for position, code in enumerate(frequent)}
        self.n_outputs += len(frequent)
        rare_column = -1
        if is_rare.any():
            rare_column = self.n_outputs
            self.n_outputs += 1
        self.missing_columns.append(columns.pop(len(feature.texts), rare_column))
        self.columns.append({feature.texts[code]: column for code, column in columns.items()})
        self.rare_columns.append(rare_column)
        self.rare_fractions.append(self._fraction_without_column(feature, -1))

    def _fraction_without_column(self, feature: Categories, position: int) -> float:
        """Return the fraction of known values that are in no category with its own column."""
        counts = feature.counts()[:-1]
        has_column = [text in self.columns[position] for text in feature.texts]
        return 1 - float(counts[has_column].sum() / max(counts.sum(), 1))

    def _warn_of_unknown_categories(self, feature: Categories, position: int) -> None:
        """Warn if many more values than in fit are in categories without a column."""
        before = self.rare_fractions[position]
        now = self._fraction_without_column(feature, position)
        if feature.n_known < MIN_SAMPLES or now < before + MAX_UNKNOWN_INCREASE:
            return
        unknown = [text for text in feature.texts if text not in self.columns[position]]
        examples = ", ".join(map(repr, unknown[:3]))
        warn_user(
            f"{now:.0%} of the values in column {feature.name!r} are categories that were unknown "
            f"or rare in the first fit, for example {examples}, and that the network cannot "
            "tell apart. Include samples of all categories in the first chunk.",
            UnknownCategoryWarning,
        )

    def _encode(self, numbers: Any, features: list[Categories]) -> NDArray | csr_array:
        if issparse(numbers):  # without missing values
            n_indicators = int(self.has_indicator.sum())
            empty = csr_array((numbers.shape[0], n_indicators), dtype=numbers.dtype)
            return csr_array(hstack([numbers, empty])) if n_indicators else numbers
        if not features and not self.has_indicator.any():
            has_missing = numbers.dtype.kind == "f" and any(
                np.isnan(chunk).any() for chunk in _chunks(numbers)
            )
            if not has_missing:
                return numbers
        encoded = np.empty((len(numbers), self.n_plain + len(features)), numbers.dtype)
        filled, indicators = np.split(encoded[:, : self.n_plain], [self.n_numbers], axis=1)
        is_missing = np.isnan(numbers)
        filled[:] = np.where(is_missing, self.fill_values.astype(numbers.dtype), numbers)
        indicators[:] = is_missing[:, self.has_indicator]
        for position, feature in enumerate(features):
            known, rare = self.columns[position], self.rare_columns[position]
            columns = [known.get(text, rare) for text in feature.texts]
            # The code of missing values is -1.
            by_code = np.array([*columns, self.missing_columns[position]])
            encoded[:, self.n_plain + position] = by_code[feature.codes]
        return encoded

    def _numbers(self, X: Any) -> Any:
        if self.is_categorical is None and not hasattr(X, "columns") and X.dtype != object:
            return X
        columns = [to_floats(column) for _, column in self.select(X, categorical=False)]
        return np.column_stack(columns) if columns else np.empty((len(X), 0))

    def _categories(self, X: Any) -> list[Categories]:
        if not self.has_categories:
            return []
        return [find_categories(*column) for column in self.select(X, categorical=True)]

    def select(self, X: Any, *, categorical: bool) -> list[tuple[Any, Any]]:
        """Return the names and values of the categorical features, or of the others."""
        columns = list(columns_of(X))
        if self.is_categorical is None:
            return [] if categorical else columns
        pairs = zip(columns, self.is_categorical, strict=True)
        return [column for column, is_category in pairs if is_category == categorical]


def find_categories(name: Any, column: Any) -> Categories:
    """Return the categories in a column as text.

    Equal numbers of different types, such as 1 and 1.0, are the same category.
    """
    if hasattr(column, "factorize"):  # pandas
        codes, index = column.factorize()
        values = np.asarray(index, dtype=object)
    elif getattr(column.dtype, "kind", "O") in "biuf":
        distinct, codes = np.unique(column, return_inverse=True)
        values = distinct.astype(object)
    else:
        codes_of: dict[Any, int] = {}
        # NumPy would round integers of polars if some are missing.
        items = column.to_list() if hasattr(column, "to_list") else column
        codes = np.array([codes_of.setdefault(value, len(codes_of)) for value in items], np.intp)
        values = np.fromiter(codes_of, dtype=object, count=len(codes_of))
    is_missing = find_missing(values)
    known = [_as_text(value) for value in values[~is_missing]]
    texts = sorted(set(known))
    positions = {text: position for position, text in enumerate(texts)}
    # pandas' own code of missing values is -1, too.
    by_code = np.full(len(values) + 1, -1)
    by_code[:-1][~is_missing] = [positions[text] for text in known]
    return Categories(name, _has_categorical_dtype(column), texts, by_code[codes])


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
        mask = np.array([kind_of(column) == "category" for _, column in columns_of(X)], bool)
        return mask if mask.any() else None
    chosen = np.asarray([] if categorical_features is None else categorical_features)
    if chosen.size == 0 or not (is_frame or np.ndim(X) == 2):
        return None
    names = list(X.columns) if is_frame else range(np.shape(X)[1])
    mask = np.zeros(len(names), bool)
    if chosen.dtype.kind == "b" and chosen.shape == mask.shape:
        mask |= chosen
    elif (
        chosen.ndim == 1
        and chosen.dtype.kind in "iu"
        and ((chosen >= 0) & (chosen < len(names))).all()
    ):
        mask[chosen] = True
    elif is_frame and _are_names(categorical_features) and set(categorical_features) <= set(names):
        mask |= [name in set(categorical_features) for name in names]
    else:
        raise InvalidParameterError(
            "The 'categorical_features' parameter must be 'from_dtype', None, a mask of shape "
            f"({len(names)},), indices below {len(names)}, or names of columns of a DataFrame. "
            f"Got {categorical_features!r}."
        )
    return mask if mask.any() else None


def _are_names(chosen: Any) -> bool:
    return not isinstance(chosen, set) and all(isinstance(name, str | tuple) for name in chosen)


def columns_of(X: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the name or index, and the values, of each column of a DataFrame or an array."""
    if hasattr(X, "columns"):
        if hasattr(X, "iloc"):  # Names may be duplicated.
            return ((name, X.iloc[:, i]) for i, name in enumerate(X.columns))
        return ((name, X[name]) for name in X.columns)
    array = np.asarray(X)
    return enumerate(array.T if array.ndim == 2 else [array])


def has_objects(X: Any) -> bool:
    """Return whether a DataFrame or an array has columns that need not be numbers."""
    if not hasattr(X, "columns"):
        return isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 2
    if hasattr(X, "iloc"):
        return any(getattr(dtype, "kind", "O") not in "biufc" for dtype in X.dtypes)
    return not all(dtype.is_float() or dtype.is_integer() for dtype in X.dtypes)


def kind_of(column: Any) -> str:
    """Return "number", "category", "date", "duration" or "nested", by the dtype of a column.

    Objects are numbers if all of them are, apart from missing values.
    """
    dtype = column.dtype
    if hasattr(dtype, "is_numeric") and str(dtype) != "Object":  # polars
        if dtype.is_nested():
            return "nested"
        if dtype.is_temporal():
            return "duration" if str(dtype).startswith("Duration") else "date"
        is_number = dtype.is_numeric() or str(dtype) in ("Boolean", "Null")
        return "number" if is_number else "category"
    if _has_categorical_dtype(column) or type(dtype).__name__ == "StringDtype":
        return "category"
    kind = getattr(dtype, "kind", "O")
    if kind != "O":
        return {"M": "date", "m": "duration", "U": "category", "S": "category"}.get(kind, "number")
    types = set(map(type, column if hasattr(column, "to_list") else column.tolist()))
    types = {item for item in types if item.__name__ not in MISSING_TYPES}
    if any(issubclass(item, Collection) and not issubclass(item, str | bytes) for item in types):
        return "nested"
    if any(issubclass(item, datetime.timedelta | np.timedelta64) for item in types):
        return "duration"
    if any(_is_date(item) for item in types):
        return "date"
    is_number = all(issubclass(item, Number | np.bool_) for item in types)
    return "number" if is_number else "category"


def _is_date(item: type) -> bool:
    return (
        issubclass(item, datetime.date | datetime.time | np.datetime64)
        or item.__name__ == "Period"  # of pandas
    )


def _has_categorical_dtype(column: Any) -> bool:
    dtype = column.dtype
    if hasattr(dtype, "pyarrow_dtype"):
        return str(dtype).startswith("dictionary")
    return type(dtype).__name__ in ("CategoricalDtype", "Categorical", "Enum")


def to_floats(column: Any) -> NDArray[np.float64]:
    """Return the numbers in a column of any dtype, with NaN for missing ones."""
    if np.iscomplexobj(column):
        raise ValueError("complex data is not supported")
    try:
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.asarray(column, dtype=object)
        return np.where(find_missing(values), np.nan, values).astype(np.float64)


def _as_text(value: Any) -> str:
    if isinstance(value, Integral | np.bool_):
        return str(int(value))  # Floats would round identifiers.
    if not isinstance(value, Number):
        return str(value)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (OverflowError, TypeError):  # large or complex numbers
        return str(value)
    return str(int(number)) if number.is_integer() else str(np.float32(number))


def _warn_of_suspicious_text(feature: Categories, rare_fraction: float) -> None:
    """Warn of a column of text that probably holds dates, numbers, or identifiers."""
    n_known, counts, texts = feature.n_known, feature.counts()[:-1], feature.texts
    if n_known < MIN_SAMPLES:
        return
    problem = None
    is_number = np.array([_is_number(text) for text in texts])
    is_date = np.array([DATE.fullmatch(text.strip()) is not None for text in texts])
    numbers = [text for text in texts if _is_number(text)]
    others = [text for text in texts if not _is_number(text)]
    if counts[is_date].sum() > n_known / 2:
        problem = (
            f"holds dates, such as {texts[int(is_date.argmax())]!r}. Convert them to numbers, for "
            f"example with pd.to_datetime(X[{feature.name!r}]).dt.year"
        )
    elif counts[is_number].sum() > n_known / 2:
        has_marker = any(text.strip().lower() in MARKERS for text in others)
        is_quantity = len(numbers) > MAX_CODES and not any(map(CODE.match, numbers))
        if others and (has_marker or is_quantity):
            examples = ", ".join(map(repr, others[:3]))
            problem = (
                f"holds numbers, but also {examples}. Replace such values by NaN if they denote "
                "missing values, and convert the column with pd.to_numeric"
            )
        elif is_quantity:
            problem = (
                f"holds numbers as text, such as {numbers[0]!r}. Convert it with pd.to_numeric, or "
                'with astype("category") if they are codes'
            )
    if problem is None and (counts == 1).sum() > n_known / 2:
        problem = (
            f"has {len(texts)} different values in {n_known} samples, such as {texts[0]!r}. Drop "
            "identifiers, and encode free text first, for example with TfidfVectorizer"
        )
    elif problem is None and rare_fraction > MAX_RARE_FRACTION:
        problem = (
            f"has {len(texts)} different values in {n_known} samples, such as {texts[0]!r}, nearly "
            "all of which are too rare to be told apart. Drop identifiers, or combine values"
        )
    if problem is not None:
        warn_user(
            f"Column {feature.name!r} is encoded as categories, but {problem}.",
            SuspiciousFeatureWarning,
        )


def _is_number(text: str) -> bool:
    if text.strip().lower() in MARKERS:
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _chunks(X: NDArray) -> Iterator[NDArray]:
    return (X[part] for part in gen_batches(len(X), max(1, 2**20 // max(X.shape[1], 1))))
