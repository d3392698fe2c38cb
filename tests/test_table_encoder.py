import datetime
import pickle
import tracemalloc
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sktriplet._build import N_BINS
from sktriplet._input_layout import TableLayout
from sktriplet._table_encoder import MAX_CATEGORIES, TableEncoder, find_categorical
from sktriplet.exceptions import (
    InvalidParameterError,
    SuspiciousFeatureWarning,
    UnknownCategoryWarning,
)

# In 120 samples, a category needs five.
COLORS = ["red"] * 36 + ["blue"] * 50 + ["green"] * 30 + ["rare"] * 4


def encode(X, categorical_features="from_dtype"):
    is_inferred = isinstance(categorical_features, str)
    mask = find_categorical(X, categorical_features)
    return TableEncoder(mask, is_inferred=is_inferred).fit(X)


def expand(encoder, X):
    """Return the encoded samples with one-hot columns."""
    return TableLayout.from_encoder(encoder).to_rows(encoder.transform(X))


class TestFindCategorical:
    def test_pandas(self):
        frame = pd.DataFrame(
            {
                "text": ["a", "b"],
                "string": pd.array(["a", "b"], dtype="string"),
                "category": pd.Categorical([1, 2]),
                "objects": np.array(["a", None], dtype=object),
                "numbers as objects": np.array([1, 2.5], dtype=object),
                "truth values with missing": np.array([True, None], dtype=object),
                "float": [0.5, 1],
                "integer": [1, 2],
                "nullable": pd.array([1, None], dtype="Int64"),
                "nullable boolean": pd.array([True, None], dtype="boolean"),
                "boolean": [True, False],
                "sparse": pd.arrays.SparseArray([0.0, 1.0]),
            }
        )
        assert find_categorical(frame, "from_dtype").tolist() == [True] * 4 + [False] * 8

    def test_polars(self):
        frame = pl.DataFrame(
            {
                "text": ["a", None],
                "category": pl.Series(["a", "b"], dtype=pl.Categorical),
                "enum": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])),
                "float": [0.5, None],
                "integer": [1, None],
                "boolean": [True, None],
            }
        )
        assert find_categorical(frame, "from_dtype").tolist() == [True] * 3 + [False] * 3

    @pytest.mark.parametrize("X", [np.ones((2, 3)), [[1, 2, 3]], pd.DataFrame({"a": [1]})])
    def test_numbers(self, X):
        assert find_categorical(X, "from_dtype") is None
        assert find_categorical(X, None) is None
        assert find_categorical(X, []) is None

    @pytest.mark.parametrize("chosen", [["c", "a"], [2, 0], [True, False, True]])
    def test_chosen(self, chosen):
        frame = pd.DataFrame([[1, 2, 3]], columns=list("abc"))
        assert find_categorical(frame, chosen).tolist() == [True, False, True]
        assert find_categorical(frame, np.array(chosen)).tolist() == [True, False, True]

    @pytest.mark.parametrize("chosen", [["z"], [3], [-1], [True, False], [0.5], [[0, 1]]])
    def test_invalid(self, chosen):
        frame = pd.DataFrame([[1, 2, 3]], columns=list("abc"))
        with pytest.raises(InvalidParameterError, match=r"categorical_features.*\(3,\)"):
            find_categorical(frame, chosen)

    def test_names_need_a_frame(self):
        with pytest.raises(InvalidParameterError, match="names of columns of a DataFrame"):
            find_categorical(np.ones((2, 3)), ["a"])


