import json
import os
import subprocess
import sys

import kill
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import cross_val_score

from sktriplet.training import ResumableCheckpoint, TripletNet


@pytest.fixture
def checkpoint(tmp_path):
    return ResumableCheckpoint(tmp_path / "run.pt")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("kind", "n_kills"), [("table", 20), ("images", 6), ("lazy", 6)])
def test_killed(kind, n_kills):
    """At random times, and while the checkpoint is written."""
    arguments = [sys.executable, kill.__file__, "--kills", str(n_kills), "--data", kind]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert f"{n_kills} of {n_kills}" in run.stdout


def test_interrupted(make_embedder, blobs, tmp_path, spy):
    """The same within a process: training fails in the third epoch."""

    def fail(net, **kwargs):
        if len(net.history) == 3:
            raise RuntimeError("interrupted")

    def embedder(path, **hooks):
        callbacks = [ResumableCheckpoint(tmp_path / path), spy(**hooks)]
        return make_embedder(max_epochs=4, mining="random", net=TripletNet(callbacks=callbacks))

    with pytest.raises(RuntimeError, match="interrupted"):
        embedder("run.pt", on_batch_end=fail).fit(*blobs)
    batches = []
    resumed = embedder("run.pt", on_batch_end=lambda *args, **kwargs: batches.append(1))
    resumed.fit(*blobs)
    uninterrupted = embedder("other.pt").fit(*blobs)
    assert len(batches) == 20, "two epochs"
    assert resumed.n_iter_ == 4
    assert_array_equal(resumed.transform(blobs[0]), uninterrupted.transform(blobs[0]))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("first_epoch", [1, 3])
def test_full_disk(make_embedder, blobs, tmp_path, spy, first_epoch):
    """The error names the file, and training resumes from the last complete epoch."""
    path, new = tmp_path / "run.pt", tmp_path / "run.pt.new"

    def fill_disk(net, **kwargs):
        if len(net.history) == first_epoch:
            new.symlink_to("/dev/full")

    def embedder(path, **hooks):
        callbacks = [spy(**hooks), ResumableCheckpoint(path)]
        return make_embedder(max_epochs=4, mining="random", net=TripletNet(callbacks=callbacks))

    with pytest.raises(OSError, match=r"No space left on device: .*run\.pt\.new") as error:
        embedder(path, on_epoch_end=fill_disk).fit(*blobs)
    assert not new.is_symlink()
    assert path.exists() == (first_epoch > 1)
    notes = [f"Training can resume from {path}."] if first_epoch > 1 else []
    assert getattr(error.value, "__notes__", []) == notes
    resumed = embedder(path).fit(*blobs)
    callback = dict(resumed.net_.callbacks_)["ResumableCheckpoint"]
    assert callback.n_epochs_loaded_ == first_epoch - 1
    uninterrupted = embedder(tmp_path / "other.pt").fit(*blobs)
    assert_array_equal(resumed.transform(blobs[0]), uninterrupted.transform(blobs[0]))


def test_file_has_tensors_and_text_only(make_embedder, blobs, checkpoint):
    make_embedder(net=TripletNet(callbacks=[checkpoint])).fit(*blobs)
    saved = torch.load(checkpoint.path, weights_only=True)
    assert len(json.loads(saved["history"])) == 2


def test_finished_training_is_not_repeated(make_embedder, blobs, checkpoint):
    net = TripletNet(callbacks=[checkpoint])
    first, second = (make_embedder(net=net).fit(*blobs) for _ in range(2))
    assert second.n_iter_ == first.n_iter_ == 2
    assert_array_equal(second.transform(blobs[0]), first.transform(blobs[0]))


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("loss", {"margin": 0.3}),
        ("optimizer", {"lr": 0.1}),
        ("batches", {"batch_size": 20}),
    ],
)
def test_other_parameters(make_embedder, blobs, checkpoint, name, changed):
    net = TripletNet(callbacks=[checkpoint])
    make_embedder(net=net).fit(*blobs)
    with pytest.raises(ValueError, match=rf"run\.pt .*{name}"):
        make_embedder(net=net, **changed).fit(*blobs)


def test_other_data(make_embedder, blobs, checkpoint):
    X, y = blobs
    net = TripletNet(callbacks=[checkpoint])
    make_embedder(net=net).fit(X, y)
    for other in [(X + 1, y), (X, y[::-1]), (X[1:], y[1:])]:
        with pytest.raises(ValueError, match=r"run\.pt .*data"):
            make_embedder(net=net).fit(*other)


