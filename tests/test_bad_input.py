"""Invalid input of the estimators raises an error that names it, before training starts."""

from datetime import date, datetime
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet.exceptions import DivergenceError, InvalidParameterError
from sktriplet.training import TripletNet

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
Y = np.arange(30) % 3


def small(**parameters):
    defaults = {"n_components": 4, "max_epochs": 1, "random_state": 0}
    if "module" not in parameters:
        defaults["hidden_layer_sizes"] = (4,)
    return TripletEmbedder(**(defaults | parameters))


def with_value(value):
    samples = X.copy()
    samples[3, 1] = value
    return samples


SAMPLES = {
    "None": (None, ValueError, "None|NaN|array"),
    "text": ("abc", ValueError, "X|array"),
    "bytes": (b"123", ValueError, "X|array"),
    "number": (3.0, ValueError, "array"),
    "NumPy number": (np.float64(3.0), ValueError, "array"),
    "no dimension": (np.array(3.0), ValueError, "array"),
    "generator": (
        (sample for sample in X),
        (TypeError, ValueError),
        "X must hold numbers|generator",
    ),
    "dict": ({"a": X}, (TypeError, ValueError), "X must hold numbers|dict"),
    "set": ({1, 2}, (TypeError, ValueError), "X must hold numbers|set"),
    "one dimension": (X[:, 0], ValueError, "1D array"),
    "five dimensions": (X.reshape(30, 1, 2, 2, 1), ValueError, r"X .*\(30, 1, 2, 2, 1\)"),
    "no samples": (X[:0], ValueError, "0 sample"),
    "one sample": (X[:1], ValueError, r"1 sample|\[1, 30\]"),
    "no features": (X[:, :0], ValueError, "0 feature"),
    "other length": (X[:10], ValueError, r"\[10, 30\]"),
    "infinity": (with_value(-np.inf), ValueError, "X contains infinity"),
    "too large for float32": (X.astype(float) * 1e300, ValueError, r"X .*too large.*float32"),
    "complex": (X.astype(complex), ValueError, "Complex data"),
    "text features": (np.array([["a", "b"]] * 30, object), ValueError, "X must hold numbers.*'a'"),
    "ragged": ([[1, 2], [3]] * 15, ValueError, "X must hold numbers.*inhomogeneous"),
    "paths": (["a.png", "b.png"] * 15, ValueError, "X must hold numbers.*load_image_folder"),
    "column of arrays": (
        np.fromiter((sample for sample in X), dtype=object),
        ValueError,
        r"X must hold numbers.*np\.stack",
    ),
    "structured": (np.zeros(30, [("a", float), ("b", float)]), (TypeError, ValueError), "X|array"),
    "dates": (
        np.array([["2020-01-01"]] * 30, "datetime64[D]"),
        ValueError,
        "X must hold numbers.*dates",
    ),
    "dates in a column": (
        pd.DataFrame({"a": pd.date_range("2020", periods=30), "b": 1.0}),
        ValueError,
        "X must hold numbers.*dates.*'a'",
    ),
    "dates in an array": (
        np.array([[1.0, date(2020, 1, 1)]] * 30, dtype=object),
        ValueError,
        "X must hold numbers.*dates.*column 1",
    ),
    "dates in a list": (
        [[1.0, datetime(2020, 1, 1)]] * 30,
        (TypeError, ValueError),
        "X must hold numbers.*dates.*column 1",
    ),
    "texts": (["a text", "another one"] * 15, ValueError, "X must hold numbers.*TfidfVectorizer"),
    "durations": (
        pd.DataFrame({"a": pd.to_timedelta(range(30))}),
        ValueError,
        "X must hold numbers.*durations.*'a'",
    ),
    "infinity beside text": (
        pd.DataFrame({"a": ["x", "y"] * 15, "b": [np.inf, 1] * 15}),
        ValueError,
        "X contains infinity.*'b'|X must hold numbers",
    ),
    "tensor with gradient": (torch.tensor(X, requires_grad=True), RuntimeError, "requires grad"),
}
IMAGES = {
    "ambiguous layout": (np.zeros((30, 3, 8, 3)), r"X .*\(30, 3, 8, 3\).*input_shape="),
    "NaN": (np.full((30, 8, 8), np.nan), "X contains NaN"),
    "two pixels": (np.ones((30, 2, 2)), r"\(1, 2, 2\)"),
}
LABELS = {
    "None": (None, "requires y"),
    "one class": (np.zeros(30), r"at least 2 classes.*\[0\.0\]"),
    "singletons": (np.arange(30), "class with at least 2.*30 classes"),
    "continuous": (np.linspace(0, 1, 30), "label type: continuous"),
    "NaN": (np.where(Y > 0, Y, np.nan), "y contains NaN"),
    "infinity": (np.where(Y > 0, Y, np.inf), "y contains infinity"),
    "two columns": (np.stack([Y, Y], axis=1), r"y must hold one label.*\(30, 2\).*Comparison"),
    "one-hot": (np.eye(3)[Y], r"y must hold one label.*\(30, 3\).*y\.argmax\(axis=1\)"),
    "several labels": (np.eye(4)[Y] + np.eye(4)[3], r"y must hold one label.*\(30, 4\).*several"),
    "None among text": (np.array([None, "a", "b"] * 10, object), "y.*(missing|NoneType)"),
    "pandas NA": (np.array([pd.NA, "a", "b"] * 10, object), "y.*missing"),
    "mixed types": (np.array([1, "a", 2] * 10, object), "y (must hold class labels|.*int, str)"),
    "mark among text": (np.array([-1, "a", "b"] * 10, object), "single type.*unlabeled=-1"),
    "missing category": (pd.Series(pd.Categorical(["a", "b", None] * 10)), "y.*(missing|NaN)"),
    "missing integer": (pd.Series(pd.array([1, 2, None] * 10, dtype="Int64")), "y.*(missing|NaN)"),
    "NaT": (np.array(["2020", "2021", "NaT"] * 10, "datetime64[D]"), "y.*(missing|NaT)"),
    "complex": (Y.astype(complex), "y .*Complex"),
    "generator": ((label for label in Y), "y should be a 1d array"),
    "text": ("abc", "y should be a 1d array"),
    "number": (1, "y should be a 1d array"),
    "dict": ({"a": 1}, "y should be a 1d array"),
    "empty": ([], r"\[30, 0\]"),
    "ragged": ([[1], [1, 2]] * 15, "y must hold one label per sample.*several labels"),
}
PARAMETERS = {
    "n_components": [0, -1, 1.5, True, "a", None],
    "margin": [0, -1, np.nan, np.inf, True, "1", None],
    "loss": ["hing", 3, None],
    "mining": ["semihard", 1, None],
    "metric": ["l2", 2],
    "nca_weight": [-1, np.nan, np.inf, True],
    "normalize": [1, "yes"],
    "module": ["MLP", 3, None],
    "hidden_layer_sizes": [0, (0,), (1.5,), "ab", (True,), None],
    "n_members": [0, 2.0],
    "unlabeled": [0.5, np.nan, [-1]],
    "input_shape": [(2,), (0, 2, 2), (1, 2.0, 2), 4, "188"],
    "augment": ["flipp", 3, True, "flip"],
    "standardize": [0],
    "batch_size": [2, -1, 1.5, True],
    "samples_per_class": [1, True],
    "max_epochs": [0, 1.0, True],
    "lr": [0, -1, np.nan, np.inf, True],
    "weight_decay": [-1, np.nan],
    "early_stopping": ["yes", 1],
    "validation_fraction": [0, 1],
    "n_iter_no_change": [0],
    "tol": [-1, np.nan],
    "precision": ["float16", None, torch.bfloat16],
    "warm_start": [1],
    "random_state": [-1, 1.5, "a", 2**40, np.random.default_rng(0)],
    "verbose": [-1, "a"],
    "device": ["gpu", "cuda:99", 3, None],
    "net": ["a", nn.Linear(1, 1), TripletNet],
}
# What the network returns is checked in networks/test_embedding_network.py.
MODULES = {
    "other n_components": (nn.Linear(4, 5), r"\(2, 4\).*\(2, 5\)"),
    "factory of None": (lambda input_shape, n_components: None, "Module.*None"),
    "class with other arguments": (nn.Linear, r"\(input_shape, n_components\)"),
}


