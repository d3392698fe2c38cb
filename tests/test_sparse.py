"""Sparse tables: results equal those of dense tables, and only batches are converted to dense."""

import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures
from skorch.dataset import ValidSplit
from torch.utils.data import DataLoader

from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet.exceptions import LargeNetworkWarning
from sktriplet.networks import MLP
from sktriplet.training import TripletNet


def make_table(n_samples=90, n_classes=3):
    """Sparse, one-hot, dense, and empty features, and empty samples."""
    rng = np.random.default_rng(0)
    y = np.arange(n_samples) % n_classes
    continuous = (rng.normal(size=(n_samples, 4)) + y[:, None]) * (rng.random((n_samples, 4)) < 0.6)
    one_hot = np.eye(6)[rng.integers(6, size=n_samples)]
    X = np.c_[continuous, one_hot, rng.normal(1000, 1, n_samples), np.zeros(n_samples)]
    X[5:8] = 0
    return X, y


X, y = make_table()


def weights_of(embedder):
    return sum(weights.numel() for weights in embedder.net_.module.parameters())


class TestMatchesDense:
    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"n_members": 1},
            {"hidden_layer_sizes": (), "n_members": 1},
            {"standardize": False},
            {"early_stopping": True},
            {"net": TripletNet(train_split=ValidSplit(3))},
            {"augment": torch.sin},
        ],
        ids=lambda parameters: "-".join(parameters),
    )
    def test_fit(self, make_embedder, parameters, weights):
        dense = make_embedder(**parameters).fit(X, y)
        ours = make_embedder(**parameters).fit(sparse.csr_array(X), y)
        assert torch.equal(weights(ours), weights(dense))
        assert ours.validation_scores_ == dense.validation_scores_
        expected = dense.transform(X)
        for embedder in (ours, dense):
            for samples in (X, sparse.csr_array(X)):
                assert_array_equal(embedder.transform(samples), expected)
                assert embedder.score(samples, y) == dense.score(X, y)

    @pytest.mark.parametrize("fit_on", [np.asarray, sparse.csr_array])
    def test_transform_of_features_with_large_offset(self, make_embedder, fit_on):
        """Dense features are centered before their conversion to single precision."""
        shifted = X + 1e6 * (np.arange(X.shape[1]) == 3)
        embedder = make_embedder().fit(fit_on(shifted), y)
        embedded = embedder.transform(shifted)
        assert_allclose(embedder.transform(sparse.csr_array(shifted)), embedded, atol=0.05)

    def test_partial_fit_on_mixed_chunks(self, make_embedder, weights):
        chunks = np.array_split(np.arange(len(X)), 4)
        dense, ours = make_embedder(), make_embedder()
        for number, chunk in enumerate(chunks):
            dense.partial_fit(X[chunk], y[chunk])
            samples = X[chunk] if number in (1, 2) else sparse.csr_matrix(X[chunk])
            ours.partial_fit(samples, y[chunk])
        assert torch.equal(weights(ours), weights(dense))

    def test_warm_start(self, make_embedder, weights):
        dense, ours = make_embedder(warm_start=True), make_embedder(warm_start=True)
        for samples in (X, X * 3):
            dense.fit(samples, y)
            ours.fit(sparse.csr_array(samples), y)
        assert torch.equal(weights(ours), weights(dense))
        assert ours.n_iter_ == 4

    def test_recognition_estimators(self, make_embedder, weights):
        samples, labels = make_table(n_classes=10)
        for make in (PairVerifier, OpenSetClassifier):
            unfitted = make(make_embedder(max_epochs=1), cv=2)
            dense = clone(unfitted).fit(samples, labels)
            ours = clone(unfitted).fit(sparse.csr_array(samples), labels)
            assert ours.threshold_ == dense.threshold_
            assert torch.equal(weights(ours.estimator_), weights(dense.estimator_))
        frozen = [
            PairVerifier(FrozenEstimator(ours.estimator_)).fit(given, labels).threshold_
            for given in (samples, sparse.csr_array(samples))
        ]
        assert frozen[0] == frozen[1]
        assert_array_equal(ours.predict(sparse.csr_matrix(samples)), dense.predict(samples))
        ours.enroll(sparse.csc_array(samples), labels + 10)
        assert_array_equal(
            ours.identify(sparse.csr_array(X))[0], dense.enroll(samples, labels + 10).identify(X)[0]
        )

    @pytest.mark.parametrize("loader", [TripletNet().iterator_train, DataLoader])
    def test_net(self, loader):
        samples = X.astype(np.float32)
        nets = [
            TripletNet(
                MLP((12,), 3, (4,), generator=torch.Generator().manual_seed(0)),
                iterator_train=loader,
                max_epochs=1,
                random_state=0,
                verbose=0,
            ).fit(given, y)
            for given in (samples, sparse.csr_matrix(samples))
        ]
        dense, ours = (net.predict(samples) for net in nets)
        assert_array_equal(ours, dense)
        assert_array_equal(nets[1].predict(sparse.csr_array(samples)), dense)