class TestNumbers:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, bool])
    def test_without_missing_values(self, dtype):
        """They are not copied."""
        X = np.arange(6).reshape(3, 2).astype(dtype)
        encoder = encode(X)
        assert encoder.transform(X) is X
        assert encoder.n_outputs == 2

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_missing_in_fit(self, dtype):
        X = np.array([[1, np.nan, 5], [3, 4, 6], [np.nan, 8, 7]], dtype)
        encoder = encode(X)
        expected = [[1, 6, 5, 0, 1], [3, 4, 6, 0, 0], [2, 8, 7, 1, 0]]
        encoded = encoder.transform(X)
        assert_array_equal(encoded, expected)
        assert encoded.dtype == dtype
        assert encoder.n_outputs == 5
        assert np.isnan(X).sum() == 2, "the input is unchanged"

    def test_missing_in_transform_only(self):
        encoder = encode(np.array([[1, 2], [3, 6]]))
        assert_array_equal(encoder.transform([[np.nan, 0]] * np.ones((1, 2))), [[2, 0]])

    def test_all_missing(self):
        encoder = encode(np.full((3, 1), np.nan))
        assert_array_equal(encoder.transform(np.array([[np.nan], [5.0]])), [[0, 1], [5, 0]])

    def test_many_samples(self, rng):
        X = rng.normal(size=(300_000, 8))
        X[rng.random(X.shape) < 0.1] = np.nan
        encoded = encode(X).transform(X)
        assert_allclose(encoded[:, :8], np.where(np.isnan(X), np.nanmean(X, axis=0), X))
        assert_array_equal(encoded[:, 8:], np.isnan(X))

    def test_sparse(self):
        X = sparse.csr_array(np.eye(3))
        assert encode(X).transform(X) is X


class TestCategories:
    def test_one_hot(self):
        frame = pd.DataFrame({"color": COLORS, "size": np.arange(120.0)})
        encoder = encode(frame)
        encoded = expand(encoder, frame)
        # blue, green, red, and rare ones
        assert encoded.shape == (120, encoder.n_outputs) == (120, 5)
        assert_array_equal(encoded[:, 0], frame["size"])
        assert_array_equal(encoded[[0, 36, 86, 116], 1:], np.eye(4)[[2, 0, 1, 3]])

    def test_small_data(self):
        frame = pd.DataFrame({"color": ["red", "blue", "green"] * 4})
        assert_array_equal(expand(encode(frame), frame)[:3], np.eye(3)[[2, 0, 1]])

    def test_unknown_is_like_rare(self):
        frame = pd.DataFrame({"color": COLORS})
        encoder = encode(frame)
        other = pd.DataFrame({"color": ["rare", "unheard of"]})
        assert_array_equal(expand(encoder, other), [[0, 0, 0, 1]] * 2)

    @pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
    def test_missing_is_a_category(self, missing):
        frame = pd.DataFrame({"color": COLORS + [missing] * 6}, dtype=object)
        encoded = expand(encode(frame), frame)
        assert encoded.shape == (126, 5)
        assert_array_equal(encoded[120:].sum(axis=0) == 6, encoded[:120].sum(axis=0) == 0)

    @pytest.mark.parametrize(
        "convert",
        [
            lambda frame: frame,
            lambda frame: frame.astype({"color": "category", "size": "float32"}),
            lambda frame: frame.astype({"color": "string", "size": "Float64"}),
            lambda frame: pl.DataFrame(frame.to_dict("list"), nan_to_null=True),
            lambda frame: frame.to_numpy(),
        ],
        ids=["object", "category", "nullable", "polars", "array"],
    )
    def test_libraries(self, convert):
        frame = pd.DataFrame({"color": COLORS, "size": [np.nan] * 5 + [*range(115)]})
        expected = expand(encode(frame), frame)
        converted = convert(frame)
        encoder = encode(converted, [0])
        assert_allclose(expand(encoder, converted), expected)
        assert_allclose(expand(encoder, frame), expected)

    @pytest.mark.parametrize(
        ("values", "other"),
        [
            ([1, 2], [1.0, 2.0]),
            ([1, 2], ["1", "2"]),
            ([1, 2], [Decimal("1.0"), Decimal(2)]),
            ([0, 1], [False, True]),
            ([0.1, 0.2], np.float32([0.1, 0.2])),
        ],
        ids=str,
    )
    def test_equal_numbers_are_the_same_category(self, values, other):
        encoder = encode(pd.DataFrame({"a": values * 5}), ["a"])
        assert_array_equal(expand(encoder, pd.DataFrame({"a": other})), np.eye(2))

    def test_large_integers_are_not_rounded(self):
        frame = pd.DataFrame({"id": [2**60, 2**60 + 1] * 10})
        assert_array_equal(expand(encode(frame, ["id"]), frame)[:2], np.eye(2))

    @pytest.mark.parametrize("n_categories", [2, 40, 600])
    def test_as_one_hot_encoder(self, rng, n_categories):
        """The columns are those of scikit-learn, with missing values as categories."""
        codes = rng.zipf(1.2, size=(4000, 3)) % n_categories
        text = pd.DataFrame(codes).map(lambda code: f"{code:x}").astype(object)
        text[rng.random(text.shape) < [0.1, 0.002, 0]] = np.nan
        expected = OneHotEncoder(
            min_frequency=5,
            max_categories=MAX_CATEGORIES,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        ).fit(text[:3000])
        encoder = encode(text[:3000], [0, 1, 2])
        with warnings.catch_warnings(action="ignore"):  # scikit-learn reports unknown categories
            assert_array_equal(expand(encoder, text), expected.transform(text))

    def test_text_that_is_all_missing(self):
        frame = pd.DataFrame({"a": pd.array([None] * 30, dtype="string"), "b": np.arange(30.0)})
        assert find_categorical(frame, "from_dtype").tolist() == [True, False]
        assert expand(encode(frame), frame.assign(a="new")).shape == (30, 2)

    def test_array(self):
        X = np.array([[0.0, 5.0], [1.0, 5.0]] * 5)
        assert_array_equal(expand(encode(X, [True, False]), X)[:2], [[5, 1, 0], [5, 0, 1]])

    def test_many_categories(self, rng):
        """Memory does not grow with the number of categories."""
        frame = pd.DataFrame({"a": pd.Categorical(rng.integers(10_000, size=100_000))})
        encoder = encode(frame)
        assert encoder.n_outputs == MAX_CATEGORIES
        assert encoder.transform(frame).shape == (100_000, 1)


