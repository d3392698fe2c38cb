import copy
import hashlib
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from joblib import Parallel, delayed
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_circles
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet import TripletEmbedder
from sktriplet.distances import sqeuclidean
from sktriplet.exceptions import InvalidParameterError
from sktriplet.losses import ContrastiveLoss
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.mining import semi_hard
from sktriplet.networks import MLP
from sktriplet.training import TripletNet


def weights(embedder):
    return torch.nn.utils.parameters_to_vector(embedder.net_.module_.parameters()).detach()


class TestLearning:
    def test_rings_come_apart(self):
        """Nearest neighbours share a ring only after training: no linear map does it."""
        X, y = make_circles(200, noise=0.02, factor=0.8, random_state=0)
        embedder = TripletEmbedder(max_epochs=10, random_state=0).fit(X, y)
        assert mean_average_precision_at_r_score(X, y) < 0.4
        assert embedder.score(X, y) > 0.99

    def test_the_unit_of_a_feature_does_not_matter(self, quick, wine):
        X, y = wine
        shifted = X * np.logspace(-4, 4, X.shape[1]) + 3
        ours, theirs = quick().fit(X, y).transform(X), quick().fit(shifted, y).transform(shifted)
        assert_allclose(ours, theirs, atol=0.05)

    def test_standardize_is_scikit_learns(self, quick, wine):
        X, y = wine
        outside = make_pipeline(StandardScaler(), quick(standardize=False))
        assert_allclose(outside.fit_transform(X, y), quick().fit_transform(X, y), atol=0.02)

    def test_a_constant_feature_is_ignored(self, quick, blobs):
        X, y = blobs
        X = np.c_[X, np.full(len(X), 1e6)]
        assert np.isfinite(quick().fit(X, y).transform(X)).all()

    @pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine", sqeuclidean])
    def test_metrics(self, quick, blobs, metric):
        assert quick(metric=metric).fit(*blobs).score(*blobs) > 0.9

    @pytest.mark.parametrize("mining", ["semi_hard", "hard", "random", "all"])
    @pytest.mark.parametrize("loss", ["hinge", "soft_margin"])
    def test_strategies_and_losses(self, quick, blobs, mining, loss):
        embedder = quick(mining=mining, loss=loss).fit(*blobs)
        assert embedder.score(*blobs) > 0.9
        assert embedder.net_.criterion_.mining == mining
        assert embedder.net_.criterion_.loss == loss

    def test_contrastive_loss(self, quick, blobs):
        """What a criterion does not take stays out of it; what it does is set."""
        template = TripletNet(criterion=ContrastiveLoss, criterion__neg_margin=0.7)
        embedder = quick(metric="cosine", net=template).fit(*blobs)
        assert embedder.score(*blobs) > 0.9
        criterion = embedder.net_.criterion_
        assert (criterion.metric, criterion.neg_margin) == ("cosine", 0.7)

    def test_normalize(self, quick, blobs):
        X, y = blobs
        assert_allclose(np.linalg.norm(quick().fit_transform(X, y), axis=1), 1, rtol=1e-5)
        free = quick(normalize=False, margin=5.0).fit_transform(X, y)
        assert np.linalg.norm(free, axis=1).std() > 0.01

    def test_a_miner_of_ones_own(self, quick, blobs):
        calls = []

        def miner(distances, labels, *, margin, generator):
            calls.append(margin)
            return semi_hard(distances, labels, margin=margin)

        ours = quick(mining=miner, margin=0.3).fit(*blobs)
        assert set(calls) == {0.3}
        assert torch.equal(weights(ours), weights(quick(margin=0.3).fit(*blobs)))

    def test_settings_reach_the_net(self, quick, blobs):
        net = (
            quick(
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
        assert net.module_.body.head.out_features == 7

    def test_verbose(self, quick, blobs, capsys):
        quick().fit(*blobs)
        assert capsys.readouterr().out == ""
        quick(verbose=1, max_epochs=2).fit(*blobs)
        assert "train_loss" in capsys.readouterr().out


class TestSmallData:
    @pytest.mark.parametrize(
        "sizes", [[2, 1], [2, 2], [3, 1, 1, 1], [2] * 10, [30, 2], [1, 1, 1, 1, 40]], ids=str
    )
    def test_classes_of_any_size(self, quick, sizes):
        y = np.repeat(np.arange(len(sizes)), sizes)
        X = np.random.default_rng(0).normal(size=(len(y), 3)) + y[:, None]
        embedded = quick().fit_transform(X, y)
        assert np.isfinite(embedded).all()
        assert embedded.shape == (len(y), 32)

    def test_enough_steps_on_few_rows(self, blobs):
        embedder = TripletEmbedder(max_epochs=1, random_state=0).fit(*blobs)
        assert embedder.net_.history[0]["train_batch_count"] >= 10

    def test_one_feature(self, quick, blobs):
        X, y = blobs
        assert quick().fit_transform(X[:, :1], y).shape == (60, 32)

    def test_one_row_at_a_time(self, quick, blobs):
        X, y = blobs
        embedder = quick().fit(X, y)
        one_by_one = np.vstack([embedder.transform(row[None]) for row in X])
        assert_allclose(one_by_one, embedder.transform(X), atol=1e-5)


class TestDeterminism:
    def test_the_same_seed_gives_the_same_bits(self, quick, blobs):
        first = quick(random_state=3).fit(*blobs)
        torch.rand(5)
        assert torch.equal(weights(first), weights(quick(random_state=3).fit(*blobs)))
        assert torch.equal(weights(first), weights(clone(first).fit(*blobs)))
        assert torch.equal(weights(first), weights(first.fit(*blobs))), "fitted again"

    def test_the_number_of_threads_makes_no_difference(self, quick, wine):
        """Joblib's workers have one, the main process has as many as there are cores."""
        X, y = wine
        alone = quick().fit(X, y)
        torch.set_num_threads(2)
        try:
            together = quick().fit(X, y)
            assert torch.get_num_threads() == 2
            embedded = together.transform(X)
        finally:
            torch.set_num_threads(1)
        assert torch.equal(weights(alone), weights(together))
        assert_array_equal(alone.transform(X), embedded)

    def test_many_threads_fit_at_once(self, quick, wine):
        """As under joblib's threading backend, where torch's generator is shared."""
        fits = [delayed(quick(random_state=seed, max_epochs=4).fit)(*wine) for seed in range(4)]
        alone = [function(*arguments) for function, arguments, _ in fits]
        expected = [weights(embedder) for embedder in alone]
        together = Parallel(n_jobs=4, backend="threading")(fits)
        assert all(map(torch.equal, map(weights, together), expected))

    def test_a_fresh_process_gives_the_same_bits(self, quick, wine):
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

    def test_another_seed_gives_others(self, quick, blobs):
        first, second, third = (quick(random_state=seed).fit(*blobs) for seed in (0, 1, None))
        assert not torch.equal(weights(first), weights(second))
        assert not torch.equal(weights(first), weights(third))

    def test_a_random_state_moves_on(self, quick, blobs):
        embedder = quick(random_state=np.random.RandomState(0))
        first = weights(embedder.fit(*blobs))
        assert not torch.equal(first, weights(embedder.fit(*blobs)))

    @pytest.mark.parametrize("random_state", [0, None])
    def test_global_state_stays(self, quick, blobs, random_state):
        """But that random_state=None draws a seed from numpy, as all of scikit-learn does."""
        torch_before, threads = torch.get_rng_state(), torch.get_num_threads()
        numpy_before = np.random.get_state()[1:3]
        quick(random_state=random_state).fit(*blobs).transform(blobs[0])
        assert torch.equal(torch_before, torch.get_rng_state())
        assert torch.get_num_threads() == threads
        assert torch.get_default_dtype() == torch.float32
        if random_state is not None:
            assert_array_equal(numpy_before[0], np.random.get_state()[1])
            assert numpy_before[1] == np.random.get_state()[2]

    def test_a_module_factory_is_seeded(self, blobs, quick):
        def factory(input_shape, n_components):
            return torch.nn.Sequential(torch.nn.Linear(*input_shape, n_components))

        first, second = (quick(module=factory).fit(*blobs) for _ in range(2))
        assert torch.equal(weights(first), weights(second))


class TestModule:
    def test_a_class(self, quick, blobs):
        embedder = quick(module=MLP, n_components=4).fit(*blobs)
        assert embedder.transform(blobs[0]).shape == (60, 4)

    def test_an_instance_is_copied_and_its_weights_are_the_start(self, quick, blobs):
        module = MLP((5,), 4, (6,))
        before = copy.deepcopy(module.state_dict())
        embedder = quick(module=module, n_components=4, lr=1e-12, weight_decay=0.0).fit(*blobs)
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name])
        for theirs, ours in zip(
            module.parameters(), embedder.net_.module_.body.parameters(), strict=True
        ):
            assert_allclose(ours.detach(), theirs.detach(), atol=1e-6)

    def test_the_width_of_ones_own_module(self, quick, blobs):
        embedder = quick(module=MLP((5,), 9, (6,)), n_components=None).fit(*blobs)
        assert embedder.transform(blobs[0]).shape == (60, 9)
        assert len(embedder.get_feature_names_out()) == 9


