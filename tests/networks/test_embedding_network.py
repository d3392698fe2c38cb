import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktriplet.exceptions import InvalidParameterError
from sktriplet.networks import MLP, MLPEnsemble
from sktriplet.networks._embedding_network import (
    ChannelsFirst,
    EmbeddingNetwork,
    OneHot,
    Standardizer,
    validate_network,
)


class Members(nn.Module):
    """An ensemble whose members return consecutive parts of the input."""

    def __init__(self, n_members):
        super().__init__()
        self.n_members = n_members

    def forward(self, X):
        return X


class Backbone(nn.Module):
    """A trainable backbone that applies a function to a copy of the input."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, X):
        return self.function(X * self.scale)


class TestChannelsFirst:
    images = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)

    def test_layouts(self):
        channels_first = ChannelsFirst((3, 4, 5))
        for batch in (self.images, self.images.movedim(1, -1), self.images.flatten(1)):
            assert torch.equal(channels_first(batch), self.images)

    def test_gray(self):
        gray = self.images[:, :1]
        channels_first = ChannelsFirst((1, 4, 5))
        for batch in (gray, gray[:, 0], gray.movedim(1, -1), gray.flatten(1)):
            assert torch.equal(channels_first(batch), gray)

    def test_ambiguous(self):
        cubes = torch.arange(54).reshape(2, 3, 3, 3)
        assert torch.equal(ChannelsFirst((3, 3, 3))(cubes), cubes)


class TestOneHot:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("n_plain", [0, 2])
    def test_loop(self, dtype, n_plain):
        generator = torch.Generator().manual_seed(0)
        plain = torch.randn(50, n_plain, generator=generator, dtype=dtype)
        starts, sizes = torch.tensor([0, 3, 4]) + n_plain, torch.tensor([3, 1, 5])
        # Some features have no column.
        offsets = (torch.rand(50, 3, generator=generator) * (sizes + 1)).long() - 1
        columns = torch.where(offsets < 0, -1, starts + offsets)
        expected = torch.zeros(50, n_plain + 9, dtype=dtype)
        for row in range(50):
            expected[row, :n_plain] = plain[row]
            for column in columns[row].tolist():
                if column >= 0:
                    expected[row, column] = 1
        X = torch.cat([plain, columns.to(dtype)], dim=1)
        expanded = OneHot(n_plain, n_plain + 9)(X)
        assert expanded.dtype == dtype
        assert torch.equal(expanded, expected)
        assert OneHot(n_plain, n_plain + 9, contiguous=True)(X).is_contiguous()


class TestStandardizer:
    def test_agrees_with_scikit_learn(self):
        X = np.random.default_rng(0).normal(50, 7, (20, 3))
        scaler = StandardScaler().fit(X)
        standardized = Standardizer(scaler.mean_, scaler.scale_)(torch.from_numpy(X).float())
        np.testing.assert_allclose(standardized, scaler.transform(X), atol=1e-5)

    def test_statistics_are_saved_and_not_trained(self):
        standardizer = Standardizer([1.0], [2.0])
        assert not list(standardizer.parameters())
        assert set(standardizer.state_dict()) == {"mean", "scale"}


class TestForward:
    def test_order(self):
        backbone = nn.Linear(2, 2, bias=False)
        backbone.weight.data = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
        network = EmbeddingNetwork(backbone, scaler=Standardizer([1.0, 1.0], [2.0, 1.0]))
        # (9, 3) -> (4, 2) -> (4, 4) -> (1, 1) / sqrt(2)
        assert torch.allclose(network(torch.tensor([[9.0, 3.0]])), torch.full((1, 2), 0.5**0.5))

    def test_backbone_only(self):
        backbone = nn.Linear(2, 2)
        X = torch.randn(3, 2)
        assert torch.equal(EmbeddingNetwork(backbone, normalize=False)(X), backbone(X))

    def test_images(self):
        """They are augmented in training only, between the conversions of layout and scale."""
        seen = []

        def augment(images):
            seen.append((images.dtype, images.shape))
            return images + 1

        network = EmbeddingNetwork(
            nn.Flatten(),
            input_layout=ChannelsFirst((1, 2, 2)),
            augment=augment,
            scaler=Standardizer([[[2.0]]], [[[2.0]]]),
            normalize=False,
        )
        images = torch.tensor([[[0, 2], [4, 6]]], dtype=torch.uint8)
        assert network(images).tolist() == [[-0.5, 0.5, 1.5, 2.5]]
        assert network.eval()(images).tolist() == [[-1, 0, 1, 2]]
        assert seen == [(torch.uint8, (1, 1, 2, 2))]

    def test_integers(self):
        network = EmbeddingNetwork(nn.Linear(2, 2), normalize=False)
        assert network(torch.zeros(1, 2, dtype=torch.uint8)).dtype == torch.float32

    def test_zero(self):
        """Its normalization is zero, with a finite gradient."""
        X = torch.zeros(1, 2, requires_grad=True)
        output = EmbeddingNetwork(nn.Identity())(X)
        output.sum().backward()
        assert torch.equal(output, torch.zeros(1, 2))
        assert torch.isfinite(X.grad).all()

    def test_bfloat16(self):
        """Hidden layers are in half precision; scaling, output layer and normalization are not."""
        seen = []

        class Spy(nn.Module):
            def forward(self, X):
                seen.append((X.dtype, torch.is_autocast_enabled("cpu")))
                return X

        mlp = MLP((5,), 3, (32,))
        mlp.layers.append(Spy())
        X = torch.randn(50, 5) * 10 + 100
        scaler = Standardizer([100.0] * 5, [10.0] * 5)
        half = EmbeddingNetwork(mlp, scaler=scaler, precision="bfloat16").eval()
        full = EmbeddingNetwork(mlp, scaler=scaler).eval()
        assert half(X).dtype == torch.float32
        assert torch.allclose(half(X).norm(dim=1), torch.ones(50), atol=1e-6)
        assert 1e-6 < (half(X) - full(X)).abs().max() < 0.05
        assert seen[0] == (torch.bfloat16, True)
        assert seen[-1] == (torch.float32, False)

    def test_bfloat16_output_layer(self):
        linear = MLP((4,), 3, ())
        half = EmbeddingNetwork(linear, normalize=False, precision="bfloat16")
        X = torch.randn(9, 4)
        assert torch.equal(half(X), linear(X))

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_normalization_of_members(self, precision):
        ensemble = MLPEnsemble((5,), 7, (64,), n_members=3)
        network = EmbeddingNetwork(ensemble, precision=precision)
        embeddings = network(torch.randn(50, 5))
        assert embeddings.dtype == torch.float32
        assert torch.allclose(embeddings.norm(dim=1), torch.ones(50), atol=1e-6)
        for part in network.split_embeddings(embeddings):
            assert torch.allclose(part.norm(dim=1), torch.ones(50), atol=1e-6)
        assert EmbeddingNetwork(ensemble, normalize=False)(torch.randn(50, 5)).norm(dim=1).std() > 0


class TestSplit:
    @pytest.mark.parametrize("normalize", [True, False])
    @pytest.mark.parametrize("n_members", [2, 3, 7])
    def test_root_mean_square(self, n_members, normalize):
        """Distances are the root mean square of the parts' distances."""
        network = EmbeddingNetwork(Members(n_members), normalize=normalize)
        embeddings = network(torch.randn(20, 7)).double()
        parts = network.split_embeddings(embeddings)
        assert len(parts) == n_members
        squared = torch.stack([torch.cdist(part, part).square() for part in parts])
        assert torch.allclose(squared.mean(dim=0).sqrt(), torch.cdist(embeddings, embeddings))

    def test_order(self):
        network = EmbeddingNetwork(Members(4))
        parts = network.split_embeddings(torch.arange(10.0)[None])
        assert [part.tolist() for part in parts] == [
            [[0, 2, 4]],
            [[6, 8, 10]],
            [[12, 14]],
            [[16, 18]],
        ]

    @pytest.mark.parametrize("backbone", [nn.Identity(), Members(1)])
    def test_no_members(self, backbone):
        embeddings = torch.randn(5, 3)
        (part,) = EmbeddingNetwork(backbone).split_embeddings(embeddings)
        assert part is embeddings


