import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse

from sktriplet import TripletEmbedder
from sktriplet._input_layout import TableLayout
from sktriplet._training_data import validate_training_data
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
        assert data.preprocessor.layout == data.preprocessor.network_layout == TableLayout((2,))
        assert data.preprocessor.feature_names.tolist() == ["a", "b"]

    def test_images_of_bytes(self):
        X = np.zeros((3, 8, 9), np.uint8)
        data = validate_training_data(TripletEmbedder(), X, LABELS)
        assert np.shares_memory(data.X, X)
        assert data.preprocessor.n_features == 72
        assert data.preprocessor.shape == (1, 8, 9)

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
    with pytest.raises(ValueError, match="newaxis"):
        data.preprocessor.encode(np.zeros((8, 8, 3)), embedder)


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8)])
def test_single_image_in_fit_is_explained(shape):
    with pytest.raises(ValueError, match=rf"\[{shape[0]}, 1\].*newaxis"):
        validate_training_data(TripletEmbedder(), np.zeros(shape), [0])
