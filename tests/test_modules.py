import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from sktriplet.modules import MLP, Standardizer, UnitSphere, embedding_network


@pytest.mark.parametrize("hidden_layer_sizes", [(), (7,), [5, 6]])
def test_mlp_shapes(hidden_layer_sizes):
    mlp = MLP((4,), 3, hidden_layer_sizes)
    assert mlp(torch.zeros(2, 4)).shape == (2, 3)
    widths = [layer.out_features for layer in mlp.layers if isinstance(layer, torch.nn.Linear)]
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


def test_unit_sphere():
    rows = UnitSphere()(torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True))
    assert torch.allclose(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    rows.sum().backward()


def test_embedding_network_order():
    body = torch.nn.Linear(2, 2)
    whole = embedding_network(body, standardizer=Standardizer([0.0] * 2, [1.0] * 2))
    names = [name for name, _ in whole.named_children()]
    assert names == ["standardizer", "body", "normalizer"]
    assert list(embedding_network(body, normalize=False)) == [body]
