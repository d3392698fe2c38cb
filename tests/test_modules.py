import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from sktriplet.modules import MLP, ChannelsFirst, EmbeddingNetwork, Standardizer


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
