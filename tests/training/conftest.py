import numpy as np
import pytest
import torch

from sktriplet.networks import MLP
from sktriplet.training import TripletNet


@pytest.fixture
def samples(blobs):
    """The blobs as a net takes them, in single precision."""
    X, y = blobs
    return X.astype(np.float32), y


@pytest.fixture
def make_net():
    """Make a net that trains in a fraction of a second."""

    def make(**parameters):
        module = MLP((5,), 3, (8,), generator=torch.Generator().manual_seed(0))
        defaults = {"max_epochs": 3, "min_batches": 4, "random_state": 0, "verbose": 0}
        return TripletNet(**({"module": module} | defaults | parameters))

    return make