def two_tensors(distances, labels, **kwargs):
    return torch.tensor([1]), torch.tensor([2])


CALLABLES = {
    "miner: None": ("mining", lambda d, y, **kw: None, ValueError, "triplets .*None"),
    "miner: pairs": ("mining", two_tensors, ValueError, "triplets must be three"),
    "miner: floats": ("mining", lambda d, y, **kw: (torch.zeros(2),) * 3, TypeError, "anchor"),
    "miner: index 999": (
        "mining",
        lambda d, y, **kw: (torch.tensor([999]),) * 3,
        ValueError,
        "anchor .*batch of 30.* 999",
    ),
    "loss: None": ("loss", lambda p, n, m: None, ValueError, "loss must return.*NoneType"),
    "loss: sum": ("loss", lambda p, n, m: (p - n).sum(), ValueError, r"loss .*shape \(\)"),
    "loss: NaN": ("loss", lambda p, n, m: (p - n) * np.nan, DivergenceError, "epoch 1.*nan"),
    "loss: infinity": ("loss", lambda p, n, m: p - n + np.inf, DivergenceError, "epoch 1.*inf"),
    "metric: None": ("metric", lambda E: None, ValueError, "metric must return.*NoneType"),
    "metric: other shape": ("metric", lambda E: E, ValueError, r"metric must .*\(30, 4\)"),
    "metric: detached": (
        "metric",
        lambda E: torch.cdist(E, E).detach(),
        ValueError,
        "metric must return .*differentiate",
    ),
    "metric: NaN": ("metric", lambda E: E @ E.T * np.nan, DivergenceError, "loss.* nan"),
}