def stored_oddly(dense):
    """Store each value as two halves, and some zeros, with unsorted indices."""
    rows, columns = np.nonzero(dense)
    zero_rows, zero_columns = np.nonzero(dense == 0)
    halves = dense[rows, columns] / 2
    rows = np.r_[rows, rows, zero_rows[::3]]
    columns = np.r_[columns, columns, zero_columns[::3]]
    values = np.r_[halves, halves, np.zeros(len(zero_rows[::3]))]
    order = np.lexsort([np.random.default_rng(0).random(len(rows)), rows])
    indptr = np.searchsorted(rows[order], np.arange(len(dense) + 1))
    matrix = sparse.csr_array((values[order], columns[order], indptr), shape=dense.shape)
    assert not matrix.has_sorted_indices
    assert not matrix.has_canonical_format
    return matrix


def with_long_indices(matrix):
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


def read_only(matrix):
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.setflags(write=False)
    return matrix


@pytest.fixture(scope="module")
def dense():
    return TripletEmbedder(max_epochs=1, hidden_layer_sizes=(4,), random_state=0).fit(X, y)


class TestFormats:
    @pytest.mark.parametrize(
        "convert",
        [
            *(getattr(sparse, f"{name}_array") for name in ("csr", "csc", "coo", "bsr", "lil")),
            *(getattr(sparse, f"{name}_matrix") for name in ("csr", "csc", "dok", "dia")),
            pytest.param(lambda X: with_long_indices(sparse.csr_array(X)), id="int64 indices"),
            pytest.param(lambda X: read_only(sparse.csr_array(X)), id="read-only"),
            pytest.param(lambda X: read_only(stored_oddly(X)), id="stored oddly, read-only"),
            pytest.param(stored_oddly, id="stored oddly"),
            pytest.param(
                lambda X: pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X)), id="pandas"
            ),
        ],
    )
    def test_formats(self, dense, convert, weights):
        embedder = clone(dense).fit(convert(X), y)
        assert torch.equal(weights(embedder), weights(dense))
        assert_array_equal(embedder.transform(convert(X)), dense.transform(X))

    def test_dummies(self, make_embedder, weights):
        """pandas stores them as sparse Boolean columns."""
        frame = pd.DataFrame({"a": list("xyz") * 30, "b": list("uv") * 45})
        dummies = pd.get_dummies(frame, sparse=True)
        embedder = make_embedder(max_epochs=1).fit(dummies, y)
        dense = make_embedder(max_epochs=1).fit(pd.get_dummies(frame, dtype=float), y)
        assert torch.equal(weights(embedder), weights(dense))

    @pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8])
    def test_integers(self, make_embedder, dtype, weights):
        counts = (X > 0.5).astype(dtype)
        embedder = make_embedder(max_epochs=1).fit(sparse.csr_array(counts), y)
        assert torch.equal(weights(embedder), weights(make_embedder(max_epochs=1).fit(counts, y)))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("estimator", [TripletEmbedder, PairVerifier, OpenSetClassifier])
    def test_input_is_not_changed(self, make_embedder, estimator, dtype):
        matrix = stored_oddly(X.astype(dtype)).astype(dtype)
        before = [matrix.data.copy(), matrix.indices.copy(), matrix.indptr.copy()]
        ours = make_embedder(max_epochs=1)
        ours = ours if estimator is TripletEmbedder else estimator(ours, cv=2)
        ours.fit(matrix, y)
        if estimator is TripletEmbedder:
            ours.partial_fit(matrix, y).transform(matrix)
        for part, kept in zip([matrix.data, matrix.indices, matrix.indptr], before, strict=True):
            assert_array_equal(part, kept)

    def test_feature_names(self, make_embedder):
        names = [f"word{i}" for i in range(12)]
        frame = pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X), columns=names)
        embedder = make_embedder(max_epochs=1).set_output(transform="pandas").fit(frame, y)
        assert list(embedder.feature_names_in_) == names
        assert embedder.transform(frame).columns[1] == "tripletembedder1"


