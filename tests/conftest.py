import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from sklearn.datasets import load_digits, load_iris, load_wine, make_blobs
from skorch.callbacks import Callback

import sktriplet
from sktriplet import TripletEmbedder

# Times depend on what else runs on the machine.
settings.register_profile("sktriplet", deadline=None)
settings.load_profile("sktriplet")

# Scripts, some of which need optional packages.
collect_ignore = ["scripts"]


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs CUDA")


def list_public_names():
    """List all public names, such as ``sktriplet.losses.hinge``, without importing anything.

    They are in ``__all__``, or else all functions and classes of a module without an underscore.
    """
    package = Path(sktriplet.__path__[0])
    names = {f"sktriplet.{name}" for name in sktriplet.__all__}
    for path in sorted([*package.glob("[a-z]*.py"), *package.glob("[a-z]*/__init__.py")]):
        tree = ast.parse(path.read_text())
        defined = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                defined = ast.literal_eval(node.value)
        module = path.parent.name if path.name == "__init__.py" else path.stem
        names |= {
            f"sktriplet.{module}.{name}"
            for name in defined
            if not name.startswith("_") and name not in sktriplet.__all__
        }
    return sorted(names)


def pytest_generate_tests(metafunc):
    """Repeat tests with an argument `public_name` for all public names."""
    if "public_name" in metafunc.fixturenames:
        metafunc.parametrize("public_name", list_public_names())


@pytest.fixture
def public_names():
    return list_public_names()


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
    """The first 600 samples."""
    X, y = load_digits(return_X_y=True)
    return X[:600], y[:600]


@pytest.fixture(scope="session")
def blobs():
    """60 samples of 3 well separated classes in 5 dimensions."""
    return make_blobs(60, n_features=5, centers=3, random_state=0)


@pytest.fixture
def make_embedder():
    """Make an embedder for tables that trains in a fraction of a second."""

    def make(**parameters):
        defaults = {"n_components": 32, "max_epochs": 2, "random_state": 0}
        if "module" not in parameters:
            defaults |= {"hidden_layer_sizes": (16,), "n_members": 2}
        return TripletEmbedder(**(defaults | parameters))

    return make


@pytest.fixture
def make_image_embedder():
    """Make an embedder for images that trains in about a second."""

    def make(**parameters):
        defaults = {"n_components": 8, "max_epochs": 1, "random_state": 0}
        return TripletEmbedder(**(defaults | parameters))

    return make


@pytest.fixture
def weights():
    """Return a function: all weights of a fitted embedder or net, as one vector."""

    def weights(estimator):
        module = getattr(estimator, "net_", estimator).module_
        return torch.cat([weight.detach().flatten() for weight in module.parameters()]).cpu()

    return weights


class Spy(Callback):
    """A skorch callback made of functions, such as ``Spy(on_epoch_end=function)``.

    skorch calls them as ``function(net, **kwargs)``. Copies of the spy share them.
    """

    def __init__(self, **hooks):
        vars(self).update(hooks)


@pytest.fixture
def spy():
    return Spy


@pytest.fixture
def failing_miner():
    """A miner that raises, once training has started."""

    def fail(distances, labels, *, margin, generator):
        raise RuntimeError("miner failed")

    return fail


@pytest.fixture(params=range(3))
def rng(request):
    return np.random.default_rng(request.param)