INVALID_BACKBONES = {
    "width": (Backbone(lambda X: X[:, :2]), r"Got torch.\w+ of shape \(2, 2\)"),
    "batch size": (Backbone(lambda X: X[:1, :3]), r"shape \(1, 3\)"),
    "3 dimensions": (Backbone(lambda X: X[:, :3, None]), r"shape \(2, 3, 1\)"),
    "scalar": (Backbone(torch.sum), r"shape \(\)"),
    "NaN": (Backbone(lambda X: X[:, :3] * torch.nan), "with NaN or infinity"),
    "infinity": (Backbone(lambda X: X[:, :3] + torch.inf), "with NaN or infinity"),
    "integers": (Backbone(lambda X: X[:, :3].long()), "int64"),
    "complex": (Backbone(lambda X: X[:, :3].to(torch.complex64)), "complex64"),
    "tuple": (Backbone(lambda X: (X, X)), "tuple"),
    "no weights": (nn.Identity(), "weights to train"),
    "frozen weights": (nn.Linear(4, 3).requires_grad_(False), "weights to train"),
}
INVALID_AUGMENTATIONS = {
    "None": (lambda batch: None, "NoneType"),
    "array": (lambda batch: batch.numpy(), "ndarray"),
    "batch size": (lambda batch: batch[:1], r"shape \(1, 4\)"),
    "width": (lambda batch: batch[:, :2], r"shape \(2, 2\)"),
    "NaN": (lambda batch: batch * torch.nan, "finite tensor"),
}