@pytest.fixture
def _no_training(monkeypatch):
    """Fail if a training step is reached."""

    def train_step(*args, **kwargs):
        pytest.fail("training started")

    monkeypatch.setattr(TripletNet, "train_step", train_step)


def assert_raises(estimator, samples, y, error, match, method="fit"):
    """Check the error, and that the estimator is not changed."""
    before = dict(vars(estimator))
    with pytest.raises(error, match=rf"(?s){match}"):
        getattr(estimator, method)(samples, y)
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[name] is value for name, value in before.items())


@pytest.mark.usefixtures("_no_training")
class TestBeforeTraining:
    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    @pytest.mark.parametrize(("samples", "error", "match"), SAMPLES.values(), ids=SAMPLES)
    def test_samples(self, samples, error, match, method):
        assert_raises(small(), samples, Y, error, match, method)

    @pytest.mark.parametrize(("images", "match"), IMAGES.values(), ids=IMAGES)
    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_images(self, images, match, method):
        embedder = TripletEmbedder(4, max_epochs=1)
        assert_raises(embedder, images, Y, ValueError, match, method)

    def test_input_shape(self):
        match = r"X .*\(1, 3, 3\).*\(30, 4\)"
        embedder = TripletEmbedder(4, input_shape=(1, 3, 3))
        assert_raises(embedder, X, Y, ValueError, match)

    @pytest.mark.parametrize("make", [PairVerifier, OpenSetClassifier])
    @pytest.mark.parametrize(("samples", "error", "match"), SAMPLES.values(), ids=SAMPLES)
    def test_samples_of_recognition(self, samples, error, match, make):
        if match.startswith((r"X .*\(", "X contains infinity")):
            pytest.skip("the embedder rejects it when it receives these samples")
        match = match.replace("must hold numbers", "must hold (numbers|samples)")
        assert_raises(make(small()), samples, Y, error, match)

    @pytest.mark.parametrize("make", [small, partial(PairVerifier, small())])
    @pytest.mark.parametrize(("y", "match"), LABELS.values(), ids=LABELS)
    def test_labels(self, y, match, make):
        assert_raises(make(), X, y, ValueError, match)

    def test_fit_without_labels(self):
        with pytest.raises(TypeError, match="'y'"):
            small().fit(X)

    @pytest.mark.parametrize(
        ("name", "value"), [(name, value) for name in PARAMETERS for value in PARAMETERS[name]]
    )
    def test_parameter(self, name, value):
        assert_raises(small(**{name: value}), X, Y, InvalidParameterError, f"'{name}' parameter")

    @pytest.mark.parametrize(
        ("name", "value"), [("margin", -0.5), ("mining", "hardest"), ("batch_size", 2)]
    )
    def test_parameter_message(self, name, value):
        match = f"'{name}' parameter of TripletEmbedder must be .* Got {value!r} instead"
        assert_raises(small(**{name: value}), X, Y, InvalidParameterError, match)

    def test_parameters_that_exclude_each_other(self):
        embedder = small(metric="cosine", normalize=False)
        assert_raises(embedder, X, Y, InvalidParameterError, "'metric' parameter.*normalize")
        embedder = small(metric="cosine", n_components=1)
        assert_raises(embedder, X, Y, InvalidParameterError, "'metric' parameter.*n_components=1")

    @pytest.mark.parametrize(("module", "match"), MODULES.values(), ids=MODULES)
    def test_module(self, module, match):
        embedder = small(module=module)
        assert_raises(embedder, X, Y, InvalidParameterError, f"'module' parameter.*{match}")

    def test_augment(self):
        embedder = small(augment=lambda batch: batch[:1])
        assert_raises(embedder, X, Y, InvalidParameterError, "'augment' parameter.*shape")

    @pytest.mark.parametrize("name", ["module", "augment"])
    def test_error_of_callable_is_raised(self, name):
        assert_raises(small(**{name: lambda *args: 1 / 0}), X, Y, ZeroDivisionError, "division")

    def test_early_stopping_with_few_samples(self):
        embedder = small(early_stopping=True)
        assert_raises(embedder, X[:6], Y[:6], ValueError, "early_stopping=True .*hold out")

    def test_early_stopping_in_partial_fit(self):
        match = "partial_fit does not support early_stopping"
        assert_raises(small(early_stopping=True), X, Y, ValueError, match, "partial_fit")