class TestMemory:
    def test_peak_memory(self):
        """Dense, it would take 64 MB."""
        rng = np.random.default_rng(0)
        samples = sparse.random_array((4_000, 2_000), density=0.001, format="csr", rng=rng)
        labels = rng.integers(3, size=4_000)
        embedder = TripletEmbedder(
            max_epochs=1, n_members=1, hidden_layer_sizes=(4,), early_stopping=True
        )
        embedder.fit(samples[:100], labels[:100]).score(samples[:100], labels[:100])  # imports
        tracemalloc.start()
        embedder.fit(samples, labels).score(samples[:100], labels[:100])
        embedder.transform(samples)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 25e6

    @pytest.mark.slow
    def test_peak_memory_of_process(self):
        """Dense, the data would take 4 GB."""
        code = """
import resource
import numpy as np
from scipy import sparse
from sktriplet import TripletEmbedder

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

rng = np.random.default_rng(0)
X = sparse.random_array((50_000, 20_000), density=0.001, format="csr", dtype="f", rng=rng)
y = rng.integers(10, size=50_000)
before = peak()
embedder = TripletEmbedder(max_epochs=1, n_members=1, hidden_layer_sizes=(16,), random_state=0)
embedded = embedder.fit(X, y).transform(X)
assert embedded.shape == (50_000, 64) and np.isfinite(embedded).all()
print(peak() - before)
"""
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        assert float(done.stdout) < 0.4, "GB"


class TestScikitLearn:
    @pytest.mark.slow
    def test_grid_search(self, make_embedder):
        grid = {"tripletembedder__margin": [0.1, 1.0]}
        pipeline = make_pipeline(make_embedder(max_epochs=1), KNeighborsClassifier())
        ours = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(sparse.csr_array(X), y)
        dense = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
        scores = [search.cv_results_["mean_test_score"] for search in (ours, dense)]
        assert_array_equal(*scores)

    def test_pipeline_memory(self, make_embedder, tmp_path):
        samples = sparse.csr_matrix(X)
        pipeline = make_pipeline(make_embedder(), KNeighborsClassifier(), memory=str(tmp_path))
        seconds = [pipeline.fit(samples, y)[0].net_.history[:, "dur"] for _ in range(2)]
        assert seconds[0] == seconds[1], "loaded from the cache, with its timings"

    def test_pickle(self, make_embedder):
        samples = sparse.csr_array(X)
        embedder = make_embedder(early_stopping=True).fit(samples, y)
        loaded = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(loaded.transform(samples), embedder.transform(samples))
        loaded.fit(samples, y)

    def test_polynomial_features(self, make_embedder, weights):
        interactions = PolynomialFeatures(interaction_only=True)
        ours, dense = (
            make_embedder(max_epochs=1).fit(interactions.fit_transform(samples), y)
            for samples in (sparse.csr_array(X), X)
        )
        assert ours.n_features_in_ == 79
        assert torch.equal(weights(ours), weights(dense))

    def test_one_hot_encoder(self, make_embedder):
        """The class depends on both columns."""
        rng = np.random.default_rng(0)
        first, second = rng.integers(3, size=(2, 240))
        frame = pd.DataFrame({"first": list("abc"), "second": list("uvw")}).loc
        samples = np.c_[frame[first, "first"], frame[second, "second"]]
        labels = (first + second) % 3
        pipeline = make_pipeline(
            make_column_transformer((OneHotEncoder(), [0, 1]), sparse_threshold=1),
            make_embedder(max_epochs=8),
            KNeighborsClassifier(),
        )
        pipeline.fit(samples[:180], labels[:180])
        assert sparse.issparse(pipeline[0].transform(samples))
        assert pipeline.score(samples[180:], labels[180:]) == 1

    def test_tfidf_vectorizer(self, make_embedder):
        """Words of three subjects among filler words."""
        subjects = [["cat", "dog", "horse"], ["boat", "train", "plane"], ["bread", "soup", "rice"]]
        filler = ["the", "a", "some", "with", "near", "my", "your", "old", "new", "big", "red"]
        rng = np.random.default_rng(0)
        labels = rng.integers(3, size=300)
        texts = [
            " ".join(rng.permutation([*rng.choice(subjects[i], 2), *rng.choice(filler, 8)]))
            for i in labels
        ]
        union = make_union(
            TfidfVectorizer(ngram_range=(1, 2)),
            TfidfVectorizer(analyzer="char", ngram_range=(3, 3)),
        )
        pipeline = make_pipeline(union, make_embedder(max_epochs=4), KNeighborsClassifier())
        pipeline.fit(texts[:200], labels[:200])
        assert pipeline[1].n_features_in_ > 300
        assert pipeline.score(texts[200:], labels[200:]) > 0.95