class TestValidateNetwork:
    X = torch.zeros(2, 4)

    @pytest.mark.parametrize("n_components", [3, None])
    def test_valid(self, n_components):
        network = EmbeddingNetwork(nn.Linear(4, 3), augment=lambda X: X + 1).eval()
        assert validate_network(network, self.X, n_components) == 3
        assert network.training

    def test_images(self):
        network = EmbeddingNetwork(
            nn.Sequential(nn.Flatten(), nn.Linear(4, 3)),
            input_layout=ChannelsFirst((1, 2, 2)),
            augment=lambda images: images.flip(3),
        )
        assert validate_network(network, torch.zeros(2, 2, 2, dtype=torch.uint8), 3) == 3

    def test_augment_gets_a_copy(self):
        X = torch.ones(2, 4)
        validate_network(EmbeddingNetwork(nn.Linear(4, 3), augment=torch.Tensor.zero_), X, 3)
        assert X.all()

    @pytest.mark.parametrize(
        ("backbone", "match"), INVALID_BACKBONES.values(), ids=INVALID_BACKBONES
    )
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_invalid_module(self, backbone, match, precision):
        network = EmbeddingNetwork(backbone, precision=precision)
        with pytest.raises(InvalidParameterError, match=f"The 'module' parameter.*{match}"):
            validate_network(network, self.X, 3)

    def test_any_width(self):
        network = EmbeddingNetwork(INVALID_BACKBONES["width"][0])
        assert validate_network(network, self.X, None) == 2
        network = EmbeddingNetwork(INVALID_BACKBONES["3 dimensions"][0])
        with pytest.raises(InvalidParameterError, match="'module'"):
            validate_network(network, self.X, None)

    @pytest.mark.parametrize(
        ("augment", "match"), INVALID_AUGMENTATIONS.values(), ids=INVALID_AUGMENTATIONS
    )
    def test_invalid_augment(self, augment, match):
        network = EmbeddingNetwork(nn.Linear(4, 3), augment=augment)
        with pytest.raises(InvalidParameterError, match=f"The 'augment' parameter.*{match}"):
            validate_network(network, self.X, 3)

    @pytest.mark.parametrize("parameter", ["module", "augment"])
    def test_other_errors_are_not_caught(self, parameter):
        def fail(X):
            raise ZeroDivisionError

        backbone = Backbone(fail) if parameter == "module" else nn.Linear(4, 3)
        network = EmbeddingNetwork(backbone, augment=fail)
        with pytest.raises(ZeroDivisionError):
            validate_network(network, self.X, 3)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_contiguous_channels_first(order, transposed):
    """Also of views of arrays with another layout."""
    images = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    X = images.permute(order)
    if not transposed:
        X = X.contiguous()
    converted = ChannelsFirst((3, 4, 5), contiguous=True)(X)
    assert converted.is_contiguous()
    assert torch.equal(converted, images)
