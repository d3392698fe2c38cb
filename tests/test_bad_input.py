"""A table of bad inputs: each raises the right error, which names it, before any training."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet.datasets import load_image_folder
from sktriplet.exceptions import DivergenceError, InvalidParameterError
from sktriplet.losses import ContrastiveLoss, TripletLoss
from sktriplet.metrics import (
    mean_average_precision_at_r_score,
    r_precision_score,
    recall_at_k_score,
)
from sktriplet.training import BalancedBatchSampler, TripletNet

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
Y = np.arange(30) % 3
NUMBERS, LABELS = r"^X must hold finite numbers", "requires the labels in y to be of one kind"


def small(**parameters):
    return TripletEmbedder(
        **{"n_components": 4, "hidden_layer_sizes": (4,), "max_epochs": 1, "random_state": 0}
        | parameters
    )


def spoilt(value, rows=X):
    rows = rows.copy()
    rows[3, 1] = value
    return rows


class Network(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change
        self.layer = nn.Linear(4, 4)

    def forward(self, X):
        return self.change(self.layer(X))


ROWS = {
    "None": (None, ValueError, NUMBERS),
    "text": ("abc", ValueError, NUMBERS),
    "bytes": (b"123", ValueError, NUMBERS),
    "number": (3.0, ValueError, NUMBERS),
    "NumPy's number": (np.float64(3.0), ValueError, NUMBERS),
    "no dimension": (np.array(3.0), ValueError, NUMBERS),
    "generator": ((row for row in X), TypeError, NUMBERS),
    "dict": ({"a": X}, TypeError, NUMBERS),
    "set": ({1, 2}, TypeError, NUMBERS),
    "one dimension": (X[:, 0], ValueError, NUMBERS + r".*1D array"),
    "five dimensions": (X.reshape(30, 1, 2, 2, 1), ValueError, r"X must be a table.*30, 1, 2, 2"),
    "empty": (X[:0], ValueError, NUMBERS + r".*0 sample"),
    "one row": (X[:1], ValueError, NUMBERS + r".*1 sample"),
    "no columns": (X[:, :0], ValueError, NUMBERS + r".*0 feature"),
    "another length": (X[:10], ValueError, r"\[10, 30\]"),
    "NaN": (spoilt(np.nan), ValueError, "X contains NaN"),
    "infinity": (spoilt(-np.inf), ValueError, "X contains infinity"),
    "too large for float32": (X.astype(float) * 1e300, ValueError, r"X.*too large.*float32"),
    "complex": (X.astype(complex), ValueError, NUMBERS + ".*Complex"),
    "objects": (np.array([["a", "b"]] * 30, object), ValueError, NUMBERS + ".*'a'"),
    "ragged": ([[1, 2], [3]] * 15, ValueError, NUMBERS + ".*inhomogeneous.*load_image_folder"),
    "structured": (np.zeros(30, [("a", float), ("b", float)]), TypeError, NUMBERS),
    "dates": (np.array([["2020-01-01"]] * 30, "datetime64[D]"), ValueError, "X .*Got dates"),
    "dates among numbers": (
        pd.DataFrame({"a": pd.date_range("2020", periods=30), "b": 1.0}),
        TypeError,
        NUMBERS + ".*DateTime",
    ),
    "durations": (pd.DataFrame({"a": pd.to_timedelta(range(30))}), ValueError, "X .*Got dates"),
    "columns of text": (
        pd.DataFrame({"a": ["x", "y"] * 15}),
        ValueError,
        NUMBERS + r".*'x'\. Encode text first",
    ),
    "categories": (
        pd.DataFrame({"a": pd.Categorical(["x", "y"] * 15)}),
        ValueError,
        NUMBERS + ".*'x'",
    ),
    "missing integers": (
        pd.DataFrame({"a": pd.array([1, None] * 15, dtype="Int64")}),
        ValueError,
        "X contains NaN",
    ),
    "a tensor with gradient": (torch.tensor(X, requires_grad=True), RuntimeError, "requires grad"),
    "images of either layout": (np.zeros((30, 3, 8, 3)), ValueError, r"X .*Pass input_shape="),
    "images with NaN": (np.full((30, 8, 8), np.nan), ValueError, "X contains NaN"),
    "images of two pixels": (np.ones((30, 2, 2)), ValueError, r"at least 4 pixels.*\(1, 2, 2\)"),
}
TARGETS = {
    "None": (None, "requires y to be passed"),
    "one class": (np.zeros(30), r"y to hold at least 2 classes. Got 1 class: \[0.0\]"),
    "no pair": (np.arange(30), "at least 2 rows in y.*30 classes of 1 row each"),
    "real numbers": (np.linspace(0, 1, 30), "label type: continuous"),
    "NaN": (np.where(Y > 0, Y, np.nan), "y contains NaN"),
    "infinity": (np.where(Y > 0, Y, np.inf), "y contains infinity"),
    "two columns": (np.stack([Y, Y], axis=1), r"y should be a 1d array.*\(30, 2\)"),
    "one-hot": (np.eye(3)[Y], r"y should be a 1d array.*\(30, 3\)"),
    "None among text": (np.array([None, "a", "b"] * 10, object), LABELS + ".*NoneType, str"),
    "mixed kinds": (np.array([1, "a", 2] * 10, object), LABELS + ".*int, str"),
    "missing category": (pd.Series(pd.Categorical(["a", "b", None] * 10)), "y: .*missing"),
    "missing integer": (pd.Series(pd.array([1, 2, None] * 10, dtype="Int64")), "y contains NaN"),
    "NaT": (np.array(["2020", "2021", "NaT"] * 10, "datetime64[D]"), "y is missing. Got NaT"),
    "complex": (Y.astype(complex), "y must hold class labels. Complex"),
    "generator": ((label for label in Y), r"y should be a 1d array"),
    "text": ("abc", "y should be a 1d array"),
    "number": (1, "y should be a 1d array"),
    "dict": ({"a": 1}, "y should be a 1d array"),
    "empty": ([], r"\[30, 0\]"),
    "ragged": ([[1], [1, 2]] * 15, "y must hold one label for each row"),
}
PARAMETERS = {
    "n_components": [0, -1, 1.5, True, "a", None],
    "margin": [0, -1, np.nan, np.inf, True, "1", None],
    "loss": ["hing", 3, None],
    "mining": ["semihard", 1],
    "metric": ["l2", 2],
    "nca_weight": [-1, np.nan, True],
    "normalize": [1, "yes"],
    "module": ["MLP", 3],
    "hidden_layer_sizes": [(0,), (1.5,), 5, "ab", (True,)],
    "n_members": [0, 2.0],
    "input_shape": [(1, 2), (0, 2, 2), 4],
    "augment": ["flipp", 3, "flip"],
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
    "precision": ["float16"],
    "warm_start": [1],
    "random_state": [-1, 1.5, "a", 2**40, np.random.default_rng(0)],
    "verbose": [-1, "a"],
    "device": ["gpu", "cuda:99", 3, None],
    "net": ["a", nn.Linear(1, 1)],
}
MODULES = {
    "another width": (Network(lambda Z: Z[:, :2]), r"Got torch.\w+ of shape \(2, 2\)"),
    "fewer rows": (Network(lambda Z: Z[:1]), r"shape \(1, 4\)"),
    "three dimensions": (Network(lambda Z: Z[None]), r"shape \(1, 2, 4\)"),
    "NaN": (Network(lambda Z: Z * np.nan), "with NaN or infinity"),
    "integers": (Network(lambda Z: Z.long()), "torch.int64"),
    "complex": (Network(lambda Z: Z.to(torch.complex64)), "torch.complex64"),
    "a tuple": (Network(lambda Z: (Z, Z)), "tuple"),
    "no weights": (nn.Identity(), "have weights to train"),
    "frozen weights": (nn.Linear(4, 4).requires_grad_(False), "have weights to train"),
    "a factory of nothing": (lambda shape, width: None, r"return a torch.nn.Module. Got None"),
    "a class called otherwise": (nn.Linear, r"callable with \(input_shape, n_components\)"),
}
AUGMENTATIONS = {
    "None": (lambda batch: None, "NoneType"),
    "fewer rows": (lambda batch: batch[:1], r"shape \(1, 4\)"),
    "another width": (lambda batch: batch[:, :2], r"shape \(2, 2\)"),
    "an array": (lambda batch: batch.numpy(), "ndarray"),
    "NaN": (lambda batch: batch * np.nan, "finite tensor"),
}


def two(anchor, positive):
    return torch.tensor(anchor), torch.tensor(positive)


CALLABLES = {
    "miner of nothing": ("mining", lambda d, y, **kw: None, ValueError, "triplets must be three"),
    "miner of pairs": ("mining", lambda d, y, **kw: two([1], [2]), ValueError, "must be three"),
    "miner of floats": (
        "mining",
        lambda d, y, **kw: (torch.zeros(2),) * 3,
        TypeError,
        "anchor must be an integer tensor",
    ),
    "miner beyond the batch": (
        "mining",
        lambda d, y, **kw: (torch.tensor([999]),) * 3,
        ValueError,
        "anchor must hold rows of a batch of 30, got indices from 999",
    ),
    "miner before the batch": (
        "mining",
        lambda d, y, **kw: (torch.tensor([-1]),) * 3,
        ValueError,
        "anchor must hold rows",
    ),
    "miner of unlike lengths": (
        "mining",
        lambda d, y, **kw: (*two([1], [1, 2]), torch.tensor([1])),
        ValueError,
        r"one length, got \[1, 2, 1\]",
    ),
    "loss of nothing": ("loss", lambda p, n, m: None, ValueError, "loss must return.*NoneType"),
    "loss that is a sum": ("loss", lambda p, n, m: (p - n).sum(), ValueError, r"got shape \(\)"),
    "loss of NaN": ("loss", lambda p, n, m: (p - n) * np.nan, DivergenceError, "epoch 1.*nan"),
    "loss of infinity": ("loss", lambda p, n, m: p - n + np.inf, DivergenceError, "became inf"),
    "metric of nothing": ("metric", lambda E: None, ValueError, "metric must return.*NoneType"),
    "metric of another shape": ("metric", lambda E: E, ValueError, r"metric must .*\(30, 4\)"),
    "metric without gradient": (
        "metric",
        lambda E: torch.cdist(E, E).detach(),
        ValueError,
        "metric must return distances that torch can differentiate",
    ),
    "metric of NaN": ("metric", lambda E: E @ E.T * np.nan, DivergenceError, "loss became nan"),
}


@pytest.fixture
def untrained(monkeypatch):
    """Let training fail as no error of ours does."""

    def train_step(*args, **kwargs):
        pytest.fail("it was trained")

    monkeypatch.setattr(TripletNet, "train_step", train_step)


def assert_refused(embedder, rows, y, error, match, method="fit"):
    """Check the error, and that the estimator is as it was."""
    before = dict(vars(embedder))
    with pytest.raises(error, match=rf"(?s){match}"):
        getattr(embedder, method)(rows, y)
    assert vars(embedder).keys() == before.keys()
    assert all(vars(embedder)[name] is value for name, value in before.items())


@pytest.mark.usefixtures("untrained")
class TestBeforeTraining:
    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    @pytest.mark.parametrize(("rows", "error", "match"), ROWS.values(), ids=ROWS)
    def test_rows(self, rows, error, match, method):
        assert_refused(small(), rows, Y, error, match, method)

    @pytest.mark.parametrize("make", [PairVerifier, OpenSetClassifier])
    @pytest.mark.parametrize(("rows", "error", "match"), ROWS.values(), ids=ROWS)
    def test_rows_of_others(self, rows, error, match, make):
        if "X must be a table" in match or "pixels" in match or "input_shape" in match:
            pytest.skip("what images may be, the embedder says")
        assert_refused(make(small()), rows, Y, error, match)

    @pytest.mark.parametrize("make", [small, partial(PairVerifier, small())])
    @pytest.mark.parametrize(("y", "match"), TARGETS.values(), ids=TARGETS)
    def test_targets(self, y, match, make):
        assert_refused(make(), X, y, ValueError, match)

    @pytest.mark.parametrize(
        ("name", "value"), [(name, value) for name in PARAMETERS for value in PARAMETERS[name]]
    )
    def test_parameters(self, name, value):
        assert_refused(small(**{name: value}), X, Y, InvalidParameterError, f"'{name}' parameter")

    @pytest.mark.parametrize(("module", "match"), MODULES.values(), ids=MODULES)
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_modules(self, module, match, precision):
        embedder = small(module=module, precision=precision)
        assert_refused(embedder, X, Y, InvalidParameterError, f"'module' parameter.*{match}")

    @pytest.mark.parametrize(("augment", "match"), AUGMENTATIONS.values(), ids=AUGMENTATIONS)
    def test_augmentations(self, augment, match):
        match = f"'augment' parameter.*{match}"
        assert_refused(small(augment=augment), X, Y, InvalidParameterError, match)

    @pytest.mark.parametrize("name", ["module", "augment"])
    def test_errors_of_the_users_own_callables_come_through(self, name):
        assert_refused(small(**{name: lambda *args: 1 / 0}), X, Y, ZeroDivisionError, "division")

    def test_too_few_rows(self):
        match = "early_stopping=True needs rows to hold out"
        assert_refused(small(early_stopping=True), X[:6], Y[:6], ValueError, match)
        match = "partial_fit does not support early_stopping=True"
        assert_refused(small(early_stopping=True), X, Y, ValueError, match, "partial_fit")
        match = "10 or more classes in y, or a class with 4 or more rows"
        assert_refused(PairVerifier(small()), X[:4], [0, 0, 1, 1], ValueError, match)
        match = "'target_fpr' parameter.*takes 2000000000 rows"
        assert_refused(PairVerifier(small(), target_fpr=1e-9), X, Y, ValueError, match)

    @pytest.mark.parametrize(
        ("estimator", "match"),
        [
            (PairVerifier(3), "'estimator'"),
            (PairVerifier(TripletEmbedder), "'estimator'"),
            (PairVerifier(small(), target_fpr=2), "'target_fpr'"),
            (PairVerifier(small(), cv=1), "'cv'"),
            (OpenSetClassifier(small(), target_fpir=0), "'target_fpir'"),
            (OpenSetClassifier(small(), unknown_label=[1]), "'unknown_label'"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_parameters_of_others(self, estimator, match):
        assert_refused(estimator, X, Y, InvalidParameterError, match)

    def test_input_shape(self):
        match = r"X must hold images.*\(1, 3, 3\).*Got X of shape \(30, 4\)"
        assert_refused(small(input_shape=(1, 3, 3)), X, Y, ValueError, match)


@pytest.mark.parametrize(("name", "value", "error", "match"), CALLABLES.values(), ids=CALLABLES)
def test_callables_are_refused_in_the_first_batch(name, value, error, match, monkeypatch):
    steps, step = [], TripletNet.train_step

    def counted(*args, **kwargs):
        steps.append(1)
        return step(*args, **kwargs)

    monkeypatch.setattr(TripletNet, "train_step", counted)
    assert_refused(small(**{name: value}), X, Y, error, match)
    assert len(steps) == 1


@pytest.fixture(scope="module")
def fitted():
    return small().fit(X, Y)


@pytest.fixture(scope="module")
def verifier():
    return PairVerifier(small()).fit(np.repeat(X, 4, 0), np.repeat(Y, 4))


@pytest.fixture(scope="module")
def identifier():
    return OpenSetClassifier(small(), target_fpir=0.3).fit(np.repeat(X, 4, 0), np.repeat(Y, 4))


class TestFitted:
    @pytest.mark.parametrize("method", ["transform", "score", "predict"])
    @pytest.mark.parametrize(
        ("rows", "error", "match"),
        [
            (X[:, :3], ValueError, "X has 3 features.*expecting 4"),
            (X[0], ValueError, NUMBERS),
            (spoilt(np.nan), ValueError, "X contains NaN"),
            (X.astype(float) * 1e300, ValueError, "X.*too large"),
            (X[:0], ValueError, NUMBERS),
            (X.reshape(30, 2, 2), ValueError, NUMBERS + ".*dim 3"),
            (np.array([["a"] * 4]), ValueError, NUMBERS),
            (X.astype(complex), ValueError, NUMBERS),
            (np.zeros((3, 4), "datetime64[D]"), ValueError, "X .*Got dates"),
            (None, ValueError, NUMBERS),
            ((row for row in X), TypeError, NUMBERS),
        ],
    )
    def test_rows(self, fitted, identifier, method, rows, error, match):
        ask = {
            "transform": fitted.transform,
            "score": partial(fitted.score, y=Y),
            "predict": identifier.predict,
        }
        with pytest.raises(error, match=rf"(?s){match}"):
            ask[method](rows)

    def test_other_names_of_columns(self):
        frame = pd.DataFrame(X, columns=list("abcd"))
        with pytest.raises(ValueError, match=r"^The feature names should match"):
            small().fit(frame, Y).transform(frame.rename(columns={"a": "z"}))

    def test_unfitted(self):
        for estimator, method in [
            (small(), "transform"),
            (PairVerifier(), "predict"),
            (OpenSetClassifier(), "predict"),
        ]:
            with pytest.raises(NotFittedError, match=type(estimator).__name__):
                getattr(estimator, method)(X)
        with pytest.raises(NotFittedError, match="OpenSetClassifier"):
            OpenSetClassifier().enroll(X, Y)

    @pytest.mark.parametrize("y", [Y[:3], None])
    def test_score_targets(self, fitted, y):
        with pytest.raises(ValueError, match=r"^y "):
            fitted.score(X, y)

    @pytest.mark.parametrize(
        ("rows", "y", "match"),
        [
            (X, Y.astype(str), "y must be of the kind that was seen before"),
            (X[:, :2], Y, "X has 2 features"),
            (X, np.zeros(30), "at least 2 classes"),
            (X.reshape(30, 2, 2), Y, r"X has shape \(30, 2, 2\).*table of 4 features"),
        ],
    )
    def test_partial_fit(self, rows, y, match):
        fitted = small().fit(X, Y)
        expected = fitted.transform(X)
        assert_refused(fitted, rows, y, ValueError, match, "partial_fit")
        assert np.array_equal(fitted.transform(X), expected)

    def test_warm_start_with_another_shape(self):
        fitted = small(warm_start=True).fit(X, Y).set_params(n_components=3)
        assert_refused(fitted, X, Y, ValueError, "n_components.*must stay")

    @pytest.mark.parametrize(
        ("pairs", "match"),
        [
            (X, r"pairs must be .*\(n_pairs, 2, 4\).*\(30, 4\)"),
            (np.stack([X, X, X], 1), r"\(30, 3, 4\)"),
            (np.stack([X, X], 1)[:, :, :2], r"\(30, 2, 2\)"),
            (np.full((3, 2, 4), np.nan), "pairs contains NaN"),
            (np.zeros((0, 2, 4)), "pairs must hold"),
            ([[X[0], X[1]], [X[0]]], "pairs must hold"),
            ("a", "pairs must hold"),
            (None, "pairs contains NaN"),
        ],
    )
    def test_pairs(self, verifier, pairs, match):
        with pytest.raises(ValueError, match=match):
            verifier.predict(pairs)

    @pytest.mark.parametrize("same", [np.full(30, 2), [1], np.zeros((30, 2))])
    def test_what_says_of_pairs(self, verifier, same):
        with pytest.raises(ValueError, match=r"^y "):
            verifier.score(np.stack([X, X], 1), same)

    @pytest.mark.parametrize(
        ("rows", "y", "match"),
        [
            (X[:, :2], Y, "X has 2 features"),
            (X, Y.astype(str), "y must be of the kind"),
            (X, Y[:2], r"\[30, 2\]"),
        ],
    )
    def test_enroll(self, identifier, rows, y, match):
        with pytest.raises(ValueError, match=match):
            identifier.enroll(rows, y)


METRICS = [recall_at_k_score, r_precision_score, mean_average_precision_at_r_score]


@pytest.mark.parametrize("score", METRICS)
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"embeddings": X[:, 0]}, "1D array"),
        ({"embeddings": None}, "2D array"),
        ({"embeddings": X[:0], "y": Y[:0]}, "0 sample"),
        ({"embeddings": spoilt(np.inf)}, "embeddings contains infinity"),
        ({"y": Y[:3]}, r"^y must hold a value for each of the 30 rows"),
        ({"metric": "l1"}, r"^metric must be"),
        ({"reference": X}, r"^reference needs reference_y"),
        ({"reference_y": Y}, r"^reference_y is only used"),
        ({"reference": X[:, :2], "reference_y": Y}, r"^reference must have"),
        ({"reference": X, "reference_y": Y.astype(str)}, "y and reference_y"),
        ({"groups": Y[:2]}, r"^groups must hold"),
        ({"reference": X, "reference_y": Y, "groups": Y}, "groups and reference_groups"),
    ],
)
def test_metrics(score, arguments, match):
    arguments = {"embeddings": X, "y": Y} | arguments
    with pytest.raises(ValueError, match=match):
        score(arguments.pop("embeddings"), arguments.pop("y"), **arguments)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "a", None])
def test_number_of_neighbours(k):
    with pytest.raises(ValueError, match="k must be an integer >= 1"):
        recall_at_k_score(X, Y, k=k)


@pytest.mark.parametrize("criterion", [TripletLoss, ContrastiveLoss])
@pytest.mark.parametrize(
    ("embeddings", "labels", "error", "match"),
    [
        (X, Y, TypeError, "embeddings must be a floating point tensor, got ndarray"),
        (torch.tensor(Y)[:, None], torch.tensor(Y), TypeError, "embeddings must be a floating"),
        (torch.tensor(X)[:, 0], torch.tensor(Y), ValueError, r"embeddings must have shape \(B, D"),
        (torch.tensor(X), torch.tensor(Y[:3]), ValueError, "one length, got 3 and 30"),
        (torch.tensor(X), torch.tensor(Y).float(), TypeError, "labels must be an integer tensor"),
        (torch.tensor(X), torch.tensor(Y)[:, None], ValueError, "labels must have one dimension"),
    ],
)
def test_criteria(criterion, embeddings, labels, error, match):
    with pytest.raises(error, match=match):
        criterion()(embeddings, labels)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"margin": 0}, "margin must be"),
        ({"margin": np.nan}, "margin must be"),
        ({"margin": True}, "margin must be"),
        ({"margin": None}, "margin must be"),
        ({"mining": "x"}, "mining must be"),
        ({"loss": "x"}, "loss must be"),
        ({"metric": "l1"}, "metric must be"),
        ({"reduction": "avg"}, "reduction must be"),
        ({"nca_weight": -1}, "nca_weight must be"),
    ],
)
def test_parameters_of_the_criterion(arguments, match):
    with pytest.raises((TypeError, ValueError), match=match):
        TripletLoss(**arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"labels": [0, 0]}, "labels must hold at least two classes"),
        ({"labels": [0, 1]}, "labels must hold at least two classes"),
        ({"labels": []}, "labels must hold at least two classes"),
        ({"labels": np.zeros((3, 2))}, "labels must have one dimension"),
        ({"batch_size": 2}, "batch_size must be an integer, at least 3; got 2"),
        ({"batch_size": 8.5}, "batch_size must be"),
        ({"samples_per_class": 1}, "samples_per_class must be"),
        ({"samples_per_class": -3}, "samples_per_class must be"),
        ({"min_batches": -1}, "min_batches must be"),
        ({"random_state": -1}, "random_state must be"),
        ({"batch_size": True}, "batch_size must be"),
    ],
)
def test_sampler(arguments, match):
    with pytest.raises(ValueError, match=match):
        BalancedBatchSampler(**{"labels": Y} | arguments)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as path:
        for name in ["empty/a", "broken/a"]:
            (Path(path) / name).mkdir(parents=True)
        (Path(path) / "broken/a/x.png").write_text("no image")
        (Path(path) / "file").write_text("no folder")
        yield Path(path)


@pytest.mark.parametrize(
    ("name", "shape", "error", "match"),
    [
        (None, (8, 8, 3), TypeError, "path must be a string or a path. Got None"),
        ("missing", (8, 8, 3), NotADirectoryError, "path must be a folder.*does not exist"),
        ("file", (8, 8, 3), NotADirectoryError, "path must be a folder.*is a file"),
        ("empty", (8, 8, 3), ValueError, "path must hold a folder of images for each class"),
        ("broken", (8, 8, 3), ValueError, "None of the files in .* could be read.*x.png"),
        ("broken", (0, 8, 3), ValueError, r"shape must be \(height, width\).*\(0, 8, 3\)"),
        ("broken", (8, 8, 2), ValueError, "shape must be"),
        ("broken", "abc", ValueError, "shape must be"),
        ("broken", 8, ValueError, "shape must be"),
    ],
)
def test_folders(folder, name, shape, error, match):
    pytest.importorskip("PIL")
    with pytest.raises(error, match=rf"(?s){match}"):
        load_image_folder(name and folder / name, shape=shape)
