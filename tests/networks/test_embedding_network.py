import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from sktriplet.networks import MLP, ConvNet, MLPEnsemble
from sktriplet.networks._convnet import ResidualBlock
from sktriplet.networks._embedding_network import ChannelsFirst, EmbeddingNetwork, Standardizer
from sktriplet.training import TripletNet


@pytest.mark.parametrize("hidden_layer_sizes", [(), (7,), [5, 6]])
def test_mlp_shapes(hidden_layer_sizes):
    mlp = MLP((4,), 3, hidden_layer_sizes)
    assert mlp(torch.zeros(2, 4)).shape == (2, 3)
    widths = [layer.out_features for layer in mlp.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [*hidden_layer_sizes, 3]


def test_mlp_weights_come_from_the_generator_alone():
    def weights(seed):
        return torch.nn.utils.parameters_to_vector(
            MLP((4,), 3, generator=torch.Generator().manual_seed(seed)).parameters()
        )

    first = weights(0)
    torch.rand(1)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


class TestConvNet:
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
    def test_shapes(self, input_shape, n_halvings):
        network = ConvNet(input_shape, 7)
        assert network(torch.randn(3, *input_shape)).shape == (3, 7)
        convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
        assert sum(layer.stride == (2, 2) for layer in convolutions) == n_halvings
        assert convolutions[-1].out_channels == min(32 * 2 ** (len(network.stages) - 1), 256)

    @pytest.mark.parametrize("input_shape", [(64,), (8, 8), (2, 3, 8, 8), (1, 3, 8), (1, 8, 3)])
    def test_not_images(self, input_shape):
        with pytest.raises(ValueError, match=r"^input_shape must be .* Got \(.*\)"):
            ConvNet(input_shape, 2)

    def test_weights_come_from_the_generator_alone(self):
        def weights(seed):
            network = ConvNet((1, 8, 8), 3, generator=torch.Generator().manual_seed(seed))
            return torch.cat([weights.flatten() for weights in network.parameters()])

        first = weights(0)
        torch.rand(1)
        assert torch.equal(first, weights(0))
        assert not torch.equal(first, weights(1))

    def test_signals_start_at_unit_scale(self):
        network = ConvNet((3, 32, 32), 16, generator=torch.Generator().manual_seed(0)).eval()
        output = network(torch.randn(100, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        assert 0.1 < output.std() < 10

    def test_residual_block_starts_as_no_change(self):
        X = torch.randn(3, 4, 5, 5)
        assert torch.equal(ResidualBlock(4)(X), X.relu())

    def test_input_is_left_alone(self):
        X = torch.randn(3, 1, 8, 8)
        before = X.clone()
        ConvNet((1, 8, 8), 2)(X)
        assert torch.equal(X, before)

    def test_images_do_not_see_each_other_in_evaluation(self):
        network, X = ConvNet((1, 9, 10), 3).eval(), torch.randn(4, 1, 9, 10)
        together = network(X)
        one_by_one = torch.cat([network(row[None]) for row in X])
        assert torch.allclose(together, one_by_one, atol=1e-5)

    @pytest.mark.parametrize("n_channels", [1, 3])
    @pytest.mark.parametrize(
        "travel",
        [
            lambda network: network,
            copy.deepcopy,
            lambda network: pickle.loads(pickle.dumps(network)),
            lambda network: network.to("cpu", torch.float64).float(),
        ],
        ids=["new", "copied", "pickled", "moved"],
    )
    def test_channels_are_last_all_through(self, n_channels, travel):
        network = travel(ConvNet((n_channels, 14, 14), 3)).eval()
        seen = []

        def look(layer, inputs, output):
            tensors = (output, layer.weight) if layer.weight.ndim == 4 else (output,)
            seen.extend(
                tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors
            )

        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d):
                layer.register_forward_hook(look)
        X = torch.randn(2, n_channels, 14, 14)
        output = network(X)
        assert torch.equal(output, network(X.contiguous(memory_format=torch.channels_last)))
        assert all(seen)
        assert len(seen) == 2 * 3 * 4

    def test_head_is_not_rounded(self):
        seen = []
        network = ConvNet((1, 8, 8), 3)
        network.head.register_forward_hook(
            lambda layer, inputs, output: seen.extend((inputs[0].dtype, output.dtype))
        )
        network.stages.register_forward_hook(
            lambda layer, inputs, output: seen.append(output.dtype)
        )
        with torch.autocast("cpu", torch.bfloat16):
            network(torch.randn(2, 1, 8, 8))
        assert seen == [torch.bfloat16, torch.float32, torch.float32]

    def test_learns_digits_and_does_so_again(self):
        images, y = load_digits(return_X_y=True)
        images = (images.astype(np.float32).reshape(-1, 1, 8, 8) - 5) / 6

        def embeddings():
            body = ConvNet((1, 8, 8), 8, generator=torch.Generator().manual_seed(0))
            net = TripletNet(EmbeddingNetwork(body), max_epochs=3, random_state=0, verbose=0)
            return net.fit(images[:1000], y[:1000]).embed(images)

        embedded = embeddings()
        knn = KNeighborsClassifier().fit(embedded[:1000], y[:1000])
        assert knn.score(embedded[1000:], y[1000:]) > 0.92
        np.testing.assert_array_equal(embedded, embeddings())


def test_standardizer_agrees_with_scikit_learn():
    X = np.random.default_rng(0).normal(50, 7, (20, 3))
    moments = StandardScaler().fit(X)
    ours = Standardizer(moments.mean_, moments.scale_)(torch.from_numpy(X).float())
    np.testing.assert_allclose(ours, moments.transform(X), atol=1e-5)


def test_standardizer_is_not_trained_but_travels():
    standardizer = Standardizer([1.0], [2.0])
    assert not list(standardizer.parameters())
    assert set(standardizer.state_dict()) == {"mean", "scale"}


class TestEmbeddingNetwork:
    def test_order(self):
        body = torch.nn.Linear(2, 2, bias=False)
        body.weight.data = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
        network = EmbeddingNetwork(body, standardizer=Standardizer([1.0, 1.0], [2.0, 1.0]))
        # (9, 3) -> (4, 2) -> (4, 4) -> (1, 1) / sqrt(2)
        assert torch.allclose(network(torch.tensor([[9.0, 3.0]])), torch.full((1, 2), 0.5**0.5))

    def test_bare(self):
        body = torch.nn.Linear(2, 2)
        X = torch.randn(3, 2)
        assert torch.equal(EmbeddingNetwork(body, normalize=False)(X), body(X))

    def test_images(self):
        """Laid out, then augmented in training as they are, then standardized."""
        seen = []

        def augment(images):
            seen.append((images.dtype, images.shape))
            return images + 1

        network = EmbeddingNetwork(
            torch.nn.Flatten(),
            layout=ChannelsFirst((1, 2, 2)),
            augment=augment,
            standardizer=Standardizer([[[2.0]]], [[[2.0]]]),
            normalize=False,
        )
        images = torch.tensor([[[0, 2], [4, 6]]], dtype=torch.uint8)
        assert network(images).tolist() == [[-0.5, 0.5, 1.5, 2.5]]
        assert network.eval()(images).tolist() == [[-1, 0, 1, 2]]
        assert seen == [(torch.uint8, (1, 1, 2, 2))]

    def test_integers_are_made_floats(self):
        network = EmbeddingNetwork(torch.nn.Linear(2, 2), normalize=False)
        assert network(torch.zeros(1, 2, dtype=torch.uint8)).dtype == torch.float32

    def test_zero_stays_zero(self):
        X = torch.zeros(1, 2, requires_grad=True)
        output = EmbeddingNetwork(torch.nn.Identity())(X)
        output.sum().backward()
        assert torch.equal(output, torch.zeros(1, 2))
        assert torch.isfinite(X.grad).all()

    def test_bfloat16(self):
        """The layers see half precision; what is compared afterwards does not."""
        seen = []

        class Spy(torch.nn.Module):
            def forward(self, X):
                seen.append((X.dtype, torch.is_autocast_enabled("cpu")))
                return X

        mlp = MLP((5,), 3, (32,))
        mlp.layers.append(Spy())
        X = torch.randn(50, 5) * 10 + 100
        standardizer = Standardizer([100.0] * 5, [10.0] * 5)
        half = EmbeddingNetwork(mlp, standardizer=standardizer, precision="bfloat16").eval()
        full = EmbeddingNetwork(mlp, standardizer=standardizer).eval()
        assert half(X).dtype == torch.float32
        assert torch.allclose(half(X).norm(dim=1), torch.ones(50), atol=1e-6)
        assert 1e-6 < (half(X) - full(X)).abs().max() < 0.05
        assert seen[0] == (torch.bfloat16, True)
        assert seen[-1] == (torch.float32, False)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_each_members_part_is_normalized(self, precision):
        ensemble = MLPEnsemble((5,), 7, (64,), n_members=3)
        network = EmbeddingNetwork(ensemble, precision=precision)
        embeddings = network(torch.randn(50, 5))
        assert embeddings.dtype == torch.float32
        assert torch.allclose(embeddings.norm(dim=1), torch.ones(50), atol=1e-6)
        for part in embeddings.tensor_split(3, dim=1):
            assert torch.allclose(part.norm(dim=1), torch.full((50,), 3**-0.5), atol=1e-6)
        assert EmbeddingNetwork(ensemble, normalize=False)(torch.randn(50, 5)).norm(dim=1).std() > 0

    def test_head_is_not_rounded(self):
        head = MLP((4,), 3, ())
        half = EmbeddingNetwork(head, normalize=False, precision="bfloat16")
        X = torch.randn(9, 4)
        assert torch.equal(half(X), head(X))


class TestChannelsFirst:
    images = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)

    def test_every_layout_comes_out_the_same(self):
        layout = ChannelsFirst((3, 4, 5))
        for given in (self.images, self.images.movedim(1, -1), self.images.flatten(1)):
            assert torch.equal(layout(given), self.images)

    def test_grey(self):
        grey = self.images[:, :1]
        layout = ChannelsFirst((1, 4, 5))
        for given in (grey, grey[:, 0], grey.movedim(1, -1), grey.flatten(1)):
            assert torch.equal(layout(given), grey)

    def test_channels_first_where_both_could_be(self):
        cubes = torch.arange(54).reshape(2, 3, 3, 3)
        assert torch.equal(ChannelsFirst((3, 3, 3))(cubes), cubes)
