"""Sequences: their layouts, the default network, and custom networks."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sktriplet import ComparisonEmbedder, PairVerifier, TripletEmbedder
from sktriplet._input_layout import SequenceLayout
from sktriplet._training_data import validate_training_data
from sktriplet.exceptions import InvalidParameterError

N_CHANNELS, LENGTH = 3, 20


@pytest.fixture(scope="module")
def signals():
    """Sine waves of three frequencies and random phase, with channels of different scales."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    phase = rng.uniform(0, 2 * np.pi, size=(len(y), N_CHANNELS, 1))
    X = np.sin(np.arange(LENGTH) * (0.4 + 0.4 * y[:, None, None]) + phase)
    return 10 ** np.arange(N_CHANNELS)[:, None] * X + [[-5], [0], [1000]], y


@pytest.fixture
def make_sequence_embedder():
    """Make an embedder that trains in a fraction of a second."""

    def make(**parameters):
        defaults = {"max_epochs": 2, "random_state": 0, "input_shape": (N_CHANNELS, LENGTH)}
        return TripletEmbedder(8, **(defaults | parameters))

    return make


def linear(input_shape, n_components):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), n_components))


class TestLayouts:
    @pytest.mark.parametrize(
        ("array_shape", "input_shape"),
        [
            ((9, 3, 20), (3, 20)),
            ((9, 20, 3), (3, 20)),
            ((9, 60), [3, 20]),
            ((9, 20), (1, 20)),
            ((9, 20, 1), (1, 20)),
            ((9, 3, 3), (3, 3)),
        ],
    )
    def test_input_shape(self, array_shape, input_shape):
        embedder = TripletEmbedder(input_shape=input_shape)
        data = validate_training_data(embedder, np.zeros(array_shape), np.arange(9) % 2)
        assert data.preprocessor.layout == SequenceLayout(tuple(input_shape))

    def test_to_rows(self):
        """In all layouts, a row has the channels of one time step."""
        X = np.arange(2 * 3 * 4).reshape(2, 3, 4)
        layout, expected = SequenceLayout((3, 4)), X.transpose(0, 2, 1).reshape(-1, 3)
        for given in (X, X.transpose(0, 2, 1), X.reshape(2, -1)):
            assert_array_equal(layout.to_rows(given), expected)
        assert layout.statistics_shape == (-1, 1)

    def test_equivalent(self, make_sequence_embedder, signals):
        X, y = signals
        first = make_sequence_embedder().fit(X, y)
        assert first.input_shape_ == (N_CHANNELS, LENGTH)
        assert first.n_features_in_ == N_CHANNELS * LENGTH
        for convert in (lambda X: X.transpose(0, 2, 1), lambda X: X.reshape(len(X), -1)):
            other = make_sequence_embedder().fit(convert(X), y)
            assert_allclose(other.transform(X), first.transform(X), atol=1e-4)
            assert_allclose(first.transform(convert(X)), first.transform(X), atol=1e-5)

    def test_without_input_shape_they_are_images(self, signals, make_image_embedder):
        embedder = make_image_embedder(module=linear)
        assert embedder.fit(*signals).input_shape_ == (1, N_CHANNELS, LENGTH)
        with pytest.raises(ValueError, match=r"\(n_channels, length\) .*Got \(1, 3, 20\)"):
            make_image_embedder().fit(*signals)

    def test_univariate_table(self, signals):
        """A table is a sequence of one channel if input_shape says so."""
        X, y = signals[0][:, 0], signals[1]
        embedder = TripletEmbedder(4, input_shape=(1, LENGTH), max_epochs=1, random_state=0)
        by_row = embedder.fit(X, y).transform(X)
        assert embedder.net_.module_.backbone.stages[0][0].in_channels == 1
        by_channel = embedder.fit(X[:, None], y)
        assert_allclose(by_channel.transform(X[..., None]), by_row, atol=1e-5)
        frame = pd.DataFrame(X).add_prefix("t")
        assert_array_equal(embedder.fit(frame, y).transform(frame), by_row)


class TestInvalid:
    @pytest.mark.parametrize(
        ("shape", "match"),
        [
            ((6, 3, 19), r"\(3, 20\) or \(20, 3\) or \(60,\).*\(6, 3, 19\)"),
            ((6, 59), r"\(60,\).*\(6, 59\)"),
            ((6, 1, 3, 20), r"\(6, 1, 3, 20\)"),
            ((6,), r"\(6,\)"),
        ],
    )
    def test_shape(self, make_sequence_embedder, signals, shape, match):
        with pytest.raises(ValueError, match=f"X must hold sequences of shape .*{match}"):
            make_sequence_embedder().fit(np.zeros(shape), [0, 0, 0, 1, 1, 1])
        embedder = make_sequence_embedder(module=linear).fit(*signals)
        with pytest.raises(ValueError, match=r"X has shape \(6.* sequences of shape \(3, 20\)"):
            embedder.transform(np.zeros(shape))

    def test_single_sequence(self, make_sequence_embedder, signals):
        embedder = make_sequence_embedder(module=linear).fit(*signals)
        with pytest.raises(ValueError, match="newaxis"):
            embedder.transform(signals[0][0])

    def test_different_lengths(self, make_sequence_embedder):
        with pytest.raises(ValueError, match=r"X must hold numbers.*same shape"):
            make_sequence_embedder().fit([np.zeros((3, 20)), np.zeros((3, 19))], [0, 1])

    @pytest.mark.parametrize("input_shape", [(20,), (1, 2, 3, 4), (0, 20), 20])
    def test_input_shape(self, make_sequence_embedder, signals, input_shape):
        with pytest.raises(InvalidParameterError, match="'input_shape' parameter"):
            make_sequence_embedder(input_shape=input_shape).fit(*signals)

    def test_sparse(self, make_sequence_embedder, signals):
        X, y = signals
        with pytest.raises(TypeError, match="must be dense, because its samples are sequences"):
            make_sequence_embedder().fit(csr_array(X.reshape(len(X), -1)), y)

    def test_nan(self, make_sequence_embedder, signals):
        X, y = signals
        with pytest.raises(ValueError, match="X contains NaN"):
            make_sequence_embedder().fit(np.where(X > 1000, np.nan, X), y)

    @pytest.mark.parametrize(
        ("parameters", "match"),
        [
            ({"augment": "flip"}, "'augment' parameter can be a name for images only.*sequences"),
            ({"n_members": 2}, "'n_members' parameter .* no effect.*ConvNet1d"),
            ({"categorical_features": [0]}, "'categorical_features' .* or sequences"),
        ],
    )
    def test_parameters_of_others(self, make_sequence_embedder, signals, parameters, match):
        with pytest.raises(InvalidParameterError, match=match):
            make_sequence_embedder(**parameters).fit(*signals)


