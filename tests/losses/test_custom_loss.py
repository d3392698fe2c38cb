"""The user-defined loss of the gallery."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

EXAMPLE = Path(__file__).parents[2] / "examples" / "plot_custom_loss.py"


@pytest.fixture(scope="module")
def multi_similarity_loss():
    """Run the imports and definitions of the example, but not its training."""
    tree = ast.parse(EXAMPLE.read_text())
    definitions = ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef
    tree.body = [node for node in tree.body if isinstance(node, definitions)]
    namespace = {"__name__": "plot_custom_loss"}
    exec(compile(tree, EXAMPLE, "exec"), namespace)
    return namespace["MultiSimilarityLoss"]


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
    from sktriplet import TripletEmbedder
    from sktriplet.training import TripletNet

    X, y = blobs
    net = TripletNet(criterion=multi_similarity_loss)
    embedder = TripletEmbedder(net=net, max_epochs=2, random_state=0).fit(X, y)
    assert np.isfinite(embedder.history_[-1]["positive_similarity"])
    assert embedder.score(X, y) > 0.9
