"""Sparse rows: all that dense ones can, to the same bits, and never dense all at once."""

import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
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
from sktriplet.networks import MLP
from sktriplet.training import TripletNet


def weights(embedder):
    return torch.nn.utils.parameters_to_vector(embedder.net_.module_.parameters()).detach()


def table(n_rows=90, n_classes=3):
    """Continuous columns with zeros, one-hot columns, a full one, an empty one, empty rows."""
    rng = np.random.default_rng(0)
    y = np.arange(n_rows) % n_classes
    continuous = (rng.normal(size=(n_rows, 4)) + y[:, None]) * (rng.random((n_rows, 4)) < 0.6)
    one_hot = np.eye(6)[rng.integers(6, size=n_rows)]
    X = np.c_[continuous, one_hot, rng.normal(1000, 1, n_rows), np.zeros(n_rows)]
    X[5:8] = 0
    return X, y


X, y = table()


class TestTheSameAsDense:
    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"n_members": 1},
            {"hidden_layer_sizes": ()},
            {"standardize": False},
            {"early_stopping": True},
            {"net": TripletNet(train_split=ValidSplit(3))},
            {"augment": torch.sin},
        ],
        ids=lambda parameters: "-".join(parameters),
    )
    def test_fit(self, quick, parameters):
        dense = quick(**parameters).fit(X, y)
        ours = quick(**parameters).fit(sparse.csr_array(X), y)
        assert torch.equal(weights(ours), weights(dense))
        assert ours.validation_scores_ == dense.validation_scores_
        expected = dense.transform(X)
        for embedder in (ours, dense):
            for rows in (X, sparse.csr_array(X)):
                assert_array_equal(embedder.transform(rows), expected)
                assert embedder.score(rows, y) == dense.score(X, y)

    def test_chunks_of_either_kind(self, quick):
        """Moments of what is dense and of what is not are merged."""
        chunks = np.array_split(np.arange(len(X)), 4)
        dense, ours = quick(), quick()
        for number, chunk in enumerate(chunks):
            dense.partial_fit(X[chunk], y[chunk])
            rows = X[chunk] if number in (1, 2) else sparse.csr_matrix(X[chunk])
            ours.partial_fit(rows, y[chunk])
        assert torch.equal(weights(ours), weights(dense))

    def test_going_on(self, quick):
        dense, ours = quick(warm_start=True), quick(warm_start=True)
        for rows in (X, X * 3):
            dense.fit(rows, y)
            ours.fit(sparse.csr_array(rows), y)
        assert torch.equal(weights(ours), weights(dense))
        assert ours.n_iter_ == 4

    def test_classes_never_seen(self, quick):
        rows, labels = table(n_classes=10)
        for make in (PairVerifier, OpenSetClassifier):
            unfitted = make(quick(max_epochs=1), cv=2)
            dense = clone(unfitted).fit(rows, labels)
            ours = clone(unfitted).fit(sparse.csr_array(rows), labels)
            assert ours.threshold_ == dense.threshold_
            assert torch.equal(weights(ours.estimator_), weights(dense.estimator_))
        frozen = [
            PairVerifier(FrozenEstimator(ours.estimator_)).fit(kind, labels).threshold_
            for kind in (rows, sparse.csr_array(rows))
        ]
        assert frozen[0] == frozen[1]
        assert_array_equal(ours.predict(sparse.csr_matrix(rows)), dense.predict(rows))
        ours.enroll(sparse.csc_array(rows), labels + 10)
        assert_array_equal(
            ours.identify(sparse.csr_array(X))[0], dense.enroll(rows, labels + 10).identify(X)[0]
        )

    @pytest.mark.parametrize("loader", [TripletNet().iterator_train, DataLoader])
    def test_a_net_alone(self, loader):
        rows = X.astype(np.float32)
        nets = [
            TripletNet(
                MLP((12,), 3, (4,), generator=torch.Generator().manual_seed(0)),
                iterator_train=loader,
                max_epochs=1,
                random_state=0,
                verbose=0,
            ).fit(kind, y)
            for kind in (rows, sparse.csr_matrix(rows))
        ]
        dense, ours = (net.predict(rows) for net in nets)
        assert_array_equal(ours, dense)
        assert_array_equal(nets[1].predict(sparse.csr_array(rows)), dense)


