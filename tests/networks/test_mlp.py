from functools import partial

import pytest
import torch

from sktriplet.networks import MLP


@pytest.mark.parametrize("hidden_layer_sizes", [(), (7,), [5, 6]])
def test_shapes(hidden_layer_sizes):
    network = MLP((4,), 3, hidden_layer_sizes)
    assert network(torch.zeros(2, 4)).shape == (2, 3)
    linear = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [*hidden_layer_sizes, 3]


def test_initial_weights(initial_weights):
    """They depend only on the generator."""
    make = partial(MLP, (4,), 3)
    first = initial_weights(make, seed=0)
    torch.rand(1)
    assert torch.equal(first, initial_weights(make, seed=0))
    assert not torch.equal(first, initial_weights(make, seed=1))


def test_autocast():
    """Hidden layers are in half precision, the output layer is not."""
    network = MLP((5,), 3, (32,))
    dtypes = []
    network.layers.register_forward_hook(lambda layer, X, output: dtypes.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        dtypes.append(network(torch.randn(50, 5)).dtype)
    assert dtypes == [torch.bfloat16, torch.float32]
