"""Fit estimators with random parameters on small random data.

Each fit must produce valid results or raise an error that names the problem. Data are tables,
sequences, images, also lazy ones, and dicts of several inputs; some samples are unlabeled.
`tests/test_fuzz.py` checks a few cases; this script checks as many as fit into the given time:

    python tests/scripts/fuzz.py --minutes 10
"""

import argparse
import pickle
import time
import traceback
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import polars as pl
import torch
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from torch import nn

from sktriplet import ComparisonEmbedder, OpenSetClassifier, Pairs, PairVerifier, TripletEmbedder
from sktriplet.datasets import LazySamples
from sktriplet.exceptions import DivergenceError, InvalidParameterError
from sktriplet.training import TripletNet

SETTINGS = {
    "n_components": [1, 2, 7, 33],
    "margin": [1e-6, 0.2, 100.0],
    "loss": ["hinge", "soft_margin"],
    "mining": ["semi_hard", "hard", "random", "all"],
    "metric": ["sqeuclidean", "euclidean", "cosine"],
    "nca_weight": [0.0, 2.0],
    "normalize": [True, False],
    "hidden_layer_sizes": [(), (1,), (8, 4)],
    "n_members": [1, 2, 4],
    "standardize": [True, False],
    "batch_size": [3, 16, 1000],
    "samples_per_class": [2, 5, 50],
    "max_epochs": [1, 3],
    "lr": [1e-4, 2e-3, 0.5],
    "cross_fit": [False, True],
    "early_stopping": [False, True, "auto"],
    "validation_fraction": [0.1, 0.5],
    "precision": ["float32", "bfloat16"],
    "augment": [None, "crop_erase", "crop_flip_erase"],
    "net": [
        None,
        TripletNet(min_batches=1),
        TripletNet(optimizer=torch.optim.SGD, optimizer__momentum=0.9),
    ],
}
SCALES = [1e-30, 1e-3, 1.0, 1e6, 1e30]
# Parts of the messages of expected errors.
EXPECTED_ERRORS = ("to hold out", "class with at least 2", "at least 2 classes")
EXPECTED_RECOGNITION_ERRORS = (
    *EXPECTED_ERRORS,
    "Cross-fitting needs",
    "held-out pairs of",
    "is too low to be measured",
    "No threshold",
    "The training samples of every fold",
)


