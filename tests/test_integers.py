"""Integers, such as ids of tokens, which custom modules receive as int64."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.model_selection import cross_val_score
from torch import nn

from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet._integers import select_extremes
from sktriplet.exceptions import InvalidParameterError, SkippedChunkWarning


class Bag(nn.EmbeddingBag):
    """The sum of two weights per id, which records the types of its inputs."""

    def __init__(self, n_ids=8):
        super().__init__(n_ids, 2, mode="sum")
        nn.init.normal_(self.weight, generator=torch.Generator().manual_seed(0))
        self.seen = set()

    def forward(self, ids):
        self.seen.add(ids.dtype)
        return super().forward(ids.flatten(1))


class Parity(nn.Module):
    """The parity of an id, with a weight that has no effect."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, ids):
        return torch.stack([ids[:, 0] % 2, ids[:, 0] % 3], dim=1) + 0 * self.weight


@pytest.fixture
def make_ids():
    def make(n_ids=8, n_samples=40, length=5, dtype=np.int64):
        """Documents whose words are even in one class, and odd in the other."""
        rng = np.random.default_rng(0)
        y = np.arange(n_samples) % 2
        X = 2 * rng.integers(n_ids // 2, size=(n_samples, length)) + y[:, None]
        return X.astype(dtype), y

    return make


@pytest.fixture
def make_bag():
    def make(n_ids=8, **parameters):
        defaults = {"module": Bag(n_ids), "standardize": False, "max_epochs": 10, "lr": 0.1}
        defaults["whiten"] = False
        return TripletEmbedder(None, random_state=0, **(defaults | parameters))

    return make


class TestIdsReachTheModule:
    @pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.uint16, np.uint64])
    def test_learns(self, make_bag, make_ids, dtype):
        X, y = make_ids(dtype=dtype)
        embedder = make_bag().fit(X, y)
        module = embedder.net_.module_.backbone
        assert module.seen == {torch.int64}
        assert embedder.score(X, y) > 0.9
        sums = module.weight.detach().numpy()[X].sum(axis=1)
        expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        assert_allclose(embedder.transform(X), expected, rtol=1e-4)

    @pytest.mark.parametrize("convert", [list, pd.DataFrame])
    def test_other_containers(self, make_bag, make_ids, convert):
        X, y = make_ids()
        embedder = make_bag()
        expected = embedder.fit(X, y).transform(X)
        assert_array_equal(embedder.fit(convert(X), y).transform(convert(X)), expected)

    def test_large_ids_stay_apart(self):
        """In float32, 2**24 + 1 equals 2**24."""
        X = np.array([[2**24], [2**24 + 1]] * 5)
        embedder = TripletEmbedder(
            None, module=Parity(), standardize=False, normalize=False, max_epochs=1
        ).fit(X, [0, 1] * 5)
        assert_array_equal(embedder.transform(X[:2]), [[0, 1], [1, 2]])

    @pytest.mark.parametrize(
        ("shape", "input_shape"), [((2, 3), None), ((2, 3), (2, 3)), ((6,), (1, 6))]
    )
    def test_more_dimensions(self, make_bag, make_ids, shape, input_shape):
        X, y = make_ids(length=6, dtype=np.int32)
        embedder = make_bag(input_shape=input_shape).fit(X.reshape(-1, *shape), y)
        assert embedder.net_.module_.backbone.seen == {torch.int64}
        flat = make_bag(module=embedder.module).fit(X, y)
        assert_array_equal(embedder.transform(X.reshape(-1, *shape)), flat.transform(X))

    def test_augment_receives_ids(self, make_bag, make_ids):
        seen = []
        embedder = make_bag(augment=lambda ids: seen.append(ids.dtype) or ids)
        embedder.fit(*make_ids())
        assert set(seen) == {torch.int64}

    def test_pickle_and_partial_fit(self, make_bag, make_ids):
        X, y = make_ids()
        embedder = make_bag().partial_fit(X, y)
        loaded = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(loaded.transform(X), embedder.transform(X))
        assert_array_equal(
            loaded.partial_fit(X, y).transform(X), embedder.partial_fit(X, y).transform(X)
        )

    def test_cross_validation(self, make_bag, make_ids):
        assert cross_val_score(make_bag(), *make_ids(), cv=2).min() > 0.8

    @pytest.mark.parametrize("shape", [(6,), (2, 3)])
    def test_in_verifier_and_classifier(self, make_bag, make_ids, shape):
        X, y = make_ids(n_samples=80, length=6, dtype=np.int32)
        X, embedder = X.reshape(-1, *shape), make_bag()
        verifier = PairVerifier(embedder).fit(X, y)
        pairs = np.stack([X[:-1], X[1:]], axis=1)
        assert not verifier.predict(pairs).any()
        assert OpenSetClassifier(embedder).fit(X, y).predict(X).shape == (80,)


