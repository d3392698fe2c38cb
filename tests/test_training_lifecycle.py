"""Training from the user's perspective: stopping, monitoring, resuming, and where it runs."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LoadInitState,
    LRScheduler,
    TensorBoard,
)
from torch.optim.lr_scheduler import StepLR

from sktriplet.exceptions import SkippedChunkWarning
from sktriplet.losses import ContrastiveLoss
from sktriplet.metrics import mean_average_precision_at_r_scorer
from sktriplet.training import TripletNet


class TestEarlyStopping:
    def test_stops_without_improvement(self, make_embedder, blobs):
        embedder = make_embedder(max_epochs=30, early_stopping=True, n_iter_no_change=3).fit(*blobs)
        scores = embedder.validation_scores_
        assert embedder.n_iter_ == len(scores) < 30
        assert embedder.best_validation_score_ == max(scores)
        assert max(scores[:-3]) + 1e-4 >= max(scores[-3:]), "no improvement in the last three"
        assert max(scores[:-4], default=0) + 1e-4 < max(scores[:-3]), "but before"

    def test_restores_best_epoch(self, make_embedder, digits, weights, spy):
        def zero_weights_after_epoch_3(net, **kwargs):
            if len(net.history) > 3:
                for parameter in net.module_.parameters():
                    torch.nn.init.zeros_(parameter)

        def record_weights(net, **kwargs):
            recorded.append(weights(net).clone())

        recorded = []
        hooks = spy(on_batch_end=zero_weights_after_epoch_3, on_epoch_end=record_weights)
        embedder = make_embedder(
            max_epochs=20,
            early_stopping=True,
            n_iter_no_change=2,
            lr=1e-4,
            net=TripletNet(callbacks=[hooks], min_batches=1),
        )
        with warnings.catch_warnings(action="ignore"):
            embedder.fit(*digits)
        best = int(np.argmax(embedder.validation_scores_))
        assert best < 3
        assert embedder.n_iter_ == best + 3
        assert torch.equal(weights(embedder), recorded[best])

    def test_validation_fraction(self, make_embedder, digits, spy):
        X, y = digits
        seen = set()

        def record_samples(net, batch, **kwargs):
            seen.update(batch[0][:, 0].long().tolist())

        X = np.c_[np.arange(len(X)), X]
        net = TripletNet(callbacks=[spy(on_batch_begin=record_samples)])
        embedder = make_embedder(
            early_stopping=True, cross_fit=False, validation_fraction=0.25, net=net
        )
        embedder.fit(X, y)
        held_out = np.setdiff1d(np.arange(len(X)), list(seen))
        assert len(held_out) == pytest.approx(len(X) / 4, abs=1)
        assert_allclose(np.bincount(y[held_out]), np.bincount(y) / 4, atol=1)

    def test_validation_score(self, make_embedder, digits, spy):
        """The mean probability of the correct class according to 5-NN."""
        X, y = digits[0][:300], digits[1][:300]
        indices = []
        record = spy(on_train_begin=lambda net, X, y, **kwargs: indices.extend(X.indices))
        net = TripletNet(callbacks=[record])
        embedder = make_embedder(
            max_epochs=1, whiten=False, early_stopping=True, cross_fit=False, net=net
        )
        embedded = embedder.fit(X, y).transform(X)
        held_out = np.setdiff1d(np.arange(len(X)), indices)
        knn = KNeighborsClassifier().fit(embedded[indices], y[indices])
        expected = knn.predict_proba(embedded[held_out])[np.arange(len(held_out)), y[held_out]]
        assert embedder.best_validation_score_ == pytest.approx(expected.mean())

    def test_small_classes_are_trained_on(self, make_embedder, spy):
        X = np.random.default_rng(0).normal(size=(46, 3))
        y = np.r_[np.repeat([0, 1], 20), [2, 2, 3, 3, 4, 5]]
        seen = set()
        record = spy(on_batch_begin=lambda net, batch, **kwargs: seen.update(batch[1].tolist()))
        make_embedder(early_stopping=True, net=TripletNet(callbacks=[record])).fit(X, y)
        assert seen == set(range(6))

    def test_disabled(self, make_embedder, blobs):
        embedder = make_embedder(early_stopping=False).fit(*blobs)
        assert embedder.validation_scores_ is None
        assert embedder.best_validation_score_ is None
        assert embedder.n_iter_ == 2

    def test_learning_rate_is_unaffected(self, make_embedder, blobs):
        rates = [
            [epoch["lr"] for epoch in make_embedder(**parameters).fit(*blobs).history_]
            for parameters in ({"early_stopping": True}, {})
        ]
        assert rates[0] == rates[1]

    def test_random_state(self, make_embedder, digits, weights):
        first, second = (make_embedder(early_stopping=True).fit(*digits) for _ in range(2))
        assert first.validation_scores_ == second.validation_scores_
        assert torch.equal(weights(first), weights(second))
        other = make_embedder(early_stopping=True, random_state=1).fit(*digits)
        assert first.validation_scores_ != other.validation_scores_

    def test_pickle_has_no_data(self, make_embedder, digits):
        X = np.repeat(digits[0], 5, axis=0)
        embedder = make_embedder(max_epochs=1, n_members=1, early_stopping=True)
        embedder.fit(X, np.repeat(digits[1], 5))
        assert len(pickle.dumps(embedder)) < X.astype(np.float32).nbytes / 5


class TestValidationOnGroups:
    @pytest.fixture
    def trained_on(self, spy):
        """Return a template of a net, and a set that receives the first feature of its samples."""
        seen = set()

        def record_samples(net, batch, **kwargs):
            seen.update(batch[0][:, 0].long().tolist())

        return TripletNet(callbacks=[spy(on_batch_begin=record_samples)]), seen

    @pytest.mark.parametrize("early_stopping", ["auto", True])
    def test_classes(self, make_embedder, digits, trained_on, early_stopping):
        """Held-out classes are scored by MAP@R among themselves, before whitening."""
        X, y = np.c_[np.arange(600), digits[0]], digits[1].astype(str)
        net, seen = trained_on
        embedder = make_embedder(
            early_stopping=early_stopping, validation_fraction=0.3, whiten=False, net=net
        ).fit(X, y, groups=y)
        held_out = np.setdiff1d(np.arange(600), list(seen))
        assert len(np.unique(y[held_out])) == 3
        assert not np.isin(y[list(seen)], y[held_out]).any()
        expected = embedder.score(X[held_out], y[held_out])
        assert embedder.best_validation_score_ == pytest.approx(expected)
        assert_array_equal(embedder.classes_, np.unique(y))

    def test_cameras(self, make_embedder, digits, trained_on):
        """Held-out samples of known classes are scored by their nearest training samples."""
        X, y, cameras = np.c_[np.arange(600), digits[0]], digits[1], np.arange(600) // 60
        net, seen = trained_on
        embedder = make_embedder(max_epochs=1, n_members=4, net=net, whiten=False)
        embedder.fit(X, y, groups=cameras)
        training = sorted(seen)
        held_out = np.setdiff1d(np.arange(600), training)
        assert len(np.unique(cameras[held_out])) == 1
        assert len(held_out) == 60
        assert not embedder.cross_fitted_
        embedded = embedder.transform(X)
        knn = KNeighborsClassifier().fit(embedded[training], y[training])
        expected = knn.predict_proba(embedded[held_out])[np.arange(60), y[held_out]]
        assert embedder.best_validation_score_ == pytest.approx(expected.mean())

    def test_unlabeled(self, make_embedder, digits, trained_on):
        X, y = np.c_[np.arange(600), digits[0]], digits[1]
        y_partly = np.where(np.arange(600) % 3, y, -1)
        net, seen = trained_on
        embedder = make_embedder(net=net, validation_fraction=0.3, unlabeled=-1)
        embedder.fit(X, y_partly, groups=y)
        trained = y_partly[list(seen)]
        assert -1 not in trained
        assert len(np.unique(trained)) == 7
        assert len(seen) == np.isin(y_partly, trained).sum()

    def test_groups_of_one_class_each(self, make_embedder, digits):
        embedder = make_embedder(validation_fraction=0.1)
        with pytest.raises(ValueError, match=r"held-out groups .*0\.1, and 1 class"):
            embedder.fit(*digits, groups=digits[1])
        assert not hasattr(embedder, "net_")


class TestValidationSet:
    @pytest.fixture
    def known(self, digits):
        is_known = digits[1] < 6
        return digits[0][is_known], digits[1][is_known]

    @pytest.fixture
    def new(self, digits):
        is_new = digits[1] >= 6
        return {"X_val": digits[0][is_new], "y_val": digits[1][is_new].astype(str)}

    def test_score(self, make_embedder, known, new):
        """The score is MAP@R before whitening, and all other samples are trained on."""
        embedder = make_embedder(max_epochs=3, whiten=False, n_iter_no_change=9)
        embedder.fit(*known, **new)
        assert len(embedder.validation_scores_) == 3
        expected = embedder.score(new["X_val"], new["y_val"])
        assert embedder.best_validation_score_ == expected

    def test_training_is_unchanged(self, make_embedder, known, new, weights):
        embedder = make_embedder(max_epochs=1, early_stopping=False).fit(*known)
        validated = make_embedder(max_epochs=1).fit(*known, **new)
        assert torch.equal(weights(embedder), weights(validated))

    def test_stops(self, make_embedder, known, new):
        embedder = make_embedder(max_epochs=9, n_iter_no_change=1, tol=1.0).fit(*known, **new)
        assert embedder.n_iter_ == 2

    def test_fit_transform(self, make_embedder, known, new):
        first, second = make_embedder(), make_embedder().fit(*known, **new)
        embedded = first.fit_transform(*known, **new)
        assert_array_equal(embedded, second.transform(known[0]))
        assert first.validation_scores_ == second.validation_scores_

    def test_frame(self, make_embedder, known, new):
        names = [f"pixel {i}" for i in range(64)]
        frame, val = (pd.DataFrame(X, columns=names) for X in (known[0], new["X_val"]))
        embedder = make_embedder().fit(frame, known[1], X_val=val, y_val=new["y_val"])
        expected = make_embedder().fit(*known, **new)
        assert embedder.validation_scores_ == expected.validation_scores_
        with pytest.raises(ValueError, match=r"X_val and y_val .*\. The feature names"):
            embedder.fit(frame, known[1], X_val=val.iloc[:, ::-1], y_val=new["y_val"])

    def test_refit_without_names(self, make_embedder, known, new):
        """Attributes of a previous fit are not used."""
        embedder = make_embedder().fit(pd.DataFrame(known[0]).add_prefix("pixel "), known[1])
        embedder.fit(*known, **new)
        assert not hasattr(embedder, "feature_names_in_")

    @pytest.mark.parametrize(
        ("settings", "passed", "match"),
        [
            ({}, {"X_val": None}, "X_val and y_val must be passed together. Got y_val only"),
            ({}, {"y_val": None}, "X_val and y_val must be passed together. Got X_val only"),
            ({}, {"y_val": ["6"]}, "X_val and y_val cannot be scored.* Got 1"),
            ({}, {"y_val": ["6"] * 236}, "X_val and y_val cannot be scored.*single class"),
            ({}, {"X_val": [[0.0]]}, "X_val and y_val cannot be scored. X has 1 feature"),
            ({}, {"groups": np.zeros(364)}, "groups, or uses X_val and y_val instead. Got both"),
            ({"early_stopping": False}, {}, "X_val has no effect with early_stopping=False"),
        ],
    )
    def test_invalid(self, make_embedder, known, new, spy, settings, passed, match):
        net = TripletNet(callbacks=[spy(on_train_begin=lambda net, **kwargs: 1 / 0)])
        embedder = make_embedder(net=net, **settings)
        with pytest.raises(ValueError, match=match):
            embedder.fit(*known, **(new | passed))
        assert not hasattr(embedder, "net_")

    @pytest.mark.parametrize(
        ("settings", "groups", "match"),
        [
            ({"early_stopping": False}, np.arange(364), "groups has no effect"),
            ({}, np.arange(5), "groups must have one value per sample, 364. Got 5"),
            ({}, np.full(364, np.nan), "groups must not have missing"),
        ],
    )
    def test_invalid_groups(self, make_embedder, known, settings, groups, match):
        with pytest.raises(ValueError, match=match):
            make_embedder(**settings).fit(*known, groups=groups)


class TestMetadataRouting:
    def test_groups_in_grid_search(self, make_embedder, digits):
        """The splitter and the embedder get the groups of the same samples."""
        X, y = digits
        embedder = make_embedder(max_epochs=1, validation_fraction=0.4)
        with config_context(enable_metadata_routing=True):
            pipeline = make_pipeline(StandardScaler(), embedder.set_fit_request(groups=True))
            search = GridSearchCV(
                pipeline,
                {"tripletembedder__margin": [0.2, 0.5]},
                cv=GroupKFold(2),
                scoring=mean_average_precision_at_r_scorer,
            ).fit(X, y, groups=y)
        scaled = StandardScaler().fit_transform(X)
        expected = clone(embedder).set_params(margin=search.best_params_["tripletembedder__margin"])
        expected.fit(scaled, y, groups=y)
        best = search.best_estimator_[-1]
        assert best.validation_scores_ == expected.validation_scores_

    def test_groups_without_request(self, make_embedder, digits):
        with config_context(enable_metadata_routing=True):
            pipeline = make_pipeline(StandardScaler(), make_embedder())
            with pytest.raises(UnsetMetadataPassedError, match="groups"):
                pipeline.fit(*digits, groups=digits[1])

    def test_groups_in_pipeline_before_classifier(self, make_embedder, digits):
        """Pipelines call fit_transform."""
        X, y = digits
        with config_context(enable_metadata_routing=True):
            embedder = make_embedder(validation_fraction=0.4).set_fit_request(groups=True)
            pipeline = make_pipeline(embedder, KNeighborsClassifier()).fit(X, y, groups=y)
        assert pipeline[0].validation_scores_ is not None

    def test_validation_set_is_transformed(self, make_embedder, digits):
        X, y = digits
        known = y < 6
        passed = {"X_val": X[~known], "y_val": y[~known]}
        with config_context(enable_metadata_routing=True):
            embedder = make_embedder(standardize=False).set_fit_request(X_val=True, y_val=True)
            pipeline = make_pipeline(StandardScaler(), embedder, transform_input=["X_val"])
            pipeline.fit(X[known], y[known], **passed)
        scaler = StandardScaler().fit(X[known])
        expected = make_embedder(standardize=False).fit(
            scaler.transform(X[known]),
            y[known],
            X_val=scaler.transform(passed["X_val"]),
            y_val=passed["y_val"],
        )
        assert pipeline[-1].validation_scores_ == expected.validation_scores_


class TestMonitoring:
    def test_history(self, make_embedder, blobs):
        embedder = make_embedder(max_epochs=3, early_stopping=True, cross_fit=False).fit(*blobs)
        frame = pd.DataFrame(embedder.history_)
        assert set(frame) == {
            *("epoch", "train_loss", "lr", "dur", "validation_score", "training_score"),
            *("triplet_fraction", "active_fraction", "d_ap", "d_an", "spread"),
        }
        assert frame.epoch.tolist() == [1, 2, 3]
        assert frame.drop(columns=["d_ap", "d_an", "active_fraction"]).notna().all(axis=None)

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_verbose(self, make_embedder, blobs, capsys, early_stopping):
        make_embedder(verbose=1, max_epochs=3, early_stopping=early_stopping).fit(*blobs)
        header, _, *lines = capsys.readouterr().out.strip().split("\n")
        score = ["validation_score"] if early_stopping else []
        assert header.split() == ["epoch", "train_loss", "triplet_fraction", *score, "dur"]
        assert len(lines) == 3
        assert max(map(len, [header, *lines])) < 100

    @pytest.mark.parametrize(
        "settings",
        [{"mining": "hard"}, {"mining": "all"}, {"net": TripletNet(criterion=ContrastiveLoss)}],
    )
    def test_verbose_fraction_that_varies(self, make_embedder, blobs, capsys, settings):
        make_embedder(verbose=1, early_stopping=False, **settings).fit(*blobs)
        header = capsys.readouterr().out.split("\n")[0]
        assert header.split() == ["epoch", "active_fraction", "train_loss", "dur"]

    def test_verbose_prints_last_epoch(self, make_embedder, blobs, capsys):
        embedder = make_embedder(verbose=1, max_epochs=30, early_stopping=True).fit(*blobs)
        assert embedder.n_iter_ < 30
        assert len(capsys.readouterr().out.strip().split("\n")) == 2 + embedder.n_iter_

    def test_silent_by_default(self, make_embedder, blobs, capsys):
        make_embedder().fit(*blobs)
        assert capsys.readouterr().out == ""


class TestSkorchCallbacks:
    def test_tensorboard(self, make_embedder, blobs, tmp_path):
        """Clones share the writer, which cannot be copied."""
        pytest.importorskip("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        board = TensorBoard(SummaryWriter(tmp_path))
        embedder = make_embedder(net=TripletNet(callbacks=[("board", board)]))
        assert clone(embedder).net.callbacks[0][1].writer is board.writer
        assert clone(embedder).net.callbacks[0][1] is not board
        assert len(cross_val_score(embedder, *blobs, cv=2)) == 2
        pickle.dumps(embedder.fit(*blobs))
        assert b"triplet_fraction" in b"".join(path.read_bytes() for path in tmp_path.iterdir())

    def test_callback_that_cannot_be_copied(self, make_embedder, blobs, spy):
        lock, epochs = threading.Lock(), []
        callback = spy(on_epoch_end=lambda net, **kwargs: epochs.append(len(net.history)))
        callback.lock = lock
        callback.get_params = lambda deep=True: {"lock": lock}
        embedder = make_embedder(net=TripletNet(callbacks=[callback]))
        assert embedder.fit(*blobs).net.callbacks == [callback]
        assert epochs == [1, 2]

    def test_early_stopping(self, make_embedder, blobs):
        stop = EarlyStopping(monitor="spread", patience=2, threshold=0.99, sink=lambda _: None)
        embedder = make_embedder(max_epochs=9, net=TripletNet(callbacks=[stop]))
        assert embedder.fit(*blobs).n_iter_ == 3

    def test_lr_scheduler(self, make_embedder, blobs):
        schedule = LRScheduler(StepLR, step_size=1, gamma=0.1)
        net = TripletNet(callbacks__lr_scheduler=None, callbacks=[("schedule", schedule)])
        embedder = make_embedder(max_epochs=3, lr=0.1, net=net).fit(*blobs)
        assert_allclose(embedder.net_.history[:, "event_lr"], [0.1, 0.01, 0.001])
        assert "lr" not in embedder.history_[0]

    def test_checkpoint(self, make_embedder, blobs, tmp_path):
        """It saves the epoch with the best score in the history."""
        checkpoint = Checkpoint(monitor=score_is_best, dirname=str(tmp_path), load_best=True)
        net = TripletNet(callbacks=[checkpoint])
        embedder = make_embedder(max_epochs=3, whiten=False, early_stopping=True, net=net)
        embedder.fit(*blobs)
        saved = torch.load(tmp_path / "params.pt", weights_only=True)
        assert embedder.history_[-1]["event_cp"] in (True, False)
        for name, value in embedder.net_.module_.state_dict().items():
            assert torch.equal(saved[name], value)

    def test_gradient_norm_clipping(self, make_embedder, blobs, spy):
        def norms(*callbacks):
            def record(net, named_parameters, **kwargs):
                gradients = [value.grad.flatten() for _, value in named_parameters]
                recorded.append(torch.cat(gradients).norm().item())

            recorded = []
            net = TripletNet(callbacks=[*callbacks, spy(on_grad_computed=record)])
            make_embedder(max_epochs=1, net=net).fit(*blobs)
            return recorded

        assert max(norms()) > 1e-2
        assert 0 < max(norms(GradientNormClipping(gradient_clip_value=1e-3))) <= 1e-3 * 1.001

    def test_epoch_scoring(self, make_embedder, blobs):
        scoring = EpochScoring(mean_norm, name="norm", on_train=True, use_caching=False)
        embedder = make_embedder(net=TripletNet(callbacks=[scoring])).fit(*blobs)
        assert_allclose([epoch["norm"] for epoch in embedder.history_], 1, rtol=1e-5)

    @pytest.mark.parametrize(
        "name",
        [
            *("on_epoch_begin", "on_epoch_end", "on_batch_begin", "on_batch_end"),
            *("on_grad_computed", "train_step", "train_step_single", "infer", "get_loss"),
        ],
    )
    def test_hook_of_subclass(self, make_embedder, blobs, name):
        calls = []

        class Net(TripletNet):
            pass

        def hook(self, *args, **kwargs):
            calls.append(name)
            return getattr(super(Net, self), name)(*args, **kwargs)

        setattr(Net, name, hook)
        make_embedder(max_epochs=1, net=Net(min_batches=3)).fit(*blobs)
        assert calls


def score_is_best(net):
    scores = net.history[:, "validation_score"]
    return scores[-1] > max(scores[:-1], default=-1)


def mean_norm(net, X, y):
    return np.linalg.norm(net.embed(np.asarray(X.X[:10])), axis=1).mean()


class TestWarmStart:
    def test_continues(self, make_embedder, blobs, weights):
        """With a constant rate, fitting two times two epochs is the same as four epochs."""
        settings = {"net": TripletNet(callbacks__lr_scheduler=None), "cross_fit": False}
        twice = make_embedder(max_epochs=2, warm_start=True, **settings).fit(*blobs)
        after_two = weights(twice)
        twice.fit(*blobs)
        assert not torch.equal(after_two, weights(twice))
        at_once = make_embedder(max_epochs=4, **settings).fit(*blobs)
        assert torch.equal(weights(twice), weights(at_once))
        assert [epoch["epoch"] for epoch in twice.history_] == [1, 2, 3, 4]
        assert twice.n_iter_ == 4

    def test_disabled(self, make_embedder, blobs, weights):
        embedder = make_embedder().fit(*blobs)
        first = weights(embedder)
        assert torch.equal(first, weights(embedder.fit(*blobs)))
        assert embedder.n_iter_ == 2

    def test_changed_parameters(self, make_embedder, blobs):
        embedder = make_embedder(warm_start=True).fit(*blobs)
        changes = {"margin": 0.9, "lr": 0.5, "mining": "hard", "batch_size": 20, "max_epochs": 3}
        net = embedder.set_params(**changes, weight_decay=0.25).fit(*blobs).net_
        assert (net.criterion_.margin, net.criterion_.mining) == (0.9, "hard")
        group = net.optimizer_.param_groups[0]
        assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
        assert net.history[-1, "batches", 0, "train_batch_size"] <= 24
        assert embedder.n_iter_ == 5
        assert embedder.history_[2]["lr"] == 0.5

    def test_changed_optimizer(self, make_embedder, blobs):
        embedder = make_embedder(warm_start=True).fit(*blobs)
        embedder.set_params(net=TripletNet(optimizer=torch.optim.SGD)).fit(*blobs)
        assert isinstance(embedder.net_.optimizer_, torch.optim.SGD)

    @pytest.mark.parametrize(
        "change", [{"n_components": 5}, {"hidden_layer_sizes": (8, 8)}, {"n_members": 1}]
    )
    def test_changed_network(self, make_embedder, blobs, weights, change):
        embedder = make_embedder(warm_start=True).fit(*blobs)
        before = weights(embedder)
        with pytest.raises(ValueError, match=f"shape.*{next(iter(change))}"):
            embedder.set_params(**change).fit(*blobs)
        assert torch.equal(weights(embedder), before)

    def test_changed_n_features(self, make_embedder, blobs):
        X, y = blobs
        with pytest.raises(ValueError, match="X has 4 features"):
            make_embedder(warm_start=True).fit(X, y).fit(X[:, :4], y)

    def test_new_classes(self, make_embedder, blobs):
        X, y = blobs
        embedder = make_embedder(warm_start=True).fit(X[y < 2], y[y < 2]).fit(X, y)
        assert_array_equal(embedder.classes_, [0, 1, 2])

    def test_standardize_can_be_enabled(self, make_embedder, blobs):
        embedder = make_embedder(warm_start=True, standardize=False).fit(*blobs)
        network = embedder.set_params(standardize=True).fit(*blobs).net_.module_
        assert_allclose(network.scaler.mean, blobs[0].mean(axis=0), rtol=1e-5)

    def test_error_keeps_previous_fit(self, make_embedder, blobs, failing_miner):
        """The weights, and the state of the optimizer."""
        failed, other = (make_embedder(warm_start=True).fit(*blobs) for _ in range(2))
        before = failed.transform(blobs[0])
        with pytest.raises(RuntimeError, match="miner failed"):
            failed.set_params(mining=fails_in_second_batch(failing_miner)).fit(*blobs)
        assert_array_equal(failed.transform(blobs[0]), before)
        assert failed.n_iter_ == 2
        failed.set_params(mining="semi_hard").fit(*blobs)
        assert_array_equal(failed.transform(blobs[0]), other.fit(*blobs).transform(blobs[0]))


def fails_in_second_batch(failing_miner):
    calls = []

    def miner(distances, labels, **kwargs):
        calls.append(1)
        if len(calls) > 2:  # two members
            return failing_miner(distances, labels, **kwargs)
        return labels[:1], labels[:1], labels[:1]

    return miner


class TestPartialFit:
    def test_one_epoch_per_call(self, make_embedder, blobs):
        embedder = make_embedder(max_epochs=7)
        for n_chunks in range(1, 4):
            embedder.partial_fit(*blobs)
            assert embedder.n_iter_ == n_chunks

    def test_score_is_close_to_that_of_fit(self, make_embedder, digits):
        X, y = digits
        embedder = make_embedder(hidden_layer_sizes=(64,), lr=5e-3)
        for _ in range(3):
            for chunk in np.array_split(np.arange(len(X)), 3):
                embedder.partial_fit(X[chunk], y[chunk])
        whole = make_embedder(hidden_layer_sizes=(64,), lr=5e-3, max_epochs=9).fit(X, y)
        assert embedder.score(X, y) > 0.8
        assert embedder.score(X, y) > whole.score(X, y) - 0.1

    def test_learning_rate_is_constant(self, make_embedder, blobs):
        embedder = make_embedder(lr=0.01).partial_fit(*blobs).partial_fit(*blobs)
        assert embedder.net_.optimizer_.param_groups[0]["lr"] == 0.01
        assert embedder.net_.optimizer_.state_dict()["state"][0]["step"] == 20, "of both calls"

    def test_new_classes(self, make_embedder, blobs):
        X, y = blobs
        names = np.array(["ant", "bee", "cockatoo"])[y]
        embedder = make_embedder().partial_fit(X[y < 2], names[y < 2])
        assert_array_equal(embedder.classes_, ["ant", "bee"])
        embedder.partial_fit(X[y > 0], names[y > 0])
        assert_array_equal(embedder.classes_, ["ant", "bee", "cockatoo"])

    @pytest.mark.parametrize("dtype", [str, object])
    def test_labels_of_another_type(self, make_embedder, blobs, dtype):
        X, y = blobs
        embedder = make_embedder().partial_fit(X, y)
        with pytest.raises(ValueError, match=r"labels in y .*same type"):
            embedder.partial_fit(X, np.array(["a", "b", "c"], dtype=dtype)[y])
        assert_array_equal(embedder.classes_, [0, 1, 2])
        assert embedder.n_iter_ == 1

    def test_standardization_is_updated(self, make_embedder, blobs):
        X, y = blobs
        embedder, scaler = make_embedder(), StandardScaler()
        for chunk in (slice(0, 15), slice(15, 60)):
            embedder.partial_fit(X[chunk], y[chunk])
            scaler.partial_fit(X[chunk].astype(np.float32))
            standardizer = embedder.net_.module_.scaler
            assert_allclose(standardizer.mean, scaler.mean_, rtol=1e-6)
            assert_allclose(standardizer.scale, scaler.scale_, rtol=1e-6)

    def test_after_fit(self, make_embedder, blobs, weights):
        embedder = make_embedder(max_epochs=2).fit(*blobs)
        before = weights(embedder)
        embedder.partial_fit(*blobs)
        assert embedder.n_iter_ == 3
        assert not torch.equal(before, weights(embedder))

    def test_fit_starts_over(self, make_embedder, blobs, weights):
        embedder = make_embedder().partial_fit(*blobs).fit(*blobs)
        assert torch.equal(weights(embedder), weights(make_embedder().fit(*blobs)))

    @pytest.mark.parametrize("indices", [slice(0, 1), [0, 1, 2], [0, 3]])
    def test_chunk_without_triplets(self, make_embedder, weights, indices):
        X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
        embedder, scaler = make_embedder().partial_fit(X, y), StandardScaler().fit(X)
        before = weights(embedder)
        with pytest.warns(SkippedChunkWarning, match="no training step"):
            embedder.partial_fit(X[indices] + 9, y[indices] + 7)
        assert torch.equal(before, weights(embedder))
        assert embedder.n_iter_ == 1
        assert_array_equal(embedder.classes_, np.union1d([0, 1, 2], y[indices] + 7))
        scaler.partial_fit(X[indices] + 9)
        assert_allclose(embedder.net_.module_.scaler.mean, scaler.mean_, rtol=1e-5)
        assert embedder.partial_fit(X, y).n_iter_ == 2

    def test_first_chunk_without_triplets(self, make_embedder, blobs, weights):
        """The bins of features are those of the first chunk that is trained on."""
        X, y = blobs[0], np.sort(blobs[1])
        with pytest.warns(SkippedChunkWarning, match=r"1 labeled sample\(s\) of 1 class"):
            embedder = make_embedder(standardize=False).partial_fit(X[:1], y[:1])
        assert embedder.n_iter_ == 0
        assert embedder.transform(X).shape == (60, 32)
        embedder = pickle.loads(pickle.dumps(embedder)).partial_fit(X, y)
        expected = make_embedder(standardize=False).partial_fit(X, y)
        assert torch.equal(weights(embedder), weights(expected))

    def test_declared_classes(self, make_embedder, blobs, weights):
        X, y = blobs
        embedder = make_embedder().partial_fit(X[y < 2], y[y < 2], classes=[2, 0, 1, 3])
        assert_array_equal(embedder.classes_, [0, 1, 2, 3])
        embedder.partial_fit(X, y).partial_fit(X, y, classes=np.arange(4))
        expected = make_embedder().partial_fit(X[y < 2], y[y < 2]).partial_fit(X, y)
        assert torch.equal(weights(embedder), weights(expected.partial_fit(X, y)))
        assert_array_equal(embedder.fit(X, y).classes_, [0, 1, 2])

    @pytest.mark.parametrize(
        ("classes", "match"),
        [
            ([0, 1], r"y must hold labels in classes\. Got \[2\]"),
            (["a", "b", "c"], "same type"),
            ([[0, 1, 2]], "classes must be one-dimensional"),
            ([0, 1, np.nan], "classes must not have missing"),
            ([-1, 0, 1, 2], "classes must not contain unlabeled=-1"),
        ],
    )
    def test_wrong_classes(self, make_embedder, blobs, classes, match):
        embedder = make_embedder(unlabeled=-1)
        with pytest.raises(ValueError, match=match):
            embedder.partial_fit(*blobs, classes=classes)
        assert not hasattr(embedder, "net_")

    def test_changed_classes(self, make_embedder, blobs):
        X, y = blobs
        embedder = make_embedder().partial_fit(X, y, classes=[0, 1, 2])
        with pytest.raises(
            ValueError, match=r"same in all .* 4 classes after 3; new: \[3\], missing: \[\]"
        ):
            embedder.partial_fit(X, y, classes=[0, 1, 2, 3])
        with pytest.raises(ValueError, match="y must hold labels in classes"):
            embedder.partial_fit(X, y + 1)
        assert embedder.n_iter_ == 1

    def test_history_is_not_copied(self, make_embedder, blobs):
        """Otherwise a long stream would slow down."""
        embedder = make_embedder(net=TripletNet(min_batches=1)).partial_fit(*blobs)
        first_epoch = embedder.net_.history[0]
        embedder.partial_fit(*blobs)
        assert embedder.net_.history[0] is first_epoch

    def test_random_state(self, make_embedder, blobs, weights):
        first, second = (make_embedder().partial_fit(*blobs).partial_fit(*blobs) for _ in range(2))
        assert torch.equal(weights(first), weights(second))


class Interrupt(Callback):
    """Sends the signal of Ctrl-C after a batch."""

    def __init__(self, epoch, batch):
        self.epoch = epoch
        self.batch = batch

    def on_batch_end(self, net, **kwargs):
        if (len(net.history), len(net.history[-1]["batches"])) == (self.epoch, self.batch):
            os.kill(os.getpid(), signal.SIGINT)


class TestKeyboardInterrupt:
    @pytest.fixture(autouse=True)
    def _enable_sigint(self):
        """Shells start background jobs with the signal ignored."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_keeps_weights(self, make_embedder, blobs):
        net = TripletNet(callbacks=[Interrupt(epoch=3, batch=2)])
        embedder = make_embedder(max_epochs=5, net=net)
        with pytest.warns(UserWarning, match="interrupted after 2 of 5 epochs"):
            embedder.fit(*blobs)
        assert embedder.n_iter_ == 2
        assert len(embedder.history_) == 2
        assert embedder.transform(blobs[0]).shape == (60, 32)
        assert embedder.score(*blobs) > 0.5
        pickle.loads(pickle.dumps(embedder)).set_params(net=None).fit(*blobs)

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_in_first_epoch(self, make_embedder, blobs, early_stopping):
        net = TripletNet(callbacks=[Interrupt(epoch=1, batch=1)])
        with pytest.warns(UserWarning, match="interrupted after 0 of 2 epochs"):
            embedder = make_embedder(net=net, early_stopping=early_stopping).fit(*blobs)
        assert embedder.history_ == []
        assert np.isfinite(embedder.transform(blobs[0])).all()

    def test_keeps_validation_scores(self, make_embedder, digits):
        settings = {"max_epochs": 9, "early_stopping": True}
        net = TripletNet(callbacks=[Interrupt(epoch=4, batch=2)])
        with pytest.warns(UserWarning, match="interrupted after 3 of 9"):
            interrupted = make_embedder(**settings, net=net).fit(*digits)
        uninterrupted = make_embedder(**settings).fit(*digits)
        assert interrupted.validation_scores_ == uninterrupted.validation_scores_[:3]

    def test_early_stopping_does_not_warn(self, make_embedder, blobs):
        stop = EarlyStopping(monitor="epoch", patience=1, sink=lambda _: None)
        embedder = make_embedder(max_epochs=9, net=TripletNet(callbacks=[stop])).fit(*blobs)
        assert embedder.n_iter_ == 2


