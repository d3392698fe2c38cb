import copy
import hashlib
import pickle
import subprocess
import sys
import textwrap
import warnings
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from joblib import Parallel, delayed
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_circles
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader

from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet.distances import sqeuclidean
from sktriplet.exceptions import (
    AmbiguousLabelWarning,
    InvalidParameterError,
    SkippedChunkWarning,
    UnknownCategoryWarning,
)
from sktriplet.losses import ContrastiveLoss, TripletLoss
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.mining import semi_hard
from sktriplet.networks import MLP
from sktriplet.training import TripletNet


def global_state():
    return (
        torch.get_rng_state().tolist(),
        str(np.random.get_state()),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        list(warnings.filters),
    )


class TestLearning:
    def test_separates_circles(self):
        """No linear map does this."""
        X, y = make_circles(200, noise=0.02, factor=0.8, random_state=0)
        embedder = TripletEmbedder(max_epochs=10, random_state=0).fit(X, y)
        assert mean_average_precision_at_r_score(X, y) < 0.4
        assert embedder.score(X, y) > 0.99

    def test_standardize_makes_units_irrelevant(self, make_embedder, wine):
        X, y = wine
        shifted = X * np.logspace(-4, 4, X.shape[1]) + 3
        ours, theirs = (
            make_embedder().fit(X, y).transform(X),
            make_embedder().fit(shifted, y).transform(shifted),
        )
        assert_allclose(ours, theirs, atol=0.05)

    def test_standardize_matches_standard_scaler(self, make_embedder, wine):
        X, y = wine
        outside = make_pipeline(StandardScaler(), make_embedder(standardize=False))
        assert_allclose(outside.fit_transform(X, y), make_embedder().fit_transform(X, y), atol=0.02)

    def test_constant_feature(self, make_embedder, blobs):
        X, y = blobs
        X = np.c_[X, np.full(len(X), 1e6)]
        assert np.isfinite(make_embedder().fit(X, y).transform(X)).all()

    def test_standardize_large_offset(self, make_embedder, blobs):
        """Features are centered before their conversion to single precision."""
        X, y = blobs
        offset = 1e9 * np.arange(5)
        expected = make_embedder().fit_transform(X, y)
        assert_allclose(make_embedder().fit_transform(X + offset, y), expected, atol=1e-2)

    @pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine", sqeuclidean])
    def test_metric(self, make_embedder, blobs, metric):
        assert make_embedder(metric=metric).fit(*blobs).score(*blobs) > 0.9

    @pytest.mark.parametrize("mining", ["semi_hard", "hard", "random", "all"])
    @pytest.mark.parametrize("loss", ["hinge", "soft_margin"])
    def test_mining_and_loss(self, make_embedder, blobs, mining, loss):
        embedder = make_embedder(mining=mining, loss=loss).fit(*blobs)
        assert embedder.score(*blobs) > 0.9
        assert embedder.net_.criterion_.mining == mining
        assert embedder.net_.criterion_.loss == loss

    @pytest.mark.parametrize("sizes", [16, [16], np.array([16])], ids=["int", "list", "array"])
    def test_hidden_layer_sizes(self, make_embedder, blobs, weights, sizes):
        embedder = make_embedder(hidden_layer_sizes=sizes).fit(*blobs)
        expected = make_embedder(hidden_layer_sizes=(16,)).fit(*blobs)
        assert torch.equal(weights(embedder), weights(expected))

    def test_contrastive_loss(self, make_embedder, blobs):
        template = TripletNet(criterion=ContrastiveLoss, criterion__neg_margin=0.7)
        embedder = make_embedder(metric="cosine", net=template).fit(*blobs)
        assert embedder.score(*blobs) > 0.9
        criterion = embedder.net_.criterion_
        assert (criterion.metric, criterion.neg_margin) == ("cosine", 0.7)

    def test_normalize(self, make_embedder, blobs):
        X, y = blobs
        assert_allclose(np.linalg.norm(make_embedder().fit_transform(X, y), axis=1), 1, rtol=1e-5)
        free = make_embedder(normalize=False, margin=5.0).fit_transform(X, y)
        assert np.linalg.norm(free, axis=1).std() > 0.01

    def test_normalize_one_component(self, make_embedder, blobs):
        """It would be reduced to its sign, and is not scaled."""
        embedded = make_embedder(n_components=1).fit_transform(*blobs)
        assert len(np.unique(np.abs(embedded))) > 2

    def test_custom_miner(self, make_embedder, blobs, weights):
        calls = []

        def miner(distances, labels, *, margin, generator):
            calls.append(margin)
            return semi_hard(distances, labels, margin=margin)

        ours = make_embedder(mining=miner, margin=0.3).fit(*blobs)
        assert set(calls) == {0.3}
        assert torch.equal(weights(ours), weights(make_embedder(margin=0.3).fit(*blobs)))

    def test_parameters_reach_net(self, make_embedder, blobs):
        net = (
            make_embedder(
                n_components=7, margin=0.3, metric="euclidean", batch_size=32, samples_per_class=4
            )
            .set_params(max_epochs=3, lr=0.02, weight_decay=0.5, device="cpu")
            .fit(*blobs)
            .net_
        )
        assert (net.criterion_.margin, net.criterion_.metric) == (0.3, "euclidean")
        assert (net.batch_size, net.samples_per_class, net.max_epochs) == (32, 4, 3)
        assert (net.lr, net.device) == (0.02, "cpu")
        assert net.optimizer_.param_groups[0]["weight_decay"] == 0.5
        assert len(net.history) == 3
        assert net.module_.backbone.head.out_features == 7