class TestScikitLearn:
    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_grid_over_margin(self, quick, iris, n_jobs):
        search = GridSearchCV(
            make_pipeline(quick(), KNeighborsClassifier()),
            {"tripletembedder__margin": [0.1, 1.0]},
            cv=2,
            n_jobs=n_jobs,
        ).fit(*iris)
        assert search.best_score_ > 0.8
        assert search.best_estimator_[0].net_.criterion_.margin in (0.1, 1.0)

    def test_grids_do_not_depend_on_the_number_of_jobs(self, quick, wine):
        def scores(n_jobs):
            embedder = quick(net=TripletNet(optimizer=torch.optim.SGD))
            grid = {"net__optimizer__momentum": [0.0, 0.9], "margin": [0.1, 0.4]}
            search = GridSearchCV(embedder, grid, cv=3, n_jobs=n_jobs, refit=False)
            results = search.fit(*wine).cv_results_
            return np.array([results[f"split{fold}_test_score"] for fold in range(3)])

        alone = scores(1)
        assert len(np.unique(alone)) > 8
        assert_array_equal(alone, scores(2))

    def test_score_is_map_at_r(self, quick, iris):
        X, y = iris
        embedder = quick().fit(X, y)
        expected = mean_average_precision_at_r_score(embedder.transform(X), y)
        assert embedder.score(X, y) == expected

    def test_score_without_partners(self, quick, iris):
        X, y = iris
        embedder = quick().fit(X, y)
        with pytest.warns(UndefinedMetricWarning):
            assert np.isnan(embedder.score(X[::50], y[::50]))

    def test_clone_before_and_after_fit(self, quick, blobs):
        embedder = quick(margin=0.7, net=TripletNet(optimizer__betas=(0.5, 0.9)))
        for copied in (clone(embedder), clone(embedder.fit(*blobs))):
            assert copied.margin == 0.7
            assert copied.net.get_params()["optimizer__betas"] == (0.5, 0.9)
            assert not hasattr(copied, "net_")

    def test_pickle(self, quick, blobs):
        X, y = blobs
        embedder = pickle.loads(pickle.dumps(quick()))
        again = pickle.loads(pickle.dumps(embedder.fit(X, y)))
        assert_array_equal(again.transform(X), embedder.transform(X))
        again.fit(X, y)

    def test_pickle_in_a_pipeline(self, quick, blobs):
        X, y = blobs
        pipeline = make_pipeline(quick(), KNeighborsClassifier()).fit(X, y)
        again = pickle.loads(pickle.dumps(pipeline))
        assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))

    def test_memory(self, quick, blobs, tmp_path):
        X, y = blobs
        pipeline = make_pipeline(quick(), KNeighborsClassifier(), memory=str(tmp_path))
        first = pipeline.fit(X, y).predict_proba(X)
        steps = [pipeline[0].net_.history[:, "dur"]]
        pipeline.fit(X, y)
        steps.append(pipeline[0].net_.history[:, "dur"])
        assert steps[0] == steps[1], "taken from the cache, timings and all"
        assert_array_equal(pipeline.predict_proba(X), first)

    def test_set_output_pandas(self, quick, iris):
        X, y = iris
        frame = pd.DataFrame(X, columns=list("abcd"), index=np.arange(150) + 7)
        embedder = quick(n_components=3).set_output(transform="pandas").fit(frame, pd.Series(y))
        embedded = embedder.transform(frame)
        assert list(embedded.columns) == [f"tripletembedder{i}" for i in range(3)]
        assert_array_equal(embedded.index, frame.index)
        assert list(embedder.feature_names_in_) == list("abcd")
        assert (embedded.dtypes == np.float32).all()

    def test_set_output_polars(self, quick, iris):
        polars = pytest.importorskip("polars")
        embedder = quick(n_components=3).set_output(transform="polars").fit(*iris)
        assert isinstance(embedder.transform(iris[0]), polars.DataFrame)

    def test_other_column_names_are_refused(self, quick, iris):
        X, y = iris
        frame = pd.DataFrame(X, columns=list("abcd"))
        with pytest.raises(ValueError, match="feature names"):
            quick().fit(frame, y).transform(frame[list("dcba")])

    @pytest.mark.parametrize(
        "rename",
        [
            pytest.param(lambda y: np.array(["cat", "dog", "owl"])[y], id="strings"),
            pytest.param(lambda y: np.array(["cat", "dog", "owl"], dtype=object)[y], id="objects"),
            pytest.param(lambda y: np.array([-7, 40, 10**12])[y], id="far apart"),
            pytest.param(lambda y: y.astype(float), id="whole floats"),
            pytest.param(lambda y: y.tolist(), id="a list"),
            pytest.param(lambda y: pd.Categorical.from_codes(y, ["a", "b", "c"]), id="categories"),
        ],
    )
    def test_labels_of_every_kind(self, quick, iris, rename):
        X, y = iris
        named = quick().fit(X, rename(y))
        assert_array_equal(named.classes_, np.unique(np.asarray(rename(y))))
        assert_array_equal(named.transform(X), quick().fit(X, y).transform(X))

    def test_bool_labels(self, quick, iris):
        X, y = iris
        assert_array_equal(quick().fit(X, y == 1).classes_, [False, True])

    @pytest.mark.parametrize(
        "convert",
        [
            pytest.param(lambda X: X.astype(np.float32), id="float32"),
            pytest.param(np.asfortranarray, id="Fortran order"),
            pytest.param(lambda X: X.astype(np.float32)[::-1][::-1], id="a view"),
            pytest.param(lambda X: X[:, ::-1].astype(np.float32)[:, ::-1], id="turned twice"),
            pytest.param(lambda X: np.repeat(X, 2, axis=0)[::2], id="strided"),
            pytest.param(lambda X: X.tolist(), id="lists"),
            pytest.param(pd.DataFrame, id="DataFrame"),
        ],
    )
    def test_tables_of_every_kind(self, quick, iris, convert):
        X, y = iris
        expected = quick().fit(X, y).transform(X)
        embedder = quick().fit(convert(X), y)
        assert_allclose(embedder.transform(convert(X)), expected, atol=1e-5)
        assert embedder.transform(convert(X)).dtype == np.float32

    def test_integers(self, quick, iris):
        X, y = iris
        assert quick().fit_transform((X * 10).astype(int), y).dtype == np.float32

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_input_is_not_touched(self, quick, iris, dtype):
        X, y = iris[0].astype(dtype), iris[1].copy()
        X.setflags(write=False)
        y.setflags(write=False)
        before = X.copy()
        quick().fit(X, y).transform(X)
        assert_array_equal(X, before)

    def test_the_html_representation_links_to_the_docs(self, quick, iris):
        assert "sktriplet.TripletEmbedder.html" in quick().fit(*iris)._repr_html_()

    def test_metadata_routing_enabled(self, quick, iris):
        with sklearn.config_context(enable_metadata_routing=True):
            make_pipeline(quick(), KNeighborsClassifier()).fit(*iris)

    def test_no_plotting_is_imported(self):
        import subprocess

        code = "import sys, sktriplet; assert 'matplotlib' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True)


