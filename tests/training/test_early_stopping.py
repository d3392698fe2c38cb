import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sktriplet.exceptions import OverfittingWarning
from sktriplet.training import TripletNet
from sktriplet.training._data import ArrayDataset
from sktriplet.training._early_stopping import (
    MAX_QUERIES,
    MAX_REFERENCES,
    early_stopping,
    group_holdout,
    precision_at_k,
    stratified_holdout,
)


class TestStratifiedHoldout:
    @given(
        sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
        fraction=st.floats(0.05, 0.9),
        seed=st.integers(0, 100),
    )
    def test_fraction_per_class(self, sizes, fraction, seed):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        rng = np.random.default_rng(seed)
        rng.shuffle(labels)
        try:
            training, held_out = stratified_holdout(labels, fraction, rng)
        except ValueError:
            assert fraction * sum(n for n in sizes if n - np.ceil(n * fraction) >= 2) < 1.0001
            return
        assert_array_equal(np.sort(np.r_[training, held_out]), np.arange(len(labels)))
        for label, size in enumerate(sizes):
            n_held_out = np.sum(labels[held_out] == label)
            if size - np.ceil(size * fraction) >= 2:
                assert np.floor(size * fraction) <= n_held_out <= np.ceil(size * fraction)
            else:
                assert n_held_out == 0

    def test_depends_on_seed(self):
        labels = np.arange(100) % 4
        first, second = (
            stratified_holdout(labels, 0.1, np.random.default_rng(seed))[1] for seed in range(2)
        )
        assert set(first) != set(second)


class TestGroupHoldout:
    @given(
        n_groups=st.integers(4, 20),
        n_classes=st.integers(2, 6),
        fraction=st.floats(0.05, 0.5),
        seed=st.integers(0, 100),
    )
    def test_groups_are_not_split(self, n_groups, n_classes, fraction, seed):
        groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(n_groups), 12))
        labels = np.arange(len(groups)) % n_classes
        training, held_out = group_holdout(labels, groups, fraction, seed)
        assert_array_equal(np.sort(np.r_[training, held_out]), np.arange(len(groups)))
        assert not np.isin(groups[training], groups[held_out]).any()
        assert len(np.unique(groups[held_out])) == np.ceil(n_groups * fraction - 1e-9)

    def test_held_out_classes_are_contiguous(self):
        """A part of the held-out samples has whole classes."""
        labels = np.arange(400) % 20
        _, held_out = group_holdout(labels, labels, 0.5, 0)
        assert_array_equal(np.sort(held_out), np.flatnonzero(np.isin(labels, labels[held_out])))
        assert np.count_nonzero(np.diff(labels[held_out])) == 9

    def test_depends_on_seed(self):
        labels = np.arange(100) % 10
        first, second = (group_holdout(labels, labels, 0.3, seed)[1] for seed in range(2))
        assert set(first) != set(second)

    @pytest.mark.parametrize(
        ("labels", "groups", "fraction", "match"),
        [
            ([0, 0, 1, 1], [0, 0, 0, 0], 0.1, "at least two groups. Got 1 groups"),
            ([0, 0, 1, 1], [0, 0, 1, 1], 0.9, "no samples to train on"),
            ([0, 0, 1, 1], [0, 0, 1, 1], 0.5, "two classes to train on"),
            ([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], 0.3, r"Got 3 groups .*=0.3, and 1 class"),
            ([0, 1, 2, 3], [0, 0, 1, 1], 0.1, "one of them with two samples"),
        ],
    )
    def test_too_few_groups(self, labels, groups, fraction, match):
        with pytest.raises(ValueError, match=match):
            group_holdout(np.array(labels), np.array(groups), fraction, 0)


class TestPrecisionAtK:
    @pytest.mark.parametrize("n_classes", [2, 5, 12])
    def test_matches_definition(self, rng, n_classes):
        references, queries = rng.normal(size=(30, 2)), rng.normal(size=(20, 2))
        labels = rng.permutation(np.arange(30) % n_classes)
        query_labels = rng.integers(0, n_classes, 20)
        scores = []
        for query, label in zip(queries, query_labels, strict=True):
            by_distance = sorted(range(30), key=lambda i: np.linalg.norm(references[i] - query))
            k = min(5, np.sum(labels == label))
            scores.append(sum(labels[i] == label for i in by_distance[:k]) / k)
        ours = precision_at_k(queries, query_labels, references, labels)
        assert ours == pytest.approx(np.mean(scores))

    @pytest.mark.parametrize("n_references", [30, 6])
    def test_exclude_self(self, rng, n_references):
        references = rng.normal(size=(n_references, 2))
        labels = rng.permutation(np.arange(n_references) % 3)
        scores = []
        for query in range(4):
            others = [i for i in range(n_references) if i != query]
            by_distance = sorted(
                others, key=lambda i: np.linalg.norm(references[i] - references[query])
            )
            k = min(5, np.sum(labels[others] == labels[query]))
            scores.append(sum(labels[i] == labels[query] for i in by_distance[:k]) / k)
        ours = precision_at_k(references[:4], labels[:4], references, labels, exclude_self=True)
        assert ours == pytest.approx(np.mean(scores))

    def test_exclude_self_among_duplicates(self):
        points, labels = np.zeros((50, 2)), np.arange(50) % 2
        assert 0 < precision_at_k(points, labels, points, labels, exclude_self=True) < 1

    def test_ignores_classes_without_references(self):
        references, labels = np.array([[0.0], [1.0]]), np.array([0, 0])
        queries, query_labels = np.array([[0.1], [0.2]]), np.array([0, 7])
        assert precision_at_k(queries, query_labels, references, labels) == 1


