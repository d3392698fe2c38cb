import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris, load_wine, make_blobs

from sktriplet import TripletEmbedder

# Programs, some of which need optional packages.
collect_ignore = ["scripts"]


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs CUDA")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Networks this small train fastest on one thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def wine():
    return load_wine(return_X_y=True)


@pytest.fixture(scope="session")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="session")
def digits():
    """600 rows of it."""
    X, y = load_digits(return_X_y=True)
    return X[:600], y[:600]


@pytest.fixture(scope="session")
def blobs():
    """60 rows of 3 well separated classes in 5 dimensions."""
    return make_blobs(60, n_features=5, centers=3, random_state=0)


@pytest.fixture
def quick():
    """Make an embedder that trains in no time."""

    def make(**parameters):
        return TripletEmbedder(
            **{
                "n_components": 32,
                "max_epochs": 2,
                "hidden_layer_sizes": (16,),
                "n_members": 2,
                "random_state": 0,
                **parameters,
            }
        )

    return make


@pytest.fixture(params=range(3))
def rng(request):
    return np.random.default_rng(request.param)
