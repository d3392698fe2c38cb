from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sktriplet.networks import MLPEnsemble
from sktriplet.networks._embedding_network import EmbeddingNetwork
from sktriplet.networks._mlp_ensemble import (
    N_FREQUENCIES,
    EnsembleBatchNorm1d,
    EnsembleLinear,
    PeriodicFeatures,
)


def test_ensemble_linear(make_generator):
    """It is a linear layer per member."""
    layer = EnsembleLinear(3, 4, 2, n_zero_init=1, generator=make_generator())
    X = torch.randn(3, 5, 7)
    for member in range(3):
        expected = F.linear(X[member].T, layer.weight[member], layer.bias[member, :, 0])
        assert torch.allclose(layer(X)[member].T, expected, atol=1e-6)
    assert (layer.weight[:, :, :4] != 0).all()
    assert (layer.weight[:, :, 4:] == 0).all()


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


class TestPeriodicFeatures:
    def test_values(self, make_generator):
        layer = PeriodicFeatures(2, 3, generator=make_generator())
        X = torch.randn(3, 6)
        outputs = layer(X)
        assert layer.n_outputs == 3 * N_FREQUENCIES
        assert outputs.shape == (2, 3 + layer.n_outputs, 6)
        for member in range(2):
            assert torch.equal(outputs[member, :3], X)
            periodic = outputs[member, 3:].unflatten(0, (3, N_FREQUENCIES))
            for feature in range(3):
                for i in range(N_FREQUENCIES):
                    frequency = layer.frequency[member, feature, i]
                    angle = 2 * torch.pi * frequency * X[feature] + layer.phase[member, feature, i]
                    assert torch.allclose(periodic[feature, i], torch.cos(angle), atol=1e-5)

    def test_is_continuous(self):
        outputs = PeriodicFeatures(2, 3, [True, False, True])(torch.randn(3, 6))
        nonzero = outputs[:, 3:].unflatten(1, (3, -1)).flatten(2).any(dim=2)
        assert nonzero.tolist() == [[True, False, True]] * 2


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
            assert network.plain[0](X.T.expand(1, -1, -1)).dtype == torch.bfloat16
            assert network(X).dtype == torch.float32

    def test_hidden(self):
        network, X = MLPEnsemble((3,), 8, (6, 5), n_members=2), torch.randn(9, 3)
        hidden = network.hidden(X)
        assert hidden.shape == (2, 5, 9)
        assert torch.equal(network.head(hidden).permute(2, 0, 1).flatten(1), network(X))

    def test_members_are_independent(self):
        network = MLPEnsemble((3,), 12, (6, 5), n_members=3)
        X = torch.randn(9, 3)
        for member in range(3):
            network.zero_grad()
            part = network(X).tensor_split(3, dim=1)[member]
            part.square().sum().backward()
            has_gradient = network.head.weight.grad.flatten(1).any(dim=1)
            assert has_gradient.tolist() == [other == member for other in range(3)]
        assert not network.plain[0].weight.grad.any()  # the last member has periodic features

    def test_members_differ(self, make_generator):
        network = MLPEnsemble((3,), 12, (6,), n_members=4, generator=make_generator()).eval()
        parts = network(torch.randn(50, 3)).tensor_split(4, dim=1)
        assert all(not torch.allclose(a, b) for a in parts for b in parts if a is not b)

    def test_periodic_features_are_learned(self):
        """They start with zero weights, which have a gradient."""
        network = MLPEnsemble((2,), 4, (6,), n_members=2)
        X = torch.randn(20, 2)
        before = network(X)
        with torch.no_grad():
            network.periodic[0].frequency += 1
        assert torch.equal(network(X), before)
        network(X).square().sum().backward()
        assert network.periodic[1].weight.grad[:, :, 2:].any()

    def test_initial_weights(self, initial_weights):
        """They depend only on the generator."""
        make = partial(MLPEnsemble, (4,), 8, (5,), n_members=2)
        first = initial_weights(make, seed=0)
        torch.rand(1)
        assert torch.equal(first, initial_weights(make, seed=0))
        assert not torch.equal(first, initial_weights(make, seed=1))

    @pytest.mark.parametrize("n_members", [2, 3, 8])
    def test_half_of_the_members_are_periodic(self, n_members):
        network = MLPEnsemble((4,), 64, (5,), n_members=n_members)
        assert len(network.periodic[0].frequency) == n_members // 2
        assert len(network.plain[0].weight) == n_members - n_members // 2

    @pytest.mark.parametrize("n_periodic", [0, 1, 3])
    def test_n_periodic(self, n_periodic):
        network = MLPEnsemble((4,), 6, (5,), n_members=3, n_periodic=n_periodic)
        assert network(torch.randn(9, 4)).shape == (9, 6)
        assert (network.periodic is None) == (n_periodic == 0)
        assert (network.plain is None) == (n_periodic == 3)

    @pytest.mark.parametrize(
        ("parameters", "match"),
        [
            ({"hidden_layer_sizes": ()}, "hidden_layer_sizes must have at least one"),
            ({"n_members": 0}, "n_members must be between 1 and n_components=8. Got 0"),
            ({"n_members": 9}, "n_members must be between 1 and n_components=8. Got 9"),
            ({"n_periodic": -1}, "n_periodic must be between 0 and n_members=4. Got -1"),
            ({"n_periodic": 5}, "n_periodic must be between 0 and n_members=4. Got 5"),
        ],
        ids=str,
    )
    def test_invalid_parameters(self, parameters, match):
        with pytest.raises(ValueError, match=match):
            MLPEnsemble((4,), 8, **parameters)