RUN = """
import os, signal, sys
import numpy as np
from sklearn.datasets import load_iris
from skorch.callbacks import Callback, Checkpoint, LoadInitState
from sktriplet import TripletEmbedder
from sktriplet.training import TripletNet

class Kill(Callback):
    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 4 and len(net.history[-1]["batches"]) == 7:
            os.kill(os.getpid(), signal.SIGKILL)

checkpoint = Checkpoint(monitor=None, dirname=sys.argv[1])
callbacks = [checkpoint, LoadInitState(checkpoint)]
if sys.argv[2] == "killed":
    callbacks.append(Kill())
net = TripletNet(callbacks=callbacks)
embedder = TripletEmbedder(max_epochs=6, hidden_layer_sizes=(16,), mining="random",
                           net=net, random_state=0)
X, y = load_iris(return_X_y=True)
embedder.fit(X, y)
np.save(sys.argv[3], embedder.transform(X))
print(embedder.n_iter_, len(embedder.net_.history[-1]["batches"]))
"""


class TestCheckpointOfSkorch:
    """`Checkpoint` with `LoadInitState`. Our own is tested in training/test_checkpoint.py."""

    @pytest.mark.slow
    def test_killed_process(self, tmp_path):
        def run(folder, name):
            result = str(tmp_path / f"{name}.npy")
            arguments = [sys.executable, "-c", RUN, str(tmp_path / folder), name, result]
            return subprocess.run(arguments, capture_output=True, text=True, check=False), result

        killed, _ = run("checkpoint", "killed")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        resumed, embedded = run("checkpoint", "resumed")
        assert resumed.returncode == 0, resumed.stderr
        uninterrupted, expected = run("other", "uninterrupted")
        assert resumed.stdout == uninterrupted.stdout == "6 10\n"
        assert_array_equal(np.load(embedded), np.load(expected))

    def test_error_in_epoch(self, make_embedder, blobs, tmp_path, spy, weights):
        def fail_in_epoch_3(net, **kwargs):
            if len(net.history) == 3:
                raise RuntimeError("interrupted")

        def fit(folder, **hooks):
            checkpoint = Checkpoint(monitor=None, dirname=str(tmp_path / folder))
            net = TripletNet(callbacks=[checkpoint, LoadInitState(checkpoint), spy(**hooks)])
            settings = {"max_epochs": 4, "mining": "random", "early_stopping": False}
            return make_embedder(**settings, net=net).fit(*blobs)

        with pytest.raises(RuntimeError, match="interrupted"):
            fit("checkpoint", on_batch_end=fail_in_epoch_3)
        resumed, uninterrupted = fit("checkpoint"), fit("other")
        assert resumed.n_iter_ == 4
        assert torch.equal(weights(resumed), weights(uninterrupted))

    def test_finished_training_is_not_repeated(self, make_embedder, blobs, tmp_path, weights):
        checkpoint = Checkpoint(monitor=None, dirname=str(tmp_path))
        net = TripletNet(callbacks=[checkpoint, LoadInitState(checkpoint)])
        first, second = (make_embedder(net=net, early_stopping=False).fit(*blobs) for _ in range(2))
        assert second.n_iter_ == first.n_iter_ == 2
        assert torch.equal(weights(first), weights(second))

    def test_best_epoch_is_not_in_checkpoint(self, make_embedder, digits, tmp_path, spy):
        """It has the weights of the last epoch only."""

        def score(net, **kwargs):
            net.history[-1]["validation_score"] = 10.0 - len(net.history)

        def fit(max_epochs):
            checkpoint = Checkpoint(monitor=None, dirname=str(tmp_path))
            hooks = spy(on_epoch_end=score)
            net = TripletNet(callbacks=[hooks, checkpoint, LoadInitState(checkpoint)])
            return make_embedder(net=net, max_epochs=max_epochs, n_members=4).fit(*digits)

        fit(2)
        with pytest.warns(UserWarning, match=r"best epoch, 1, .* Use .*ResumableCheckpoint"):
            fit(3)


