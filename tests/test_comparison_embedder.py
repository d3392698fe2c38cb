import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from torch.utils.data import DataLoader

from sktriplet import ComparisonEmbedder, TripletEmbedder
from sktriplet._comparison_embedder import ComparisonLoader, ComparisonLoss
from sktriplet.exceptions import InvalidParameterError
from sktriplet.losses import ContrastiveLoss
from sktriplet.training import ResumableCheckpoint, TripletNet
from sktriplet.training._data import ArrayDataset


def make_comparisons(n_triplets=120, n_samples=60):
    """Triplets of samples that are similar if their first feature is, and the table."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(n_samples, 4))
    indices = np.array([rng.choice(n_samples, 3, replace=False) for _ in range(n_triplets)])
    values = table[indices, 0]
    is_wrong = abs(values[:, 0] - values[:, 1]) > abs(values[:, 0] - values[:, 2])
    indices[is_wrong] = indices[is_wrong][:, [0, 2, 1]]
    return table, indices


TABLE, INDICES = make_comparisons()
TRIPLETS = TABLE[INDICES]


def score_of(points, indices):
    n_right = 0
    for anchor, positive, negative in points[indices]:
        n_right += sum((anchor - positive) ** 2) < sum((anchor - negative) ** 2)
    return n_right / len(indices)


class TestComparisonEmbedder:
    @pytest.fixture
    def model(self, make_embedder):
        return ComparisonEmbedder(make_embedder())

    def test_learns_the_feature_that_matters(self):
        _, indices = make_comparisons(600)
        train, test = TABLE[indices[:400]], indices[400:]
        embedder = TripletEmbedder(max_epochs=10, normalize=False, random_state=0)
        score = ComparisonEmbedder(embedder).fit(train).score(TABLE[test])
        assert score_of(TABLE, test) < 0.7
        assert score > 0.85

    def test_score(self, model):
        model.fit(TRIPLETS)
        assert model.score(TRIPLETS) == score_of(model.transform(TABLE), INDICES)

    @pytest.mark.parametrize("container", ["pandas", "polars"])
    def test_score_of_frames(self, container, model):
        expected = model.fit(TRIPLETS).score(TRIPLETS)
        with config_context(transform_output=container):
            assert model.score(TRIPLETS) == expected

    def test_equals_training_by_hand(self, make_embedder):
        """One batch and one epoch, without the embedder's net."""
        settings = {"hidden_layer_sizes": (), "n_members": 1, "standardize": False}
        net = TripletNet(min_batches=1, optimizer=torch.optim.SGD, callbacks__lr_scheduler=None)
        embedder = make_embedder(
            **settings, net=net, normalize=False, max_epochs=1, lr=0.1, batch_size=999
        ).set_params(weight_decay=0.01)
        start = make_embedder(**settings, net=net.set_params(), max_epochs=1, normalize=False)
        start = ComparisonEmbedder(start.set_params(lr=1e-30)).fit(TRIPLETS).estimator_
        layer = start.net_.module.backbone.head
        layer.requires_grad_(True).zero_grad()
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=0.01)
        anchor, positive, negative = layer(torch.tensor(TRIPLETS, dtype=torch.float32)).unbind(1)
        d_ap = (anchor - positive).square().sum(1)
        d_an = (anchor - negative).square().sum(1)
        (d_ap - d_an + 0.5).clamp(min=0).mean().backward()
        optimizer.step()
        trained = ComparisonEmbedder(embedder).fit(TRIPLETS).estimator_.net_.module.backbone.head
        assert_allclose(trained.weight.detach(), layer.weight.detach(), rtol=1e-4, atol=1e-6)

    def test_cross_validation_splits_triplets(self, model):
        groups = INDICES[:, 0]
        scores = cross_val_score(model, TRIPLETS, groups=groups, cv=GroupKFold(3))
        train, test = next(GroupKFold(3).split(TRIPLETS, groups=groups))
        assert scores[0] == clone(model).fit(TRIPLETS[train]).score(TRIPLETS[test])

    def test_grid_search(self, model):
        search = GridSearchCV(model, {"estimator__margin": [0.2, 0.5]}, cv=2).fit(TRIPLETS)
        assert search.transform(TABLE).shape == (60, 32)

    def test_reproducible(self, model, weights):
        first, second = (weights(clone(model).fit(TRIPLETS).estimator_) for _ in range(2))
        assert torch.equal(first, second)
        other = clone(model).set_params(estimator__random_state=1).fit(TRIPLETS)
        assert not torch.equal(first, weights(other.estimator_))

    def test_resumes(self, make_embedder, tmp_path, weights):
        def fit(path, max_epochs, lr):
            net = TripletNet(callbacks=[ResumableCheckpoint(tmp_path / path)])
            net.set_params(callbacks__lr_scheduler=None)
            model = ComparisonEmbedder(make_embedder(net=net, max_epochs=max_epochs, lr=lr))
            return weights(model.fit(TRIPLETS).estimator_)

        fit("run.pt", 2, 1e-3)
        assert torch.equal(fit("run.pt", 3, 1e-3), fit("other.pt", 3, 1e-3))

    def test_pickle(self, model):
        model.fit(TRIPLETS)
        loaded = pickle.loads(pickle.dumps(model))
        assert_array_equal(loaded.transform(TABLE), model.transform(TABLE))
        assert loaded.score(TRIPLETS) == model.score(TRIPLETS)

    def test_parameter_is_not_changed(self, make_embedder):
        net = TripletNet(min_batches=3)
        embedder = make_embedder(net=net)
        model = ComparisonEmbedder(embedder).fit(TRIPLETS)
        assert len(model.estimator_.net_.history[0]["batches"]) == 3
        assert embedder.net is net
        assert not hasattr(embedder, "net_")
        assert net.iterator_train is TripletNet().iterator_train

    def test_set_output(self, model):
        frame = model.fit(TRIPLETS).set_output(transform="pandas").transform(TABLE)
        assert frame.columns[:2].tolist() == ["comparisonembedder0", "comparisonembedder1"]

    def test_attributes(self, model):
        model.fit(TRIPLETS)
        assert model.n_features_in_ == 4
        assert model.input_shape_ == (4,)
        assert not model.estimator_.cross_fitted_

    def test_images(self, make_image_embedder):
        images = np.random.default_rng(0).random((6, 3, 8, 8)).astype(np.float32)
        model = ComparisonEmbedder(make_image_embedder()).fit(images)
        assert model.transform(images[:, 0]).shape == (6, 8)
        assert 0 <= model.score(images) <= 1

    def test_missing_values(self, model):
        triplets = TRIPLETS.copy()
        triplets[:10, :, 2] = np.nan
        assert model.fit(triplets).score(triplets) > 0

    def test_custom_criterion(self, make_embedder):
        """It receives the positions in a triplet as labels."""
        seen = []

        class Loss(torch.nn.Module):
            def forward(self, embeddings, labels):
                seen.append(labels.tolist())
                return embeddings.sum()

        net = TripletNet(criterion=Loss)
        ComparisonEmbedder(make_embedder(net=net, n_members=1)).fit(TRIPLETS)
        assert all(labels == [0, 1, 2] * 42 for labels in seen)

    @pytest.mark.parametrize(
        ("X", "match"),
        [
            (TABLE, r"X must hold triplets.*\(60, 4\)\.$"),
            (INDICES, r"X must hold triplets.*\(120, 3\).*indices of samples, pass table\[X\]"),
            (TRIPLETS[:, :2], r"X must hold triplets.*\(120, 2, 4\)"),
            (TRIPLETS[:1], r"at least 2 triplet\(s\). Got 1"),
            (TRIPLETS[:0], r"at least 2 triplet\(s\). Got 0"),
            (np.full((9, 3, 2), "a"), "X must hold numbers"),
            (np.full((9, 3, 2), np.inf), "X contains infinity"),
            (None, "X must hold triplets"),
        ],
    )
    def test_wrong_triplets(self, model, X, match):
        with pytest.raises((TypeError, ValueError), match=match):
            model.fit(X)
        assert not hasattr(model, "estimator_")

    def test_wrong_input_of_fitted(self, model):
        model.fit(TRIPLETS)
        with pytest.raises(ValueError, match="X has 2 features"):
            model.score(TRIPLETS[..., :2])
        with pytest.raises(ValueError, match=r"transform takes samples, not triplets. .*, 3, "):
            model.transform(TRIPLETS)
        with pytest.raises(ValueError, match="pass table"):
            model.score(INDICES)
        with pytest.raises(ValueError, match="at least 1 triplet"):
            model.score(TRIPLETS[:0])
        assert model.score(TRIPLETS[:1]) in (0, 1)

    def test_not_fitted(self, model):
        with pytest.raises(NotFittedError, match="ComparisonEmbedder"):
            model.score(TRIPLETS)
        with pytest.raises(NotFittedError, match="ComparisonEmbedder"):
            model.transform(TABLE)

    @pytest.mark.parametrize(
        ("parameters", "match"),
        [
            ({"early_stopping": True}, "'early_stopping'.*ComparisonEmbedder.*True"),
            ({"validation_fraction": 0.2}, r"'validation_fraction'.*ComparisonEmbedder.*0\.2"),
            ({"n_iter_no_change": 3}, "'n_iter_no_change'.*ComparisonEmbedder.*3"),
            ({"tol": 0.0}, r"'tol'.*ComparisonEmbedder.*0\.0"),
            ({"warm_start": True}, "'warm_start'.*ComparisonEmbedder"),
            ({"unlabeled": 0}, "'unlabeled'.*ComparisonEmbedder"),
            ({"mining": "hard"}, "'mining'.*ComparisonLoss"),
            ({"nca_weight": 1.0}, "'nca_weight'.*ComparisonLoss"),
            ({"samples_per_class": 4}, "'samples_per_class'.*ComparisonLoader"),
            ({"net": TripletNet(iterator_train=DataLoader)}, "'net'.*iterator_train.*DataLoader"),
        ],
    )
    def test_parameters_without_effect(self, make_embedder, parameters, match):
        with pytest.raises(InvalidParameterError, match=match):
            ComparisonEmbedder(make_embedder(**parameters)).fit(TRIPLETS)

    def test_early_stopping_may_be_off(self, make_embedder):
        embedder = make_embedder(max_epochs=1, early_stopping=False)
        assert ComparisonEmbedder(embedder).fit(TRIPLETS).estimator_.n_iter_ == 1

    def test_fit_transform_raises_before_training(self, make_embedder):
        embedder = make_embedder(module=lambda *_: pytest.fail("training has started"))
        with pytest.raises(TypeError, match=r"fit\(triplets\)\.transform\(samples\)"):
            ComparisonEmbedder(embedder).fit_transform(TRIPLETS)

    @pytest.mark.parametrize("estimator", [TripletEmbedder, "a", ContrastiveLoss()])
    def test_wrong_estimator(self, estimator):
        with pytest.raises(InvalidParameterError, match="'estimator'"):
            ComparisonEmbedder(estimator).fit(TRIPLETS)