@pytest.mark.parametrize(("name", "value", "error", "match"), CALLABLES.values(), ids=CALLABLES)
def test_callable_fails_in_first_batch(name, value, error, match, monkeypatch):
    steps, train_step = [], TripletNet.train_step

    def counted(*args, **kwargs):
        steps.append(1)
        return train_step(*args, **kwargs)

    monkeypatch.setattr(TripletNet, "train_step", counted)
    assert_raises(small(**{name: value}), X, Y, error, match)
    assert len(steps) == 1


@pytest.fixture(scope="module")
def fitted():
    return small().fit(X, Y)


@pytest.fixture(scope="module")
def verifier():
    return PairVerifier(small()).fit(np.repeat(X, 4, 0), np.repeat(Y, 4))


@pytest.fixture(scope="module")
def classifier():
    return OpenSetClassifier(small(), target_fpir=0.3).fit(np.repeat(X, 4, 0), np.repeat(Y, 4))


class TestFitted:
    @pytest.mark.parametrize("method", ["transform", "score", "predict"])
    @pytest.mark.parametrize(
        ("samples", "error", "match"),
        [
            (X[:, :3], ValueError, "X has 3 features.*expecting 4"),
            (X[0], ValueError, "1D array"),
            (with_value(np.inf), ValueError, "X contains infinity"),
            (X.astype(float) * 1e300, ValueError, "X.*too large"),
            (X[:0], ValueError, "0 sample"),
            (X.reshape(30, 2, 2), ValueError, "dim 3"),
            (np.array([["a"] * 4]), ValueError, "X must hold numbers"),
            (X.astype(complex), ValueError, "Complex data"),
            (np.zeros((3, 4), "datetime64[D]"), ValueError, "X must hold numbers.*dates"),
            (None, ValueError, "None|NaN|array"),
            (iter(X), (TypeError, ValueError), "X must hold numbers|iterator"),
        ],
    )
    def test_samples(self, fitted, classifier, method, samples, error, match):
        call = {
            "transform": fitted.transform,
            "score": partial(fitted.score, y=Y),
            "predict": classifier.predict,
        }
        with pytest.raises(error, match=rf"(?s){match}"):
            call[method](samples)

    def test_feature_names(self):
        frame = pd.DataFrame(X, columns=list("abcd"))
        with pytest.raises(ValueError, match="feature names"):
            small().fit(frame, Y).transform(frame.rename(columns={"a": "z"}))

    @pytest.mark.parametrize(
        ("estimator", "method", "arguments"),
        [
            (small(), "transform", (X,)),
            (small(), "score", (X, Y)),
            (small(), "get_feature_names_out", ()),
            (PairVerifier(), "predict", (np.stack([X, X], axis=1),)),
            (OpenSetClassifier(), "predict", (X,)),
            (OpenSetClassifier(), "enroll", (X, Y)),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_not_fitted(self, estimator, method, arguments):
        with pytest.raises(NotFittedError, match=type(estimator).__name__):
            getattr(estimator, method)(*arguments)

    @pytest.mark.parametrize("y", [Y[:3], None])
    def test_score_labels(self, fitted, y):
        with pytest.raises(ValueError, match=r"^y "):
            fitted.score(X, y)

    @pytest.mark.parametrize(
        ("samples", "y", "match"),
        [
            (X, Y.astype(str), "y .*type"),
            (X[:, :2], Y, "X has 2 features"),
            (X[:0], Y[:0], "0 sample"),
            (X.reshape(30, 2, 2), Y, r"X has shape \(30, 2, 2\).*4 features"),
        ],
    )
    def test_partial_fit(self, samples, y, match):
        fitted = small().fit(X, Y)
        expected = fitted.transform(X)
        assert_raises(fitted, samples, y, ValueError, match, "partial_fit")
        assert np.array_equal(fitted.transform(X), expected)

    def test_warm_start_with_other_n_components(self):
        fitted = small(warm_start=True).fit(X, Y).set_params(n_components=3)
        assert_raises(fitted, X, Y, ValueError, "n_components")

    @pytest.mark.parametrize(
        ("pairs", "match"),
        [
            (np.full((3, 2, 4), np.inf), "X contains infinity"),
            (np.zeros((3, 8)), r"pairs .*\(n_pairs, 2, \.\.\.\).* Got .*\(3, 8\)"),
            (np.zeros((3, 3, 4)), r"pairs .*\(n_pairs, 2, \.\.\.\).* Got .*\(3, 3, 4\)"),
            (np.zeros((3, 2), dtype=int), r"pairs .*Pairs\(X, indices=indices\).*\(3, 2\)"),
            (np.zeros((3, 2), dtype=object), r"pairs .*Pairs\(X, indices=indices\).*\(3, 2\)"),
            (pd.DataFrame(np.zeros((3, 2))), r"pairs .*\(3, 2\)"),
            ((X, X[:3]), "same length. Got 30 and 3 rows"),
            (np.zeros((0, 2, 4)), "0 sample"),
            ([[X[0], X[1]], [X[0]]], "pairs must hold"),
            ("a", "pairs|array"),
            (None, "pairs|array"),
        ],
    )
    def test_pairs(self, verifier, pairs, match):
        with pytest.raises((TypeError, ValueError), match=match):
            verifier.predict(pairs)