class TestOverfittingWarning:
    """Random labels cannot be generalized."""

    @pytest.fixture
    def noise(self):
        rng = np.random.default_rng(0)
        return rng.normal(size=(200, 10)), rng.integers(2, size=200)

    def test_random_labels(self, make_embedder, noise):
        embedder = make_embedder(
            hidden_layer_sizes=(128,), max_epochs=10, early_stopping=True, cross_fit=False
        )
        embedder.set_params(n_iter_no_change=10)
        with pytest.warns(OverfittingWarning, match=r"100\.0%.* [4-7]\d\.\d%"):
            embedder.fit(*noise)
        assert embedder.history_[-1]["training_score"] == 1
        assert embedder.history_[0]["training_score"] < 0.99

    def test_separable_classes(self, make_embedder, blobs):
        """The training score is perfect, and so is the validation score."""
        embedder = make_embedder(early_stopping=True, cross_fit=False).fit(*blobs)
        assert embedder.history_[-1]["training_score"] == 1

    def test_underfitting(self, make_embedder, noise):
        embedder = make_embedder(
            hidden_layer_sizes=(), n_members=1, early_stopping=True, cross_fit=False
        ).fit(*noise)
        assert embedder.history_[-1]["training_score"] < 0.9

    def test_warm_start(self, make_embedder, noise, blobs):
        """Only the epochs of the latest fit count."""
        settings = {
            "max_epochs": 10,
            "early_stopping": True,
            "cross_fit": False,
            "n_iter_no_change": 10,
        }
        embedder = make_embedder(hidden_layer_sizes=(128,), warm_start=True, **settings)
        with pytest.warns(OverfittingWarning):
            embedder.fit(*noise)
        X, y = np.random.default_rng(1).normal(size=(60, 10)), blobs[1] % 2
        X[:, :5] += 20 * y[:, None]
        embedder.fit(X, y)


class TestEarlyStopping:
    def scored_samples(self, make_net, n_samples, n_classes):
        """Return the training set, and the held-out and training samples that are scored."""
        X = np.arange(n_samples, dtype=np.float32)[:, None]
        dataset = ArrayDataset(X, np.arange(n_samples) % n_classes)
        net = make_net(module=torch.nn.Linear(1, 1)).initialize()
        own = list(net.callbacks_)
        settings = {"validation_fraction": 0.1, "n_iter_no_change": 1, "tol": 0}
        with early_stopping(net, dataset, **settings) as training:
            scoring = net.callbacks_[0][1]
        assert net.callbacks_ == own
        return training, scoring.queries, scoring.references

    def test_small_data(self, make_net):
        training, queries, references = self.scored_samples(make_net, 500, 5)
        assert len(queries) == 50
        assert set(references.indices) == set(training.indices)
        assert not set(queries.indices) & set(references.indices)

    def test_large_data(self, make_net):
        training, queries, references = self.scored_samples(make_net, 30_000, 5)
        assert (len(queries), len(references)) == (MAX_QUERIES, MAX_REFERENCES)
        assert set(references.indices) <= set(training.indices)
        assert len(training) == 27_000

    def test_many_classes(self, make_net):
        """References of the queries' classes come first."""
        n_classes = 10_000
        training, queries, references = self.scored_samples(make_net, 200_000, n_classes)
        is_useful = np.isin(training.indices % n_classes, queries.indices % n_classes)
        found = np.isin(references.indices % n_classes, queries.indices % n_classes)
        assert found.sum() == min(is_useful.sum(), MAX_REFERENCES)

    @pytest.mark.parametrize("tol", [0.0, 0.05, 0.5])
    def test_restores_best_weights(self, make_embedder, digits, tol, spy):
        """Even if they improve by less than tol."""
        X, y = digits[0][:500].reshape(500, -1), digits[1][:500]
        weights = []

        def record(net, **kwargs):
            weights.append([w.clone() for w in net.module_.state_dict().values()])

        embedder = make_embedder(
            lr=3e-4,
            max_epochs=6,
            whiten=False,
            early_stopping=True,
            n_iter_no_change=6,
            tol=tol,
            net=TripletNet(callbacks=[spy(on_epoch_end=record)]),
        ).fit(X, y)
        best = int(np.argmax(embedder.validation_scores_))
        assert best > 0
        restored = embedder.net_.module_.state_dict().values()
        for ours, expected in zip(restored, weights[best], strict=True):
            assert_array_equal(ours, expected)
