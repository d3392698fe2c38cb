import numpy as np
import pandas as pd
import pytest

from sktriplet._labels import (
    check_labels,
    concatenate_labels,
    find_labeled,
    may_mark_unlabeled,
)

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


@pytest.mark.parametrize(
    ("column", "unlabeled", "expected"),
    [
        ([0, -1, 1], -1, [True, False, True]),
        ([0.0, -1.0, 1.0], -1, [True, False, True]),
        (np.array([0, 1], np.uint8), -1, [True, True]),
        (np.array(["a", -1], object), -1, [True, False]),
        (["a", ""], "", [True, False]),
        (["a", "b"], -1, [True, True]),
        ([0, -1], "-1", [True, True]),
        ([0, -1], None, [True, True]),
    ],
)
def test_find_labeled(column, unlabeled, expected):
    assert find_labeled(np.asarray(column), unlabeled).tolist() == expected


def test_find_labeled_among_strings():
    with pytest.raises(ValueError, match=r"y holds the string '-1', but unlabeled=-1"):
        find_labeled(np.array(["a", -1]), -1)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([-1, 1], False),
        ([-1, 0], False),
        ([-1, 0, 1], True),
        ([-1.0, 3.0, 5.0], True),
        ([-2, -1, 0, 1], False),
        ([-1, -0.5, 0], False),
        ([0, 1, 2], False),
        (["-1", "a", "b"], True),
        (["a", "b", "c"], False),
    ],
)
def test_may_mark_unlabeled(classes, expected):
    assert may_mark_unlabeled(np.array(classes)) == expected
