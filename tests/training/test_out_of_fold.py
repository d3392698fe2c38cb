from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ortho_group
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from skorch.dataset import ValidSplit

from sktriplet import TripletEmbedder
from sktriplet.losses import ContrastiveLoss, TripletLoss, TripletNCALoss
from sktriplet.networks import MLP, MLPEnsemble
from sktriplet.networks._embedding_network import EmbeddingNetwork
from sktriplet.training import TripletNet
from sktriplet.training._data import ArrayDataset, BatchLoader
from sktriplet.training._out_of_fold import (
    MAX_SCORED,
    MIN_FOLDS,
    MIN_SAMPLES,
    NO_FOLD,
    assign_folds,
    brier_score,
    cross_fitted,
    leave_folds_out,
    reference_scores,
    subsample_classes,
)


@pytest.fixture
def make_embedder(make_embedder):
    """Make an embedder with four members of eight components."""
    return partial(make_embedder, n_members=4)


@pytest.fixture(scope="module")
def noisy():
    """Two overlapping classes: no classifier is right for more than about 84% of new samples."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 5))
    y = (X[:, 0] + rng.normal(0, 0.6, 600) > 0).astype(int)
    return train_test_split(X, y, random_state=0)


@pytest.fixture
def _always_cross_fitted(monkeypatch):
    monkeypatch.setattr("sktriplet._embedder.prefer_cross_fitted", lambda net, dataset: True)


class TestAssignFolds:
    @given(
        sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
        n_folds=st.integers(1, 9),
        seed=st.integers(0, 100),
    )
    def test_stratified(self, sizes, n_folds, seed):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        folds = assign_folds(labels, n_folds, rng)
        large = [label for label, size in enumerate(sizes) if size >= 2 * n_folds]
        if n_folds < MIN_FOLDS or sum(sizes[label] for label in large) < MIN_SAMPLES:
            assert folds is None
            return
        assert_array_equal(folds != NO_FOLD, np.isin(labels, large))
        for label in large:
            counts = np.bincount(folds[labels == label], minlength=n_folds)
            assert len(counts) == n_folds
            assert counts.max() - counts.min() <= 1
        counts = np.bincount(folds[folds != NO_FOLD])
        assert counts.max() - counts.min() <= len(large)

    def test_depends_on_seed(self):
        labels = np.arange(100) % 4
        first, again, second = (
            assign_folds(labels, 4, np.random.default_rng(seed)) for seed in (0, 0, 1)
        )
        assert_array_equal(first, again)
        assert (first != second).any()


class TestLeaveFoldsOut:
    @pytest.mark.parametrize("equal_sizes", [False, True])
    def test_samples_of_own_fold(self, equal_sizes):
        folds = torch.tensor([0, 1, 2, 0, 0, NO_FOLD, 1, 2])
        labels = torch.arange(8)
        parts = [torch.arange(8.0)[:, None] + 10 * member for member in range(3)]
        kept, kept_labels = leave_folds_out(parts, labels, folds, equal_sizes=equal_sizes)
        for member, (part, of_part) in enumerate(zip(kept, kept_labels, strict=True)):
            assert part.squeeze(1).tolist() == [label + 10 * member for label in of_part.tolist()]
            assert member not in folds[of_part]
            assert len(set(of_part.tolist())) == (5 if equal_sizes else (folds != member).sum())

    def test_one_fold(self):
        """A member may have to leave out the whole batch, which does not affect the others."""
        parts, labels = [torch.rand(3, 2, requires_grad=True)] * 2, torch.zeros(3).long()
        kept, kept_labels = leave_folds_out(parts, labels, torch.zeros(3), equal_sizes=True)
        assert [len(part) for part in kept] == [0, 3]
        criterion = TripletNCALoss()
        criterion(kept[0], kept_labels[0]).backward()
        assert criterion.statistics["spread"] == 0


class TestCrossFitted:
    def test_rotated_members(self, rng):
        """Members that differ by a rotation have the same embedding of every sample."""
        points, folds = rng.normal(size=(50, 4)).astype(np.float32), np.arange(50) % 3
        rotations = ortho_group.rvs(4, size=3, random_state=0)
        embeddings = np.hstack([points @ rotation for rotation in rotations]).astype(np.float32)
        assert_allclose(cross_fitted(embeddings, folds, 3, center=False), embeddings, atol=1e-5)

    @pytest.mark.parametrize("center", [False, True])
    def test_translated_members(self, rng, center):
        points, folds = rng.normal(size=(50, 4)), np.arange(50) % 3
        embeddings = np.hstack([points, points + 5, points - 5]).astype(np.float32)
        crossed = cross_fitted(embeddings, folds, 3, center=center)
        assert np.allclose(crossed, embeddings, atol=1e-4) == center

    def test_only_the_member_that_left_the_sample_out_counts(self, rng):
        embeddings = rng.normal(size=(60, 8)).astype(np.float32)
        folds = np.arange(60) % 2
        changed = embeddings.copy()
        changed[folds == 1, :4] = embeddings[folds == 1, :4][:, ::-1]
        crossed = cross_fitted(changed, folds, 2, center=False)
        assert_array_equal(crossed[folds == 0, :4], embeddings[folds == 0, :4])
        assert_array_equal(crossed[folds == 1, 4:], embeddings[folds == 1, 4:])
        # The map is the best orthogonal one of all samples.
        u, _, vt = np.linalg.svd(changed[:, 4:].T @ changed[:, :4])
        assert_allclose(crossed[folds == 1, :4], embeddings[folds == 1, 4:] @ u @ vt, atol=1e-5)

    def test_samples_in_no_fold(self, rng):
        embeddings = rng.normal(size=(9, 4)).astype(np.float32)
        crossed = cross_fitted(embeddings, np.full(9, NO_FOLD), 2, center=False)
        assert_array_equal(crossed, embeddings)

    def test_unequal_widths(self, rng):
        embeddings = rng.normal(size=(60, 7)).astype(np.float32)
        crossed = cross_fitted(embeddings, np.arange(60) % 2, 2, center=False)
        assert crossed.shape == (60, 7)
        assert crossed.dtype == np.float32
        norms = [np.linalg.norm(part, axis=1) for part in (embeddings[:, :4], crossed[:, 4:])]
        assert_allclose(norms[0][::2], norms[1][::2], rtol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("n_neighbors", [1, 5])
def test_brier_score_matches_definition(rng, n_classes, n_neighbors):
    neighbors = rng.integers(n_classes, size=(30, n_neighbors))
    labels = rng.integers(n_classes, size=30)
    expected = [
        sum((np.mean(nearest == c) - (label == c)) ** 2 for c in range(n_classes))
        for nearest, label in zip(neighbors, labels, strict=True)
    ]
    assert brier_score(neighbors, labels) == pytest.approx(np.mean(expected))


def leave_one_out_score(embeddings, labels, n_neighbors):
    knn = NearestNeighbors(n_neighbors=n_neighbors).fit(embeddings)
    return -brier_score(labels[knn.kneighbors(return_distance=False)], labels)


class ConsecutiveBatches(TripletNet):
    """Batches that do not depend on labels."""

    def get_iterator(self, dataset, training=False):
        self._training_loader = BatchLoader(dataset, 30)
        return self._training_loader


class TestTraining:
    @pytest.mark.parametrize("criterion", [TripletNCALoss, TripletLoss, ContrastiveLoss])
    def test_labels_of_left_out_samples_have_no_effect(self, rng, criterion):
        X, y = rng.normal(size=(90, 5)).astype(np.float32), rng.integers(2, size=90)
        folds = np.arange(90) % 3
        changed = np.where(folds == 1, 1 - y, y)

        def weights_of_members(labels):
            backbone = MLPEnsemble((5,), 9, (8,), n_members=3, generator=torch.Generator())
            network = EmbeddingNetwork(backbone)
            net = ConsecutiveBatches(network, criterion, max_epochs=2, random_state=0, verbose=0)
            net.fit(ArrayDataset(X, labels, folds))
            return net.module_.backbone.head.weight.detach()

        same = [
            torch.equal(before, after)
            for before, after in zip(
                weights_of_members(y), weights_of_members(changed), strict=True
            )
        ]
        assert same == [False, True, False]

    def test_validation_loss(self, make_net, samples):
        """Batches for validation are used as a whole."""
        X, y = samples
        sizes = []

        class Loss(ContrastiveLoss):
            def forward(self, embeddings, labels):
                if not embeddings.requires_grad:
                    sizes.append(len(labels))
                return super().forward(embeddings, labels)

        net = make_net(criterion=Loss, train_split=ValidSplit(3), max_epochs=1)
        net.fit(ArrayDataset(X, y, np.arange(len(y)) % 2))
        assert sizes == [len(y) // 3]


class SharedTrunk(MLP):
    """A custom ensemble whose members share weights: left-out samples train them, too."""

    n_members = 4


class IndependentMembers(MLPEnsemble):
    """A custom ensemble."""

    def test_callbacks_get_labels(self, make_embedder, noisy, spy):
        X, _, y, _ = noisy
        batches = []
        record = spy(on_batch_end=lambda net, batch, **kwargs: batches.append(batch))
        make_embedder(net=TripletNet(callbacks=[record]), max_epochs=1).fit(X, y)
        assert {labels.ndim for _, labels in batches} == {1}

    @pytest.mark.parametrize("batch_size", [3, 4, 5])
    def test_small_batches(self, make_embedder, noisy, batch_size):
        """All samples of a batch may be in one fold."""
        X, _, y, _ = noisy
        embedder = make_embedder(batch_size=batch_size, max_epochs=3).fit(X[:120], y[:120])
        assert np.isfinite(embedder.transform(X)).all()


class TestFitTransform:
    @pytest.mark.usefixtures("_always_cross_fitted")
    def test_probabilities_are_not_overconfident(self, make_embedder, noisy):
        X_train, X_test, y_train, y_test = noisy
        settings = {"hidden_layer_sizes": (64,), "max_epochs": 20, "lr": 0.01}
        embedder = make_embedder(**settings, early_stopping=False)
        knn = KNeighborsClassifier(30)
        crossed = embedder.fit_transform(X_train, y_train)
        embedded = embedder.transform(X_test)
        loss, overconfident = (
            log_loss(
                y_test, knn.fit(references, y_train).predict_proba(embedded)[:, 1].clip(0.01, 0.99)
            )
            for references in (crossed, embedder.transform(X_train))
        )
        assert loss < 0.5
        assert overconfident > loss + 0.1

    @pytest.mark.usefixtures("_always_cross_fitted")
    def test_is_out_of_fold(self, make_embedder, noisy):
        """Each sample is at the place where the member that left it out embeds it."""
        X, _, y, _ = noisy
        embedder = make_embedder(max_epochs=3)
        crossed, ordinary = embedder.fit_transform(X, y), embedder.transform(X)
        for member, part in enumerate(slice(8 * i, 8 * i + 8) for i in range(4)):
            is_own = embedder._folds == member
            assert_array_equal(crossed[is_own, part], ordinary[is_own, part])
            assert (crossed[~is_own, part] != ordinary[~is_own, part]).any(axis=1).all()
        norms = np.linalg.norm(crossed, axis=1)
        assert_allclose(norms, 1, atol=1e-5)

    @pytest.mark.usefixtures("_always_cross_fitted")
    def test_pipeline(self, make_embedder, noisy):
        """Pipelines call fit_transform in fit."""
        X, _, y, _ = noisy
        embedder = make_embedder(max_epochs=3)
        pipeline = make_pipeline(embedder, LogisticRegression()).fit(X, y)
        expected = LogisticRegression().fit(embedder.fit_transform(X, y), y)
        assert_array_equal(pipeline[-1].coef_, expected.coef_)

    @pytest.mark.parametrize(
        "settings",
        [
            {"cross_fit": False},
            {"n_members": 1},
            {"hidden_layer_sizes": (), "n_members": 1},
            {"module": MLP},
        ],
        ids=str,
    )
    def test_without_cross_fitting(self, make_embedder, noisy, settings):
        X, _, y, _ = noisy
        embedder = make_embedder(**settings)
        assert_array_equal(embedder.fit_transform(X, y), embedder.transform(X))
        assert embedder.validation_scores_ is None

    def test_custom_ensemble(self, make_embedder, noisy):
        X, _, y, _ = noisy
        embedder = TripletEmbedder(32, module=IndependentMembers, max_epochs=1, random_state=0)
        assert embedder.fit(X, y).validation_scores_ is not None

    def test_few_samples(self, make_embedder, blobs):
        X, y = blobs
        embedder = make_embedder()
        n_samples = MIN_SAMPLES - 1
        X, y = np.tile(X, (2, 1))[:n_samples], np.tile(y, 2)[:n_samples]
        assert_array_equal(embedder.fit_transform(X, y), embedder.transform(X))
        assert embedder.validation_scores_ is None

    def test_continued_training(self, make_embedder, noisy):
        """All members have seen all samples before."""
        X, _, y, _ = noisy
        embedder = make_embedder(warm_start=True).fit(X, y)
        assert_array_equal(embedder.fit_transform(X, y), embedder.transform(X))
        embedder = make_embedder().partial_fit(X, y)
        assert embedder._folds is None

    @pytest.mark.usefixtures("_always_cross_fitted")
    def test_set_output(self, make_embedder, noisy):
        X, _, y, _ = noisy
        embedder = make_embedder().set_output(transform="pandas")
        frame = embedder.fit_transform(X, y)
        assert list(frame.columns) == list(embedder.get_feature_names_out())
        plain = make_embedder().fit_transform(X, y)
        assert_array_equal(frame, plain)

    @pytest.mark.usefixtures("_always_cross_fitted")
    def test_not_normalized(self, make_embedder, noisy):
        X, _, y, _ = noisy
        embedder = make_embedder(normalize=False, max_epochs=3)
        crossed, ordinary = embedder.fit_transform(X, y), embedder.transform(X)
        assert_allclose(crossed.mean(axis=0), ordinary.mean(axis=0), atol=0.3)


class TestPreferCrossFitted:
    """Both kinds of references have to win where they are known to be better."""

    def test_overlapping_classes(self, make_embedder, noisy):
        X, _, y, _ = noisy
        settings = {"hidden_layer_sizes": (64,), "max_epochs": 30, "lr": 0.01}
        embedder = make_embedder(**settings, early_stopping=False).fit(X, y)
        assert embedder.cross_fitted_
        assert not np.array_equal(embedder.fit_transform(X, y), embedder.transform(X))

    def test_separable_classes(self, make_embedder):
        """Both kinds have no errors, and ordinary embeddings are preferred."""
        X, y = make_blobs(200, centers=3, cluster_std=0.1, random_state=0)
        embedder = make_embedder(max_epochs=5).fit(X, y)
        assert not embedder.cross_fitted_
        assert_array_equal(embedder.fit_transform(X, y), embedder.transform(X))

    def test_matches_definition(self, make_embedder, noisy):
        X, _, y, _ = noisy
        embedder = make_embedder(max_epochs=4)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sktriplet._embedder.prefer_cross_fitted", lambda net, dataset: True)
            crossed = embedder.fit_transform(X, y)
        ordinary, folds = embedder.transform(X), embedder._folds
        errors = {"ordinary": [], "crossed": []}
        for member, part in enumerate(slice(8 * i, 8 * i + 8) for i in range(4)):
            others = np.flatnonzero(folds != member)
            for i in np.flatnonzero(folds == member):
                for name, references in (("ordinary", ordinary), ("crossed", crossed)):
                    distances = np.linalg.norm(
                        references[others][:, part] - ordinary[i, part], axis=1
                    )
                    frequency = np.mean(y[others[np.argsort(distances)[:5]]] == y[i])
                    errors[name].append(2 * (1 - frequency) ** 2)
        dataset = ArrayDataset(X.astype(np.float32), y, folds)
        scores = reference_scores(embedder.net_, dataset)
        assert scores == pytest.approx([np.mean(values) for values in errors.values()])


class TestStopping:
    @pytest.mark.usefixtures("_always_cross_fitted")
    def test_score(self, make_embedder, noisy):
        """The score is that of the cross-fitted embeddings of the epoch."""
        X, _, y, _ = noisy
        embedder = make_embedder(max_epochs=1, whiten=False)
        crossed = embedder.fit_transform(X, y)
        assert embedder.best_validation_score_ == pytest.approx(leave_one_out_score(crossed, y, 30))

    @pytest.mark.usefixtures("_always_cross_fitted")
    def test_small_classes(self, make_embedder):
        """Neighbors beyond the class size would always be of another class."""
        X, y = make_blobs(160, centers=16, random_state=0)
        embedder = make_embedder(max_epochs=1, whiten=False)
        crossed = embedder.fit_transform(X, y)
        assert embedder.best_validation_score_ == pytest.approx(leave_one_out_score(crossed, y, 5))

    def test_many_samples(self, make_embedder, spy):
        sizes = []

        class Net(TripletNet):
            def embed(self, X, chunk_size=None):
                sizes.append(len(X))
                return super().embed(X, chunk_size)

        X, y = make_blobs(MAX_SCORED + 500, centers=3, random_state=0)
        make_embedder(max_epochs=1, net=Net()).fit(X, y)
        assert sizes == [MAX_SCORED, MAX_SCORED + 500]  # in the epoch, and at the end

    def test_stops_before_overfitting(self, make_embedder, noisy):
        X_train, X_test, y_train, y_test = noisy
        settings = {"hidden_layer_sizes": (64,), "max_epochs": 20}
        stopped = make_embedder(**settings).fit(X_train, y_train)
        full = make_embedder(**settings, early_stopping=False).fit(X_train, y_train)
        assert stopped.n_iter_ < full.n_iter_ == 20
        accuracies = [
            accuracy_score(
                y_test,
                KNeighborsClassifier()
                .fit(embedder.transform(X_train), y_train)
                .predict(embedder.transform(X_test)),
            )
            for embedder in (stopped, full)
        ]
        assert accuracies[0] > accuracies[1]

    def test_n_iter_no_change(self, make_embedder, noisy):
        X, _, y, _ = noisy
        embedder = make_embedder(max_epochs=30, n_iter_no_change=2).fit(X, y)
        assert embedder.n_iter_ == np.argmax(embedder.validation_scores_) + 3

    def test_many_classes(self, rng):
        """Some classes are scored, with all of their samples."""
        labels = rng.permutation(np.arange(4000) % 500)
        indices = subsample_classes(labels, np.arange(4000), rng)
        assert len(indices) == MAX_SCORED
        assert set(np.bincount(labels[indices])) == {0, 8}

    def test_few_classes(self, rng):
        labels = np.arange(4000) % 5
        indices = subsample_classes(labels, np.arange(4000), rng)
        assert len(set(indices)) == MAX_SCORED
        assert (np.bincount(labels[indices]) > 150).all()

    def test_scores_of_latest_fit(self, make_embedder, noisy):
        X, _, y, _ = noisy
        embedder = make_embedder(max_epochs=2).fit(X, y)
        embedder.set_params(warm_start=True, early_stopping=True).fit(X, y)
        assert len(embedder.validation_scores_) == 2
        assert min(embedder.validation_scores_) > 0  # held-out samples have another score
        assert embedder.n_iter_ == 4