class TestComparisonLoss:
    def test_known_value(self):
        points = torch.tensor([[0.0], [1.0], [1.1], [5.0], [5.0], [9.0]], requires_grad=True)
        criterion = ComparisonLoss(margin=0.5, reduction="sum")
        loss = criterion(points, torch.arange(6) % 3)
        assert_allclose(loss.item(), 1.0 - 1.1**2 + 0.5, rtol=1e-5)
        assert criterion.statistics["active_fraction"] == 0.5


class TestComparisonLoader:
    @pytest.mark.parametrize(
        ("n_triplets", "batch_size", "min_batches", "sizes"),
        [
            (10, 9, 1, [3, 3, 3, 3]),
            (10, 11, 6, [3] * 6),
            (2, 128, 3, [2] * 3),
            (1, 3, 1, [1]),
        ],
    )
    def test_batches(self, n_triplets, batch_size, min_batches, sizes):
        rows = np.arange(3 * n_triplets, dtype=np.float32)[:, None]
        dataset = ArrayDataset(rows, np.tile(np.arange(3), n_triplets))
        loader = ComparisonLoader(dataset, batch_size, min_batches=min_batches)
        torch.manual_seed(0)
        batches = list(loader)
        assert len(loader) == len(batches)
        assert [len(X) // 3 for X, _ in batches] == sizes
        drawn = np.concatenate([X.numpy().reshape(-1, 3) for X, _ in batches])
        assert_array_equal(drawn % 3, [[0, 1, 2]] * len(drawn))
        assert_array_equal(drawn[:, :2] // 3, drawn[:, 1:] // 3)
        assert set(drawn[:, 0] // 3) == set(range(n_triplets)), "each one is drawn"
        assert np.unique(drawn[:n_triplets, 0]).size == n_triplets, "without replacement"
