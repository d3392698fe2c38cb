from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sktriplet.networks import MLPEnsemble
from sktriplet.networks._embedding_network import EmbeddingNetwork
from sktriplet.networks._mlp_ensemble import (
    EnsembleBatchNorm1d,
    EnsembleLinear,
    PiecewiseLinearEncoding,
)


def test_ensemble_linear(make_generator):
    """It is a linear layer per member."""
    layer = EnsembleLinear(3, 4, 2, generator=make_generator())
    X = torch.randn(3, 4, 7)
    for member in range(3):
        expected = F.linear(X[member].T, layer.weight[member], layer.bias[member, :, 0])
        assert torch.allclose(layer(X)[member].T, expected, atol=1e-6)


def test_ensemble_batch_norm():
    """It is a batch normalization per member."""
    X = torch.randn(2, 3, 50) * 5 + 1
    ensemble = EnsembleBatchNorm1d(6)
    members = [nn.BatchNorm1d(3) for _ in range(2)]
    for _ in range(2):
        outputs = ensemble(X)
        for member, norm in enumerate(members):
            assert torch.allclose(outputs[member], norm(X[member].T).T, atol=1e-5)
    ensemble.eval()
    assert torch.allclose(ensemble(X)[1], members[1].eval()(X[1].T).T, atol=1e-5)


class TestPiecewiseLinearEncoding:
    def test_values(self):
        """The second bin of the second feature is empty."""
        encoding = PiecewiseLinearEncoding([[0, 1, 3], [0, 2, 2]])
        X = torch.tensor([[-1.0, 0, 0.5, 1, 2, 3, 9], [-1.0, 0, 0.5, 1, 2, 3, 9]])
        expected = torch.tensor(
            [
                [-1.0, -1, 0, 1, 1, 1, 1],
                [-1.0, -1, -1, -1, 0, 1, 1],
                [-1.0, -1, -0.5, 0, 1, 1, 1],
                [-1.0, -1, -1, -1, -1, -1, -1],
            ]
        )
        assert encoding.n_outputs == 4
        assert torch.allclose(encoding(X), expected)

    def test_subnormal_width(self):
        encoding = PiecewiseLinearEncoding([[0, 1e-40, 1]])
        assert torch.isfinite(encoding(torch.tensor([[0.0, 1e-41, 1e-40, 0.5]]))).all()

    def test_edges_are_saved(self):
        assert "bin_edges" in PiecewiseLinearEncoding([[0, 1]]).state_dict()

    def test_binary_features(self):
        """Only their first bin is encoded."""
        edges = [[0, 1, 3], [-0.5, 1.5, 1.5], [0, 1, 1]]
        X = torch.tensor([[2.0, 0.5], [-0.5, 1.5], [1.0, 0.0]])  # (n_features, B)
        encoding = PiecewiseLinearEncoding(edges, n_binary=2)
        everything = PiecewiseLinearEncoding(edges)(X)
        assert encoding.n_outputs == 4
        assert torch.equal(encoding(X), everything[[0, 1, 2, 4]])
        all_binary = PiecewiseLinearEncoding(edges, n_binary=3)
        assert torch.equal(all_binary(X), everything[[0, 2, 4]])


