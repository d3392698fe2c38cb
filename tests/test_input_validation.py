import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sktriplet import TripletEmbedder
from sktriplet._input_layout import TableLayout
from sktriplet._input_validation import (
    set_fitted_attributes,
    to_single_precision,
    validate_samples,
    validate_training_data,
)
from sktriplet.exceptions import InvalidParameterError

LABELS = np.array([0, 1, 1])


class TestValidateTrainingData:
    @pytest.mark.parametrize("value", [1e300, -1e300])
    def test_too_large(self, value):
        with pytest.raises(ValueError, match=r"X .*float32"):
            validate_training_data(TripletEmbedder(), [[1.0], [value], [0.0]], [0, 1, 1])

    def test_table(self):
        X = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 0.25, 0]})
        data = validate_training_data(TripletEmbedder(), X, ["x", "y", "y"])
        assert_array_equal(data.X, X)
        assert data.labels.tolist() == [0, 1, 1]
        assert data.labels.dtype == np.int64
        assert data.classes.tolist() == ["x", "y"]
        assert data.layout == TableLayout((2,))
        assert data.fitted_attributes.keys() == {
            *("classes_", "n_features_in_", "input_shape_", "feature_names_in_", "_encoder"),
            "_holds_integers",
        }
        assert data.fitted_attributes["feature_names_in_"].tolist() == ["a", "b"]

    def test_images_of_bytes(self):
        X = np.zeros((3, 8, 9), np.uint8)
        data = validate_training_data(TripletEmbedder(), X, LABELS)
        assert np.shares_memory(data.X, X)
        assert data.fitted_attributes["n_features_in_"] == 72
        assert data.fitted_attributes["input_shape_"] == (1, 8, 9)

    def test_estimator_is_not_changed(self):
        embedder = TripletEmbedder()
        validate_training_data(embedder, np.eye(3), LABELS)
        assert vars(embedder) == vars(TripletEmbedder())

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_sparse_is_made_canonical(self, dtype):
        parts = [1.0, 2.0, 0.0, 2.0], [1, 1, 1, 0], [0, 2, 4, 4]
        matrix = sparse.csr_matrix(parts, shape=(3, 2), dtype=dtype)
        X = validate_training_data(TripletEmbedder(), matrix, LABELS).X
        assert X.has_canonical_format
        assert (X.data.tolist(), X.indices.tolist()) == ([3, 2, 0], [1, 0, 1])
        assert matrix.data.tolist() == parts[0], "is not changed"

    def test_canonical_sparse_is_not_copied(self):
        matrix = sparse.csr_array(np.array([[0, 3], [2, 0], [0, 0]], np.float32))
        X = validate_training_data(TripletEmbedder(), matrix, LABELS).X
        assert np.shares_memory(X.data, matrix.data)


class TestToSinglePrecision:
    def test_float32_and_uint8_are_not_copied(self):
        for dtype in (np.float32, np.uint8):
            X = np.ones((3, 2), dtype)
            assert to_single_precision(X) is X

    def test_offset_is_subtracted_in_double_precision(self):
        """In chunks, and without changing X."""
        rng = np.random.default_rng(0)
        offset = np.array([1e9, 0.0])
        X = rng.normal(size=(600_000, 2)) + offset
        before = X[:10].copy()
        converted = to_single_precision(X, offset)
        assert converted.dtype == np.float32
        assert_allclose(converted, X - offset, rtol=1e-6)
        assert_array_equal(X[:10], before)


def test_set_fitted_attributes():
    embedder = TripletEmbedder()
    set_fitted_attributes(embedder, {"n_features_in_": 2, "feature_names_in_": ["a", "b"]})
    set_fitted_attributes(embedder, {"n_features_in_": 3})
    assert embedder.n_features_in_ == 3
    assert not hasattr(embedder, "feature_names_in_")


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (torch.utils.data.DataLoader([1]), "Got DataLoader"),
        (pd.Series([np.zeros((4, 4))] * 3), "np.stack"),
        ("folder", "load_image_folder"),
    ],
    ids=["loader", "column of arrays", "path"],
)
def test_unsupported_input_is_explained(X, match):
    with pytest.raises((TypeError, ValueError), match=f"X must hold numbers.*{match}"):
        validate_training_data(TripletEmbedder(), X, LABELS)


def test_several_inputs_are_explained():
    with pytest.raises(InvalidParameterError, match=r"'module' parameter .*custom.*\['a'\]"):
        validate_training_data(TripletEmbedder(), {"a": np.zeros((3, 2))}, LABELS)


def test_single_image_is_explained():
    embedder = TripletEmbedder()
    data = validate_training_data(embedder, np.zeros((3, 8, 8, 3)), LABELS)
    set_fitted_attributes(embedder, data.fitted_attributes)
    with pytest.raises(ValueError, match="newaxis"):
        validate_samples(embedder, np.zeros((8, 8, 3)))


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8)])
def test_single_image_in_fit_is_explained(shape):
    with pytest.raises(ValueError, match=rf"\[{shape[0]}, 1\].*newaxis"):
        validate_training_data(TripletEmbedder(), np.zeros(shape), [0])