class TestSmallData:
    @pytest.mark.parametrize(
        "sizes", [[2, 1], [2, 2], [3, 1, 1, 1], [2] * 10, [30, 2], [1, 1, 1, 1, 40]], ids=str
    )
    def test_class_sizes(self, make_embedder, sizes):
        y = np.repeat(np.arange(len(sizes)), sizes)
        X = np.random.default_rng(0).normal(size=(len(y), 3)) + y[:, None]
        embedded = make_embedder().fit_transform(X, y)
        assert np.isfinite(embedded).all()
        assert embedded.shape == (len(y), 32)

    def test_minimum_number_of_batches(self, blobs):
        embedder = TripletEmbedder(max_epochs=1, random_state=0).fit(*blobs)
        assert embedder.net_.history[0]["train_batch_count"] >= 10

    def test_one_feature(self, make_embedder, blobs):
        X, y = blobs
        assert make_embedder().fit_transform(X[:, :1], y).shape == (60, 32)

    def test_transform_single_samples(self, make_embedder, blobs):
        X, y = blobs
        embedder = make_embedder().fit(X, y)
        one_by_one = np.vstack([embedder.transform(row[None]) for row in X])
        assert_allclose(one_by_one, embedder.transform(X), atol=1e-5)


class TestReproducibility:
    def test_same_random_state(self, make_embedder, blobs, weights):
        first = make_embedder(random_state=3).fit(*blobs)
        torch.rand(5)
        assert torch.equal(weights(first), weights(make_embedder(random_state=3).fit(*blobs)))
        assert torch.equal(weights(first), weights(clone(first).fit(*blobs)))
        assert torch.equal(weights(first), weights(first.fit(*blobs))), "fitted again"

    def test_number_of_threads(self, make_embedder, wine, weights):
        """joblib's workers have one, the main process has as many as there are cores."""
        X, y = wine
        alone = make_embedder().fit(X, y)
        torch.set_num_threads(2)
        try:
            together = make_embedder().fit(X, y)
            assert torch.get_num_threads() == 2
            embedded = together.transform(X)
        finally:
            torch.set_num_threads(1)
        assert torch.equal(weights(alone), weights(together))
        assert_array_equal(alone.transform(X), embedded)

    def test_concurrent_fits(self, make_embedder, wine, weights):
        """As with joblib's threading backend, where torch's generator is shared."""
        fits = [
            delayed(make_embedder(random_state=seed, max_epochs=4, mining=mining).fit)(*wine)
            for seed, mining in enumerate(["semi_hard", "hard", "all", "semi_hard"] * 2)
        ]
        alone = [function(*arguments) for function, arguments, _ in fits]
        expected = [weights(embedder) for embedder in alone]
        before = global_state()
        together = Parallel(n_jobs=8, backend="threading")(fits)
        assert all(map(torch.equal, map(weights, together), expected))
        assert global_state() == before

    @pytest.mark.slow
    def test_other_process(self, make_embedder, wine):
        code = """
            import hashlib
            from sklearn.datasets import load_wine
            from sktriplet import TripletEmbedder
            X, y = load_wine(return_X_y=True)
            embedder = TripletEmbedder(32, max_epochs=2, mining="random", random_state=0)
            print(hashlib.sha256(embedder.fit(X, y).transform(X)).hexdigest())
        """
        run = [sys.executable, "-c", textwrap.dedent(code)]
        printed = subprocess.run(run, capture_output=True, text=True, check=True).stdout
        embedder = TripletEmbedder(32, max_epochs=2, mining="random", random_state=0).fit(*wine)
        embedded = np.ascontiguousarray(embedder.transform(wine[0]))
        assert printed.strip() == hashlib.sha256(embedded).hexdigest()

    def test_other_random_state(self, make_embedder, blobs, weights):
        first, second, third = (
            make_embedder(random_state=seed).fit(*blobs) for seed in (0, 1, None)
        )
        assert not torch.equal(weights(first), weights(second))
        assert not torch.equal(weights(first), weights(third))

    def test_random_state_instance(self, make_embedder, blobs, weights):
        embedder = make_embedder(random_state=np.random.RandomState(0))
        first = weights(embedder.fit(*blobs))
        assert not torch.equal(first, weights(embedder.fit(*blobs)))

    @pytest.mark.parametrize("random_state", [0, None])
    def test_global_random_state(self, make_embedder, blobs, random_state):
        """With random_state=None a seed is drawn from NumPy's, as everywhere in scikit-learn."""
        torch_before, threads = torch.get_rng_state(), torch.get_num_threads()
        numpy_before = np.random.get_state()[1:3]
        make_embedder(random_state=random_state).fit(*blobs).transform(blobs[0])
        assert torch.equal(torch_before, torch.get_rng_state())
        assert torch.get_num_threads() == threads
        assert torch.get_default_dtype() == torch.float32
        if random_state is not None:
            assert_array_equal(numpy_before[0], np.random.get_state()[1])
            assert numpy_before[1] == np.random.get_state()[2]

    def test_module_factory(self, blobs, make_embedder, weights):
        def factory(input_shape, n_components):
            return torch.nn.Sequential(torch.nn.Linear(*input_shape, n_components))

        first, second = (make_embedder(module=factory).fit(*blobs) for _ in range(2))
        assert torch.equal(weights(first), weights(second))