def test_cross_validation_needs_several_files(make_embedder, blobs, checkpoint):
    net = TripletNet(callbacks=[checkpoint])
    with pytest.warns(FitFailedWarning, match=r"run\.pt .*data"):
        scores = cross_val_score(make_embedder(net=net), *blobs, cv=3)
    assert np.isnan(scores).tolist() == [False, True, True]


def test_number_of_epochs_may_change(make_embedder, blobs, checkpoint):
    for max_epochs in (2, 3):
        net = TripletNet(callbacks=[checkpoint])
        embedder = make_embedder(net=net, max_epochs=max_epochs, early_stopping=True).fit(*blobs)
        assert embedder.n_iter_ == max_epochs


@pytest.mark.parametrize("random_state", [1, None])
def test_other_seed(make_embedder, blobs, checkpoint, random_state):
    net = TripletNet(callbacks=[checkpoint])
    make_embedder(net=net).fit(*blobs)
    with pytest.raises(ValueError, match=r"run\.pt .*random_state.* the same int"):
        make_embedder(net=net, random_state=random_state).fit(*blobs)


@pytest.mark.parametrize("verbose", [0, 1])
def test_reports_when_it_resumes(make_embedder, blobs, checkpoint, capsys, verbose):
    net = TripletNet(callbacks=[checkpoint])
    for max_epochs, n_loaded in [(2, 0), (3, 2), (3, 3)]:
        embedder = make_embedder(net=net, max_epochs=max_epochs, verbose=verbose).fit(*blobs)
        callback = dict(embedder.net_.callbacks_)["ResumableCheckpoint"]
        assert callback.n_epochs_loaded_ == n_loaded
        message = f"Training resumes from {checkpoint.path} after {n_loaded} of 3 epochs."
        assert (message in capsys.readouterr().out) == (verbose and n_loaded > 0)


def test_address_of_callable_is_ignored(make_embedder, blobs, checkpoint):
    """It differs between processes."""
    net = TripletNet(callbacks=[checkpoint])
    for _ in range(2):

        def loss(d_ap, d_an, margin):
            return (d_ap - d_an + margin).relu()

        make_embedder(net=net, loss=loss).fit(*blobs)


def test_criterion_weights_are_saved(make_net, samples, tmp_path):
    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.proxies = torch.nn.Parameter(torch.randn(3, 3))

        def forward(self, embeddings, labels):
            return torch.nn.functional.cross_entropy(embeddings @ self.proxies.T, labels)

    def make():
        callback = ResumableCheckpoint(tmp_path / "run.pt")
        return make_net(criterion=Loss, callbacks=[callback], max_epochs=2)

    trained = make().fit(*samples)
    resumed = make().fit(*samples)
    assert torch.equal(resumed.criterion_.proxies, trained.criterion_.proxies)


class TestCrossFitting:
    @pytest.fixture
    def samples(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(200, 5))
        return X, (X[:, 0] + rng.normal(size=200) > 0).astype(int)

    @pytest.fixture
    def make(self, make_embedder, tmp_path, spy):
        def make(path, last_epoch=None, **parameters):
            def fail(net, **kwargs):
                if len(net.history) == last_epoch:
                    raise RuntimeError("interrupted")

            callbacks = [ResumableCheckpoint(tmp_path / path), spy(on_epoch_end=fail)]
            settings = {"n_members": 4, "max_epochs": 9, "n_iter_no_change": 3, "random_state": 0}
            return make_embedder(**settings | parameters, net=TripletNet(callbacks=callbacks))

        return make

    @pytest.mark.parametrize("last_epoch", range(1, 7))
    def test_resumed_after_any_epoch(self, make, samples, last_epoch):
        """Also after the best one, whose weights are in the file."""
        uninterrupted = make("other.pt").fit(*samples)
        if last_epoch >= uninterrupted.n_iter_:
            pytest.skip("training stops before")
        with pytest.raises(RuntimeError, match="interrupted"):
            make("run.pt", last_epoch).fit(*samples)
        resumed = make("run.pt").fit(*samples)
        assert resumed.validation_scores_ == uninterrupted.validation_scores_
        expected = uninterrupted.transform(samples[0])
        assert_array_equal(resumed.transform(samples[0]), expected)
        finished = make("run.pt").fit(*samples)
        assert_array_equal(finished.transform(samples[0]), expected)

    def test_other_cross_fitting(self, make, samples):
        make("run.pt").fit(*samples)
        with pytest.raises(ValueError, match="cross-fitting"):
            make("run.pt", cross_fit=False).fit(*samples)