class TestOtherSamplesAreConverted:
    @pytest.mark.parametrize(
        ("dtype", "standardize"), [(np.uint8, False), (bool, False), (np.int64, True)]
    )
    def test_float32(self, make_ids, dtype, standardize):
        seen = []

        class Recorder(nn.Linear):
            def forward(self, X):
                seen.append(X.dtype)
                return super().forward(X)

        X, y = make_ids(dtype=dtype)
        embedder = TripletEmbedder(None, module=Recorder(5, 2), standardize=standardize)
        embedder.set_params(max_epochs=1).fit(X, y).transform(X)
        assert set(seen) == {torch.float32}

    def test_default_network(self, make_embedder, make_ids):
        X, y = make_ids()
        expected = make_embedder(standardize=False).fit(X.astype(float), y).transform(X)
        assert_array_equal(make_embedder(standardize=False).fit(X, y).transform(X), expected)

    def test_sparse_counts(self, make_embedder, make_ids):
        X, y = make_ids()
        embedder = make_embedder(module=nn.Linear(5, 32), standardize=False)
        expected = embedder.fit(X.astype(np.float32), y).transform(X)
        assert_array_equal(embedder.fit(csr_array(X), y).transform(csr_array(X)), expected)

    def test_fitted_on_floats(self, make_embedder, make_ids):
        X, y = make_ids()
        embedder = make_embedder(module=nn.Linear(5, 32), standardize=False)
        embedder.fit(X.astype(float), y)
        assert_array_equal(embedder.transform(X), embedder.transform(X.astype(float)))
        assert embedder.set_params(warm_start=True).fit(X, y).n_iter_ == 4


class TestErrors:
    """They are raised before training."""

    @pytest.fixture(autouse=True)
    def _no_training(self, failing_miner, make_bag):
        self.make = lambda *args, **kwargs: make_bag(*args, mining=failing_miner, **kwargs)

    @pytest.mark.parametrize("dtype", [np.float64, np.uint8])
    def test_no_ids(self, make_ids, dtype):
        with pytest.raises(InvalidParameterError, match=r"Bag requires ids.*standardize="):
            self.make().fit(*make_ids(dtype=dtype))

    def test_standardized_ids(self, make_ids):
        with pytest.raises(InvalidParameterError, match="standardize=False"):
            self.make(standardize=True).fit(*make_ids())

    @pytest.mark.parametrize("value", [-1, 8])
    def test_out_of_range(self, make_ids, value):
        X, y = make_ids()
        X[17, 3] = value
        with pytest.raises(InvalidParameterError, match=rf"ids from .*{value}.*num_embeddings=8"):
            self.make().fit(X, y)

    def test_quantities(self, make_ids, failing_miner):
        embedder = TripletEmbedder(None, module=nn.Linear(5, 2), mining=failing_miner)
        with pytest.raises(InvalidParameterError, match=r"Linear.*astype\(np\.float32\)"):
            embedder.set_params(standardize=False).fit(*make_ids())

    def test_too_large(self, make_ids):
        X, y = make_ids(dtype=np.uint64)
        X[0, 0] = 2**63
        with pytest.raises(ValueError, match=r"9223372036854775808.*int64"):
            self.make().fit(X, y)

    @pytest.mark.parametrize("dtype", [np.float32, np.int64])
    def test_unrelated_errors_are_not_changed(self, make_ids, dtype):
        class Wrong(nn.Module):
            def __init__(self):
                super().__init__()
                self.table, self.layer = nn.Embedding(8, 3), nn.Linear(7, 2)

            def forward(self, X):
                return self.layer(X.float())

        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            TripletEmbedder(None, module=Wrong(), standardize=False).fit(*make_ids(dtype=dtype))


class TestAfterFit:
    def test_out_of_range(self, make_bag, make_ids):
        X, y = make_ids()
        with pytest.raises(InvalidParameterError, match=r"ids from 0 to 99.*num_embeddings=8"):
            make_bag().fit(X, y).transform(np.where(X == 7, 99, X))

    @pytest.mark.parametrize("method", ["transform", "partial_fit"])
    @pytest.mark.parametrize("convert", [np.float32, np.uint8, csr_array])
    def test_no_ids(self, make_bag, make_ids, method, convert):
        X, y = make_ids()
        embedder = make_bag().fit(X, y)
        arguments = (convert(X),) if method == "transform" else (convert(X), y)
        with pytest.raises(ValueError, match="X must hold integers other than uint8"):
            getattr(embedder, method)(*arguments)

    def test_standardize_must_not_change(self, make_bag, make_ids):
        embedder = make_bag().fit(*make_ids())
        with pytest.raises(InvalidParameterError, match="'standardize' parameter must not change"):
            embedder.set_params(standardize=True).partial_fit(*make_ids())


class TestUnlabeled:
    def test_fit(self, make_bag, make_ids):
        X, y = make_ids()
        embedder = make_bag(unlabeled=-1).fit(X, np.where(np.arange(40) < 10, -1, y))
        assert embedder.score(X, y) > 0.9
        assert embedder.net_.module.backbone.seen == {torch.int64}

    def test_ids_of_unlabeled_samples_are_checked(self, make_bag, make_ids):
        X, y = make_ids()
        X[0, 0], y[0] = 99, -1
        with pytest.raises(InvalidParameterError, match=r"ids from 0 to 99.*num_embeddings=8"):
            make_bag(unlabeled=-1).fit(X, y)

    def test_chunk_of_one_sample(self, make_bag, make_ids):
        X, y = make_ids()
        embedder = make_bag(unlabeled=-1)
        with pytest.warns(SkippedChunkWarning):
            embedder.partial_fit(X[:1], [-1])
        assert_array_equal(embedder.partial_fit(X, y).classes_, [0, 1])


def test_select_extremes():
    rng = np.random.default_rng(0)
    X = rng.integers(100, size=(300, 2, 3))
    selected = X[select_extremes(X)]
    assert_array_equal(selected.min(axis=0), X.min(axis=0))
    assert_array_equal(selected.max(axis=0), X.max(axis=0))
    assert select_extremes(X[:1]).tolist() == [0]
    few = X[select_extremes(X, 2)]
    assert (few.min(), few.max()) == (X.min(), X.max())
