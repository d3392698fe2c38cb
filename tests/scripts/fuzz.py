"""Fit embedders with random parameters on small random data.

Each fit must produce valid embeddings or raise an error that names the problem.
`tests/test_fuzz.py` checks a few cases; this script checks as many as fit into the given time:

    python tests/scripts/fuzz.py --minutes 10
"""

import argparse
import pickle
import time
import traceback
import warnings

import numpy as np
import pandas as pd
import polars as pl
import torch
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone

from sktriplet import TripletEmbedder
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


def random_case(seed):
    """Return an embedder, samples, and labels."""
    rng = np.random.default_rng(seed)
    settings = {name: values[rng.integers(len(values))] for name, values in SETTINGS.items()}
    is_image = rng.random() < 0.25
    if is_image:
        del settings["hidden_layer_sizes"], settings["n_members"]
    else:
        settings["augment"] = None
    if settings["metric"] == "cosine":
        settings["normalize"] = True
    if settings.get("hidden_layer_sizes") == ():
        settings["n_members"] = 1
    if settings["n_components"] == 1:
        settings |= {"normalize": False, "metric": "euclidean"}
    embedder = TripletEmbedder(random_state=int(seed), **settings)
    n_samples = int(rng.choice([3, 7, 40, 150, 400]))
    n_classes = int(rng.integers(1, min(n_samples // 2, 12) + 1))
    names = np.array([f"class {number}" for number in range(n_classes)])
    y = rng.choice(names, n_samples, p=rng.dirichlet(np.full(n_classes, 3.0)))
    if is_image:
        shape = [(n_samples, 8, 9), (n_samples, 3, 8, 8), (n_samples, 8, 8, 4)][rng.integers(3)]
        X = rng.integers(256, size=shape).astype(rng.choice(["uint8", "float32"]))
        return embedder, X, y
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
    some = embedder.transform(X[:1])
    assert np.allclose(some, embedded[:1], atol=1e-2 * max(1, np.abs(embedded).max()))
    assert torch.equal(torch.get_rng_state(), state)
    return False


def main():
    """Check cases until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * arguments.minutes
    seed, n_rejected, failed = arguments.first, 0, []
    while time.monotonic() < end:
        try:
            n_rejected += check(seed)
        except Exception:
            failed.append(seed)
            traceback.print_exc()
        seed += 1
    n_cases = seed - arguments.first
    print(f"{n_cases} cases, {n_rejected} rejected, failed: {failed}")


if __name__ == "__main__":
    main()