X = np.random.default_rng(0).normal(size=(12, 3))
y = np.repeat([0, 1, 2], 4)


def with_value(value):
    spoiled = X.copy()
    spoiled[2, 1] = value
    return spoiled


class TestErrors:
    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"margin": 0}, r"'margin'.*finite number > 0.*Got 0"),
            ({"margin": -0.1}, r"'margin'.*Got -0.1"),
            ({"margin": float("nan")}, r"'margin'.*Got nan"),
            ({"margin": float("inf")}, r"'margin'.*Got inf"),
            ({"margin": "large"}, r"'margin'.*Got 'large'"),
            ({"margin": True}, r"'margin'.*Got True"),
            ({"mining": "hardest"}, r"'mining'.*'semi_hard'.*callable.*Got 'hardest'"),
            ({"mining": None}, r"'mining'.*Got None"),
            ({"loss": "logistic"}, r"'loss'.*'hinge'.*Got 'logistic'"),
            ({"metric": "manhattan"}, r"'metric'.*'sqeuclidean'.*Got 'manhattan'"),
            ({"metric": "cosine", "normalize": False}, r"'metric'.*normalize=True"),
            ({"normalize": "yes"}, r"'normalize'.*True or False.*Got 'yes'"),
            ({"module": "resnet"}, r"'module'.*'auto'.*Got 'resnet'"),
            ({"module": None}, r"'module'.*Got None"),
            ({"module": torch.nn.Linear(3, 5)}, r"'module'.*\(2, 64\).*Got.*\(2, 5\)"),
            ({"device": "gpu"}, r"'device'.*'gpu'"),
            ({"device": 0}, r"'device'.*Got 0"),
            ({"n_components": 0}, r"'n_components'.*integer >= 1.*Got 0"),
            ({"n_components": 2.0}, r"'n_components'.*Got 2.0"),
            ({"n_components": None}, r"'n_components'.*'module' of your own"),
            ({"hidden_layer_sizes": 100}, r"'hidden_layer_sizes'.*list or tuple.*Got 100"),
            ({"hidden_layer_sizes": (0,)}, r"'hidden_layer_sizes'"),
            ({"batch_size": 2}, r"'batch_size'.*>= 3.*Got 2"),
            ({"samples_per_class": 1}, r"'samples_per_class'.*>= 2.*Got 1"),
            ({"max_epochs": 0}, r"'max_epochs'.*Got 0"),
            ({"lr": 0.0}, r"'lr'.*Got 0.0"),
            ({"weight_decay": -1}, r"'weight_decay'.*Got -1"),
            ({"random_state": "seed"}, r"'random_state'.*Got 'seed'"),
            ({"random_state": -1}, r"'random_state'.*Got -1"),
            ({"standardize": 1}, r"'standardize'.*Got 1"),
            ({"verbose": -1}, r"'verbose'.*Got -1"),
            ({"net": torch.nn.Linear(3, 3)}, r"'net'.*TripletNet.*Got Linear"),
            ({"net": TripletNet}, r"'net'.*TripletNet"),
        ],
    )
    def test_parameters(self, parameters, message):
        with pytest.raises(InvalidParameterError, match=message):
            TripletEmbedder(**parameters).fit(X, y)

    @pytest.mark.parametrize(
        ("rows", "labels", "message"),
        [
            (X, np.zeros(12), "y to hold at least 2 classes. Got 1 class"),
            (X, np.arange(12), "at least 2 rows in y"),
            (X, None, "requires y to be passed"),
            (X[:1], y[:1], "1 sample"),
            (X[:0], y[:0], "0 sample"),
            (X[:, :0], y, "0 feature"),
            (with_value(np.nan), y, "X contains NaN"),
            (with_value(np.inf), y, "X contains infinity"),
            (X, y + 0.5, "Unknown label type: continuous"),
            (X, np.where(y == 0, np.nan, y), "y contains NaN"),
            (X, np.array(["a", None] * 6, dtype=object), "labels in y.*NoneType, str"),
            (X, np.array(["a", 1] * 6, dtype=object), "labels in y.*int, str"),
            (X, np.c_[y, y], "1d array"),
            (X, y[:-1], "inconsistent numbers of samples"),
            (X[:, 0], y, "Expected 2D array"),
            (np.full((12, 3), "a"), y, "could not convert string"),
            (X * 1j, y, "Complex data"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:overflow")
    def test_data(self, rows, labels, message):
        with pytest.raises(ValueError, match=message):
            TripletEmbedder().fit(rows, labels)

    @pytest.mark.parametrize("labels", [np.zeros(12), np.arange(12)])
    def test_what_failed_is_not_remembered(self, quick, labels):
        embedder = quick()
        with pytest.raises(ValueError, match="requires"):
            embedder.fit(X, labels)
        assert not hasattr(embedder, "n_features_in_")
        embedder.fit(X, y)
        with pytest.raises(ValueError, match="requires"):
            embedder.fit(pd.DataFrame(X[:, :2], columns=["a", "b"]), labels)
        assert embedder.n_features_in_ == 3
        assert not hasattr(embedder, "feature_names_in_")

    def test_no_labels_at_all(self):
        with pytest.raises(TypeError, match="'y'"):
            TripletEmbedder().fit(X)

    @pytest.mark.parametrize("method", ["transform", "score", "get_feature_names_out"])
    def test_not_fitted(self, method):
        arguments = {"transform": (X,), "score": (X, y), "get_feature_names_out": ()}[method]
        with pytest.raises(NotFittedError):
            getattr(TripletEmbedder(), method)(*arguments)

    def test_wrong_width_at_transform(self, quick):
        with pytest.raises(ValueError, match=r"X has 2 features.*expecting 3"):
            quick().fit(X, y).transform(X[:, :2])

    def test_nothing_is_lost_when_a_fit_fails(self, quick):
        embedder = quick().fit(X, y)
        before = embedder.transform(X)
        for rows, labels, parameters in [
            (X, np.zeros(12), {}),
            (with_value(np.nan), y, {}),
            (X, y, {"margin": -1}),
        ]:
            with pytest.raises(ValueError, match=r"."):
                embedder.set_params(**parameters).fit(rows, labels)
            assert_array_equal(embedder.transform(X), before)
