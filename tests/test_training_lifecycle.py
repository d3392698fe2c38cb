"""What people expect of a serious fit: it stops, shows its progress, goes on and resumes."""

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
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LoadInitState,
    LRScheduler,
)
from torch.optim.lr_scheduler import StepLR

from sktriplet import TripletEmbedder
from sktriplet.exceptions import InvalidParameterError
from sktriplet.training import TripletNet


def weights(embedder):
    return torch.nn.utils.parameters_to_vector(embedder.net_.module_.parameters()).detach()


class TestStopping:
    def test_it_stops_when_neighbors_get_no_better(self, quick, blobs):
        embedder = quick(max_epochs=30, early_stopping=True, n_iter_no_change=3).fit(*blobs)
        scores = embedder.validation_scores_
        assert embedder.n_iter_ == len(scores) < 30
        assert embedder.best_validation_score_ == max(scores)
        assert max(scores[:-3]) + 1e-4 >= max(scores[-3:]), "no gain in the last three"
        assert max(scores[:-4], default=0) + 1e-4 < max(scores[:-3]), "and one before"

    def test_the_best_epoch_is_kept(self, quick, digits):
        class Spoil(Callback):
            def on_batch_end(self, net, **kwargs):
                if len(net.history) > 3:
                    for parameter in net.module_.parameters():
                        torch.nn.init.zeros_(parameter)

        class Keep(Callback):
            def on_epoch_end(self, net, **kwargs):
                kept.append(torch.nn.utils.parameters_to_vector(net.module_.parameters()).detach())

        kept = []
        net = TripletNet(callbacks=[Spoil(), Keep()], min_batches=1)
        with warnings.catch_warnings(action="ignore"):
            embedder = quick(
                max_epochs=20, early_stopping=True, n_iter_no_change=2, net=net, lr=1e-4
            ).fit(*digits)
        best = int(np.argmax(embedder.validation_scores_))
        assert best < 3
        assert embedder.n_iter_ == best + 3
        assert torch.equal(weights(embedder), kept[best])

    def test_scores_are_of_rows_that_were_not_trained_on(self, quick, digits):
        X, y = digits

        class Watch(Callback):
            def on_batch_begin(self, net, batch, training, **kwargs):
                seen.update(batch[0][:, 0].long().tolist())

        seen = set()
        X = np.c_[np.arange(len(X)), X]
        net = TripletNet(callbacks=[Watch()])
        quick(early_stopping=True, validation_fraction=0.25, net=net).fit(X, y)
        held_out = np.setdiff1d(np.arange(len(X)), list(seen))
        assert len(held_out) == pytest.approx(len(X) / 4, abs=1)
        part = np.bincount(y[held_out]) / np.bincount(y)
        assert_allclose(part * np.bincount(y), np.bincount(y) / 4, atol=1)

    def test_the_score_is_that_of_neighbors(self, quick, digits):
        """The mean probability that 5-NN gives to the right class."""
        X, y = digits[0][:300], digits[1][:300]
        rows = {}

        class Watch(Callback):
            def on_train_begin(self, net, X, y, **kwargs):
                rows["training"] = X.indices

        embedder = quick(max_epochs=1, early_stopping=True, net=TripletNet(callbacks=[Watch()]))
        embedded = embedder.fit(X, y).transform(X)
        held_out = np.setdiff1d(np.arange(len(X)), rows["training"])
        knn = KNeighborsClassifier().fit(embedded[rows["training"]], y[rows["training"]])
        expected = knn.predict_proba(embedded[held_out])[np.arange(len(held_out)), y[held_out]]
        assert embedder.best_validation_score_ == pytest.approx(expected.mean())

    def test_small_classes_stay_in_training(self, quick):
        X = np.random.default_rng(0).normal(size=(46, 3))
        y = np.r_[np.repeat([0, 1], 20), [2, 2, 3, 3, 4, 5]]
        trained_on = set()

        class Watch(Callback):
            def on_batch_begin(self, net, batch, **kwargs):
                trained_on.update(batch[1].tolist())

        quick(early_stopping=True, net=TripletNet(callbacks=[Watch()])).fit(X, y)
        assert trained_on == set(range(6))

    def test_nothing_to_hold_out(self, quick):
        X, y = np.eye(6), np.repeat([0, 1, 2], 2)
        embedder = quick(early_stopping=True)
        with pytest.raises(ValueError, match=r"early_stopping=True needs .* largest has 2 rows"):
            embedder.fit(X, y)
        assert not hasattr(embedder, "net_")

    def test_without_it_there_are_no_scores(self, quick, blobs):
        embedder = quick().fit(*blobs)
        assert embedder.validation_scores_ is None
        assert embedder.best_validation_score_ is None
        assert embedder.n_iter_ == 2

    def test_the_learning_rate_does_not_know_of_it(self, quick, blobs):
        with_it = quick(max_epochs=4, early_stopping=True).fit(*blobs)
        without = quick(max_epochs=4).fit(*blobs)
        rates = [[epoch["lr"] for epoch in each.history_] for each in (with_it, without)]
        assert rates[0] == rates[1]

    def test_seed_decides(self, quick, digits):
        first, second = (quick(early_stopping=True).fit(*digits) for _ in range(2))
        assert first.validation_scores_ == second.validation_scores_
        assert torch.equal(weights(first), weights(second))
        other = quick(early_stopping=True, random_state=1).fit(*digits)
        assert first.validation_scores_ != other.validation_scores_

    def test_what_watched_is_not_pickled(self, quick, digits):
        X = np.repeat(digits[0], 5, axis=0)
        one = {"max_epochs": 1, "n_members": 1}
        embedder = quick(**one, early_stopping=True).fit(X, np.repeat(digits[1], 5))
        assert len(pickle.dumps(embedder)) < X.astype(np.float32).nbytes / 5