class TestDefaultNetwork:
    def test_is_accurate(self, make_sequence_embedder, signals):
        flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
        pipeline = make_pipeline(flat, make_sequence_embedder(max_epochs=5), KNeighborsClassifier())
        assert cross_val_score(pipeline, *signals, cv=2).min() > 0.9

    def test_channels_are_standardized(self, make_sequence_embedder, signals):
        X, y = signals
        embedder = make_sequence_embedder().fit(X, y)
        scaler = embedder.net_.module_.scaler
        assert_allclose(scaler.mean.flatten(), X.mean(axis=(0, 2)), rtol=1e-5)
        assert_allclose(scaler.scale.flatten(), X.std(axis=(0, 2)), rtol=1e-4)
        scaled = (X - X.mean(axis=(0, 2), keepdims=True)) / X.std(axis=(0, 2), keepdims=True)
        outside = make_sequence_embedder(standardize=False).fit(scaled, y)
        assert_allclose(outside.transform(scaled), embedder.transform(X), atol=1e-3)

    def test_pickle(self, make_sequence_embedder, signals):
        embedder = make_sequence_embedder().fit(*signals)
        loaded = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(loaded.transform(signals[0]), embedder.transform(signals[0]))
        clone(loaded).fit(*signals)

    def test_partial_fit(self, make_sequence_embedder, signals):
        X, y = signals
        embedder = make_sequence_embedder().partial_fit(X[:45], y[:45])
        embedder.partial_fit(X[45:].transpose(0, 2, 1), y[45:])
        assert_allclose(embedder._preprocessor.scaler.mean_, X.mean(axis=(0, 2)), rtol=1e-5)
        with pytest.raises(ValueError, match=r"X must hold sequences"):
            embedder.partial_fit(X[..., :19], y)

    def test_input_shape_must_not_change(self, make_sequence_embedder, signals):
        X, y = signals
        embedder = make_sequence_embedder(warm_start=True).fit(X, y)
        with pytest.raises(ValueError, match=r"X has shape .*sequences of shape \(3, 20\)"):
            embedder.set_params(input_shape=(1, 60)).fit(X.reshape(-1, 60), y)

    def test_bytes(self, make_sequence_embedder, signals):
        """They are converted batch by batch, as those of images."""
        X = (signals[0] % 256).astype(np.uint8)
        seen = []
        embedder = make_sequence_embedder(augment=lambda X: seen.append(X.dtype) or X)
        embedder.fit(X, signals[1])
        assert set(seen) == {torch.uint8}


class TestCustomModule:
    def test_receives_channels_first(self, make_sequence_embedder, signals):
        shapes = []

        class Recorder(nn.Module):
            def __init__(self, input_shape, n_components):
                super().__init__()
                assert input_shape == (N_CHANNELS, LENGTH)
                self.layer = nn.Conv1d(N_CHANNELS, n_components, 5)

            def forward(self, X):
                shapes.append(tuple(X.shape[1:]))
                assert X.is_contiguous()
                return self.layer(X).mean(dim=2)

        X, y = signals
        make_sequence_embedder(module=Recorder).fit(X.transpose(0, 2, 1), y)
        assert set(shapes) == {(N_CHANNELS, LENGTH)}

    def test_augment(self, make_sequence_embedder, signals):
        X, y = signals
        flipped = make_sequence_embedder(augment=lambda X: X.flip(2), whiten=False).fit(X, y)
        expected = make_sequence_embedder(whiten=False).fit(X[..., ::-1], y)
        assert_allclose(flipped.transform(X), expected.transform(X), atol=1e-4)


def test_verifier(make_sequence_embedder, signals):
    X, y = signals
    verifier = PairVerifier(make_sequence_embedder(max_epochs=5)).fit(X, y)
    pairs = np.stack([X[:-3], X[3:]], axis=1)
    assert verifier.score(pairs, np.ones(len(pairs))) > 0.8


@pytest.mark.parametrize("convert", [np.asarray, lambda X: np.moveaxis(X, 1, 2)])
def test_comparison_embedder(make_sequence_embedder, signals, convert):
    X, y = signals[0], signals[1]
    by_class = [np.flatnonzero(y == label)[:10] for label in (0, 1)]
    triplets = np.stack([by_class[0], by_class[0][::-1], by_class[1]], axis=1)
    model = ComparisonEmbedder(make_sequence_embedder()).fit(convert(X)[triplets])
    assert model.input_shape_ == X.shape[1:]
    assert model.score(convert(X)[triplets]) > 0.8
    assert_allclose(model.transform(X), model.transform(convert(X)), atol=1e-5)
