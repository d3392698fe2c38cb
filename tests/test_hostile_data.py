"""Data that are legal and hard: training stays finite, and what can be learned is learned."""

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


def blobs_with(n_rows=120, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % n_classes
    return rng.normal(size=(n_rows, 4)) + 3 * np.eye(4)[y % 4], y


def assert_learns(embedder, X, y, at_least):
    """Check for finite numbers only, and for neighbours of the right class."""
    embedded = embedder.fit(X, y).transform(X)
    assert np.isfinite(embedded).all()
    assert all(np.isfinite(epoch["train_loss"]) for epoch in embedder.history_)
    neighbours = KNeighborsClassifier(3).fit(embedded, y)
    assert neighbours.score(embedded, y) >= at_least


COLUMNS = {
    "constant": lambda X: np.full(len(X), 7.0),
    "constant and huge": lambda X: np.full(len(X), 1e30),
    "huge": lambda X: 1e30 * X[:, 1],
    "tiny": lambda X: 1e-30 * X[:, 1],
    "far from zero": lambda X: 1e6 + X[:, 1],
    "nearly constant": lambda X: np.arange(len(X)) == 3,
    "one row is far off": lambda X: np.where(np.arange(len(X)) == 3, 1e20, X[:, 1]),
    "heavy tails": lambda X: np.exp(10 * X[:, 1]),
    "nearly too large": lambda X: np.where(np.arange(len(X)) % 2, 1e38, -1e38),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("normalize", [True, False])
def test_columns(column, normalize, quick):
    X, y = blobs_with()
    X = np.column_stack([X, column(X)])
    assert_learns(quick(max_epochs=8, normalize=normalize), X, y, at_least=0.9)


def test_all_columns_constant(quick):
    embedder = quick()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all is one point, and may be said to be
        embedded = embedder.fit(np.ones((20, 3)), np.arange(20) % 2).transform(np.ones((20, 3)))
    assert np.isfinite(embedded).all()
    assert_array_equal(embedded, embedded[:1].repeat(20, axis=0))


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "random", "all"])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_rows_that_are_equal_and_not_of_one_class(mining, metric, quick):
    X, y = blobs_with(60)
    X, y = np.concatenate([X, X]), np.concatenate([y, (y + 1) % 3])
    embedder = quick(mining=mining, metric=metric).fit(X, y)
    assert np.isfinite(embedder.transform(X)).all()
    assert all(np.isfinite(epoch["train_loss"]) for epoch in embedder.history_)


def test_a_class_of_two_among_ten_thousand(quick):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_002, 4))
    X[-2:] += 20
    y = np.arange(10_002) >= 10_000
    embedded = quick(max_epochs=1).fit(X, y).transform(X)
    assert np.isfinite(embedded).all()
    nearest = np.linalg.norm(embedded[:-2] - embedded[-1], axis=1).min()
    assert np.linalg.norm(embedded[-2] - embedded[-1]) < nearest


def test_a_thousand_classes_of_two(quick):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, 8))
    X, y = np.repeat(centres, 2, axis=0) + 0.05 * rng.normal(size=(2000, 8)), np.arange(2000) // 2
    embedded = quick(max_epochs=4, hidden_layer_sizes=(64,)).fit(X, y).transform(X)
    assert np.isfinite(embedded).all()
    assert recall_at_k_score(embedded, y) > 0.5


@pytest.mark.slow
def test_two_classes_of_a_hundred_thousand(quick):
    X, y = blobs_with(200_000, 2)
    embedder = quick(max_epochs=1, batch_size=1024)
    embedded = embedder.fit(X, y).transform(X)
    assert np.isfinite(embedded).all()
    neighbours = KNeighborsClassifier(5).fit(embedded[:1000], y[:1000])
    assert neighbours.score(embedded[-1000:], y[-1000:]) > 0.95


class TestDivergence:
    """A miner passes over distances that are NaN, so that the loss alone does not show it."""

    @pytest.mark.parametrize("nca_weight", [0.0, 1.0])
    @pytest.mark.parametrize("mining", ["semi_hard", "hard", "random", "all"])
    def test_in_any_epoch(self, nca_weight, mining, quick, blobs):
        epochs = iter([False] * 25 + [True] * 100)

        class Breaks(torch.nn.Linear):
            def forward(self, X):
                embedded = super().forward(X)
                return embedded * np.nan if self.training and next(epochs) else embedded

        embedder = quick(
            module=Breaks(5, 4), n_components=4, mining=mining, nca_weight=nca_weight, max_epochs=9
        )
        with pytest.raises(DivergenceError, match=r"diverged in epoch 3: .* became nan"):
            embedder.fit(*blobs)
        assert not hasattr(embedder, "net_")

    def test_in_one_member_only(self, quick, blobs, monkeypatch):
        forward = MLPEnsemble.forward

        def spoilt(network, X):
            last = torch.full((len(X), 1), np.nan if network.training else 0.0)
            return torch.cat([forward(network, X)[:, :-1], last], dim=1)

        monkeypatch.setattr(MLPEnsemble, "forward", spoilt)
        with pytest.raises(DivergenceError, match=r"epoch 1: the spread .* became nan"):
            quick(nca_weight=0.0).fit(*blobs)

    def test_the_weights_before_are_kept(self, quick, blobs, tmp_path):
        """Also by a fit that went well before, and on disk by a Checkpoint."""
        X, y = blobs
        checkpoint = Checkpoint(monitor=None, dirname=str(tmp_path))
        embedder = quick(net=TripletNet(callbacks=[checkpoint])).fit(X, y)
        expected = embedder.transform(X)
        saved = (tmp_path / "params.pt").read_bytes()
        embedder.set_params(loss=lambda d_ap, d_an, margin: (d_ap - d_an) * np.nan)
        with pytest.raises(DivergenceError, match="Checkpoint keeps the weights"):
            embedder.fit(X, y)
        assert_array_equal(embedder.transform(X), expected)
        assert (tmp_path / "params.pt").read_bytes() == saved
