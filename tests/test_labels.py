import numpy as np
import pytest

from sktriplet._labels import concatenate_labels

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
