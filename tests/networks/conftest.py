import pytest
import torch


@pytest.fixture
def make_generator():
    """Make a seeded generator."""

    def make(seed=0):
        return torch.Generator().manual_seed(seed)

    return make


@pytest.fixture
def initial_weights(make_generator):
    """Return a function: the initial weights of ``make(generator=...)``, as one vector."""

    def weights(make, seed):
        parameters = make(generator=make_generator(seed)).parameters()
        return torch.cat([parameter.detach().flatten() for parameter in parameters])

    return weights
