"""All kinds of samples reach the embedder unchanged, also in cross-validation."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.validation import _num_samples

from sktriplet import OpenSetClassifier, Pairs, PairVerifier

N_CLASSES, N_SAMPLES = 12, 8
Y = np.repeat(np.arange(N_CLASSES), N_SAMPLES)
WORDS = np.array(["alpha", "bravo", "charlie", "delta", "echo", "fox", "golf", "hotel"])


def make_numbers():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N_CLASSES, 6))[Y] + 0.2 * rng.normal(size=(len(Y), 6))


def make_texts():
    rng = np.random.default_rng(0)
    words = [rng.choice(WORDS, 3, replace=False) for _ in range(N_CLASSES)]
    return [" ".join(rng.permutation([*words[label], rng.choice(WORDS)])) for label in Y]


def make_frame():
    rng = np.random.default_rng(0)
    numbers = make_numbers()
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    frame = pd.DataFrame(numbers, columns=list("abcdef"))
    code = rng.integers(10, 14, size=N_CLASSES)[Y]
    return frame.assign(color=pd.Series(WORDS[Y % 5], dtype="category"), code=code)


def flatten(X):
    return X.reshape(len(X), -1) / 255


def cases(make_embedder):
    numbers = make_numbers()
    with_missing = np.where(np.random.default_rng(0).random(numbers.shape) < 0.1, np.nan, numbers)
    frame = make_frame()
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["color", "code"]),
        (SimpleImputer(), list("abcdef")),
    )
    images = np.clip(100 + 50 * numbers, 0, 255).astype(np.uint8).reshape(-1, 2, 3)
    text = make_pipeline(TfidfVectorizer(), TruncatedSVD(5, random_state=0), make_embedder())
    return {
        "list of texts": (make_texts(), text),
        "array of texts": (np.array(make_texts(), dtype=object), text),
        "series of texts": (pd.Series(make_texts()), text),
        "missing values": (with_missing, make_pipeline(SimpleImputer(), make_embedder())),
        "missing values of the embedder": (with_missing, make_embedder()),
        "DataFrame": (frame, make_pipeline(columns, make_embedder())),
        "categories of the embedder": (frame, make_embedder()),
        "numbers as categories": (frame, make_embedder(categorical_features=["color", "code"])),
        "polars": (pl.DataFrame(numbers, schema=list("abcdef")), make_embedder()),
        "csr": (sparse.csr_matrix(numbers), make_embedder()),
        "coo": (sparse.coo_array(numbers), make_embedder()),
        "images": (images, make_pipeline(FunctionTransformer(flatten), make_embedder())),
        "lists": (numbers.tolist(), make_embedder()),
        "float32": (numbers.astype(np.float32), make_embedder()),
    }


NAMES = list(cases(lambda **parameters: StandardScaler()))


def score_all_pairs(verifier, X, y):
    left, right = np.triu_indices(len(y), k=1)
    pairs = Pairs(X, indices=np.column_stack([left, right]))
    return verifier.score(pairs, y[left] == y[right])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("estimator_class", [PairVerifier, OpenSetClassifier])
def test_cross_validate(estimator_class, name, make_embedder):
    X, embedder = cases(make_embedder)[name]
    is_verifier = estimator_class is PairVerifier
    estimator = estimator_class(embedder, cv=2, **({} if is_verifier else {"target_fpir": 0.3}))
    results = cross_validate(
        estimator,
        X,
        Y,
        groups=Y if is_verifier else None,
        cv=GroupKFold(2) if is_verifier else 2,
        scoring=score_all_pairs if is_verifier else None,
        error_score="raise",
    )
    assert (results["test_score"] > 0.4).all()


class Recorder(TransformerMixin, BaseEstimator):
    """Record the types that it receives."""

    def fit(self, X, y):
        self.seen_, self.rng_ = {type(X)}, np.random.default_rng(0)
        return self

    def transform(self, X):
        self.seen_.add(type(X))
        return self.rng_.normal(size=(_num_samples(X), 3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("estimator_class", [PairVerifier, OpenSetClassifier])
def test_types_do_not_change(estimator_class, name, make_embedder):
    X, _ = cases(make_embedder)[name]
    estimator = estimator_class(Recorder()).fit(X, Y)
    if estimator_class is PairVerifier:
        estimator.predict((X, X))
        estimator.predict(Pairs(X, indices=[[0, 1]]))
    else:
        estimator.enroll(X, Y).predict(X)
    seen = estimator.estimator_.seen_
    # Rows of the coordinate format cannot be selected.
    assert seen <= {type(X), sparse.csr_array} if name == "coo" else seen == {type(X)}


@pytest.mark.parametrize("estimator_class", [PairVerifier, OpenSetClassifier])
def test_equals_preprocessing_before(estimator_class, make_embedder):
    """Categories and missing values have the same effect as in the embedder alone."""
    frame, embedder = cases(make_embedder)["categories of the embedder"]
    estimator = estimator_class(embedder, cv=2).fit(frame, Y)
    assert (estimator.estimator_.transform(frame) == embedder.fit(frame, Y).transform(frame)).all()
    assert estimator.n_features_in_ == 8
    assert estimator.feature_names_in_.tolist() == [*"abcdef", "color", "code"]


@pytest.mark.parametrize("estimator_class", [PairVerifier, OpenSetClassifier])
def test_no_attributes_that_the_embedder_lacks(estimator_class):
    estimator = estimator_class(Recorder())
    assert not hasattr(estimator, "n_features_in_")
    assert not hasattr(estimator.fit(make_texts(), Y), "n_features_in_")
    assert not hasattr(estimator, "feature_names_in_")


@pytest.mark.parametrize("estimator_class", [PairVerifier, OpenSetClassifier])
def test_sparse_embeddings(estimator_class):
    with pytest.raises(TypeError, match="Sparse data was passed for embeddings"):
        estimator_class(TfidfVectorizer()).fit(make_texts(), Y)


@pytest.mark.parametrize("estimator_class", [PairVerifier, OpenSetClassifier])
def test_missing_embeddings(estimator_class):
    X = np.where(np.arange(len(Y))[:, None] == 5, np.nan, make_numbers())
    with pytest.raises(ValueError, match="embeddings contains NaN"):
        estimator_class(StandardScaler()).fit(X, Y)


@pytest.mark.parametrize("estimator_class", [PairVerifier, OpenSetClassifier])
def test_tags_are_those_of_the_embedder(estimator_class, make_embedder):
    for embedder in (make_embedder(), StandardScaler(), TfidfVectorizer()):
        tags = estimator_class(embedder).__sklearn_tags__()
        assert tags.input_tags == embedder.__sklearn_tags__().input_tags


@pytest.mark.parametrize(
    ("name", "frozen"),
    [("missing values", False), ("DataFrame", False), ("csr", False), ("images", True)],
)
@pytest.mark.parametrize("estimator_class", [PairVerifier, OpenSetClassifier])
def test_n_jobs(estimator_class, name, frozen, make_embedder):
    X, embedder = cases(make_embedder)[name]
    if frozen:
        embedder = FrozenEstimator(embedder.fit(X, Y))
    fitted = [estimator_class(embedder, cv=5, n_jobs=n_jobs).fit(X, Y) for n_jobs in (None, 2)]
    assert fitted[0].threshold_ == fitted[1].threshold_
    if estimator_class is PairVerifier:
        assert fitted[0].false_positive_rate_interval_ == fitted[1].false_positive_rate_interval_