class TestMLPEnsemble:
    @pytest.mark.parametrize(
        ("n_components", "n_members", "widths"),
        [(32, 4, [8] * 4), (10, 4, [3, 3, 2, 2]), (7, 2, [4, 3]), (5, 1, [5])],
    )
    def test_widths(self, n_components, n_members, widths):
        """`EmbeddingNetwork.split_embeddings` returns the outputs of the members."""
        backbone = MLPEnsemble((3,), n_components, (6,), n_members=n_members).eval()
        X = torch.randn(9, 3)
        outputs = backbone(X)
        assert outputs.shape == (9, n_components)
        parts = EmbeddingNetwork(backbone).split_embeddings(outputs)
        assert [part.shape[1] for part in parts] == widths
        with torch.no_grad():
            backbone.head.weight[0] += 1
        changed = (backbone(X) != outputs).any(dim=0)
        assert changed.tolist() == [i < widths[0] for i in range(n_components)]

    def test_double_precision(self):
        network = MLPEnsemble((3,), 8, (6,), n_members=2).double()
        assert network(torch.randn(9, 3, dtype=torch.float64)).dtype == torch.float64

    def test_autocast(self):
        """Hidden layers are in half precision, the output layer is not."""
        network, X = MLPEnsemble((3,), 8, (6,), n_members=2), torch.randn(9, 3)
        with torch.autocast("cpu", torch.bfloat16):
            assert network.plain[0](X.T.expand(2, -1, -1)).dtype == torch.bfloat16
            assert network(X).dtype == torch.float32

    def test_hidden(self):
        network, X = MLPEnsemble((3,), 8, (6, 5), n_members=2), torch.randn(9, 3)
        hidden = network.hidden(X)
        assert hidden.shape == (2, 5, 9)
        output = network.head(hidden).permute(2, 0, 1).flatten(1)
        assert torch.equal(output + network.skip(X), network(X))

    def test_skip_connection(self, make_generator):
        """Without the hidden layers, the embedding initially is a rotation of the samples."""
        network = MLPEnsemble((8,), 8, (6,), n_members=2, generator=make_generator())
        with torch.no_grad():
            network.head.weight.zero_()
            X = torch.randn(9, 8)
            assert torch.allclose(torch.cdist(network(X), network(X)), torch.cdist(X, X), atol=1e-5)
            assert not torch.allclose(network(X), X, atol=0.1)

    def test_members_are_independent(self):
        network = MLPEnsemble((3,), 12, (6, 5), n_members=3)
        X = torch.randn(9, 3)
        for member in range(3):
            network.zero_grad()
            part = network(X).tensor_split(3, dim=1)[member]
            part.square().sum().backward()
            for weight in (network.head.weight, network.skip.weight):
                has_gradient = weight.grad.reshape(3, -1).any(dim=1)
                assert has_gradient.tolist() == [other == member for other in range(3)]

    def test_members_differ(self, make_generator):
        network = MLPEnsemble((3,), 12, (6,), n_members=4, generator=make_generator()).eval()
        parts = network(torch.randn(50, 3)).tensor_split(4, dim=1)
        assert all(not torch.allclose(a, b) for a in parts for b in parts if a is not b)

    def test_encoded_members(self):
        """Their hidden layers do not see values beyond the outermost edges, others do."""
        network = MLPEnsemble((2,), 16, (6,), n_members=4, bin_edges=[[0, 1, 2], [0, 1, 2]]).eval()
        # (n_members, 6, B)
        inside, outside = network.hidden(torch.tensor([[2.0, 2.0], [7.0, 9.0]])).unbind(2)
        assert torch.equal(inside[2:], outside[2:])
        assert (inside[:2] != outside[:2]).any()

    def test_constant_bins_are_not_needed(self, make_generator):
        """Batch normalization removes what the constant bins of a binary feature add."""
        edges = [[-1, 0, 2], [0, 1, 1]]
        X = torch.stack([torch.linspace(-2, 3, 20), torch.arange(20) % 2.0], dim=1)
        make = partial(MLPEnsemble, (2,), 8, (5,), n_members=2, bin_edges=edges)
        everything = make(generator=make_generator())
        network = make(n_binary=1, generator=make_generator())
        state = everything.state_dict()
        state["encoded.0.weight"] = state["encoded.0.weight"][..., :3]  # without the last bin
        network.load_state_dict(state)
        outputs, expected = network(X), everything(X)
        assert torch.allclose(outputs, expected, atol=1e-5)
        outputs.square().sum().backward()
        expected.square().sum().backward()
        gradient = everything.encoded[0].weight.grad
        assert torch.allclose(network.encoded[0].weight.grad, gradient[..., :3], atol=1e-4)
        assert gradient[..., 3].abs().max() < 1e-4 < gradient.abs().max()

    @pytest.mark.parametrize("n_binary", [0, 30, 40])
    def test_scale_of_initial_weights(self, n_binary, make_generator):
        """A binary feature gets the same weights whether or not it is declared as one."""
        edges = np.tile([0, 1, 1, 1, 1], (40, 1))
        network = MLPEnsemble(
            (40,), 8, n_members=2, bin_edges=edges, n_binary=n_binary, generator=make_generator()
        )
        largest = [layer.weight.abs().max().item() for layer in network.encoded[::3]]
        assert largest == pytest.approx([(40 * 4) ** -0.5, 256**-0.5], rel=0.01)

    def test_initial_weights(self, initial_weights):
        """They depend only on the generator."""
        make = partial(MLPEnsemble, (4,), 8, (5,), n_members=2)
        first = initial_weights(make, seed=0)
        torch.rand(1)
        assert torch.equal(first, initial_weights(make, seed=0))
        assert not torch.equal(first, initial_weights(make, seed=1))

    def test_global_generator_is_not_used(self, make_generator):
        state = torch.get_rng_state()
        MLPEnsemble((4,), 8, (5,), n_members=2, generator=make_generator())
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("n_members", [1, 2, 3, 8])
    def test_half_of_the_members_are_encoded(self, n_members):
        edges = np.tile(np.arange(3), (4, 1))
        network = MLPEnsemble((4,), 64, (5,), n_members=n_members, bin_edges=edges)
        n_encoded = 0 if network.encoded is None else len(network.encoded[0].weight)
        assert n_encoded == n_members // 2
        assert len(network.plain[0].weight) == n_members - n_encoded
        assert network(torch.randn(9, 4)).shape == (9, 64)

    @pytest.mark.parametrize(
        ("parameters", "match"),
        [
            ({"hidden_layer_sizes": ()}, "hidden_layer_sizes must have at least one"),
            ({"n_members": 0}, "n_members must be between 1 and n_components=8. Got 0"),
            ({"n_members": 9}, "n_members must be between 1 and n_components=8. Got 9"),
        ],
        ids=str,
    )
    def test_invalid_parameters(self, parameters, match):
        with pytest.raises(ValueError, match=match):
            MLPEnsemble((4,), 8, **parameters)
