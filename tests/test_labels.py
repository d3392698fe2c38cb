import numpy as np
import pandas as pd
import pytest

from sktriplet._labels import check_labels, concatenate_labels

LARGE = 10**18


@pytest.mark.parametrize(
    ("parts", "dtype"),
    [
        pytest.param(([1, 2], [3, 4]), np.int64, id="integers"),
        pytest.param(([1], [0.5]), np.float64, id="exact floats"),
        pytest.param((["a"], ["bb"]), "<U2", id="strings"),
        pytest.param(([LARGE + 1], np.array([LARGE], np.uint64)), object, id="large"),
        pytest.param(([LARGE + 1], [0.5]), object, id="large and float"),
    ],
)
def test_concatenate_labels(parts, dtype):
    parts = [np.asarray(part) for part in parts]
    joined = concatenate_labels(*parts)
    assert joined.dtype == dtype
    assert joined.tolist() == [label for part in parts for label in part.tolist()]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, np.datetime64("NaT")])
def test_check_labels_missing(missing):
    with pytest.raises(ValueError, match=r"^groups .*position 1"):
        check_labels(np.array(["a", missing], dtype=object), "groups")
    series = pd.Series([1, None], dtype="Int64")
    with pytest.raises(ValueError, match=r"^y .*position 1"):
        check_labels(series, "y")


def test_check_labels_nullable():
    labels = 10**18 + np.arange(3)
    assert check_labels(pd.Series(labels, dtype="UInt64"), "y").tolist() == labels.tolist()


def test_check_labels_2d():
    with pytest.raises(ValueError, match=r"^groups must be one-dimensional"):
        check_labels(np.zeros((2, 2)), "groups")