class TestSeeing:
    def test_history(self, quick, blobs):
        embedder = quick(max_epochs=3, early_stopping=True).fit(*blobs)
        frame = pd.DataFrame(embedder.history_)
        assert set(frame) == {
            *("epoch", "train_loss", "lr", "dur", "validation_score", "training_score"),
            *("triplet_fraction", "active_fraction", "d_ap", "d_an", "spread"),
        }
        assert frame.epoch.tolist() == [1, 2, 3]
        assert frame.drop(columns=["d_ap", "d_an", "active_fraction"]).notna().all(axis=None)

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_verbose(self, quick, blobs, capsys, early_stopping):
        quick(verbose=1, max_epochs=3, early_stopping=early_stopping).fit(*blobs)
        header, _, *lines = capsys.readouterr().out.strip().split("\n")
        score = ["validation_score"] if early_stopping else []
        assert header.split() == ["epoch", "active_fraction", "train_loss", *score, "dur"]
        assert len(lines) == 3
        assert max(map(len, [header, *lines])) < 100

    def test_the_last_epoch_is_printed_when_it_stops(self, quick, blobs, capsys):
        embedder = quick(verbose=1, max_epochs=30, early_stopping=True).fit(*blobs)
        assert embedder.n_iter_ < 30
        assert len(capsys.readouterr().out.strip().split("\n")) == 2 + embedder.n_iter_

    def test_early_stopping_of_skorch(self, quick, blobs):
        stop = EarlyStopping(monitor="spread", patience=2, threshold=0.99, sink=lambda _: None)
        embedder = quick(max_epochs=9, net=TripletNet(callbacks=[stop]))
        assert embedder.fit(*blobs).n_iter_ == 3

    def test_another_schedule(self, quick, blobs):
        schedule = LRScheduler(StepLR, step_size=1, gamma=0.1)
        net = TripletNet(callbacks__lr_scheduler=None, callbacks=[("schedule", schedule)])
        embedder = quick(max_epochs=3, lr=0.1, net=net).fit(*blobs)
        assert_allclose(embedder.net_.history[:, "event_lr"], [0.1, 0.01, 0.001])
        assert "lr" not in embedder.history_[0]

    def test_checkpoint(self, quick, blobs, tmp_path):
        """Of the best epoch, by a score of the history."""
        checkpoint = Checkpoint(monitor=scores_best, dirname=str(tmp_path), load_best=True)
        net = TripletNet(callbacks=[checkpoint])
        embedder = quick(max_epochs=3, early_stopping=True, net=net).fit(*blobs)
        saved = torch.load(tmp_path / "params.pt", weights_only=True)
        assert embedder.history_[-1]["event_cp"] in (True, False)
        for name, value in embedder.net_.module_.state_dict().items():
            assert torch.equal(saved[name], value)

    def test_gradient_norm_clipping(self, quick, blobs):
        norms = []

        class Norm(Callback):
            def on_grad_computed(self, net, named_parameters, **kwargs):
                gradients = [value.grad.flatten() for _, value in named_parameters]
                norms.append(torch.cat(gradients).norm().item())

        clip = GradientNormClipping(gradient_clip_value=1e-3)
        quick(max_epochs=1, net=TripletNet(callbacks=[Norm()])).fit(*blobs)
        free, norms = norms, []
        quick(max_epochs=1, net=TripletNet(callbacks=[clip, Norm()])).fit(*blobs)
        assert max(free) > 1e-2
        assert 0 < max(norms) <= 1e-3 * 1.001

    def test_epoch_scoring(self, quick, blobs):
        scoring = EpochScoring(mean_norm, name="norm", on_train=True, use_caching=False)
        embedder = quick(net=TripletNet(callbacks=[scoring])).fit(*blobs)
        assert_allclose([epoch["norm"] for epoch in embedder.history_], 1, rtol=1e-5)

    def test_hooks_of_a_subclass_are_called(self, quick, blobs):
        calls = {}

        class Net(TripletNet):
            pass

        def counting(name):
            def hook(self, *args, **kwargs):
                calls[name] = calls.get(name, 0) + 1
                return getattr(super(Net, self), name)(*args, **kwargs)

            return hook

        epoch = ["on_epoch_begin", "on_epoch_end"]
        batch = [
            *("on_batch_begin", "on_batch_end", "on_grad_computed"),
            *("train_step", "train_step_single", "infer", "get_loss"),
        ]
        for name in [*epoch, *batch]:
            setattr(Net, name, counting(name))
        quick(max_epochs=2, net=Net(min_batches=3)).fit(*blobs)
        assert {calls[name] for name in epoch} == {2}
        assert {calls[name] for name in batch} == {6}


