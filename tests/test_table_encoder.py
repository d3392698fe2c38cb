from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sktriplet._table_encoder import MAX_CATEGORIES, TableEncoder, find_categorical
from sktriplet.exceptions import InvalidParameterError, SuspiciousFeatureWarning

# In 120 samples, a category needs five.
COLORS = ["red"] * 36 + ["blue"] * 50 + ["green"] * 30 + ["rare"] * 4


def encode(X, categorical_features="from_dtype"):
    is_inferred = isinstance(categorical_features, str)
    mask = find_categorical(X, categorical_features)
    return TableEncoder(mask, is_inferred=is_inferred).fit(X)


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
        encoded = encoder.transform(frame)
        # blue, green, red, and rare ones
        assert encoded.shape == (120, encoder.n_outputs) == (120, 5)
        assert_array_equal(encoded[:, 0], frame["size"])
        assert_array_equal(encoded[[0, 36, 86, 116], 1:], np.eye(4)[[2, 0, 1, 3]])

    def test_small_data(self):
        frame = pd.DataFrame({"color": ["red", "blue", "green"] * 4})
        assert_array_equal(encode(frame).transform(frame)[:3], np.eye(3)[[2, 0, 1]])

    def test_unknown_is_like_rare(self):
        frame = pd.DataFrame({"color": COLORS})
        encoder = encode(frame)
        other = pd.DataFrame({"color": ["rare", "unheard of"]})
        assert_array_equal(encoder.transform(other), [[0, 0, 0, 1]] * 2)

    @pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
    def test_missing_is_a_category(self, missing):
        frame = pd.DataFrame({"color": COLORS + [missing] * 6}, dtype=object)
        encoded = encode(frame).transform(frame)
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
        expected = encode(frame).transform(frame)
        converted = convert(frame)
        encoder = encode(converted, [0])
        assert_allclose(encoder.transform(converted), expected)
        assert_allclose(encoder.transform(frame), expected)

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
        assert_array_equal(encoder.transform(pd.DataFrame({"a": other})), np.eye(2))

    def test_large_integers_are_not_rounded(self):
        frame = pd.DataFrame({"id": [2**60, 2**60 + 1] * 10})
        assert_array_equal(encode(frame, ["id"]).transform(frame)[:2], np.eye(2))

    def test_text_that_is_all_missing(self):
        frame = pd.DataFrame({"a": pd.array([None] * 30, dtype="string"), "b": np.arange(30.0)})
        assert find_categorical(frame, "from_dtype").tolist() == [True, False]
        assert encode(frame).transform(frame.assign(a="new")).shape == (30, 2)

    def test_array(self):
        X = np.array([[0.0, 5.0], [1.0, 5.0]] * 5)
        assert_array_equal(encode(X, [True, False]).transform(X)[:2], [[5, 1, 0], [5, 0, 1]])

    def test_many_categories(self, rng):
        """Memory does not grow with the number of categories."""
        frame = pd.DataFrame({"a": rng.integers(10_000, size=100_000).astype(str)})
        encoder = encode(frame)
        assert encoder.n_outputs == MAX_CATEGORIES


class TestSuspiciousFeatures:
    def test_numbers_with_a_marker(self):
        frame = pd.DataFrame({"age": ["23", "44", "?"] * 20})
        with pytest.warns(SuspiciousFeatureWarning, match=r"'age'.*not all .*'\?'"):
            encode(frame)

    @pytest.mark.parametrize("column", [["1", "2", "X"] * 20, pd.Categorical(["1", "2", "X"] * 20)])
    def test_declared_categories(self, column):
        frame = pd.DataFrame({"a": column})
        encode(frame, ["a"] if isinstance(column, list) else "from_dtype")

    def test_identifiers(self):
        frame = pd.DataFrame({"day": [f"2020-01-{day:02}" for day in range(1, 29)]})
        with pytest.warns(SuspiciousFeatureWarning, match="'day' .*28 different.*2020-01-01"):
            encode(frame)
