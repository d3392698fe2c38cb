import pickle
from math import cos, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from sktriplet.exceptions import MemorizationWarning
from sktriplet.networks import MLP
from sktriplet.training import TripletNet
from sktriplet.training._data import ArrayDataset
from sktriplet.training._early_stopping import (
    MAX_QUERIES,
    MAX_REFERENCES,
    hold_out,
    precision_among_nearest,
    stopped_early,
)
from sktriplet.training._sklearn_callbacks import HAS_SKLEARN_CALLBACKS

if HAS_SKLEARN_CALLBACKS:
    from sklearn.callback import ProgressBar, ScoringMonitor

bridged = pytest.mark.skipif(
    not HAS_SKLEARN_CALLBACKS, reason="scikit-learn has callbacks from 1.9 on"
)


class TestCosineAnnealing:
    @pytest.fixture
    def rates(self, blobs):
        """Train, and return the learning rates of both groups at each step."""

        class Watch(Callback):
            def on_batch_end(self, net, **kwargs):
                seen.append([group["lr"] for group in net.optimizer_.param_groups])

        seen = []
        net = TripletNet(
            MLP((5,), 3, (4,)),
            max_epochs=3,
            min_batches=4,
            lr=0.1,
            optimizer__param_groups=[("head*", {"lr": 0.01})],
            callbacks=[Watch()],
            verbose=0,
        )
        net.fit(blobs[0].astype(np.float32), blobs[1])
        return net, np.array(seen)

    def test_half_a_cosine_step_by_step(self, rates):
        _, seen = rates
        expected = [(1 + cos(pi * step / 12)) / 2 for step in range(12)]
        assert_allclose(seen / [0.01, 0.1], np.c_[expected, expected])

    def test_the_rate_is_put_back(self, rates):
        net, _ = rates
        assert [group["lr"] for group in net.optimizer_.param_groups] == [0.01, 0.1]

    def test_history_has_the_first_of_each_epoch(self, rates):
        net, seen = rates
        assert net.history[:, "lr"] == seen[::4, 0].tolist()

    def test_training_again_runs_through_it_again(self, rates, blobs):
        net, _ = rates
        net.set_params(lr=0.2).partial_fit(blobs[0].astype(np.float32), blobs[1])
        assert net.history[3, "lr"] == 0.2
        assert net.history[:, "epoch"] == [1, 2, 3, 4, 5, 6]


class TestHoldOut:
    @given(
        sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
        fraction=st.floats(0.05, 0.9),
        seed=st.integers(0, 100),
    )
    def test_every_class_gives_its_part(self, sizes, fraction, seed):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        rng = np.random.default_rng(seed)
        rng.shuffle(labels)
        try:
            training, held_out = hold_out(labels, fraction, rng)
        except ValueError:
            assert fraction * sum(n for n in sizes if n - np.ceil(n * fraction) >= 2) < 1.0001
            return
        assert_array_equal(np.sort(np.r_[training, held_out]), np.arange(len(labels)))
        for label, size in enumerate(sizes):
            given_away = np.sum(labels[held_out] == label)
            if size - np.ceil(size * fraction) >= 2:
                assert np.floor(size * fraction) <= given_away <= np.ceil(size * fraction)
            else:
                assert given_away == 0

    def test_another_seed_holds_out_others(self):
        labels = np.arange(100) % 4
        first, second = (hold_out(labels, 0.1, np.random.default_rng(i))[1] for i in range(2))
        assert set(first) != set(second)


class TestPrecisionAmongNearest:
    @pytest.mark.parametrize("n_classes", [2, 5, 12])
    def test_against_the_definition(self, rng, n_classes):
        references, queries = rng.normal(size=(30, 2)), rng.normal(size=(20, 2))
        labels = rng.permutation(np.arange(30) % n_classes)
        query_labels = rng.integers(0, n_classes, 20)
        scores = []
        for query, label in zip(queries, query_labels, strict=True):
            by_distance = sorted(range(30), key=lambda i: np.linalg.norm(references[i] - query))
            k = min(5, np.sum(labels == label))
            scores.append(sum(labels[i] == label for i in by_distance[:k]) / k)
        ours = precision_among_nearest(queries, query_labels, references, labels)
        assert ours == pytest.approx(np.mean(scores))

    def test_a_class_of_which_no_reference_was_drawn(self):
        """A sample of very many rows may leave a small class out: it says nothing then."""
        references, labels = np.array([[0.0], [1.0]]), np.array([0, 0])
        queries, query_labels = np.array([[0.1], [0.2]]), np.array([0, 7])
        assert precision_among_nearest(queries, query_labels, references, labels) == 1

    @pytest.mark.parametrize("n_rows", [30, 6])
    def test_no_reference_is_its_own_neighbour(self, rng, n_rows):
        references = rng.normal(size=(n_rows, 2))
        labels = rng.permutation(np.arange(n_rows) % 3)
        scores = []
        for query in range(4):
            others = [i for i in range(n_rows) if i != query]
            by_distance = sorted(
                others, key=lambda i: np.linalg.norm(references[i] - references[query])
            )
            k = min(5, np.sum(labels[others] == labels[query]))
            scores.append(sum(labels[i] == labels[query] for i in by_distance[:k]) / k)
        ours = precision_among_nearest(
            references[:4], labels[:4], references, labels, are_first=True
        )
        assert ours == pytest.approx(np.mean(scores))

    def test_among_equal_rows(self):
        points, labels = np.zeros((50, 2)), np.arange(50) % 2
        ours = precision_among_nearest(points, labels, points, labels, are_first=True)
        assert 0 < ours < 1