class TestModule:
    def test_class(self, make_embedder, blobs):
        embedder = make_embedder(module=MLP, n_components=4).fit(*blobs)
        assert embedder.transform(blobs[0]).shape == (60, 4)

    def test_instance_is_copied_with_its_weights(self, make_embedder, blobs):
        module = MLP((5,), 4, (6,))
        before = copy.deepcopy(module.state_dict())
        embedder = make_embedder(module=module, n_components=4, lr=1e-12, weight_decay=0.0).fit(
            *blobs
        )
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name])
        for theirs, ours in zip(
            module.parameters(), embedder.net_.module_.backbone.parameters(), strict=True
        ):
            assert_allclose(ours.detach(), theirs.detach(), atol=1e-6)

    def test_n_components_none(self, make_embedder, blobs):
        embedder = make_embedder(module=MLP((5,), 9, (6,)), n_components=None).fit(*blobs)
        assert embedder.transform(blobs[0]).shape == (60, 9)
        assert len(embedder.get_feature_names_out()) == 9


class TestScikitLearn:
    @pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_grid_search(self, make_embedder, iris, n_jobs):
        search = GridSearchCV(
            make_pipeline(make_embedder(), KNeighborsClassifier()),
            {"tripletembedder__margin": [0.1, 1.0]},
            cv=2,
            n_jobs=n_jobs,
        ).fit(*iris)
        assert search.best_score_ > 0.8
        assert search.best_estimator_[0].net_.criterion_.margin in (0.1, 1.0)

    @pytest.mark.slow
    def test_grid_search_does_not_depend_on_n_jobs(self, make_embedder, wine):
        def scores(n_jobs):
            embedder = make_embedder(net=TripletNet(optimizer=torch.optim.SGD))
            cv = StratifiedKFold(3)
            grid = {"net__optimizer__momentum": [0.0, 0.9], "margin": [0.1, 0.4]}
            search = GridSearchCV(embedder, grid, cv=cv, n_jobs=n_jobs, refit=False)
            results = search.fit(*wine).cv_results_
            return np.array([results[f"split{fold}_test_score"] for fold in range(3)])

        alone = scores(1)
        assert len(np.unique(alone)) > 8
        assert_array_equal(alone, scores(2))

    def test_score_is_map_at_r(self, make_embedder, iris):
        X, y = iris
        embedder = make_embedder().fit(X, y)
        expected = mean_average_precision_at_r_score(embedder.transform(X), y)
        assert embedder.score(X, y) == expected

    def test_score_of_singletons(self, make_embedder, iris):
        X, y = iris
        embedder = make_embedder().fit(X, y)
        with pytest.warns(UndefinedMetricWarning):
            assert np.isnan(embedder.score(X[::50], y[::50]))

    def test_clone_before_and_after_fit(self, make_embedder, blobs):
        embedder = make_embedder(margin=0.7, net=TripletNet(optimizer__betas=(0.5, 0.9)))
        for copied in (clone(embedder), clone(embedder.fit(*blobs))):
            assert copied.margin == 0.7
            assert copied.net.get_params()["optimizer__betas"] == (0.5, 0.9)
            assert not hasattr(copied, "net_")

    def test_pickle(self, make_embedder, blobs):
        X, y = blobs
        embedder = pickle.loads(pickle.dumps(make_embedder()))
        again = pickle.loads(pickle.dumps(embedder.fit(X, y)))
        assert_array_equal(again.transform(X), embedder.transform(X))
        again.fit(X, y)

    def test_pickle_in_a_pipeline(self, make_embedder, blobs):
        X, y = blobs
        pipeline = make_pipeline(make_embedder(), KNeighborsClassifier()).fit(X, y)
        again = pickle.loads(pickle.dumps(pipeline))
        assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))

    def test_pipeline_memory(self, make_embedder, blobs, tmp_path):
        X, y = blobs
        pipeline = make_pipeline(make_embedder(), KNeighborsClassifier(), memory=str(tmp_path))
        first = pipeline.fit(X, y).predict_proba(X)
        steps = [pipeline[0].net_.history[:, "dur"]]
        pipeline.fit(X, y)
        steps.append(pipeline[0].net_.history[:, "dur"])
        assert steps[0] == steps[1], "loaded from the cache, with its timings"
        assert_array_equal(pipeline.predict_proba(X), first)

    def test_set_output_pandas(self, make_embedder, iris):
        X, y = iris
        frame = pd.DataFrame(X, columns=list("abcd"), index=np.arange(150) + 7)
        embedder = (
            make_embedder(n_components=3).set_output(transform="pandas").fit(frame, pd.Series(y))
        )
        embedded = embedder.transform(frame)
        assert list(embedded.columns) == [f"tripletembedder{i}" for i in range(3)]
        assert_array_equal(embedded.index, frame.index)
        assert list(embedder.feature_names_in_) == list("abcd")
        assert (embedded.dtypes == np.float32).all()

    def test_set_output_polars(self, make_embedder, iris):
        polars = pytest.importorskip("polars")
        embedder = make_embedder(n_components=3).set_output(transform="polars").fit(*iris)
        assert isinstance(embedder.transform(iris[0]), polars.DataFrame)

    def test_other_feature_names(self, make_embedder, iris):
        X, y = iris
        frame = pd.DataFrame(X, columns=list("abcd"))
        with pytest.raises(ValueError, match="feature names"):
            make_embedder().fit(frame, y).transform(frame[list("dcba")])

    @pytest.mark.parametrize(
        "rename",
        [
            pytest.param(lambda y: np.array(["cat", "dog", "owl"])[y], id="strings"),
            pytest.param(lambda y: np.array(["cat", "dog", "owl"], dtype=object)[y], id="objects"),
            pytest.param(lambda y: np.array([-7, 40, 10**12])[y], id="far apart"),
            pytest.param(lambda y: y.astype(float), id="whole floats"),
            pytest.param(lambda y: y.tolist(), id="list"),
            pytest.param(lambda y: pd.Categorical.from_codes(y, ["a", "b", "c"]), id="categories"),
        ],
    )
    def test_label_types(self, make_embedder, iris, rename):
        X, y = iris
        named = make_embedder().fit(X, rename(y))
        assert_array_equal(named.classes_, np.unique(np.asarray(rename(y))))
        assert_array_equal(named.transform(X), make_embedder().fit(X, y).transform(X))

    def test_bool_labels(self, make_embedder, iris):
        X, y = iris
        assert_array_equal(make_embedder().fit(X, y == 1).classes_, [False, True])

    @pytest.mark.parametrize(
        "convert",
        [
            pytest.param(lambda X: X.astype(np.float32), id="float32"),
            pytest.param(np.asfortranarray, id="Fortran order"),
            pytest.param(lambda X: X.astype(np.float32)[::-1][::-1], id="view"),
            pytest.param(lambda X: X[:, ::-1].astype(np.float32)[:, ::-1], id="reversed twice"),
            pytest.param(lambda X: np.repeat(X, 2, axis=0)[::2], id="strided"),
            pytest.param(lambda X: X.tolist(), id="lists"),
            pytest.param(pd.DataFrame, id="DataFrame"),
        ],
    )
    def test_input_types(self, make_embedder, iris, convert):
        X, y = iris
        expected = make_embedder().fit(X, y).transform(X)
        embedder = make_embedder().fit(convert(X), y)
        assert_allclose(embedder.transform(convert(X)), expected, atol=1e-5)
        assert embedder.transform(convert(X)).dtype == np.float32

    def test_integer_input(self, make_embedder, iris):
        X, y = iris
        assert make_embedder().fit_transform((X * 10).astype(int), y).dtype == np.float32

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_input_is_not_changed(self, make_embedder, iris, dtype):
        X, y = iris[0].astype(dtype), iris[1].copy()
        X.setflags(write=False)
        y.setflags(write=False)
        before = X.copy()
        make_embedder().fit(X, y).transform(X)
        assert_array_equal(X, before)

    def test_html_repr_links_to_docs(self, make_embedder, iris):
        assert "sktriplet.TripletEmbedder.html" in make_embedder().fit(*iris)._repr_html_()

    def test_metadata_routing(self, make_embedder, iris):
        with sklearn.config_context(enable_metadata_routing=True):
            make_pipeline(make_embedder(), KNeighborsClassifier()).fit(*iris)


