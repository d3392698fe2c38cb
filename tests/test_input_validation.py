import numpy as np
import pytest
import torch
from scipy import sparse

from sktriplet import TripletEmbedder
from sktriplet._input_validation import images_shape, merged_classes, validate_training_data
from sktriplet.exceptions import InvalidParameterError
from sktriplet.networks._embedding_network import EmbeddingNetwork, validate_module


@pytest.mark.parametrize(
    ("shape", "input_shape", "expected"),
    [
        ((9, 28, 30), None, (1, 28, 30)),
        ((9, 3, 30), None, (1, 3, 30)),
        ((9, 1, 28, 30), None, (1, 28, 30)),
        ((9, 28, 30, 3), None, (3, 28, 30)),
        ((9, 4, 28, 30), None, (4, 28, 30)),
        ((9, 2, 28, 30), (2, 28, 30), (2, 28, 30)),
        ((9, 28, 30, 2), (2, 28, 30), (2, 28, 30)),
        ((9, 3, 28, 3), (3, 3, 28), (3, 3, 28)),
        ((9, 1680), [2, 28, 30], (2, 28, 30)),
        ((9, 28, 30), (1, 28, 30), (1, 28, 30)),
    ],
)
def test_images_shape(shape, input_shape, expected):
    assert images_shape(shape, input_shape) == expected


def test_merged_classes():
    assert merged_classes(np.array([3, 1]), np.array([2, 3])).tolist() == [1, 2, 3]
    assert merged_classes(np.array(["b"]), np.array(["aa"])).tolist() == ["aa", "b"]
    assert merged_classes(np.array([1]), np.array([0.5])).tolist() == [0.5, 1]
    as_objects = np.array(["aa"], dtype=object)
    assert merged_classes(np.array(["b"]), as_objects).tolist() == ["aa", "b"]
    assert merged_classes(as_objects, np.array(["b"])).tolist() == ["aa", "b"]
    with pytest.raises(ValueError, match="of the kind"):
        merged_classes(np.array(["b"]), np.array([1], dtype=object))
    with pytest.raises(ValueError, match=r"labels in y must be of the kind .* after"):
        merged_classes(np.array([1]), np.array(["a"]))


class TestSparse:
    dense = np.array([[0.0, 3], [2, 0], [0, 0]])
    y = np.array([0, 1, 1])

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_each_value_once_and_in_order(self, dtype):
        parts = [1.0, 2.0, 0.0, 2.0], [1, 1, 1, 0], [0, 2, 4, 4]
        matrix = sparse.csr_matrix(parts, shape=(3, 2), dtype=dtype)
        rows, _, seen = validate_training_data(TripletEmbedder(), matrix, self.y)
        assert rows.has_canonical_format
        assert (rows.data.tolist(), rows.indices.tolist()) == ([3, 2, 0], [1, 0, 1])
        assert rows.dtype == np.float32
        assert matrix.data.tolist() == parts[0]
        assert seen["input_shape_"] == (2,)

    def test_what_needs_no_change_is_not_copied(self):
        matrix = sparse.csr_array(self.dense.astype(np.float32))
        rows, _, _ = validate_training_data(TripletEmbedder(), matrix, self.y)
        assert np.shares_memory(rows.data, matrix.data)


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda X: X, r"shape \(2, 4\)"),
        (lambda X: X[:1, :3], r"shape \(1, 3\)"),
        (lambda X: X[:, :3, None], r"shape \(2, 3, 1\)"),
        (lambda X: X[:, :3].long(), "int64"),
        (lambda X: (X, X), "tuple"),
        (lambda X: X.sum(), r"shape \(\)"),
    ],
)
@pytest.mark.parametrize("n_components", [3, None])
def test_modules_that_do_not_fit(function, got, n_components):
    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, X):
            return function(X)

    network = EmbeddingNetwork(Module())
    if n_components is None and got == r"shape \(2, 4\)":
        assert validate_module(network, torch.zeros(2, 4), None) == 4
        return
    with pytest.raises(InvalidParameterError, match=f"'module'.*Got.*{got}"):
        validate_module(network, torch.zeros(2, 4), n_components)