class TestMemorization:
    """Labels drawn at random can be learned by heart only."""

    @pytest.fixture
    def noise(self):
        rng = np.random.default_rng(0)
        return rng.normal(size=(200, 10)), rng.integers(2, size=200)

    def test_is_warned_about(self, quick, noise):
        embedder = quick(hidden_layer_sizes=(128,), max_epochs=10, early_stopping=True)
        embedder.set_params(n_iter_no_change=10)
        with pytest.warns(MemorizationWarning, match=r"memorized.* 100\.0%.*at best [4-7]"):
            embedder.fit(*noise)
        assert embedder.history_[-1]["training_score"] == 1
        assert embedder.history_[0]["training_score"] < 0.99

    def test_not_where_held_out_rows_are_told_apart_as_well(self, quick, blobs):
        embedder = quick(early_stopping=True).fit(*blobs)
        assert embedder.history_[-1]["training_score"] == 1

    def test_not_where_training_rows_are_not(self, quick, noise):
        embedder = quick(hidden_layer_sizes=(), early_stopping=True).fit(*noise)
        assert embedder.history_[-1]["training_score"] < 0.9

    def test_what_an_earlier_training_memorized_is_past(self, quick, noise, blobs):
        settings = {"max_epochs": 10, "early_stopping": True, "n_iter_no_change": 10}
        embedder = quick(hidden_layer_sizes=(128,), warm_start=True, **settings)
        X = np.random.default_rng(1).normal(size=(60, 10))
        with pytest.warns(MemorizationWarning):
            embedder.fit(*noise)
        X[:, 0] += 20 * blobs[1]
        embedder.fit(X, blobs[1] % 2)


class TestStoppedEarly:
    def watched(self, n_rows, n_classes):
        X = np.arange(n_rows, dtype=np.float32)[:, None]
        dataset = ArrayDataset(X, np.arange(n_rows) % n_classes)
        net = TripletNet(MLP((1,), 1), random_state=0, verbose=0).initialize()
        own = list(net.callbacks_)
        with stopped_early(net, dataset, fraction=0.1, patience=1, tol=0) as training:
            score = net.callbacks_[0][1]
        assert net.callbacks_ == own
        return training, score.queries, score.references

    def test_small_data_are_looked_at_whole(self):
        training, queries, references = self.watched(500, 5)
        assert len(queries) == 50
        assert set(references.indices) == set(training.indices)
        assert not set(queries.indices) & set(references.indices)

    def test_large_data_in_part(self):
        training, queries, references = self.watched(30_000, 5)
        assert (len(queries), len(references)) == (MAX_QUERIES, MAX_REFERENCES)
        assert set(references.indices) <= set(training.indices)
        assert len(training) == 27_000

    def test_of_many_classes_those_that_are_asked_for(self):
        training, queries, references = self.watched(200_000, 10_000)
        asked_for = np.isin(training.indices % 10_000, queries.indices % 10_000)
        assert set(training.indices[asked_for][:MAX_REFERENCES]) <= set(training.indices)
        n_asked_for = min(asked_for.sum(), MAX_REFERENCES)
        found = np.isin(references.indices % 10_000, queries.indices % 10_000)
        assert found.sum() == n_asked_for

    @pytest.mark.parametrize("tol", [0.0, 0.05, 0.5])
    def test_the_best_weights_are_kept_however_small_their_gain(self, quick, digits, tol):
        X, y = digits[0][:500].reshape(500, -1), digits[1][:500]
        settings = {"lr": 3e-4, "max_epochs": 6, "early_stopping": True}
        embedder = quick(**settings, n_iter_no_change=6, tol=tol).fit(X, y)
        n_best = 1 + int(np.argmax(embedder.validation_scores_))
        assert n_best > 1
        best = self.weights_after(quick(**settings, n_iter_no_change=6, tol=tol), X, y, n_best)
        for ours, theirs in zip(best, embedder.net_.module_.state_dict().values(), strict=True):
            assert_array_equal(ours, theirs)

    def weights_after(self, embedder, X, y, n_epochs):
        """Return the weights that the embedder has after so many of its epochs."""

        class Note(Callback):
            def on_epoch_end(self, net, **kwargs):
                if len(net.history) == n_epochs:
                    noted.extend(w.clone() for w in net.module_.state_dict().values())

        noted = []
        embedder.set_params(net=TripletNet(callbacks=[("note", Note())])).fit(X, y)
        return noted


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


