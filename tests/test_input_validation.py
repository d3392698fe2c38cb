import numpy as np
import pandas as pd
import pytest

from sktriplet import TripletEmbedder
from sktriplet._input_layout import ImageLayout, TableLayout
from sktriplet._input_validation import validate_array
from sktriplet._table_encoder import TableEncoder
from sktriplet.datasets import LazySamples


def validate(X, layout_type=TableLayout, encoder=None, *, accepts_ids=False):
    if encoder is None and layout_type is TableLayout:
        encoder = TableEncoder()
    return validate_array(
        TripletEmbedder(), X, layout_type, encoder, accepts_ids=accepts_ids, reset=True
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_arrays_are_not_copied(dtype):
    X = np.ones((3, 2), dtype)
    assert np.shares_memory(validate(X), X)


@pytest.mark.parametrize(("accepts_ids", "expected"), [(True, np.int16), (False, np.float32)])
def test_ids_of_sequences(accepts_ids, expected):
    X = np.ones((3, 8, 8), np.int16)
    assert validate(X, ImageLayout, accepts_ids=accepts_ids).dtype == expected


def test_missing_values():
    X = np.array([[np.nan, 1]])
    assert np.isnan(validate(X)[0, 0])
    with pytest.raises(ValueError, match="X contains NaN"):
        validate(X[:, None], ImageLayout)


def test_mixed_table_is_not_converted():
    X = pd.DataFrame({"a": ["x", "y"], "b": [1, 2]})
    assert validate(X, encoder=TableEncoder(np.array([True, False]))) is X
    with pytest.raises(ValueError, match="Column 'a' is not numeric"):
        validate(X, encoder=TableEncoder(np.array([False, True])))


def test_lazy_samples():
    lazy = LazySamples(np.zeros((4, 8, 8)))
    assert validate(lazy, ImageLayout) is lazy
    with pytest.raises(ValueError, match="X must be an array if it is a table"):
        validate(LazySamples(np.zeros((4, 8))))