def scores_best(net):
    scores = net.history[:, "validation_score"]
    return scores[-1] > max(scores[:-1], default=-1)


def mean_norm(net, X, y):
    return np.linalg.norm(net.embed(np.asarray(X.X[:10])), axis=1).mean()


class TestWarmStart:
    def test_it_goes_on(self, quick, blobs):
        """Two times two epochs at a constant rate are four epochs."""
        net = TripletNet(callbacks__lr_scheduler=None)
        twice = quick(max_epochs=2, warm_start=True, net=net).fit(*blobs)
        after_two = weights(twice)
        twice.fit(*blobs)
        assert not torch.equal(after_two, weights(twice))
        at_once = quick(max_epochs=4, net=net).fit(*blobs)
        assert torch.equal(weights(twice), weights(at_once))
        assert [epoch["epoch"] for epoch in twice.history_] == [1, 2, 3, 4]
        assert twice.n_iter_ == 4

    def test_without_it_fit_begins_anew(self, quick, blobs):
        embedder = quick().fit(*blobs)
        first = weights(embedder)
        assert torch.equal(first, weights(embedder.fit(*blobs)))
        assert embedder.n_iter_ == 2

    def test_changed_parameters_are_in_effect(self, quick, blobs):
        embedder = quick(warm_start=True).fit(*blobs)
        changes = {"margin": 0.9, "lr": 0.5, "mining": "hard", "batch_size": 20, "max_epochs": 3}
        net = embedder.set_params(**changes, weight_decay=0.25).fit(*blobs).net_
        assert (net.criterion_.margin, net.criterion_.mining) == (0.9, "hard")
        group = net.optimizer_.param_groups[0]
        assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
        assert net.history[-1, "batches", 0, "train_batch_size"] <= 24
        assert embedder.n_iter_ == 5
        assert embedder.history_[2]["lr"] == 0.5

    def test_another_optimizer(self, quick, blobs):
        embedder = quick(warm_start=True).fit(*blobs)
        embedder.set_params(net=TripletNet(optimizer=torch.optim.SGD)).fit(*blobs)
        assert isinstance(embedder.net_.optimizer_, torch.optim.SGD)

    @pytest.mark.parametrize(
        "change", [{"n_components": 5}, {"hidden_layer_sizes": (8, 8)}, {"n_members": 1}]
    )
    def test_a_changed_shape_is_refused(self, quick, blobs, change):
        embedder = quick(warm_start=True).fit(*blobs)
        before = weights(embedder)
        with pytest.raises(ValueError, match="network of another shape: n_components, hidden_l"):
            embedder.set_params(**change).fit(*blobs)
        assert torch.equal(weights(embedder), before)

    def test_another_width_of_rows_is_refused(self, quick, blobs):
        X, y = blobs
        with pytest.raises(ValueError, match="X has 4 features"):
            quick(warm_start=True).fit(X, y).fit(X[:, :4], y)

    def test_new_classes(self, quick, blobs):
        X, y = blobs
        embedder = quick(warm_start=True).fit(X[y < 2], y[y < 2]).fit(X, y)
        assert_array_equal(embedder.classes_, [0, 1, 2])

    def test_standardization_can_be_switched(self, quick, blobs):
        embedder = quick(warm_start=True, standardize=False).fit(*blobs)
        embedder.set_params(standardize=True).fit(*blobs)
        assert_allclose(embedder.net_.module_.standardizer.mean, blobs[0].mean(axis=0), rtol=1e-5)

    def test_a_failure_leaves_the_old_fit(self, quick, blobs):
        def rubbish(*args, **kwargs):
            raise RuntimeError("rubbish")

        embedder = quick(warm_start=True).fit(*blobs)
        before = embedder.transform(blobs[0])
        with pytest.raises(RuntimeError, match="rubbish"):
            embedder.set_params(mining=rubbish).fit(*blobs)
        assert_array_equal(embedder.transform(blobs[0]), before)
        assert embedder.n_iter_ == 2


