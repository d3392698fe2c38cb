"""The user-defined losses of the gallery."""

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_blobs

from sktriplet import TripletEmbedder
from sktriplet.metrics import r_precision_score
from sktriplet.training import TripletNet

EXAMPLES = Path(__file__).parents[2] / "examples"


def definitions_of(name):
    """Run the imports and definitions of an example, but not its training."""
    path = EXAMPLES / f"{name}.py"
    tree = ast.parse(path.read_text())
    definitions = ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef
    tree.body = [node for node in tree.body if isinstance(node, definitions)]
    namespace = {"__name__": name}
    exec(compile(tree, path, "exec"), namespace)
    return namespace


@pytest.fixture(scope="module")
def multi_similarity_loss():
    return definitions_of("extending/plot_custom_loss")["MultiSimilarityLoss"]


@pytest.fixture(scope="module")
def similarity_triplet_loss():
    return definitions_of("supervision/plot_hierarchical_labels")["SimilarityTripletLoss"]


@pytest.mark.parametrize("parameters", [{}, {"alpha": 1.0, "beta": 20.0, "base": 0.2}])
def test_multi_similarity_loss_matches_pytorch_metric_learning(
    multi_similarity_loss, parameters, rng
):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    labels = torch.from_numpy(rng.integers(5, size=40))
    points = rng.standard_normal((40, 8))
    gradients, values = [], []
    for criterion in (
        multi_similarity_loss(**parameters),
        losses.MultiSimilarityLoss(**parameters),
    ):
        embeddings = torch.tensor(points, requires_grad=True)
        loss = criterion(embeddings, labels)
        loss.backward()
        values.append(loss.item())
        gradients.append(embeddings.grad.numpy())
    assert_allclose(*values, rtol=1e-6)
    assert_allclose(*gradients, rtol=1e-5, atol=1e-9)


def test_multi_similarity_loss_in_embedder(multi_similarity_loss, blobs):
    X, y = blobs
    net = TripletNet(criterion=multi_similarity_loss)
    embedder = TripletEmbedder(net=net, max_epochs=2, random_state=0).fit(X, y)
    assert np.isfinite(embedder.history_[-1]["positive_similarity"])
    assert embedder.score(X, y) > 0.9


class TestSimilarityTripletLoss:
    """Classes 0 and 1 are similar to each other, and class 2 to none."""

    SIMILARITY = ((1.0, 0.5, 0.0), (0.5, 1.0, 0.0), (0.0, 0.0, 1.0))

    def test_expectation(self, similarity_triplet_loss, rng):
        """Mean over many draws against a loop over all triplets."""
        labels, points = rng.integers(3, size=9), rng.normal(size=(9, 2))
        losses = [
            max(
                ((points[a] - points[p]) ** 2).sum() - ((points[a] - points[n]) ** 2).sum() + 0.5, 0
            )
            for a, p, n in itertools.permutations(range(9), 3)
            if self.SIMILARITY[labels[a]][labels[p]] > self.SIMILARITY[labels[a]][labels[n]]
        ]
        criterion = similarity_triplet_loss(self.SIMILARITY)
        arguments = torch.from_numpy(points), torch.from_numpy(labels)
        torch.manual_seed(0)
        drawn = [criterion(*arguments).item() for _ in range(2000)]
        assert_allclose(np.mean(drawn), np.mean(losses), rtol=0.03)

    def test_in_embedder(self, similarity_triplet_loss, make_embedder):
        """Four classes in two groups, which the features do not show."""
        X, y = make_blobs(120, n_features=4, centers=4, cluster_std=0.5, random_state=0)
        group = y % 2
        similarity = np.equal.outer(np.arange(4) % 2, np.arange(4) % 2) / 2 + np.eye(4) / 2
        net = TripletNet(criterion=similarity_triplet_loss, criterion__similarity=similarity)
        embedder = make_embedder(net=net, max_epochs=10, lr=1e-2).fit(X, y)
        assert r_precision_score(X, group, groups=y) < 0.7
        assert r_precision_score(embedder.transform(X), group, groups=y) > 0.9
        assert_array_equal(clone(embedder).fit(X, y).transform(X), embedder.transform(X))