class TestSuspiciousFeatures:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (["23", "44", "?"] * 20, r"numbers, but also '\?'.*NaN.*to_numeric"),
            (["23.5", "44", " "] * 20, r"numbers, but also ' '"),
            (["1", "2", "3", "NaN", "missing"] * 20, "numbers, but also 'NaN', 'missing'"),
            ([*map(str, range(40)), "40 or more"] * 2, "numbers, but also '40 or more'"),
            ([str(number) for number in range(18, 90)] * 20, "numbers as text, such as '18'"),
            (["2024-01-05", "2024-02-01"] * 20, r"dates.*to_datetime\(X\['a'\]\)\.dt\.year"),
            (["2024-01-05T12:30:00", "2024/2/1"] * 20, "dates, such as '2024-01-05T"),
            (["31.12.2023", "1/2/24", "01-02-2024 12:00"] * 20, "dates"),
            ([f"user {number}" for number in range(30)], "30 different values.*'user 0'.*Drop"),
            ([f"user {number}" for number in range(300)] * 3, "too rare to be told apart"),
        ],
        ids=range(10),
    )
    def test_warning(self, values, message):
        with pytest.warns(SuspiciousFeatureWarning, match=rf"^Column 'a' is .*{message}") as caught:
            encode(pd.DataFrame({"a": values}))
        assert len(caught) == 1
        assert caught[0].filename == __file__

    @pytest.mark.parametrize(
        "values",
        [
            ["0", "1", "2", "3+"] * 20,  # a few codes and intervals
            ["1", "2", "X"] * 20,
            ["2024", "2023"] * 20,
            [f"{number:05}" for number in range(0, 90000, 1000)] * 20,  # postal codes
            ["1.2.3", "10.1.2"] * 20,  # versions
            # Half of the samples are in a few frequent categories.
            [f"city {number}" for number in range(20)] * 20 + [f"town {n}" for n in range(380)],
            ["a", "b"] * 9,
            [None] * 50,
        ],
        ids=range(8),
    )
    def test_no_warning(self, values):
        encode(pd.DataFrame({"a": values}, dtype=object), "from_dtype")

    @pytest.mark.parametrize("column", [["1", "2", "?"] * 20, pd.Categorical(["1", "2", "?"] * 20)])
    def test_declared_categories(self, column):
        frame = pd.DataFrame({"a": column})
        encode(frame, ["a"] if isinstance(column, list) else "from_dtype")

    def test_one_warning_per_column(self):
        frame = pd.DataFrame({"a": ["1", "2", "?"] * 20, "b": ["2024-01-05"] * 60, "c": "x"})
        with pytest.warns(SuspiciousFeatureWarning) as caught:
            encode(frame)
        assert [str(warning.message)[:10] for warning in caught] == ["Column 'a'", "Column 'b'"]

    def test_points_at_the_caller(self, make_embedder):
        frame = pd.DataFrame({"a": ["1", "2", "?"] * 20})
        pipeline = make_pipeline(make_embedder(max_epochs=1), KNeighborsClassifier())
        with pytest.warns(SuspiciousFeatureWarning) as caught:
            pipeline.fit(frame, [0, 1, 0] * 20)
        assert caught[0].filename == __file__