class TestPartialFit:
    def test_one_epoch_a_chunk(self, quick, blobs):
        X, y = blobs
        embedder = quick(max_epochs=7)
        for n_chunks in range(1, 4):
            embedder.partial_fit(X, y)
            assert embedder.n_iter_ == n_chunks

    def test_it_is_as_good_as_fit(self, quick, digits):
        X, y = digits
        embedder = quick(hidden_layer_sizes=(64,), lr=5e-3)
        for _ in range(3):
            for chunk in np.array_split(np.arange(len(X)), 3):
                embedder.partial_fit(X[chunk], y[chunk])
        whole = quick(hidden_layer_sizes=(64,), lr=5e-3, max_epochs=9).fit(X, y)
        assert embedder.score(X, y) > 0.8
        assert embedder.score(X, y) > whole.score(X, y) - 0.1

    def test_the_rate_is_constant(self, quick, blobs):
        embedder = quick(lr=0.01).partial_fit(*blobs).partial_fit(*blobs)
        assert embedder.net_.optimizer_.param_groups[0]["lr"] == 0.01
        assert embedder.net_.optimizer_.state_dict()["state"][0]["step"] == 20, "it goes on"

    def test_classes_grow(self, quick, blobs):
        X, y = blobs
        names = np.array(["ant", "bee", "cockatoo"])[y]
        embedder = quick().partial_fit(X[y < 2], names[y < 2])
        assert_array_equal(embedder.classes_, ["ant", "bee"])
        embedder.partial_fit(X[y > 0], names[y > 0])
        assert_array_equal(embedder.classes_, ["ant", "bee", "cockatoo"])

    @pytest.mark.parametrize("kind", [str, object])
    def test_labels_of_another_kind(self, quick, blobs, kind):
        X, y = blobs
        embedder = quick().partial_fit(X, y)
        with pytest.raises(ValueError, match="labels in y must be of the kind"):
            embedder.partial_fit(X, np.array(["a", "b", "c"], dtype=kind)[y])
        assert_array_equal(embedder.classes_, [0, 1, 2])
        assert embedder.n_iter_ == 1

    def test_moments_merge(self, quick, blobs):
        X, y = blobs
        embedder, scaler = quick(), StandardScaler()
        for chunk in (slice(0, 15), slice(15, 60)):
            embedder.partial_fit(X[chunk], y[chunk])
            scaler.partial_fit(X[chunk].astype(np.float32))
            standardizer = embedder.net_.module_.standardizer
            assert_allclose(standardizer.mean, scaler.mean_, rtol=1e-6)
            assert_allclose(standardizer.scale, scaler.scale_, rtol=1e-6)

    def test_after_fit(self, quick, blobs):
        embedder = quick(max_epochs=2).fit(*blobs)
        before = weights(embedder)
        embedder.partial_fit(*blobs)
        assert embedder.n_iter_ == 3
        assert not torch.equal(before, weights(embedder))

    def test_fit_begins_anew(self, quick, blobs):
        embedder = quick().partial_fit(*blobs).fit(*blobs)
        assert torch.equal(weights(embedder), weights(quick().fit(*blobs)))

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (slice(0, 1), "1 sample"),
            ([0, 1, 2], "a class with at least 2 rows"),
            ([0, 3], "at least 2 classes"),
        ],
    )
    def test_a_chunk_without_a_triplet(self, quick, rows, message):
        X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
        embedder = quick().partial_fit(X, y)
        with pytest.raises(ValueError, match=message):
            embedder.partial_fit(X[rows], y[rows])
        assert embedder.n_iter_ == 1

    def test_early_stopping_is_refused(self, quick, blobs):
        with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
            quick(early_stopping=True).partial_fit(*blobs)

    def test_a_long_stream_does_not_slow_down(self, quick, blobs):
        """The history is shared, not copied, from chunk to chunk."""
        embedder = quick(net=TripletNet(min_batches=1)).partial_fit(*blobs)
        first_epoch = embedder.net_.history[0]
        embedder.partial_fit(*blobs)
        assert embedder.net_.history[0] is first_epoch

    def test_seed_decides(self, quick, blobs):
        first, second = (quick().partial_fit(*blobs).partial_fit(*blobs) for _ in range(2))
        assert torch.equal(weights(first), weights(second))


