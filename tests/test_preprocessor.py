import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sktriplet import TripletEmbedder
from sktriplet._preprocessor import Preprocessor
from sktriplet.exceptions import InputRangeWarning, InvalidParameterError


def make(**parameters):
    defaults = {
        "input_shape": None,
        "standardize": True,
        "categorical_features": "from_dtype",
        "accepts_ids": False,
    }
    return Preprocessor(**(defaults | parameters))


def fit(preprocessor, X, *, update=False):
    X = preprocessor.encode_training(X, TripletEmbedder(), n_labels=len(X), min_samples=2)
    return preprocessor.fit_convert(X, update=update)


def test_table():
    X = np.random.default_rng(0).normal(3, 2, size=(20, 4))
    preprocessor = make()
    converted = fit(preprocessor, X)
    assert converted.dtype == np.float32
    assert (preprocessor.shape, preprocessor.n_features) == ((4,), 4)
    assert_allclose(preprocessor.scaler.mean_, X.mean(axis=0))
    assert_array_equal(preprocessor.convert(preprocessor.encode(X, TripletEmbedder())), converted)


def test_large_offsets_are_subtracted():
    X = np.random.default_rng(0).normal(size=(20, 2)) + np.array([1e9, 0])
    preprocessor = make()
    assert_allclose(fit(preprocessor, X)[:, 0], X[:, 0] - X[:, 0].mean(), rtol=1e-5)
    encoded = preprocessor.encode(sparse.csr_array(X), TripletEmbedder())
    assert preprocessor.becomes_dense(encoded)
    assert_allclose(preprocessor.convert(encoded), X - preprocessor.offset, rtol=1e-5)


@pytest.mark.parametrize("update", [True, False])
def test_continued_does_not_change_the_first(update):
    X = np.random.default_rng(0).normal(size=(20, 2))
    first = make()
    fit(first, X)
    mean = first.scaler.mean_.copy()
    second = first.continued(make())
    fit(second, X + 5, update=update)
    assert_array_equal(first.scaler.mean_, mean)
    assert_allclose(second.scaler.mean_, mean + 2.5 * update)


def test_continued_with_other_parameters():
    first = make()
    fit(first, np.eye(3))
    second = first.continued(make(standardize=False))
    fit(second, np.eye(3))
    assert second.scaler is None
    with pytest.raises(InvalidParameterError, match=r"'categorical_features'.*None after 'from"):
        first.continued(make(categorical_features=None))


def test_ids():
    X = np.arange(6, dtype=np.int32).reshape(3, 2)
    preprocessor = make(standardize=False, accepts_ids=True)
    assert fit(preprocessor, X).dtype == np.int64
    with pytest.raises(ValueError, match="X must hold integers"):
        preprocessor.encode(X / 2, TripletEmbedder())
    with pytest.raises(InvalidParameterError, match="'standardize' parameter must not change"):
        fit(preprocessor.continued(make()), X)


def test_other_range():
    X = np.random.default_rng(0).integers(256, size=(20, 8, 8)).astype(np.uint8)
    preprocessor = make()
    fit(preprocessor, X)
    with pytest.warns(InputRangeWarning, match="from 0 to 1, but") as record:
        preprocessor.convert(X / np.float32(255))
    assert record[0].filename == __file__