class TwoInputs(nn.Module):
    """Embed a table and images, and add the embeddings."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        self.table = nn.Linear(*input_shape["table"], n_components)
        n_features = int(np.prod(input_shape["image"]))
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(n_features, n_components))

    def forward(self, *, table, image):
        return self.table(table) + self.image(image)


def random_labels(rng, n_samples, max_classes=12):
    n_classes = int(rng.integers(1, min(n_samples // 2, max_classes) + 1))
    names = np.array([f"class {number}" for number in range(n_classes)])
    return rng.choice(names, n_samples, p=rng.dirichlet(np.full(n_classes, 3.0)))


def random_images(rng, n_samples):
    shape = [(n_samples, 8, 9), (n_samples, 3, 8, 8), (n_samples, 8, 8, 4)][rng.integers(3)]
    return rng.integers(256, size=shape).astype(rng.choice(["uint8", "float32"]))


def random_case(seed):
    """Return an embedder, samples, and labels."""
    rng = np.random.default_rng(seed)
    settings = {name: values[rng.integers(len(values))] for name, values in SETTINGS.items()}
    kind = rng.choice(["table", "image", "sequence", "dict"], p=[0.5, 0.2, 0.15, 0.15])
    if kind != "table":
        del settings["hidden_layer_sizes"], settings["n_members"]
    if kind != "image":
        settings["augment"] = None
    if kind == "sequence":
        settings["input_shape"] = (2, 16)
    if kind == "dict":
        settings["module"] = TwoInputs
    if settings["metric"] == "cosine":
        settings["normalize"] = True
    if settings.get("hidden_layer_sizes") == ():
        settings["n_members"] = 1
    if settings["n_components"] == 1:
        settings |= {"normalize": False, "metric": "euclidean"}
    n_samples = int(rng.choice([3, 7, 40, 150, 400]))
    y = random_labels(rng, n_samples)
    if rng.random() < 0.2:
        settings["unlabeled"] = "?"
        y = np.where(rng.random(n_samples) < 0.3, "?", y)
    embedder = TripletEmbedder(random_state=int(seed), **settings)
    if kind == "image":
        X = random_images(rng, n_samples)
        return embedder, LazySamples(X) if rng.random() < 0.3 else X, y
    if kind == "sequence":
        X = rng.normal(size=[(n_samples, 2, 16), (n_samples, 16, 2), (n_samples, 32)][seed % 3])
        return embedder, X, y
    if kind == "dict":
        table = rng.normal(size=(n_samples, int(rng.integers(1, 9))))
        return embedder, {"table": table, "image": random_images(rng, n_samples)}, y
    n_features = int(rng.integers(1, 30))
    X = rng.normal(size=(n_samples, n_features)) * rng.choice(SCALES, size=n_features)
    X[:, rng.random(n_features) < 0.2] = rng.normal()
    X[rng.random(X.shape) < rng.choice([0, 0.5, 0.95])] = 0
    X = X[rng.integers(n_samples, size=n_samples)] if rng.random() < 0.3 else X
    if rng.random() < 0.3:
        return embedder, csr_array(X), y
    X[rng.random(X.shape) < rng.choice([0, 0.3])] = np.nan
    if rng.random() < 0.5:
        return embedder, X, y
    frame = pd.DataFrame(X).add_prefix("x")
    for name in ("text", "other text"):
        categories = np.array([*"abcdefghijklmnop", None, np.nan], dtype=object)
        frame[name] = rng.choice(categories[-rng.integers(2, 19) :], n_samples)
    kind = rng.integers(4)
    if kind == 1:
        frame = frame.convert_dtypes()
    elif kind == 2:
        frame = frame.astype({"text": "category", "x0": object})
    elif kind == 3:
        frame = pl.DataFrame(frame.replace({np.nan: None}).to_dict("list"), strict=False)
    return embedder, frame, y


def check(seed):
    """Fit twice, check the embeddings, and return whether the case was rejected."""
    embedder, X, y = random_case(seed)
    state = torch.get_rng_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            crossed = embedder.fit_transform(X, y)
            embedded = embedder.transform(X)
            again = clone(embedder).fit(X, y).transform(X)
    except (InvalidParameterError, DivergenceError, ValueError) as error:
        # Without standardization, values of 1e30 may overflow.
        is_too_large = not embedder.standardize and "infin" in str(error)
        diverged = isinstance(error, DivergenceError)
        assert diverged or is_too_large or any(part in str(error) for part in EXPECTED_ERRORS)  # noqa: PT017
        assert not hasattr(embedder, "net_")
        return True
    assert embedded.shape == (len(y), embedder.n_components)
    assert embedded.dtype == np.float32
    assert np.isfinite(embedded).all()
    assert crossed.shape == embedded.shape
    assert np.isfinite(crossed).all()
    if embedder.normalize:
        assert (np.linalg.norm(embedded.astype(float), axis=1) < 1 + 1e-5).all()
    assert_array_equal(again, embedded)
    assert_array_equal(pickle.loads(pickle.dumps(embedder)).transform(X), embedded)
    first = {name: part[:1] for name, part in X.items()} if isinstance(X, dict) else X[:1]
    some = embedder.transform(first)
    assert np.allclose(some, embedded[:1], atol=1e-2 * max(1, np.abs(embedded).max()))
    assert torch.equal(torch.get_rng_state(), state)
    return False


def check_recognition(seed):
    """Fit a verifier, a classifier, or a comparison embedder; return whether it was rejected."""
    rng = np.random.default_rng(seed)
    n_samples = int(rng.choice([12, 40, 120]))
    X, y = rng.normal(size=(n_samples, 5)), random_labels(rng, n_samples, max_classes=20)
    X += 3 * np.unique(y, return_inverse=True)[1][:, None] * rng.choice([0, 1])
    X = X[rng.integers(n_samples, size=n_samples)] if rng.random() < 0.2 else X
    embedder = TripletEmbedder(4, hidden_layer_sizes=(8,), max_epochs=1, random_state=0)
    groups = rng.integers(8, size=n_samples) if rng.random() < 0.3 else None
    cv = [None, 2, 3][rng.integers(3)]
    state = torch.get_rng_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = rng.integers(3)
            if kind == 0:
                target_fpr = [None, 0.05, 0.3][rng.integers(3)]
                verifier = PairVerifier(embedder, target_fpr=target_fpr, cv=cv)
                check_verifier(verifier.fit(X, y, groups=groups), X, y, rng)
            elif kind == 1:
                templates = ["samples", "class_means"][rng.integers(2)]
                target_fpir = [0.05, 0.3][rng.integers(2)]
                classifier = OpenSetClassifier(
                    embedder, target_fpir=target_fpir, templates=templates, cv=cv
                )
                check_classifier(classifier.fit(X, y, groups=groups), X, y)
            else:
                triplets = X[rng.integers(n_samples, size=(n_samples, 3))]
                comparison = ComparisonEmbedder(embedder).fit(triplets)
                embedded = comparison.transform(X)
                assert embedded.shape == (n_samples, 4)
                assert np.isfinite(embedded).all()
                assert 0 <= comparison.score(triplets) <= 1
                assert_array_equal(pickle.loads(pickle.dumps(comparison)).transform(X), embedded)
    except (InvalidParameterError, DivergenceError, ValueError) as error:
        assert any(part in str(error) for part in EXPECTED_RECOGNITION_ERRORS)  # noqa: PT017
        return True
    assert torch.equal(torch.get_rng_state(), state)
    return False


def check_verifier(verifier, X, y, rng):
    pairs = Pairs(X, indices=rng.integers(len(X), size=(30, 2)))
    same = y[pairs._indices[:, 0]] == y[pairs._indices[:, 1]]
    scores, accepted = verifier.decision_function(pairs), verifier.predict(pairs)
    assert_array_equal(accepted, scores >= -verifier.threshold_)
    assert_array_equal(verifier.decision_function(X[pairs._indices]), scores)
    assert_array_equal(pickle.loads(pickle.dumps(verifier)).decision_function(pairs), scores)
    probabilities = verifier.predict_proba(pairs)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    for name in ("false_positive_rate", "false_negative_rate"):
        low, high = getattr(verifier, f"{name}_interval_")
        assert 0 <= low <= high <= 1
        assert 0 <= getattr(verifier, f"{name}_") <= 1
    if verifier.target_fpr is not None:
        assert verifier.false_positive_rate_ <= verifier.target_fpr
    verifier.set_params(target_fpr=None)
    if same.any() and not same.all():
        verifier.calibrate_threshold(pairs, same, strategy="accuracy")
        assert verifier.score(pairs, same) >= max(same.mean(), 1 - same.mean())


def check_classifier(classifier, X, y):
    classes = set(y)
    predicted = classifier.predict(X)
    assert set(predicted) <= {*classes, classifier.unknown_label_}
    assert_array_equal(pickle.loads(pickle.dumps(classifier)).predict(X), predicted)
    is_unknown = predicted == classifier.unknown_label_
    assert_array_equal(is_unknown, classifier.identify(X)[1] > classifier.threshold_)
    decisions = classifier.decision_function(X)
    if decisions.ndim == 2:
        assert_array_equal(is_unknown, decisions.max(axis=1) < 0)
    classifier.enroll(X[:2] + 100, ["new", "new"])
    assert_array_equal(classifier.predict(X[:2] + 100), ["new", "new"])
    classifier.remove(["new"])
    assert_array_equal(classifier.predict(X), predicted)


def main():
    """Check cases until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * arguments.minutes
    seed = arguments.first
    n_rejected, failed = Counter(), []
    while time.monotonic() < end:
        for check_case in (check, check_recognition):
            try:
                n_rejected[check_case.__name__] += check_case(seed)
            except Exception:
                failed.append((check_case.__name__, seed))
                traceback.print_exc()
        seed += 1
    print(f"{seed - arguments.first} seeds, rejected: {dict(n_rejected)}, failed: {failed}")


if __name__ == "__main__":
    main()
