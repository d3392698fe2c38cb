import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from sktriplet.networks import ConvNet
from sktriplet.networks._convnet import ResidualBlock
from sktriplet.networks._embedding_network import EmbeddingNetwork
from sktriplet.training import TripletNet


@pytest.mark.parametrize(
    ("input_shape", "n_halvings"),
    [
        ((1, 4, 4), 1),
        ((1, 8, 8), 1),
        ((5, 4, 30), 1),
        ((3, 14, 15), 1),
        ((1, 28, 28), 2),
        ((3, 32, 32), 3),
        ((2, 47, 60), 3),
        ((3, 48, 48), 3),
        ((3, 64, 64), 4),
        ((3, 96, 96), 4),
    ],
    ids=str,
)
def test_shapes(input_shape, n_halvings):
    network = ConvNet(input_shape, 7)
    assert network(torch.randn(3, *input_shape)).shape == (3, 7)
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert sum(layer.stride == (2, 2) for layer in convolutions) == n_halvings
    assert convolutions[-1].out_channels == min(32 * 2 ** (len(network.stages) - 1), 256)


@pytest.mark.parametrize("input_shape", [(64,), (8, 8), (2, 3, 8, 8), (1, 3, 8), (1, 8, 3)])
def test_invalid_input_shape(input_shape):
    with pytest.raises(ValueError, match=r"^input_shape must be .* Got \(.*\)"):
        ConvNet(input_shape, 2)


def test_initial_weights(initial_weights):
    """They depend only on the generator."""
    make = partial(ConvNet, (1, 8, 8), 3)
    first = initial_weights(make, seed=0)
    torch.rand(1)
    assert torch.equal(first, initial_weights(make, seed=0))
    assert not torch.equal(first, initial_weights(make, seed=1))


def test_initial_scale(make_generator):
    network = ConvNet((3, 32, 32), 16, generator=make_generator()).eval()
    output = network(torch.randn(100, 3, 32, 32, generator=make_generator()))
    assert 0.1 < output.std() < 10


def test_residual_block_is_initially_relu():
    X = torch.randn(3, 4, 5, 5)
    block = ResidualBlock(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.BatchNorm2d(4))
    assert torch.equal(block(X), X.relu())


def test_input_is_not_modified():
    X = torch.randn(3, 1, 8, 8)
    before = X.clone()
    ConvNet((1, 8, 8), 2)(X)
    assert torch.equal(X, before)


def test_evaluation_is_independent_of_the_batch():
    network, X = ConvNet((1, 9, 10), 3).eval(), torch.randn(4, 1, 9, 10)
    one_by_one = torch.cat([network(image[None]) for image in X])
    assert torch.allclose(network(X), one_by_one, atol=1e-5)


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize(
    "convert",
    [
        lambda network: network,
        copy.deepcopy,
        lambda network: pickle.loads(pickle.dumps(network)),
        lambda network: network.to("cpu", torch.float64).float(),
    ],
    ids=["new", "copied", "pickled", "cast"],
)
def test_memory_format(n_channels, convert):
    """All layers have channels last, also in copies of the network."""
    network = convert(ConvNet((n_channels, 14, 14), 3)).eval()
    is_channels_last = []

    def record(layer, inputs, output):
        tensors = (output, layer.weight) if layer.weight.ndim == 4 else (output,)
        is_channels_last.extend(
            tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors
        )

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d):
            layer.register_forward_hook(record)
    X = torch.randn(2, n_channels, 14, 14)
    output = network(X)
    assert torch.equal(output, network(X.contiguous(memory_format=torch.channels_last)))
    assert all(is_channels_last)
    assert len(is_channels_last) == 2 * 3 * 4


def test_autocast():
    """Convolutions are in half precision, the output layer is not."""
    dtypes = []
    network = ConvNet((1, 8, 8), 3)
    network.stages.register_forward_hook(lambda layer, X, output: dtypes.append(output.dtype))
    network.head.register_forward_hook(
        lambda layer, X, output: dtypes.extend((X[0].dtype, output.dtype))
    )
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(2, 1, 8, 8))
    assert dtypes == [torch.bfloat16, torch.float32, torch.float32]


def test_digits(make_generator):
    """Training is accurate and reproducible."""
    images, y = load_digits(return_X_y=True)
    images = (images.astype(np.float32).reshape(-1, 1, 8, 8) - 5) / 6

    def embed():
        backbone = ConvNet((1, 8, 8), 8, generator=make_generator())
        net = TripletNet(EmbeddingNetwork(backbone), max_epochs=3, random_state=0, verbose=0)
        return net.fit(images[:1000], y[:1000]).embed(images)

    embeddings = embed()
    knn = KNeighborsClassifier().fit(embeddings[:1000], y[:1000])
    assert knn.score(embeddings[1000:], y[1000:]) > 0.92
    np.testing.assert_array_equal(embeddings, embed())
