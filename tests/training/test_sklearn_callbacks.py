import pickle

import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sktriplet.training._sklearn_callbacks import HAS_SKLEARN_CALLBACKS

if not HAS_SKLEARN_CALLBACKS:
    pytest.skip("scikit-learn has no callbacks before 1.9", allow_module_level=True)

from sklearn.callback import ProgressBar, ScoringMonitor


class Recorder:
    """Record every call, and request to stop after a number of epochs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.calls.append(f"end {context.task_name}")
        self.shape = fitted_estimator.transform(X).shape
        return self.calls.count("end epoch") == self.stop_after

    def teardown(self, estimator, context):
        self.calls.append("teardown")


def test_callback_order(make_embedder, blobs):
    recorder = Recorder()
    make_embedder(max_epochs=2).set_callbacks(recorder).fit(*blobs)
    epoch = ["begin epoch", "end epoch"]
    assert recorder.calls == ["setup", "begin fit", *epoch, *epoch, "end fit", "teardown"]
    assert recorder.shape == (60, 32)


def test_callback_stops_training(make_embedder, blobs):
    recorder = Recorder(stop_after=3)
    embedder = make_embedder(max_epochs=8).set_callbacks(recorder).fit(*blobs)
    assert len(embedder.net_.history) == 3
    assert embedder.transform(blobs[0]).shape == (60, 32)


def test_callback_stops_after_complete_epoch(make_embedder, blobs, capsys):
    embedder = make_embedder(max_epochs=8, verbose=1, early_stopping=True)
    embedder.set_callbacks(Recorder(stop_after=2)).fit(*blobs)
    assert len(embedder.validation_scores_) == len(embedder.history_) == 2
    assert len(capsys.readouterr().out.strip().split("\n")) == 4


def test_callback_does_not_change_result(make_embedder, blobs):
    X, y = blobs
    observed = make_embedder().set_callbacks(Recorder()).fit(X, y)
    assert (observed.transform(X) == make_embedder().fit(X, y).transform(X)).all()


def test_callback_is_not_pickled_with_net(make_embedder, blobs):
    plain = make_embedder().fit(*blobs)
    embedder = make_embedder().set_callbacks(Recorder()).fit(*blobs)
    assert dict(embedder.net_.callbacks_).keys() == dict(plain.net_.callbacks_).keys()
    pickle.loads(pickle.dumps(embedder.net_))
    clone(embedder).fit(*blobs)


def test_callback_teardown_after_error(make_embedder, blobs, failing_miner):
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="miner failed"):
        make_embedder(mining=failing_miner).set_callbacks(recorder).fit(*blobs)
    assert recorder.calls[-1] == "teardown"


def test_progress_bar(make_embedder, blobs, capsys):
    make_embedder(max_epochs=2).set_callbacks(ProgressBar()).fit(*blobs)
    assert "TripletEmbedder - fit" in capsys.readouterr().out


def test_progress_bar_in_pipeline(make_embedder, blobs, capsys):
    pipeline = make_pipeline(make_embedder(), KNeighborsClassifier()).set_callbacks(ProgressBar())
    with pytest.warns(UserWarning, match="KNeighborsClassifier does not support callbacks"):
        pipeline.fit(*blobs)
    assert "TripletEmbedder - fit" in capsys.readouterr().out


def test_progress_bar_in_grid_search(make_embedder, blobs, capsys):
    search = GridSearchCV(make_embedder(), {"margin": [0.1, 0.2]}, cv=2)
    search.set_callbacks(ProgressBar()).fit(*blobs)
    assert capsys.readouterr().out.count("TripletEmbedder - fit") >= 5


@pytest.mark.filterwarnings("ignore:The estimator KNeighborsClassifier does not support")
def test_progress_bar_in_grid_search_of_pipeline(make_embedder, blobs, capsys):
    pipeline = make_pipeline(make_embedder(), KNeighborsClassifier())
    search = GridSearchCV(pipeline, {"tripletembedder__margin": [0.1, 0.2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=2)).fit(*blobs)
    assert capsys.readouterr().out.count("TripletEmbedder - fit") >= 5


def test_scoring_monitor(make_embedder, blobs):
    def map_at_r(estimator, X, y):
        return estimator.score(X, y)

    monitor = ScoringMonitor(scoring={"map_at_r": map_at_r})
    embedder = make_embedder(max_epochs=3, whiten=False).set_callbacks(monitor).fit(*blobs)
    rows = monitor.get_logs().data
    scores = [row["map_at_r"] for row in rows if row["task_name"] == "epoch"]
    assert len(scores) == 3
    assert scores[-1] == pytest.approx(embedder.score(*blobs))
