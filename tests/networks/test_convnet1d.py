from functools import partial

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from sktriplet.networks import ConvNet1d
from sktriplet.networks._embedding_network import EmbeddingNetwork
from sktriplet.training import TripletNet


@pytest.mark.parametrize(
    ("input_shape", "n_halvings"),
    [((1, 1), 1), ((2, 16), 1), ((1, 33), 2), ((6, 100), 3), ((1, 127), 3), ((1, 128), 3)],
    ids=str,
)
def test_shapes(input_shape, n_halvings):
    network = ConvNet1d(input_shape, 7)
    assert network(torch.randn(3, *input_shape)).shape == (3, 7)
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv1d)]
    assert sum(layer.stride == (2,) for layer in convolutions) == n_halvings
    assert convolutions[-1].out_channels == min(32 * 2 ** (len(network.stages) - 1), 128)


@pytest.mark.parametrize("input_shape", [(64,), (1, 8, 8)])
def test_invalid_input_shape(input_shape):
    with pytest.raises(ValueError, match=r"^input_shape must be .* Got \(.*\)"):
        ConvNet1d(input_shape, 2)


def test_initial_weights(initial_weights):
    """They depend only on the generator."""
    make = partial(ConvNet1d, (1, 50), 3)
    first = initial_weights(make, seed=0)
    torch.rand(1)
    assert torch.equal(first, initial_weights(make, seed=0))
    assert not torch.equal(first, initial_weights(make, seed=1))


def test_initial_scale(make_generator):
    network = ConvNet1d((3, 200), 16, generator=make_generator()).eval()
    output = network(torch.randn(100, 3, 200, generator=make_generator()))
    assert 0.1 < output.std() < 10


def test_is_insensitive_to_position(make_generator):
    """Within the sequence, shifts by the product of all strides change nothing."""
    network = ConvNet1d((1, 256), 3, generator=make_generator()).double().eval()
    X = torch.zeros(1, 1, 256, dtype=torch.float64)
    X[:, :, 112:120] = torch.randn(8, generator=make_generator(), dtype=torch.float64)
    assert torch.allclose(network(X), network(X.roll(16, 2)))
    assert not torch.allclose(network(X), network(X.flip(2)))


def test_evaluation_is_independent_of_the_batch():
    network, X = ConvNet1d((2, 40), 3).eval(), torch.randn(4, 2, 40)
    before = X.clone()
    one_by_one = torch.cat([network(sequence[None]) for sequence in X])
    assert torch.allclose(network(X), one_by_one, atol=1e-5)
    assert torch.equal(X, before)


def test_autocast():
    """Convolutions are in half precision, the output layer is not."""
    dtypes = []
    network = ConvNet1d((1, 20), 3)
    network.stages.register_forward_hook(lambda layer, X, output: dtypes.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        dtypes.append(network(torch.randn(2, 1, 20)).dtype)
    assert dtypes == [torch.bfloat16, torch.float32]


def test_frequencies(make_generator):
    """Sine waves of two frequencies and random phase, which overlap at each time step."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    phase = rng.uniform(0, 2 * np.pi, size=(300, 1))
    X = np.sin(np.arange(60) * np.where(y, 0.5, 0.7)[:, None] + phase).astype(np.float32)
    backbone = ConvNet1d((1, 60), 4, generator=make_generator())
    net = TripletNet(EmbeddingNetwork(backbone), max_epochs=2, random_state=0, verbose=0)
    embeddings = net.fit(X[:150, None], y[:150]).embed(X[:, None])
    knn = KNeighborsClassifier().fit(embeddings[:150], y[:150])
    assert knn.score(embeddings[150:], y[150:]) > 0.95