class TestInterruption:
    """By a real signal, as Ctrl-C sends it."""

    @pytest.fixture(autouse=True)
    def _heard(self):
        """Shells start what runs in the background deaf to it."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_what_was_learned_is_kept(self, quick, blobs):
        net = TripletNet(callbacks=[CtrlC(epoch=3, batch=2)])
        embedder = quick(max_epochs=5, net=net)
        with pytest.warns(UserWarning, match="interrupted after 2 of 5 epochs"):
            embedder.fit(*blobs)
        assert embedder.n_iter_ == 2
        assert len(embedder.history_) == 2
        assert embedder.transform(blobs[0]).shape == (60, 32)
        assert embedder.score(*blobs) > 0.5
        pickle.loads(pickle.dumps(embedder)).set_params(net=None).fit(*blobs)

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_in_the_first_epoch(self, quick, blobs, early_stopping):
        net = TripletNet(callbacks=[CtrlC(epoch=1, batch=1)])
        with pytest.warns(UserWarning, match="interrupted after 0 of 2 epochs"):
            embedder = quick(net=net, early_stopping=early_stopping).fit(*blobs)
        assert embedder.history_ == []
        assert np.isfinite(embedder.transform(blobs[0])).all()

    def test_the_best_epoch_is_restored(self, quick, digits):
        net = TripletNet(callbacks=[CtrlC(epoch=4, batch=2)])
        embedder = quick(max_epochs=9, early_stopping=True, net=net)
        with pytest.warns(UserWarning, match="interrupted after 3 of 9"):
            embedder.fit(*digits)
        scores = embedder.validation_scores_
        in_peace = quick(max_epochs=9, early_stopping=True).fit(*digits)
        assert scores == in_peace.validation_scores_[:3]

    def test_stopping_on_request_is_no_interruption(self, quick, blobs):
        stop = EarlyStopping(monitor="epoch", patience=1, sink=lambda _: None)
        assert quick(max_epochs=9, net=TripletNet(callbacks=[stop])).fit(*blobs).n_iter_ == 2


class CtrlC(Callback):
    def __init__(self, epoch, batch):
        self.epoch = epoch
        self.batch = batch

    def on_batch_end(self, net, **kwargs):
        if (len(net.history), len(net.history[-1]["batches"])) == (self.epoch, self.batch):
            os.kill(os.getpid(), signal.SIGINT)


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


class TestResuming:
    def test_a_killed_run_ends_as_if_nothing_had_been(self, tmp_path):
        def run(folder, how):
            result = str(tmp_path / f"{how}.npy")
            arguments = [sys.executable, "-c", RUN, str(tmp_path / folder), how, result]
            return subprocess.run(arguments, capture_output=True, text=True, check=False), result

        killed, _ = run("cut", "killed")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        resumed, after_resuming = run("cut", "resumed")
        assert resumed.returncode == 0, resumed.stderr
        uninterrupted, in_peace = run("whole", "in-peace")
        assert resumed.stdout == uninterrupted.stdout == "6 10\n"
        assert_array_equal(np.load(after_resuming), np.load(in_peace))

    def test_a_finished_run_is_not_run_again(self, quick, blobs, tmp_path):
        checkpoint = Checkpoint(monitor=None, dirname=str(tmp_path))
        net = TripletNet(callbacks=[checkpoint, LoadInitState(checkpoint)])
        first, second = (quick(net=net).fit(*blobs) for _ in range(2))
        assert second.n_iter_ == first.n_iter_ == 2
        assert torch.equal(weights(first), weights(second))


class TestWhereItRuns:
    def test_bfloat16(self, quick, digits):
        X, y = digits
        half = quick(precision="bfloat16").fit(X, y)
        full = quick().fit(X, y)
        assert half.transform(X).dtype == np.float32
        assert half.score(X, y) == pytest.approx(full.score(X, y), abs=0.05)
        assert not torch.equal(weights(half), weights(full))
        assert {value.dtype for value in half.net_.module_.parameters()} == {torch.float32}

    def test_the_criterion_sees_full_precision(self, quick, blobs):
        dtypes = set()

        def miner(distances, labels, *, margin, generator):
            dtypes.add(distances.dtype)
            assert not torch.is_autocast_enabled("cpu")
            return labels[:0], labels[:0], labels[:0]

        quick(precision="bfloat16", mining=miner).fit(*blobs)
        assert dtypes == {torch.float32}

    @pytest.mark.parametrize("precision", ["float16", None, torch.bfloat16])
    def test_other_precisions(self, blobs, precision):
        with pytest.raises(InvalidParameterError, match=r"'precision'.*'float32' or 'bfloat16'"):
            TripletEmbedder(precision=precision).fit(*blobs)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
    def test_compiled(self, quick, blobs):
        net = TripletNet(compile=True, compile__backend="eager")
        compiled = quick(net=net, warm_start=True).fit(*blobs).fit(*blobs)
        plain = quick(warm_start=True).fit(*blobs).fit(*blobs)
        assert_array_equal(compiled.transform(blobs[0]), plain.transform(blobs[0]))

    def test_workers_have_a_thread_each(self, quick, blobs):
        if os.cpu_count() > 2:
            pytest.skip("loky shares more threads among two workers")
        n_threads = joblib.Parallel(n_jobs=2)(
            joblib.delayed(threads_in_training)(clone(quick()), *blobs) for _ in range(2)
        )
        assert n_threads == [(1, 1), (1, 1)]

    def test_many_threads_transform_at_once(self, quick, digits):
        X, y = digits
        embedder = quick().fit(X, y)
        expected, results = embedder.transform(X), {}

        def work(number):
            results[number] = embedder.transform(X)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results.values():
            assert_array_equal(result, expected)


def threads_in_training(embedder, X, y):
    seen = []

    class Watch(Callback):
        def on_batch_end(self, net, **kwargs):
            seen.append(torch.get_num_threads())

    embedder.set_params(net=TripletNet(callbacks=[Watch()])).fit(X, y)
    return max(seen), torch.get_num_threads()


class TestMemory:
    def test_a_memory_map_is_not_read_whole(self, tmp_path):
        """Training and transforming a file with no memory to hold it."""
        rows = np.lib.format.open_memmap(
            tmp_path / "rows.npy", mode="w+", dtype=np.float32, shape=(20_000, 5_000)
        )
        rows[::10] = np.random.default_rng(0).normal(size=5_000)
        del rows
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
        if not sys.platform.startswith("linux"):
            pytest.skip("limits memory as Linux does")
        arguments = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "rows.npy")]
        run = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert run.stdout == "done\n", run.stderr