class TestPrecision:
    def test_bfloat16(self, make_embedder, digits, weights):
        X, y = digits
        half = make_embedder(precision="bfloat16").fit(X, y)
        full = make_embedder().fit(X, y)
        assert half.transform(X).dtype == np.float32
        assert half.score(X, y) == pytest.approx(full.score(X, y), abs=0.05)
        assert not torch.equal(weights(half), weights(full))
        assert {value.dtype for value in half.net_.module_.parameters()} == {torch.float32}

    def test_bfloat16_criterion_runs_in_float32(self, make_embedder, blobs):
        dtypes = set()

        def miner(distances, labels, *, margin, generator):
            dtypes.add(distances.dtype)
            assert not torch.is_autocast_enabled("cpu")
            return labels[:0], labels[:0], labels[:0]

        make_embedder(precision="bfloat16", mining=miner).fit(*blobs)
        assert dtypes == {torch.float32}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_compile(make_embedder, blobs):
    net = TripletNet(compile=True, compile__backend="eager")
    compiled = make_embedder(net=net, warm_start=True).fit(*blobs).fit(*blobs)
    plain = make_embedder(warm_start=True).fit(*blobs).fit(*blobs)
    assert_array_equal(compiled.transform(blobs[0]), plain.transform(blobs[0]))