def with_value(value):
    matrix = sparse.csr_array(X)
    matrix.data[3] = value
    return matrix


class TestInvalidInput:
    @pytest.mark.parametrize(
        ("samples", "match"),
        [
            (with_value(np.nan), "X contains NaN"),
            (with_value(np.inf), "X contains infinity"),
            (with_value(1e300), "X contains infinity"),
            (sparse.csr_array(X)[:, :0], "0 feature"),
            (sparse.csr_array(X)[:50], r"\[50, 90\]"),
            (sparse.csr_array(X * 1j), "Complex data"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:overflow")
    def test_fit(self, samples, match):
        for estimator in (TripletEmbedder(), PairVerifier(), OpenSetClassifier()):
            with pytest.raises(ValueError, match=match):
                estimator.fit(samples, y)

    def test_transform(self, make_embedder):
        embedder = make_embedder().fit(sparse.csr_array(X), y)
        with pytest.raises(ValueError, match="X contains NaN"):
            embedder.transform(with_value(np.nan))
        with pytest.raises(ValueError, match=r"X has 2 features.*expecting 12"):
            embedder.transform(sparse.csr_array(X)[:, :2])

    def test_images(self, make_image_embedder):
        images = np.random.default_rng(0).random((90, 6, 8))
        samples = sparse.csr_array(images.reshape(90, 48))
        match = r"X must be dense.*\(1, 6, 8\).*\(90, 48\)"
        with_shape, without = make_image_embedder(input_shape=(1, 6, 8)), make_image_embedder()
        for method in (with_shape.fit, with_shape.partial_fit):
            with pytest.raises(TypeError, match=match):
                method(samples, y)
        for embedder in (with_shape, without):
            embedder.fit(images, y)
            for given in (samples, pd.DataFrame.sparse.from_spmatrix(samples)):
                with pytest.raises(TypeError, match=match):
                    embedder.transform(given)
        with pytest.raises(ValueError, match=r"X has shape \(90, 48\).*images"):
            without.partial_fit(samples, y)

    def test_many_features(self, make_embedder, monkeypatch):
        """Weights of features that no sample of a batch has are updated, too."""
        settings = {"standardize": False, "hidden_layer_sizes": (16,), "n_members": 1}
        n_weights = weights_of(make_embedder(**settings).fit(X, y))
        monkeypatch.setattr("sktriplet._embedder.LARGE_NETWORK", n_weights)
        make_embedder(**settings).fit(X, y)
        monkeypatch.setattr("sktriplet._embedder.LARGE_NETWORK", n_weights - 1)
        with pytest.warns(LargeNetworkWarning, match=f"12 features has {n_weights} .*TruncatedSVD"):
            embedder = make_embedder(warm_start=True, **settings).fit(sparse.csr_array(X), y)
        embedder.fit(sparse.csr_array(X), y)

    def test_pairs(self, make_embedder):
        verifier = PairVerifier(make_embedder(), cv=2).fit(sparse.csr_array(X), y)
        with pytest.raises(TypeError, match="Sparse data was passed for pairs"):
            verifier.predict(sparse.csr_array(X))
