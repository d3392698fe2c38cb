import numpy as np
import pytest
import torch
from sklearn.preprocessing import FunctionTransformer


@pytest.fixture
def make_clusters():
    """Make a normally distributed cluster per class, around random centers in 8 dimensions."""

    def make(n_classes, rng, *, n_samples=12, scale=0.2):
        y = np.repeat(np.arange(n_classes), n_samples)
        return rng.normal(size=(n_classes, 8))[y] + scale * rng.normal(size=(len(y), 8)), y

    return make


@pytest.fixture
def identity():
    """An embedder that returns its input."""
    return FunctionTransformer()


@pytest.fixture
def untrained():
    """An embedder that must not be fitted."""

    class Untrained(FunctionTransformer):
        def fit(self, X, y=None):
            pytest.fail("the embedder was fitted")

    return Untrained()


@pytest.fixture
def linear_network():
    """A module factory for images of 8 x 8 pixels."""

    def make(input_shape, n_components):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, n_components))

    return make