class TestThreads:
    @pytest.mark.slow
    def test_joblib_workers_use_one(self, make_embedder, blobs):
        if os.cpu_count() > 2:
            pytest.skip("loky divides more threads among two workers")
        n_threads = joblib.Parallel(n_jobs=2)(
            joblib.delayed(threads_in_training)(clone(make_embedder()), *blobs) for _ in range(2)
        )
        assert n_threads == [(1, 1), (1, 1)]

    def test_concurrent_transform(self, make_embedder, digits):
        X, y = digits
        embedder = make_embedder().fit(X, y)
        expected = embedder.transform(X)
        results = {}

        def work(number):
            results[number] = embedder.transform(X)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 8
        for result in results.values():
            assert_array_equal(result, expected)


def threads_in_training(embedder, X, y):
    """Return the number of torch's threads during a fit and after it."""
    n_threads = []

    class Record(Callback):
        def on_batch_end(self, net, **kwargs):
            n_threads.append(torch.get_num_threads())

    embedder.set_params(net=TripletNet(callbacks=[Record()])).fit(X, y)
    return max(n_threads), torch.get_num_threads()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's memory limit")
def test_memory_map_larger_than_memory(tmp_path):
    """Train and transform without the memory to hold the data."""
    X = np.lib.format.open_memmap(
        tmp_path / "X.npy", mode="w+", dtype=np.float32, shape=(20_000, 5_000)
    )
    X[::10] = np.random.default_rng(0).normal(size=5_000)
    del X
    code = """
        import resource, sys
        import numpy as np
        from sktriplet import TripletEmbedder
        X = np.load(sys.argv[1], mmap_mode="r")
        y = np.arange(len(X)) % 10
        embedder = TripletEmbedder(2, hidden_layer_sizes=(4,), max_epochs=1, random_state=0)
        embedder.fit(X[:100].copy(), y[:100]).transform(X[:100])
        used = [line for line in open("/proc/self/status") if line.startswith("VmData")]
        allowed = int(used[0].split()[1]) * 1024 + 250_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
        try:
            np.ones(X.shape, X.dtype)
        except MemoryError:
            assert embedder.fit(X, y).transform(X).shape == (len(X), 2)
            print("done")
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "X.npy")]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert run.stdout == "done\n", run.stderr