class TestFailedFit:
    """A fit that fails leaves the estimator unchanged."""

    @pytest.mark.parametrize("y", [np.zeros(12), np.arange(12)], ids=["one class", "no pair"])
    def test_sets_no_attributes(self, make_embedder, y):
        X = np.random.default_rng(0).normal(size=(12, 3))
        embedder = make_embedder()
        with pytest.raises(ValueError, match="requires"):
            embedder.fit(X, y)
        assert vars(embedder) == vars(make_embedder())

    def test_keeps_previous_fit(self, make_embedder, iris):
        X, y = iris
        embedder = make_embedder().fit(X, y)
        before = embedder.transform(X)
        frame = pd.DataFrame(X[:, :2], columns=["a", "b"])
        for samples, labels, parameters in [
            (frame, np.zeros(150), {}),
            (frame.replace(frame.iloc[0, 0], np.inf), y, {}),
            (frame, y, {"margin": -1}),
        ]:
            with pytest.raises(ValueError, match=r"."):
                embedder.set_params(**parameters).fit(samples, labels)
            assert embedder.n_features_in_ == 4
            assert not hasattr(embedder, "feature_names_in_")
            assert_array_equal(embedder.transform(X), before)


class TestCriterionWithWeights:
    """Its weights are treated like those of the network."""

    @pytest.fixture
    def make(self, make_embedder):
        def make(**parameters):
            return make_embedder(net=TripletNet(criterion=ProxyLoss), **parameters)

        return make

    def test_same_random_state(self, make, blobs):
        state = torch.get_rng_state()
        first, second = (make().fit(*blobs).net_.criterion_.proxies for _ in range(2))
        assert torch.equal(first, second)
        assert torch.equal(torch.get_rng_state(), state)

    def test_warm_start_and_pickle(self, make, blobs):
        embedder = make(warm_start=True).fit(*blobs)
        proxies = embedder.net_.criterion_.proxies.detach().clone()
        loaded = pickle.loads(pickle.dumps(embedder))
        assert torch.equal(loaded.net_.criterion_.proxies, proxies)
        embedder.set_params(lr=1e-12, weight_decay=0).fit(*blobs)
        assert torch.allclose(embedder.net_.criterion_.proxies, proxies, atol=1e-6)
        continued = loaded.set_params(lr=1e-12, weight_decay=0).fit(*blobs)
        assert torch.equal(continued.net_.criterion_.proxies, embedder.net_.criterion_.proxies)


class ProxyLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(3, 16))

    def forward(self, embeddings, labels):
        return nn.functional.cross_entropy(embeddings @ self.proxies.T, labels)


def test_warm_start_with_other_parameter_groups(blobs, make_embedder, weights):
    """State of other shapes was assigned by position and corrupted memory."""
    embedder = make_embedder(module=MLP, warm_start=True).fit(*blobs)
    before = weights(embedder)
    net = TripletNet(optimizer__param_groups=[("backbone.layers.3.*", {"lr": 0.0})])
    embedder.set_params(net=net).fit(*blobs)
    assert not torch.equal(weights(embedder), before)
    assert embedder.n_iter_ == 4


def test_pickle_without_optimizer_state(blobs, make_embedder):
    X, y = blobs
    embedder = make_embedder(warm_start=True, hidden_layer_sizes=(64,)).fit(X, y)
    size = len(pickle.dumps(embedder))
    embedder.net_.optimizer_.state.clear()
    loaded = pickle.loads(pickle.dumps(embedder))
    assert len(pickle.dumps(embedder)) < size / 2
    assert_array_equal(loaded.transform(X), embedder.transform(X))
    assert loaded.fit(X, y).n_iter_ == 4


@pytest.mark.parametrize("module", ["auto", MLP])
def test_one_component(iris, make_embedder, module):
    """On the unit sphere, only its sign would remain."""
    X, y = iris
    n_components = {"n_components": 1, "module": module, "max_epochs": 16}
    embedder = make_embedder(**n_components).fit(X, y)
    assert (
        KNeighborsClassifier().fit(embedder.transform(X), y).score(embedder.transform(X), y) > 0.9
    )


