"""Valid but difficult data: training stays finite and learns what can be learned."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.neighbors import KNeighborsClassifier
from skorch.callbacks import Checkpoint

from sktriplet.exceptions import DivergenceError
from sktriplet.metrics import recall_at_k_score
from sktriplet.networks import MLPEnsemble
from sktriplet.training import TripletNet


def make_blobs(n_samples=120, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % n_classes
    return rng.normal(size=(n_samples, 4)) + 3 * np.eye(4)[y % 4], y


def assert_learns(embedder, X, y, at_least):
    """Check for finite numbers, and for the accuracy of a nearest neighbors classifier."""
    embedded = embedder.fit(X, y).transform(X)
    assert np.isfinite(embedded).all()
    assert all(np.isfinite(epoch["train_loss"]) for epoch in embedder.history_)
    knn = KNeighborsClassifier(3).fit(embedded, y)
    assert knn.score(embedded, y) >= at_least


FEATURES = {
    "constant": lambda X: np.full(len(X), 7.0),
    "constant and huge": lambda X: np.full(len(X), 1e30),
    "huge": lambda X: 1e30 * X[:, 1],
    "tiny": lambda X: 1e-30 * X[:, 1],
    "far from zero": lambda X: 1e6 + X[:, 1],
    "nearly constant": lambda X: np.arange(len(X)) == 3,
    "outlier": lambda X: np.where(np.arange(len(X)) == 3, 1e20, X[:, 1]),
    "heavy tails": lambda X: np.exp(10 * X[:, 1]),
    "nearly too large": lambda X: np.where(np.arange(len(X)) % 2, 1e38, -1e38),
}


@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES)
@pytest.mark.parametrize("normalize", [True, False])
def test_feature(feature, normalize, make_embedder):
    X, y = make_blobs()
    X = np.column_stack([X, feature(X)])
    assert_learns(make_embedder(max_epochs=8, normalize=normalize), X, y, at_least=0.9)


def test_all_features_constant(make_embedder):
    embedder = make_embedder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the embeddings collapse
        embedded = embedder.fit(np.ones((20, 3)), np.arange(20) % 2).transform(np.ones((20, 3)))
    assert np.isfinite(embedded).all()
    assert_array_equal(embedded, embedded[:1].repeat(20, axis=0))


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "random", "all"])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_duplicates_in_different_classes(mining, metric, make_embedder):
    X, y = make_blobs(60)
    X, y = np.concatenate([X, X]), np.concatenate([y, (y + 1) % 3])
    embedder = make_embedder(mining=mining, metric=metric).fit(X, y)
    assert np.isfinite(embedder.transform(X)).all()
    assert all(np.isfinite(epoch["train_loss"]) for epoch in embedder.history_)


def test_imbalanced_classes(make_embedder):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_002, 4))
    X[-2:] += 20
    y = np.arange(10_002) >= 10_000
    embedded = make_embedder(max_epochs=1).fit(X, y).transform(X)
    assert np.isfinite(embedded).all()
    nearest = np.linalg.norm(embedded[:-2] - embedded[-1], axis=1).min()
    assert np.linalg.norm(embedded[-2] - embedded[-1]) < nearest


def test_many_small_classes(make_embedder):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(1000, 8))
    X, y = np.repeat(centers, 2, axis=0) + 0.05 * rng.normal(size=(2000, 8)), np.arange(2000) // 2
    embedded = make_embedder(max_epochs=4, hidden_layer_sizes=(64,)).fit(X, y).transform(X)
    assert np.isfinite(embedded).all()
    assert recall_at_k_score(embedded, y) > 0.5


@pytest.mark.slow
def test_large_classes(make_embedder):
    X, y = make_blobs(200_000, 2)
    embedder = make_embedder(max_epochs=1, batch_size=1024)
    embedded = embedder.fit(X, y).transform(X)
    assert np.isfinite(embedded).all()
    knn = KNeighborsClassifier(5).fit(embedded[:1000], y[:1000])
    assert knn.score(embedded[-1000:], y[-1000:]) > 0.95


class TestDivergenceError:
    """Miners skip distances that are NaN, so the loss may be finite nevertheless."""

    @pytest.mark.parametrize("nca_weight", [0.0, 1.0])
    @pytest.mark.parametrize("mining", ["semi_hard", "hard", "random", "all"])
    def test_any_epoch(self, nca_weight, mining, make_embedder, blobs):
        epochs = iter([False] * 25 + [True] * 100)

        class Breaks(torch.nn.Linear):
            def forward(self, X):
                embedded = super().forward(X)
                return embedded * np.nan if self.training and next(epochs) else embedded

        embedder = make_embedder(
            module=Breaks(5, 4), n_components=4, mining=mining, nca_weight=nca_weight, max_epochs=9
        )
        with pytest.raises(DivergenceError, match=r"epoch 3.* nan"):
            embedder.fit(*blobs)
        assert not hasattr(embedder, "net_")

    def test_single_member(self, make_embedder, blobs, monkeypatch):
        forward = MLPEnsemble.forward

        def with_nan(network, X):
            last = torch.full((len(X), 1), np.nan if network.training else 0.0)
            return torch.cat([forward(network, X)[:, :-1], last], dim=1)

        monkeypatch.setattr(MLPEnsemble, "forward", with_nan)
        with pytest.raises(DivergenceError, match=r"epoch 1.*spread.* nan"):
            make_embedder(nca_weight=0.0).fit(*blobs)

    def test_keeps_previous_weights(self, make_embedder, blobs, tmp_path):
        """Those of an earlier fit, and those on disk of a Checkpoint."""
        X, y = blobs
        checkpoint = Checkpoint(monitor=None, dirname=str(tmp_path))
        embedder = make_embedder(net=TripletNet(callbacks=[checkpoint])).fit(X, y)
        expected = embedder.transform(X)
        saved = (tmp_path / "params.pt").read_bytes()
        embedder.set_params(loss=lambda d_ap, d_an, margin: (d_ap - d_an) * np.nan)
        with pytest.raises(DivergenceError, match="Checkpoint"):
            embedder.fit(X, y)
        assert_array_equal(embedder.transform(X), expected)
        assert (tmp_path / "params.pt").read_bytes() == saved