def stored_oddly(dense, **kwargs):
    """Store each value as two halves and some zeros as such, each row in no order."""
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


class TestKinds:
    @pytest.mark.parametrize(
        "convert",
        [
            *(getattr(sparse, f"{name}_array") for name in ("csr", "csc", "coo", "bsr", "lil")),
            *(getattr(sparse, f"{name}_matrix") for name in ("csr", "csc", "dok", "dia")),
            pytest.param(lambda X: with_long_indices(sparse.csr_array(X)), id="int64 indices"),
            pytest.param(lambda X: read_only(sparse.csr_array(X)), id="read-only"),
            pytest.param(lambda X: read_only(stored_oddly(X)), id="stored oddly, read-only"),
            pytest.param(lambda X: sparse.csr_array(X.astype(np.float32)), id="float32"),
            pytest.param(lambda X: stored_oddly(X.astype(np.float32)), id="stored oddly"),
            pytest.param(
                lambda X: pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X)), id="pandas"
            ),
        ],
    )
    def test_of_every_kind(self, dense, convert):
        embedder = clone(dense).fit(convert(X), y)
        assert torch.equal(weights(embedder), weights(dense))
        assert_array_equal(embedder.transform(convert(X)), dense.transform(X))

    @pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8])
    def test_counts(self, quick, dtype):
        counts = (X > 0.5).astype(dtype)
        embedder = quick(max_epochs=1).fit(sparse.csr_array(counts), y)
        assert torch.equal(weights(embedder), weights(quick(max_epochs=1).fit(counts, y)))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("estimator", [TripletEmbedder, PairVerifier, OpenSetClassifier])
    def test_input_is_not_touched(self, quick, estimator, dtype):
        matrix = stored_oddly(X.astype(dtype)).astype(dtype)
        before = [matrix.data.copy(), matrix.indices.copy(), matrix.indptr.copy()]
        ours = quick(max_epochs=1)
        ours = ours if estimator is TripletEmbedder else estimator(ours, cv=2)
        ours.fit(matrix, y)
        if estimator is TripletEmbedder:
            ours.partial_fit(matrix, y).transform(matrix)
        for part, kept in zip([matrix.data, matrix.indices, matrix.indptr], before, strict=True):
            assert_array_equal(part, kept)

    def test_names_of_columns(self, quick):
        names = [f"word{i}" for i in range(12)]
        frame = pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X), columns=names)
        embedder = quick(max_epochs=1).set_output(transform="pandas").fit(frame, y)
        assert list(embedder.feature_names_in_) == names
        assert embedder.transform(frame).columns[1] == "tripletembedder1"