def test_large_offset(make_embedder):
    """Timestamps in seconds, which single precision rounds to 128 s."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    X = 1.7e9 + 10.0 * y[:, None] + rng.normal(size=(300, 3))
    embedder = make_embedder(max_epochs=8).fit(X[:200], y[:200])
    neighbors = KNeighborsClassifier().fit(embedder.transform(X[:200]), y[:200])
    assert neighbors.score(embedder.transform(X[200:]), y[200:]) == 1
    loaded = pickle.loads(pickle.dumps(embedder))
    assert_array_equal(loaded.transform(X), embedder.transform(X))
    chunked = make_embedder().partial_fit(X[:100], y[:100]).partial_fit(X[100:], y[100:])
    assert np.isfinite(chunked.transform(X)).all()


@pytest.mark.parametrize("images", [False, True])
def test_default_dtype(images, digits, make_embedder, make_image_embedder):
    X, y = digits
    X, make = (X.reshape(-1, 8, 8), make_image_embedder) if images else (X, make_embedder)
    expected = make().fit(X, y).transform(X)
    saved = pickle.dumps(make().fit(X, y))
    torch.set_default_dtype(torch.float64)
    try:
        assert_array_equal(make().fit(X, y).transform(X), expected)
        assert_array_equal(pickle.loads(saved).transform(X), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_unsorted_index(iris, make_embedder):
    X, y = iris
    index = np.random.default_rng(0).permutation(len(y)) / 7
    frame = pd.DataFrame(X, index=index)
    embedder = make_embedder(early_stopping=True).fit(frame, pd.Series(y, index=index))
    expected = make_embedder(early_stopping=True).fit(X, y).transform(X)
    assert_array_equal(embedder.transform(frame), expected)


def test_numpy_scalars_as_parameters(blobs, make_embedder, weights):
    parameters = {
        "mining": np.array(["hard"])[0],
        "margin": np.float32(0.5),
        "normalize": np.bool_(True),
        "batch_size": np.int64(32),
        "hidden_layer_sizes": np.array([16]),
    }
    embedder = make_embedder(**parameters).fit(*blobs)
    plain = make_embedder(mining="hard", margin=0.5, batch_size=32, hidden_layer_sizes=16)
    assert torch.equal(weights(embedder), weights(plain.fit(*blobs)))


class TestClassOrder:
    """Criteria with weights per class receive the same code for a class in all calls."""

    @pytest.fixture
    def seen(self):
        return []

    @pytest.fixture
    def embedder(self, make_embedder, seen):
        class Recording(ProxyLoss):
            def forward(self, embeddings, labels):
                seen.append(set(labels.tolist()))
                return super().forward(embeddings, labels)

        return make_embedder(n_members=1, n_components=16, net=TripletNet(criterion=Recording))

    def test_partial_fit(self, embedder, seen, blobs):
        X, y = blobs
        for classes, codes in [((1, 2), {0, 1}), ((0, 1), {0, 2}), ((2, 0), {1, 2})]:
            seen.clear()
            chunk = np.isin(y, classes)
            embedder.partial_fit(X[chunk], y[chunk])
            assert set().union(*seen) == codes
        assert embedder.classes_.tolist() == [0, 1, 2]

    def test_warm_start_after_pickle(self, make_embedder, blobs):
        X, y = blobs
        embedder = make_embedder(warm_start=True).fit(X[y > 0], y[y > 0])
        assert pickle.loads(pickle.dumps(embedder)).fit(X, y)._class_order == [1, 2, 0]


def test_pickle_without_template(make_embedder, blobs):
    X, y = blobs
    embedder = make_embedder(net=TripletNet(criterion=ProxyLoss)).fit(X, y).set_params(net=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = pickle.loads(pickle.dumps(embedder))
    assert ["weights of the criterion" in str(item.message) for item in caught] == [True, False]
    assert_array_equal(loaded.transform(X), embedder.transform(X))


def test_early_stopping_restores_criterion(make_embedder, blobs, spy):
    proxies = []
    record = spy(on_epoch_end=lambda net, **_: proxies.append(net.criterion_.proxies.clone()))
    net = TripletNet(criterion=ProxyLoss, callbacks=[record])
    embedder = make_embedder(net=net, early_stopping=True, max_epochs=3, n_iter_no_change=1)
    embedder.fit(*blobs)
    best = int(np.argmax(embedder.validation_scores_))
    assert torch.equal(embedder.net_.criterion_.proxies, proxies[best])


def test_default_of_subclassed_loss(make_embedder, blobs):
    class Narrow(TripletLoss):
        def __init__(self, margin=0.2, **kwargs):
            super().__init__(margin, **kwargs)

    net = TripletNet(criterion=Narrow)
    assert make_embedder(net=net).fit(*blobs).net_.criterion_.margin == 0.2
    changed = make_embedder(net=net, margin=0.9, mining="hard").fit(*blobs).net_.criterion_
    assert (changed.margin, changed.mining) == (0.9, "hard")


def test_partial_as_criterion(make_embedder, blobs):
    net = TripletNet(criterion=partial(ContrastiveLoss, neg_margin=2.0))
    assert make_embedder(net=net).fit(*blobs).net_.criterion_.neg_margin == 2
    with pytest.raises(InvalidParameterError, match=r"'margin' parameter.*ContrastiveLoss"):
        make_embedder(net=net, margin=0.9).fit(*blobs)


def test_samples_per_class_with_data_loader(make_embedder, blobs):
    net = TripletNet(iterator_train=DataLoader)
    with pytest.raises(InvalidParameterError, match=r"'samples_per_class' parameter.*DataLoader"):
        make_embedder(net=net, samples_per_class=3).fit(*blobs)


class TestMixedTables:
    """DataFrames with categorical features and missing values."""

    @pytest.fixture
    def mixed(self):
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(
            {
                "size": rng.normal(size=120),
                "color": rng.choice(["red", "green", "blue"], 120),
                "count": pd.array(rng.integers(9, size=120), dtype="Int64"),
                "ok": rng.random(120) < 0.5,
            }
        )
        y = np.where((frame["color"] == "red") ^ (frame["size"] > 0), "yes", "no")
        frame.loc[::7, "size"] = np.nan
        frame.loc[::11, "color"] = None
        frame.loc[::13, "count"] = pd.NA
        return frame, y

    def test_cross_val_score(self, make_embedder, mixed):
        frame, y = mixed
        pipeline = make_pipeline(make_embedder(max_epochs=15), KNeighborsClassifier(15))
        assert cross_val_score(pipeline, frame, y).mean() > 0.75

    def test_attributes(self, make_embedder, mixed):
        frame, y = mixed
        embedder = make_embedder().fit(frame, y)
        assert embedder.n_features_in_ == 4
        assert embedder.input_shape_ == (4,)
        assert list(embedder.feature_names_in_) == list(frame.columns)
        assert embedder.transform(frame.iloc[:3]).shape == (3, 32)
        assert len(embedder.get_feature_names_out()) == 32

    def test_unknown_categories_and_missing_values_in_transform(self, make_embedder, mixed):
        frame, y = mixed
        embedder = make_embedder().fit(frame, y)
        new = frame.iloc[:4].assign(color=["violet", None, "red", "blue"], ok=[True, None] * 2)
        assert np.isfinite(embedder.transform(new)).all()

    def test_infinity(self, make_embedder, mixed):
        frame, y = mixed
        embedder = make_embedder().fit(frame, y)
        for value in (-np.inf, 1e300):
            with pytest.raises(ValueError, match=r"'size' contains infinity"):
                embedder.transform(frame.assign(size=value))

    @pytest.mark.parametrize("X", [None, "abc", np.zeros(4), np.zeros((2, 4, 1)), sparse.eye(4)])
    def test_no_table(self, make_embedder, mixed, X):
        frame, y = mixed
        embedder = make_embedder().fit(frame, y)
        with (
            warnings.catch_warnings(action="ignore"),  # samples have no feature names
            pytest.raises((TypeError, ValueError), match=r"array|dim|sparse|Sparse"),
        ):
            embedder.transform(X)

    @pytest.mark.parametrize("continues", ["warm_start", "partial_fit"])
    def test_changed_categorical_features(self, make_embedder, mixed, continues):
        frame, y = mixed
        embedder = make_embedder(warm_start=True).fit(frame, y)
        embedder.set_params(categorical_features=["ok"])
        with pytest.raises(InvalidParameterError, match="must not change"):
            (embedder.fit if continues == "warm_start" else embedder.partial_fit)(frame, y)

    def test_sparse_after_missing_values(self, make_embedder, iris):
        X, y = iris
        missing = X.copy()
        missing[:20, 1] = np.nan
        embedder = make_embedder().fit(missing, y)
        expected = embedder.transform(X)
        assert_allclose(embedder.transform(sparse.csr_array(X)), expected, atol=1e-6)

    def test_columns_by_name(self, make_embedder, mixed):
        frame, y = mixed
        embedder = make_embedder().fit(frame, y)
        with pytest.raises(ValueError, match="feature names"):
            embedder.transform(frame[["color", "size", "count", "ok"]])
        with pytest.raises(ValueError, match="not numeric"):
            embedder.transform(frame.assign(size="large"))

    def test_polars(self, make_embedder, mixed):
        frame, y = mixed
        columns = {name: column.astype(object) for name, column in frame.items()}
        polars = pl.DataFrame(
            {name: column.where(column.notna(), None).to_list() for name, column in columns.items()}
        )
        expected = make_embedder().fit(frame, y).transform(frame)
        assert_array_equal(make_embedder().fit(polars, y).transform(polars), expected)

    def test_partial_fit(self, make_embedder, mixed):
        """Categories that are not in the first chunk are unknown."""
        frame, y = mixed
        embedder = make_embedder().partial_fit(frame[:60], y[:60])
        with pytest.warns(UnknownCategoryWarning, match="100% .*'color'.*unknown.*'violet'"):
            embedder.partial_fit(frame[60:].assign(color="violet"), y[60:])
        assert embedder.n_iter_ == 2

    def test_numbers_as_categories(self, make_embedder, iris):
        X, y = iris
        embedder = make_embedder(categorical_features=[0]).fit(X.round(), y)
        assert embedder.net_.module_.backbone.plain[0].weight.shape[2] > 4

    def test_categorical_features_of_images(self, make_image_embedder):
        X, y = np.zeros((4, 8, 8), np.uint8), [0, 0, 1, 1]
        with pytest.raises(InvalidParameterError, match=r"categorical_features.*images"):
            make_image_embedder(categorical_features=[0]).fit(X, y)

    def test_missing_values_of_images(self, make_image_embedder):
        X = np.full((4, 8, 8), np.nan)
        with pytest.raises(ValueError, match="X contains NaN"):
            make_image_embedder().fit(X, [0, 0, 1, 1])

    def test_missing_values_of_sparse_matrices(self, make_embedder, iris):
        X, y = iris
        X = sparse.csr_array(np.where(X > 6, np.nan, X))
        with pytest.raises(ValueError, match="X contains NaN"):
            make_embedder().fit(X, y)


class TestUnlabeled:
    @pytest.fixture
    def partly(self, digits):
        """Digits of which every third one is unlabeled."""
        X, y = digits
        return X, np.where(np.arange(len(y)) % 3, y, -1)

    def test_have_no_class_and_no_triplet(self, make_embedder, partly, weights):
        """Without statistics of the features, training equals that on labeled samples only."""
        X, y = partly
        settings = {"standardize": False, "module": MLP}
        embedder = make_embedder(unlabeled=-1, **settings).fit(X, y)
        expected = make_embedder(**settings).fit(X[y >= 0], y[y >= 0])
        assert torch.equal(weights(embedder), weights(expected))
        assert_array_equal(embedder.classes_, range(10))

    def test_count_in_statistics(self, make_embedder, partly):
        X, y = partly
        network = make_embedder(unlabeled=-1).fit(X, y).net_.module
        assert_allclose(network.scaler.mean, X.mean(axis=0), rtol=1e-5, atol=1e-6)
        edges = make_embedder().fit(X, np.arange(len(X)) % 2).net_.module.backbone.encoding
        assert torch.equal(network.backbone.encoding.bin_edges, edges.bin_edges)

    @pytest.mark.parametrize("early_stopping", ["auto", True])
    @pytest.mark.parametrize("as_sparse", [False, True])
    def test_fit_transform(self, partly, early_stopping, as_sparse):
        """Unlabeled samples are embedded by all members, as in transform."""
        X, y = partly
        y = np.where(np.arange(len(y)) % 2, y, (y > 4) * 1)  # noise, for cross-fitting to win
        y[::3] = -1
        X = sparse.csr_array(X) if as_sparse else X
        embedder = TripletEmbedder(
            max_epochs=3, early_stopping=early_stopping, unlabeled=-1, random_state=0
        )
        embeddings = embedder.fit_transform(X, y)
        differs = (embeddings != embedder.transform(X)).any(axis=1)
        assert embedder.cross_fitted_
        assert differs[y >= 0].all()
        assert not differs[y == -1].any()

    def test_score_ignores_them(self, make_embedder, partly):
        X, y = partly
        embedder = make_embedder(unlabeled=-1).fit(X, y)
        expected = embedder.score(X[y >= 0], y[y >= 0])
        assert embedder.score(X, y) == embedder.score(X, y.tolist()) == expected
        with pytest.raises(ValueError, match="inconsistent numbers"):
            embedder.score(X, y[:-1])

    @pytest.mark.parametrize("unlabeled", [-1, "?"])
    def test_strings(self, make_embedder, partly, unlabeled):
        X, y = partly
        names = np.array([unlabeled if label < 0 else f"digit {label}" for label in y], object)
        embedder = make_embedder(unlabeled=unlabeled).fit(X, names)
        numbered = make_embedder(unlabeled=-1).fit(X, y)
        assert_array_equal(embedder.classes_, [f"digit {number}" for number in range(10)])
        assert_array_equal(embedder.transform(X), numbered.transform(X))
        assert embedder.score(X, names) == numbered.score(X, y)

    def test_none_in_y(self, make_embedder, blobs):
        embedder = make_embedder(unlabeled=-1).fit(*blobs)
        assert_array_equal(embedder.transform(blobs[0]), make_embedder().fit_transform(*blobs))

    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_default_warns(self, make_embedder, partly, method):
        embedder = make_embedder()
        with pytest.warns(AmbiguousLabelWarning, match="pass unlabeled=-1"):
            getattr(embedder, method)(*partly)
        assert_array_equal(embedder.classes_, range(-1, 10))

    def test_binary_labels_do_not_warn(self, make_embedder, blobs):
        X, y = blobs
        embedder = make_embedder().fit(X, np.where(y, 1, -1))
        assert_array_equal(embedder.classes_, [-1, 1])

    @pytest.mark.parametrize(
        ("y", "match"),
        [
            (np.full(60, -1), "at least 2 classes in y. Got 0 classes"),
            (np.r_[np.full(40, -1), np.zeros(20, int)], "Got 1 class: \\[0\\]"),
            (np.r_[np.full(58, -1), [0, 1]], "a class with at least 2 samples"),
            (["a", "b", -1] * 20, "y holds the string '-1', but unlabeled=-1"),
        ],
    )
    def test_too_few_labels(self, make_embedder, blobs, y, match):
        with pytest.raises(ValueError, match=match):
            make_embedder(unlabeled=-1).fit(blobs[0], y)

    def test_chunks(self, make_embedder, partly, weights):
        X, y = partly
        embedder = make_embedder(unlabeled=-1, standardize=False).partial_fit(X, y)
        before = weights(embedder)
        with pytest.warns(SkippedChunkWarning, match="0 labeled"):
            embedder.partial_fit(X[:20], np.full(20, -1))
        assert torch.equal(before, weights(embedder))
        assert_array_equal(embedder.classes_, range(10))

    @pytest.mark.parametrize("make", [PairVerifier, OpenSetClassifier])
    @pytest.mark.filterwarnings("ignore::sktriplet.exceptions.AmbiguousLabelWarning")
    def test_recognition_rejects_them(self, make_embedder, partly, make):
        pipeline = make_pipeline(StandardScaler(), make_embedder(unlabeled=-1))
        for estimator in (pipeline[-1], pipeline):
            with pytest.raises(ValueError, match="unlabeled=-1"):
                make(estimator).fit(*partly)

    @pytest.mark.parametrize("make", [PairVerifier, OpenSetClassifier])
    def test_recognition_warns(self, make_embedder, partly, make):
        with pytest.raises(AmbiguousLabelWarning, match="remove them"):
            make(make_embedder()).fit(*partly)


class TestWhiten:
    def test_whitens_normalized_embeddings(self, make_embedder, blobs):
        X, y = blobs
        plain = make_embedder(n_members=1, whiten=False).fit(X, y).transform(X)
        whitened = make_embedder(n_members=1, whiten=True).fit(X, y).transform(X)
        moment = plain.T.astype(float) @ plain / len(X)
        values, axes = np.linalg.eigh(moment)
        expected = plain @ axes * (values + 0.1 * values.mean()) ** -0.25 @ axes.T
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert_allclose(whitened, expected, rtol=1e-3, atol=1e-4)

    def test_only_normalized_embeddings(self, make_embedder, blobs):
        first, second = (
            make_embedder(normalize=False, whiten=whiten).fit(*blobs).transform(blobs[0])
            for whiten in (True, False)
        )
        assert_array_equal(first, second)

    def test_partial_fit_accumulates(self, make_embedder, blobs):
        X, y = blobs
        embedder = make_embedder(whiten=True).partial_fit(X[::2], y[::2])
        embedder.partial_fit(X[1::2], y[1::2])
        assert int(embedder.net_.module.whitening.n_samples) == len(X)
        assert int(embedder.fit(X, y).net_.module.whitening.n_samples) == len(X)

    def test_warm_start_starts_anew(self, make_embedder, blobs):
        embedder = make_embedder(whiten=True, warm_start=True).fit(*blobs).fit(*blobs)
        assert int(embedder.net_.module.whitening.n_samples) == len(blobs[0])

    def test_auto(self, make_embedder, blobs):
        """Only embeddings of images are whitened by default."""
        X, y = blobs
        assert make_embedder().fit(X, y).net_.module.whitening is None
        images = np.random.default_rng(0).random((len(X), 8, 8))
        net = TripletNet(min_batches=1)
        embedder = TripletEmbedder(max_epochs=1, net=net, random_state=0).fit(images, y)
        assert embedder.net_.module.whitening is not None

    def test_may_change_between_chunks(self, make_embedder, blobs):
        embedder = make_embedder().partial_fit(*blobs).set_params(whiten=True).partial_fit(*blobs)
        assert int(embedder.net_.module.whitening.n_samples) == len(blobs[0])

    def test_is_saved(self, make_embedder, blobs):
        embedder = make_embedder(whiten=True).fit(*blobs)
        loaded = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(loaded.transform(blobs[0]), embedder.transform(blobs[0]))
