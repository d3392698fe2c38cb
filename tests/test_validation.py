import numpy as np
import pytest
import torch

from sktriplet.exceptions import InvalidParameterError
from sktriplet.modules import EmbeddingNetwork
from sktriplet.validation import images_shape, merged_classes, validate_module


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
    with pytest.raises(ValueError, match=r"labels in y must be of the kind .* after"):
        merged_classes(np.array([1]), np.array(["a"]))


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