class TestNeverDenseAtOnce:
    def test_one_that_is_not_small(self):
        """As it is 64 MB, in double precision."""
        rng = np.random.default_rng(0)
        rows = sparse.random_array((4_000, 2_000), density=0.001, format="csr", rng=rng)
        labels = rng.integers(3, size=4_000)
        embedder = TripletEmbedder(
            max_epochs=1, n_members=1, hidden_layer_sizes=(4,), early_stopping=True
        )
        tracemalloc.start()
        embedder.fit(rows, labels).score(rows[:100], labels[:100])
        embedder.transform(rows)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 25e6

    @pytest.mark.slow
    def test_a_large_one(self):
        """Fit and transform 50,000 rows of 20,000 columns, 4 GB in single precision."""
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
    def test_grid(self, quick):
        grid = {"tripletembedder__margin": [0.1, 1.0]}
        pipeline = make_pipeline(quick(max_epochs=1), KNeighborsClassifier())
        ours = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(sparse.csr_array(X), y)
        dense = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
        scores = [search.cv_results_["mean_test_score"] for search in (ours, dense)]
        assert_array_equal(*scores)

    def test_memory(self, quick, tmp_path):
        rows = sparse.csr_matrix(X)
        pipeline = make_pipeline(quick(), KNeighborsClassifier(), memory=str(tmp_path))
        seconds = [pipeline.fit(rows, y)[0].net_.history[:, "dur"] for _ in range(2)]
        assert seconds[0] == seconds[1], "taken from the cache, timings and all"

    def test_pickle(self, quick):
        rows = sparse.csr_array(X)
        embedder = quick(early_stopping=True).fit(rows, y)
        again = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(again.transform(rows), embedder.transform(rows))
        again.fit(rows, y)

    def test_interactions(self, quick):
        interactions = PolynomialFeatures(interaction_only=True)
        ours, dense = (
            quick(max_epochs=1).fit(interactions.fit_transform(rows), y)
            for rows in (sparse.csr_array(X), X)
        )
        assert ours.n_features_in_ == 79
        assert torch.equal(weights(ours), weights(dense))

    def test_one_hot_columns(self, quick):
        """The two columns say which class it is only together."""
        rng = np.random.default_rng(0)
        first, second = rng.integers(3, size=(2, 240))
        frame = pd.DataFrame({"first": list("abc"), "second": list("uvw")}).loc
        rows = np.c_[frame[first, "first"], frame[second, "second"]]
        labels = (first + second) % 3
        pipeline = make_pipeline(
            make_column_transformer((OneHotEncoder(), [0, 1]), sparse_threshold=1),
            quick(max_epochs=8),
            KNeighborsClassifier(),
        )
        pipeline.fit(rows[:180], labels[:180])
        assert sparse.issparse(pipeline[0].transform(rows))
        assert pipeline.score(rows[180:], labels[180:]) == 1

    def test_texts(self, quick):
        """Words of three subjects among others that say nothing."""
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
        pipeline = make_pipeline(union, quick(max_epochs=4), KNeighborsClassifier())
        pipeline.fit(texts[:200], labels[:200])
        assert pipeline[1].n_features_in_ > 300
        assert pipeline.score(texts[200:], labels[200:]) > 0.95


def with_value(value):
    spoiled = sparse.csr_array(X)
    spoiled.data[3] = value
    return spoiled


class TestErrors:
    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (with_value(np.nan), "X contains NaN"),
            (with_value(np.inf), "X contains infinity"),
            (with_value(1e300), "X contains infinity"),
            (sparse.csr_array(X)[:, :0], "0 feature"),
            (sparse.csr_array(X)[:50], "inconsistent numbers of samples"),
            (sparse.csr_array(X * 1j), "Complex data"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:overflow")
    def test_data(self, rows, message):
        for estimator in (TripletEmbedder(), PairVerifier(), OpenSetClassifier()):
            with pytest.raises(ValueError, match=message):
                estimator.fit(rows, y)

    def test_after_fit(self, quick):
        embedder = quick().fit(sparse.csr_array(X), y)
        with pytest.raises(ValueError, match="X contains NaN"):
            embedder.transform(with_value(np.nan))
        with pytest.raises(ValueError, match=r"X has 2 features.*expecting 12"):
            embedder.transform(sparse.csr_array(X)[:, :2])

    def test_images(self, quick):
        images = np.random.default_rng(0).random((90, 6, 8))
        rows = sparse.csr_array(images.reshape(90, 48))
        message = r"X must be dense.*images of shape \(1, 6, 8\).*sparse matrix of shape \(90, 48\)"
        told, shown = quick(input_shape=(1, 6, 8), max_epochs=1), quick(max_epochs=1)
        for method in (told.fit, told.partial_fit):
            with pytest.raises(TypeError, match=message):
                method(rows, y)
        for embedder in (told, shown):
            embedder.fit(images, y)
            for kind in (rows, pd.DataFrame.sparse.from_spmatrix(rows)):
                with pytest.raises(TypeError, match=message):
                    embedder.transform(kind)
        with pytest.raises(ValueError, match=r"X has shape \(90, 48\).*expecting images"):
            shown.partial_fit(rows, y)

    def test_pairs(self, quick):
        verifier = PairVerifier(quick(), cv=2).fit(sparse.csr_array(X), y)
        with pytest.raises(TypeError, match=r"Sparse data was passed for pairs"):
            verifier.predict(sparse.csr_array(X))
