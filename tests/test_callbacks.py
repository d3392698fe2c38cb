import pickle

import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sktriplet import callbacks

if not callbacks.HAS_SKLEARN_CALLBACKS:
    pytest.skip("scikit-learn has callbacks from 1.9 on", allow_module_level=True)

from sklearn.callback import ProgressBar, ScoringMonitor


class Recorder:
    """Note every call, and ask to stop after a number of epochs."""

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


def test_callbacks_see_fit_and_each_epoch(quick, blobs):
    recorder = Recorder()
    quick(max_epochs=2).set_callbacks(recorder).fit(*blobs)
    epoch = ["begin epoch", "end epoch"]
    assert recorder.calls == ["setup", "begin fit", *epoch, *epoch, "end fit", "teardown"]
    assert recorder.shape == (60, 32)


def test_a_callback_can_stop_the_training(quick, blobs):
    recorder = Recorder(stop_after=3)
    embedder = quick(max_epochs=8).set_callbacks(recorder).fit(*blobs)
    assert len(embedder.net_.history) == 3
    assert embedder.transform(blobs[0]).shape == (60, 32)


def test_watching_changes_nothing(quick, blobs):
    X, y = blobs
    watched = quick().set_callbacks(Recorder()).fit(X, y)
    assert (watched.transform(X) == quick().fit(X, y).transform(X)).all()


def test_the_bridge_leaves_no_trace(quick, blobs):
    embedder = quick().set_callbacks(Recorder()).fit(*blobs)
    assert "sklearn_callbacks" not in dict(embedder.net_.callbacks_)
    pickle.loads(pickle.dumps(embedder.net_))
    clone(embedder).fit(*blobs)


def test_teardown_after_a_failure(quick, blobs):
    def rubbish(*args, **kwargs):
        raise RuntimeError("rubbish")

    recorder = Recorder()
    with pytest.raises(RuntimeError, match="rubbish"):
        quick(mining=rubbish).set_callbacks(recorder).fit(*blobs)
    assert recorder.calls[-1] == "teardown"


def test_progress_bar_alone(quick, blobs, capsys):
    quick(max_epochs=2).set_callbacks(ProgressBar()).fit(*blobs)
    assert "TripletEmbedder - fit" in capsys.readouterr().out


def test_progress_bar_in_a_pipeline(quick, blobs, capsys):
    pipeline = make_pipeline(quick(), KNeighborsClassifier()).set_callbacks(ProgressBar())
    with pytest.warns(UserWarning, match="KNeighborsClassifier does not support callbacks"):
        pipeline.fit(*blobs)
    assert "TripletEmbedder - fit" in capsys.readouterr().out


def test_progress_bar_in_a_grid_search(quick, blobs, capsys):
    search = GridSearchCV(quick(), {"margin": [0.1, 0.2]}, cv=2)
    search.set_callbacks(ProgressBar()).fit(*blobs)
    assert capsys.readouterr().out.count("TripletEmbedder - fit") >= 5


@pytest.mark.filterwarnings("ignore:The estimator KNeighborsClassifier does not support")
def test_progress_bar_in_a_grid_search_over_a_pipeline(quick, blobs, capsys):
    pipeline = make_pipeline(quick(), KNeighborsClassifier())
    search = GridSearchCV(pipeline, {"tripletembedder__margin": [0.1, 0.2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=2)).fit(*blobs)
    assert capsys.readouterr().out.count("TripletEmbedder - fit") >= 5


def test_scoring_monitor(quick, blobs):
    def map_at_r(estimator, X, y):
        return estimator.score(X, y)

    monitor = ScoringMonitor(scoring={"map_at_r": map_at_r})
    embedder = quick(max_epochs=3).set_callbacks(monitor).fit(*blobs)
    rows = monitor.get_logs().data
    scores = [row["map_at_r"] for row in rows if row["task_name"] == "epoch"]
    assert len(scores) == 3
    assert scores[-1] == pytest.approx(embedder.score(*blobs))
