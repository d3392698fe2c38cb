import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import cross_val_score

from sktriplet.training import ResumableCheckpoint, TripletNet

RUNS = """
import os, random, signal, sys, time
import numpy as np
import torch
from sklearn.datasets import load_iris
from sktriplet import TripletEmbedder
from sktriplet.training import ResumableCheckpoint
from sktriplet.training import TripletNet

X, y = load_iris(return_X_y=True)

def start(path):
    child = os.fork()
    if child == 0:
        net = TripletNet(callbacks=[ResumableCheckpoint(path + ".pt")])
        embedder = TripletEmbedder(max_epochs=6, hidden_layer_sizes=(16,), mining="random",
                                   net=net, random_state=0).fit(X, y)
        np.save(path + ".npy", embedder.transform(X))
        os._exit(embedder.n_iter_ != 6)
    return child

folder, n_kills = sys.argv[1], int(sys.argv[2])
begin = time.perf_counter()
assert os.waitpid(start(folder + "/whole"), 0)[1] == 0
duration = time.perf_counter() - begin
expected = np.load(folder + "/whole.npy")
moments, n_epochs = random.Random(0), []
for number in range(n_kills):
    path = f"{folder}/{number}"
    child = start(path)
    time.sleep(moments.uniform(0, duration))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if os.path.exists(path + ".pt"):
        history = torch.load(path + ".pt", weights_only=True)["history"]
        n_epochs.append(history.count('"train_loss_best"'))
    assert os.waitpid(start(path), 0)[1] == 0
    assert np.array_equal(np.load(path + ".npy"), expected), number
print(sorted(n_epochs))
"""


@pytest.mark.parametrize("n_kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_runs_killed_at_random_moments(n_kills, tmp_path):
    if not hasattr(os, "fork"):
        pytest.skip("forks")
    arguments = [sys.executable, "-c", RUNS, str(tmp_path), str(n_kills)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.glob("*.new"))


def test_the_file_tells_no_more_than_it_must(quick, blobs, tmp_path):
    path = tmp_path / "run.pt"
    quick(net=TripletNet(callbacks=[ResumableCheckpoint(path)])).fit(*blobs)
    saved = torch.load(path, weights_only=True)
    assert saved.keys() == {"module", "optimizer", "history", "training"}
    assert len(json.loads(saved["history"])) == 2


def test_a_finished_run_is_not_run_again(quick, blobs, tmp_path):
    net = TripletNet(callbacks=[ResumableCheckpoint(tmp_path / "run.pt")])
    first, second = (quick(net=net).fit(*blobs) for _ in range(2))
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
def test_another_training_does_not_go_on_from_it(quick, blobs, tmp_path, name, changed):
    net = TripletNet(callbacks=[ResumableCheckpoint(tmp_path / "run.pt")])
    quick(net=net).fit(*blobs)
    with pytest.raises(ValueError, match=f"is of another training, with other {name}. Delete"):
        quick(net=net, **changed).fit(*blobs)


def test_nor_does_one_of_other_data(quick, blobs, tmp_path):
    X, y = blobs
    net = TripletNet(callbacks=[ResumableCheckpoint(tmp_path / "run.pt")])
    quick(net=net).fit(X, y)
    for other in [(X + 1, y), (X, y[::-1]), (X[1:], y[1:])]:
        with pytest.raises(ValueError, match="with other data"):
            quick(net=net).fit(*other)


def test_folds_of_a_search_do_not_take_over_each_others_weights(quick, blobs, tmp_path):
    net = TripletNet(callbacks=[ResumableCheckpoint(tmp_path / "run.pt")])
    with pytest.warns(FitFailedWarning, match="is of another training, with other data"):
        scores = cross_val_score(quick(net=net), *blobs, cv=3)
    assert np.isnan(scores).tolist() == [False, True, True]


def test_a_chance_seed_a_longer_training_and_held_out_rows_may_go_on(quick, blobs, tmp_path):
    net = TripletNet(callbacks=[ResumableCheckpoint(tmp_path / "run.pt")])
    settings = {"net": net, "random_state": None, "early_stopping": True}
    for max_epochs in (2, 3):
        embedder = quick(**settings, max_epochs=max_epochs).fit(*blobs)
        assert embedder.n_iter_ == max_epochs


def test_a_loss_of_ones_own_is_known_again_in_another_process(quick, blobs, tmp_path):
    net = TripletNet(callbacks=[ResumableCheckpoint(tmp_path / "run.pt")])
    for _ in range(2):

        def loss(d_ap, d_an, margin):  # at another place in memory each time
            return (d_ap - d_an + margin).relu()

        quick(net=net, loss=loss).fit(*blobs)