@bridged
def test_callbacks_see_fit_and_each_epoch(quick, blobs):
    recorder = Recorder()
    quick(max_epochs=2).set_callbacks(recorder).fit(*blobs)
    epoch = ["begin epoch", "end epoch"]
    assert recorder.calls == ["setup", "begin fit", *epoch, *epoch, "end fit", "teardown"]
    assert recorder.shape == (60, 32)


@bridged
def test_a_callback_can_stop_the_training(quick, blobs):
    recorder = Recorder(stop_after=3)
    embedder = quick(max_epochs=8).set_callbacks(recorder).fit(*blobs)
    assert len(embedder.net_.history) == 3
    assert embedder.transform(blobs[0]).shape == (60, 32)


@bridged
def test_the_epoch_that_stopped_is_complete(quick, blobs, capsys):
    """What asks to stop is heard last."""
    embedder = quick(max_epochs=8, verbose=1, early_stopping=True)
    embedder.set_callbacks(Recorder(stop_after=2)).fit(*blobs)
    assert len(embedder.validation_scores_) == len(embedder.history_) == 2
    assert len(capsys.readouterr().out.strip().split("\n")) == 4


@bridged
def test_watching_changes_nothing(quick, blobs):
    X, y = blobs
    watched = quick().set_callbacks(Recorder()).fit(X, y)
    assert (watched.transform(X) == quick().fit(X, y).transform(X)).all()


@bridged
def test_the_bridge_leaves_no_trace(quick, blobs):
    embedder = quick().set_callbacks(Recorder()).fit(*blobs)
    assert "EpochReporter" not in dict(embedder.net_.callbacks_)
    pickle.loads(pickle.dumps(embedder.net_))
    clone(embedder).fit(*blobs)


@bridged
def test_teardown_after_a_failure(quick, blobs):
    def rubbish(*args, **kwargs):
        raise RuntimeError("rubbish")

    recorder = Recorder()
    with pytest.raises(RuntimeError, match="rubbish"):
        quick(mining=rubbish).set_callbacks(recorder).fit(*blobs)
    assert recorder.calls[-1] == "teardown"


@bridged
def test_progress_bar_alone(quick, blobs, capsys):
    quick(max_epochs=2).set_callbacks(ProgressBar()).fit(*blobs)
    assert "TripletEmbedder - fit" in capsys.readouterr().out


@bridged
def test_progress_bar_in_a_pipeline(quick, blobs, capsys):
    pipeline = make_pipeline(quick(), KNeighborsClassifier()).set_callbacks(ProgressBar())
    with pytest.warns(UserWarning, match="KNeighborsClassifier does not support callbacks"):
        pipeline.fit(*blobs)
    assert "TripletEmbedder - fit" in capsys.readouterr().out


@bridged
def test_progress_bar_in_a_grid_search(quick, blobs, capsys):
    search = GridSearchCV(quick(), {"margin": [0.1, 0.2]}, cv=2)
    search.set_callbacks(ProgressBar()).fit(*blobs)
    assert capsys.readouterr().out.count("TripletEmbedder - fit") >= 5


@bridged
@pytest.mark.filterwarnings("ignore:The estimator KNeighborsClassifier does not support")
def test_progress_bar_in_a_grid_search_over_a_pipeline(quick, blobs, capsys):
    pipeline = make_pipeline(quick(), KNeighborsClassifier())
    search = GridSearchCV(pipeline, {"tripletembedder__margin": [0.1, 0.2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=2)).fit(*blobs)
    assert capsys.readouterr().out.count("TripletEmbedder - fit") >= 5


@bridged
def test_scoring_monitor(quick, blobs):
    def map_at_r(estimator, X, y):
        return estimator.score(X, y)

    monitor = ScoringMonitor(scoring={"map_at_r": map_at_r})
    embedder = quick(max_epochs=3).set_callbacks(monitor).fit(*blobs)
    rows = monitor.get_logs().data
    scores = [row["map_at_r"] for row in rows if row["task_name"] == "epoch"]
    assert len(scores) == 3
    assert scores[-1] == pytest.approx(embedder.score(*blobs))