class TestUnknownCategories:
    """Training continues on samples with other categories."""

    def test_warning(self):
        encoder = encode(pd.DataFrame({"a": COLORS}))
        new = pd.DataFrame({"a": ["violet", "pink", "red", None] * 20})
        with pytest.warns(UnknownCategoryWarning, match="^67% .*'a'.*'pink', 'violet'"):
            encoder.transform(new, warns=True)
        encoder.transform(new)

    def test_no_warning(self):
        encoder = encode(pd.DataFrame({"a": COLORS}))
        encoder.transform(pd.DataFrame({"a": ["violet"] * 10 + ["red"] * 50}), warns=True)
        encoder.transform(pd.DataFrame({"a": ["violet"] * 10}), warns=True)
        # As many rare values as in fit.
        names = pd.Series([f"user {number}" for number in range(200)], dtype="category")
        encoder = encode(pd.DataFrame({"a": names}))
        encoder.transform(pd.DataFrame({"a": names.astype(str) + "0"}), warns=True)


def frame_with(column):
    """Return 42 samples with two features, and their labels."""
    return pd.DataFrame({"x": column, "z": np.linspace(0, 1, 42)}), [0, 1, 2] * 14


class TestColumns:
    """Columns of all kinds in a DataFrame."""

    def with_missing(self, values, missing=None):
        return [x if index % 7 else missing for index, x in enumerate(values)]

    @pytest.mark.parametrize("missing", [None, pd.NA, pd.NaT, np.nan])
    def test_missing_objects(self, make_embedder, missing):
        """Without a categorical column beside them."""
        X, y = frame_with(np.array(self.with_missing(range(42), missing), dtype=object))
        as_floats = X.assign(x=self.with_missing(range(42), np.nan))
        expected = make_embedder().fit(as_floats, y).transform(as_floats)
        embedder = make_embedder().fit(X, y)
        assert_array_equal(embedder.transform(X), expected)
        assert_array_equal(make_embedder().fit(X.to_numpy(), y).transform(X.to_numpy()), expected)
        # Columns may have other dtypes than in fit.
        for dtype in (float, "Float64"):
            assert_array_equal(embedder.transform(as_floats.astype({"x": dtype})), expected)

    @pytest.mark.parametrize("dtype", ["Int64", "Float32", "boolean", "category", object])
    def test_numbers(self, make_embedder, dtype):
        values = [x % 2 for x in range(42)]
        X, y = frame_with(pd.Series(self.with_missing(values), dtype="Int64").astype(dtype))
        as_floats = X.assign(x=self.with_missing(values, np.nan))
        embedder = make_embedder(categorical_features=None).fit(X, y)
        assert_array_equal(embedder.transform(X), embedder.transform(as_floats))
        expected = make_embedder().fit(as_floats, y).transform(as_floats)
        assert_array_equal(embedder.transform(X), expected)

    @pytest.mark.parametrize("dtype", ["Boolean", "Int64", "Decimal(9,2)", "Null"])
    def test_polars_numbers(self, make_embedder, dtype):
        values = [None] * 42 if dtype == "Null" else self.with_missing([0, 1] * 21)
        X, y = frame_with(np.array(values, dtype=float))
        series = pl.Series(values, dtype=pl.Int64)
        series = series.cast(pl.Decimal(9, 2) if "Decimal" in dtype else getattr(pl, dtype))
        polars = pl.DataFrame({"x": series, "z": X["z"].to_numpy()})
        expected = make_embedder().fit(X, y).transform(X)
        assert_array_equal(make_embedder().fit(polars, y).transform(polars), expected)

    @pytest.mark.parametrize("dtype", ["String", "Categorical", "Enum"])
    def test_polars_categories(self, make_embedder, dtype):
        values = self.with_missing(["a", "b"] * 21)
        X, y = frame_with(np.array(values, dtype=object))
        polars_dtype = pl.Enum(["b", "c", "a"]) if dtype == "Enum" else getattr(pl, dtype)
        series = pl.Series(values).cast(polars_dtype)
        polars = pl.DataFrame({"x": series, "z": X["z"].to_numpy()})
        expected = make_embedder().fit(X, y).transform(X)
        assert_array_equal(make_embedder().fit(polars, y).transform(polars), expected)

    @pytest.mark.parametrize(
        "dtype", ["int64", "float64", "bool_", "string", "large_string", "dictionary", "decimal128"]
    )
    def test_pyarrow(self, make_embedder, dtype):
        pa = pytest.importorskip("pyarrow")
        is_text = "string" in dtype or dtype == "dictionary"
        values = self.with_missing(["a", "b"] * 21 if is_text else [0, 1] * 21)
        X, y = frame_with(pd.Series(values, dtype=object if is_text else float))
        arrow_type = {
            "dictionary": lambda: pa.dictionary(pa.int32(), pa.string()),
            "decimal128": lambda: pa.decimal128(5, 2),
        }.get(dtype, getattr(pa, dtype, None))()
        arrow = X.assign(x=X["x"].astype(pd.ArrowDtype(arrow_type)))
        expected = make_embedder().fit(X, y).transform(X)
        assert_array_equal(make_embedder().fit(arrow, y).transform(arrow), expected)
        with pytest.raises(TypeError, match=r"Got Table\. Pass X\.to_pandas\(\)"):
            make_embedder().fit(pa.table({"x": [0.0] * 42}), y)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([[1, 2]] * 42, r"lists.*'x' \(object\).*a column per element"),
            ([np.ones(2)] * 42, "lists.*'x'"),
            ([(1, 2)] * 42, "lists.*'x'"),
            ([{"a": 1}] * 42, "lists.*'x'"),
            (pd.date_range("2024", periods=42), r"dates.*'x'.*skrub.*X\['x'\]\)\.dt\.year"),
            (pd.date_range("2024", periods=42, tz="UTC"), "dates.*'x'"),
            (pd.period_range("2024", periods=42), "dates.*'x'"),
            ([datetime.date(2024, 1, 1), pd.NaT] * 21, "dates.*'x'"),
            ([datetime.time(1, 30)] * 42, "dates.*'x'"),
            (pd.to_timedelta(range(42), unit="s"), r"durations.*'x'.*\.dt\.total_seconds\(\)"),
            ([datetime.timedelta(1)] * 42, "durations.*'x'"),
            ([datetime.timedelta(1), None] * 21, "durations.*'x'"),
        ],
        ids=range(12),
    )
    @pytest.mark.parametrize("chosen", ["from_dtype", None, ["x"]])
    def test_unsupported(self, make_embedder, values, message, chosen):
        X, y = frame_with(0.0)
        embedder = make_embedder(categorical_features=chosen).fit(X, y)
        X["x"] = pd.Series(values)
        for method in (embedder.fit, embedder.partial_fit, lambda X, y: embedder.transform(X)):
            with pytest.raises(ValueError, match=rf"^X must hold numbers or categories.*{message}"):
                method(X, y)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([[1]] * 42, r"lists.*'x' \(List\(Int64\)\).*a column per element"),
            ([{"a": 1}] * 42, "lists.*'x'"),
            ([datetime.date(2024, 1, 1)] * 42, r"dates.*X\['x'\]\.dt\.year\(\)"),
            ([datetime.time(1)] * 42, "dates.*'x'"),
            ([datetime.timedelta(1)] * 42, r"durations.*X\['x'\]\.dt\.total_seconds\(\)"),
        ],
        ids=range(5),
    )
    def test_unsupported_in_polars(self, make_embedder, values, message):
        with pytest.raises(ValueError, match=f"^X must hold numbers or categories.*{message}"):
            make_embedder().fit(pl.DataFrame({"x": values}), [0, 1, 2] * 14)

    def test_lazy_frame(self, make_embedder):
        X, y = frame_with(0.0)
        lazy = pl.DataFrame(X.to_dict("list")).lazy()
        for call in (
            lambda: make_embedder().fit(lazy, y),
            lambda: make_embedder().fit(X, y).transform(lazy),
        ):
            with pytest.raises(TypeError, match=r"Got LazyFrame\. Pass X\.collect\(\)"):
                call()

    @pytest.mark.parametrize("convert", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
    @pytest.mark.parametrize("others", [{}, {"text": ["a", "b", "c"] * 14}], ids=["", "text"])
    @pytest.mark.parametrize("value", [np.inf, -1e300])
    def test_infinity(self, make_embedder, convert, others, value):
        X, y = frame_with(0.0)
        X = convert(X.assign(x=[value] * 42).to_dict("list") | others)
        with pytest.raises(ValueError, match=r"Column 'x' contains infinity or .*float32"):
            make_embedder().fit(X, y)

    @pytest.mark.parametrize("value", [10**30, 10**400, Decimal("0.5"), np.bool_(True)])
    def test_objects(self, make_embedder, value):
        X, y = frame_with(np.array([0, value] * 21, dtype=object))
        embedder = make_embedder()
        if isinstance(value, int) and value > 10**300:
            with pytest.raises(ValueError, match="Column 'x' contains infinity or a value too"):
                embedder.fit(X, y)
        else:
            as_floats = X.assign(x=[0, float(value)] * 21)
            expected = make_embedder().fit(as_floats, y).transform(as_floats)
            assert_array_equal(embedder.fit(X, y).transform(X), expected)

    def test_text_that_is_declared_numeric(self, make_embedder):
        X, y = frame_with(["a", "b"] * 21)
        with pytest.raises(ValueError, match=r"Column 'x' is not numeric.*List it") as error:
            make_embedder(categorical_features=None).fit(X, y)
        assert "Pass a DataFrame" not in str(error.value)
        with pytest.raises(ValueError, match=r"Column 0 is not numeric.*Pass a DataFrame"):
            make_embedder().fit(X.to_numpy(), y)
        # There is nothing to choose in transform.
        with pytest.raises(ValueError, match=r"Column 'x' is not numeric.*: 'a'\.$"):
            make_embedder().fit(X.assign(x=0.5), y).transform(X)

    def test_sparse_columns(self, make_embedder):
        X, y = frame_with(pd.arrays.SparseArray(["a", "b"] * 21, fill_value="a"))
        dense = X.assign(x=["a", "b"] * 21)
        expected = make_embedder().fit(dense, y).transform(dense)
        assert_array_equal(make_embedder().fit(X, y).transform(X), expected)

    @pytest.mark.parametrize("names", [[0, 1], [("a", 0), ("a", "x")], [1.5, "x"]], ids=str)
    def test_column_names(self, make_embedder, names):
        X, y = frame_with(["a", "b"] * 21)
        expected = make_embedder().fit(X, y).transform(X)
        X.columns = pd.Index(names, tupleize_cols=True)
        if names[0] == 1.5:  # as in scikit-learn
            with pytest.raises(TypeError, match="Feature names are only supported"):
                make_embedder().fit(X, y)
            return
        assert_array_equal(make_embedder().fit(X, y).transform(X), expected)
        if X.columns.nlevels > 1:
            embedder = make_embedder(categorical_features=[("a", 0)])
            assert_array_equal(embedder.fit(X, y).transform(X), expected)

    def test_numbers_of_features(self, make_embedder):
        X, y = frame_with(["a", "b"] * 21)
        embedder = make_embedder(categorical_features=[0]).fit(X.to_numpy(), y)
        with pytest.warns(UserWarning, match="feature names"), pytest.raises(ValueError, match="3"):
            embedder.transform(X.assign(more=1))

    @pytest.mark.parametrize("dtype", [np.float32, np.int64])
    def test_arrays_are_not_converted_to_objects(self, make_embedder, monkeypatch, dtype):
        X, y = np.arange(84).reshape(42, 2).astype(dtype) % 5, [0, 1, 2] * 14
        embedder = make_embedder(categorical_features=[0]).fit(X, y)
        expected = embedder.transform(X)
        assert_array_equal(embedder.transform(X.astype(object)), expected)
        seen = []
        encoder = embedder._preprocessor.encoder
        monkeypatch.setattr(encoder, "transform", lambda X: seen.append(X) or X)
        encoder.transform(X)
        embedder._preprocessor.encode(X, embedder)
        assert np.shares_memory(seen[-1], X)


class TestBins:
    def test_two_valued_features(self, make_embedder):
        """Indicators and one-hot columns have one bin; the others have the usual ones."""
        X, y = frame_with(["a", "b"] * 21)
        X["missing"] = [np.nan if index % 3 else index for index in range(42)]
        embedder = make_embedder(n_members=4).fit(X, y)
        backbone = embedder.net_.module_.backbone
        assert backbone.encoding.n_outputs == 2 * N_BINS + 3
        scaler = embedder.net_.module_.scaler
        edges = backbone.encoding.bin_edges.T * scaler.scale + scaler.mean
        assert_allclose(edges[:2, 2:], [[0] * 3, [1] * 3], atol=1e-6)
        assert_allclose(edges[:, 0], np.quantile(X["z"], np.linspace(0, 1, 9)), atol=1e-6)

    def test_categories_only(self, make_embedder):
        X, y = frame_with(["a", "b"] * 21)
        embedder = make_embedder(n_members=4).fit(X[["x"]], y)
        assert embedder.net_.module_.backbone.encoding.n_outputs == 2
        assert len(np.unique(embedder.transform(X[["x"]]), axis=0)) == 2


class TestEncodedByHand:
    def test_same_embeddings(self, make_embedder, rng):
        """A single network, without bins, sees what scikit-learn's transformers return."""
        X = pd.DataFrame({"size": rng.integers(9, size=200).astype(float)})
        X["color"] = rng.choice(["red", "blue", "green", None], size=200)
        X.loc[:2, "color"] = "rare"
        y = np.where((X["color"] == "red") ^ (X["size"] > 4), "yes", "no")
        X.loc[::9, "size"] = np.nan
        by_hand = make_column_transformer(
            (SimpleImputer(add_indicator=True), ["size"]),
            (OneHotEncoder(min_frequency=5, sparse_output=False), ["color"]),
        )
        encoded = by_hand.fit_transform(X)
        embedder = make_embedder(n_members=1)
        expected = embedder.fit_transform(encoded, y)
        assert encoded.shape == (200, 7)
        assert_array_equal(embedder.fit_transform(X, y), expected)


class TestMemory:
    def test_one_hot_columns_are_not_stored(self, make_embedder):
        codes = np.arange(3000)[:, np.newaxis] // np.arange(1, 41) % 200
        X, y = pd.DataFrame(codes).astype("category"), np.arange(3000) % 2
        X.columns = X.columns.astype(str)
        tracemalloc.start()
        embedder = make_embedder(hidden_layer_sizes=(4,), max_epochs=1).fit(X, y)
        embedder.transform(X)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        n_outputs = embedder._preprocessor.encoder.n_outputs
        assert n_outputs > 2000
        # torch's own memory is not traced, but NumPy's is.
        assert peak < X.shape[0] * n_outputs * 8


class TestOutsideTools:
    """Whatever works for arrays works for DataFrames."""

    @pytest.fixture
    def mixed(self):
        rng = np.random.default_rng(0)
        frame = pd.DataFrame({"size": rng.normal(size=90), "color": rng.choice(["a", "b"], 90)})
        frame.loc[::9, "color"] = None
        return frame, np.where((frame["color"] == "a") ^ (frame["size"] > 0), "yes", "no")

    def test_clone_and_pickle(self, make_embedder, mixed):
        X, y = mixed
        embedder = clone(make_embedder(categorical_features=pd.Index(["color"]))).fit(X, y)
        expected = embedder.transform(X)
        assert_array_equal(pickle.loads(pickle.dumps(embedder)).transform(X), expected)
        assert_array_equal(clone(embedder).fit(X, y).transform(X), expected)
        assert isinstance(embedder.categorical_features, pd.Index)

    @pytest.mark.parametrize(
        "chosen", ["from_dtype", ("color",), np.array([1]), pd.Index(["color"])], ids=str
    )
    def test_skops(self, make_embedder, mixed, chosen):
        X, y = mixed
        embedder = make_embedder(categorical_features=chosen).fit(X, y)
        dumped = skops.io.dumps(embedder)
        trusted = skops.io.get_untrusted_types(data=dumped)
        assert trusted == ["sktriplet._embedder.TripletEmbedder"]
        loaded = skops.io.loads(dumped, trusted=trusted)
        assert_array_equal(loaded.transform(X), embedder.transform(X))
        loaded.partial_fit(X, y)

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_set_output(self, make_embedder, mixed, library):
        X, y = mixed
        embedder = make_embedder().set_output(transform=library)
        embedded = embedder.fit(X, y).transform(X)
        assert list(embedded.columns) == embedder.get_feature_names_out().tolist()
        if library == "pandas":
            assert embedded.index.equals(X.index)

    def test_warm_start(self, make_embedder, mixed):
        X, y = mixed
        embedder = make_embedder(warm_start=True).fit(X, y).fit(X, y)
        assert embedder.n_iter_ == 4

    def test_grid_search(self, make_embedder, mixed, tmp_path):
        X, y = mixed
        pipeline = make_pipeline(make_embedder(), KNeighborsClassifier(), memory=str(tmp_path))
        grid = {"tripletembedder__categorical_features": ["from_dtype", ["color"], [1]]}
        search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
        assert len(set(search.cv_results_["mean_test_score"])) == 1
        assert cross_val_score(pipeline, X, y, cv=2).shape == (2,)

    def test_frame_is_unchanged(self, make_embedder, mixed):
        X, y = mixed
        before = X.copy()
        make_embedder().fit(X, y).transform(X)
        pd.testing.assert_frame_equal(X, before)

    @pytest.mark.parametrize("chosen", [{"color"}, [("color",)], [["color"]]], ids=str)
    def test_invalid_choice(self, make_embedder, mixed, chosen):
        with pytest.raises(InvalidParameterError, match="'categorical_features' parameter"):
            make_embedder(categorical_features=chosen).fit(*mixed)

    def test_mask_is_by_position(self, mixed):
        """As in HistGradientBoostingClassifier."""
        X, _ = mixed
        mask = pd.Series([False, True], index=["color", "size"])
        assert find_categorical(X, mask).tolist() == [False, True]


def test_sum_by_column():
    """Outputs are numbers, indicators, and one-hot columns, wherever the columns are in X."""
    X = pd.DataFrame({"color": list("rrggb") * 4, "size": [1.0, np.nan] * 10, "age": range(20)})
    encoder = TableEncoder(np.array([True, False, False])).fit(X)
    n_colors = encoder.n_outputs - 3
    values = np.array([[1, 20, 300, *[4000] * n_colors]], dtype=float)  # size, age, missing size
    assert_array_equal(encoder.sum_by_column(values), [[4000 * n_colors, 301, 20]])
