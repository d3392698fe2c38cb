import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sktriplet.networks import MLPEnsemble
from sktriplet.networks._mlp_ensemble import MemberBatchNorm, MemberLinear, PeriodicFeatures


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_member_linear_is_a_linear_layer_for_each():
    layer = MemberLinear(3, 4, 2, n_further=1, generator=seeded())
    X = torch.randn(3, 5, 7)
    for member in range(3):
        expected = F.linear(X[member].T, layer.weight[member], layer.bias[member, :, 0])
        assert torch.allclose(layer(X)[member].T, expected, atol=1e-6)
    assert (layer.weight[:, :, :4] != 0).all()
    assert (layer.weight[:, :, 4:] == 0).all(), "what comes behind counts for nothing at first"


def test_member_batch_norm_is_a_batch_norm_for_each():
    X = torch.randn(2, 3, 50) * 5 + 1
    together = MemberBatchNorm(6)
    apart = [nn.BatchNorm1d(3) for _ in range(2)]
    for _ in range(2):
        outputs = together(X)
        for member, norm in enumerate(apart):
            assert torch.allclose(outputs[member], norm(X[member].T).T, atol=1e-5)
    together.eval()
    assert torch.allclose(together(X)[1], apart[1].eval()(X[1].T).T, atol=1e-5)


class TestPeriodicFeatures:
    def test_waves(self):
        layer = PeriodicFeatures(2, 3, generator=seeded())
        X = torch.randn(3, 6)
        outputs = layer(X)
        assert outputs.shape == (2, 3 + layer.n_waves, 6)
        n_waves = layer.n_waves // 3
        for member in range(2):
            assert torch.equal(outputs[member, :3], X)
            for column in range(3):
                for wave in range(n_waves):
                    frequency = layer.frequency[member, column, wave]
                    angle = 2 * torch.pi * frequency * X[column] + layer.phase[member, column, wave]
                    found = outputs[member, 3 + column * n_waves + wave]
                    assert torch.allclose(found, torch.cos(angle), atol=1e-5)

    def test_columns_without_waves(self):
        outputs = PeriodicFeatures(2, 3, [True, False, True])(torch.randn(3, 6))
        has_waves = outputs[:, 3:].unflatten(1, (3, -1)).flatten(2).any(dim=2)
        assert has_waves.tolist() == [[True, False, True]] * 2


class TestMLPEnsemble:
    @pytest.mark.parametrize(
        ("n_components", "n_members", "widths"),
        [(32, 4, [8] * 4), (10, 4, [3, 3, 2, 2]), (7, 2, [4, 3]), (5, 1, [5])],
    )
    def test_widths(self, n_components, n_members, widths):
        """Each member's part is where the embedding is cut into parts."""
        network = MLPEnsemble((3,), n_components, (6,), n_members=n_members).eval()
        X = torch.randn(9, 3)
        before = network(X)
        assert before.shape == (9, n_components)
        for member, part in enumerate(before.tensor_split(n_members, dim=1)):
            assert part.shape == (9, widths[member])
        with torch.no_grad():
            network.head.weight[0] += 1
        changed = (network(X) != before).any(dim=0)
        assert changed.tolist() == [column < widths[0] for column in range(n_components)]

    def test_double_precision(self):
        network = MLPEnsemble((3,), 8, (6,), n_members=2).double()
        assert network(torch.randn(9, 3, dtype=torch.float64)).dtype == torch.float64

    def test_members_see_no_other_member(self):
        network = MLPEnsemble((3,), 12, (6, 5), n_members=3)
        X = torch.randn(9, 3)
        for member in range(3):
            network.zero_grad()
            part = network(X).tensor_split(3, dim=1)[member]
            part.square().sum().backward()
            moved = network.head.weight.grad.flatten(1).any(dim=1)
            assert moved.tolist() == [other == member for other in range(3)]
        group = network.plain[0].weight.grad
        assert not group.any(), "the last member is one of the periodic ones"

    def test_members_differ(self):
        network = MLPEnsemble((3,), 12, (6,), n_members=4, generator=seeded()).eval()
        parts = network(torch.randn(50, 3)).tensor_split(4, dim=1)
        assert all(not torch.allclose(a, b) for a in parts for b in parts if a is not b)

    def test_waves_count_for_nothing_before_training(self):
        """But they are learned: the zero weights have a gradient."""
        network = MLPEnsemble((2,), 4, (6,), n_members=2)
        X = torch.randn(20, 2)
        before = network(X)
        with torch.no_grad():
            network.periodic[0].frequency += 1
        assert torch.equal(network(X), before)
        network(X).square().sum().backward()
        assert network.periodic[1].weight.grad[:, :, 2:].any()

    def test_weights_come_from_the_generator_alone(self):
        def weights(seed):
            network = MLPEnsemble((4,), 8, (5,), n_members=2, generator=seeded(seed))
            return nn.utils.parameters_to_vector(network.parameters())

        first = weights(0)
        torch.rand(1)
        assert torch.equal(first, weights(0))
        assert not torch.equal(first, weights(1))

    @pytest.mark.parametrize("n_members", [2, 3, 8])
    def test_half_of_the_members_see_waves(self, n_members):
        network = MLPEnsemble((4,), 64, (5,), n_members=n_members)
        assert len(network.periodic[0].frequency) == n_members // 2
        assert len(network.plain[0].weight) == n_members - n_members // 2
