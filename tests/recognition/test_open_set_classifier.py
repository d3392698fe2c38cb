import pickle
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from sktriplet import OpenSetClassifier
from sktriplet.exceptions import InvalidParameterError
from sktriplet.metrics import detection_identification_rate_score
from sktriplet.recognition import _templates

LETTERS = np.array(list("abcdefghijklmnopqrst"))


@pytest.fixture
def clusters(make_clusters, rng):
    return make_clusters(20, rng)


def test_accepts_enrolled_and_rejects_impostors(clusters, make_clusters, rng, make_embedder):
    X, y = clusters
    classifier = OpenSetClassifier(make_embedder(), target_fpir=0.1).fit(X[::2], y[::2])
    assert classifier.score(X[1::2], y[1::2]) > 0.9
    impostors, _ = make_clusters(40, rng)
    assert np.mean(classifier.predict(impostors) != -1) < 0.4


def test_identify_and_predict(clusters, rng, identity):
    X, y = clusters
    classifier = OpenSetClassifier(identity).fit(X, y)
    queries = X[rng.integers(len(X), size=100)] + 0.5 * rng.normal(size=(100, 8))
    expected = np.linalg.norm(queries[:, None] - X, axis=2)
    identities, distances = classifier.identify(queries)
    assert (identities == y[expected.argmin(axis=1)]).all()
    assert distances == pytest.approx(expected.min(axis=1), abs=1e-5)
    accepted = distances <= classifier.threshold_
    assert 0 < accepted.sum() < 100
    assert (classifier.predict(queries) == np.where(accepted, identities, -1)).all()


@pytest.mark.parametrize("target", [0.05, 0.2])
def test_threshold_accepts_target_fraction_of_impostors(target, clusters, identity):
    """In every fold, the held-out classes search for their neighbors in the other classes."""
    X, y = clusters
    cv = GroupKFold(4)
    classifier = OpenSetClassifier(identity, target_fpir=target, cv=cv).fit(X, y)
    nearest = np.empty(len(X))
    for train, test in cv.split(X, y, groups=y):
        nearest[test] = np.linalg.norm(X[test][:, None] - X[train], axis=2).min(axis=1)
    assert np.sum(nearest <= classifier.threshold_) == int(target * len(X))


def test_threshold_with_few_classes(iris):
    """Held-out samples are impostors to the other classes."""
    X, y = iris
    X = StandardScaler().fit_transform(X)
    classifier = OpenSetClassifier(FrozenEstimator(StandardScaler().fit(X)), cv=5).fit(X, y)
    distances = np.linalg.norm(X[:, None] - X, axis=2)
    nearest = np.where(y[:, None] != y, distances, np.inf).min(axis=1)
    # Here all other samples are searched, in cross-fitting four fifths of them.
    assert 0 <= np.mean(nearest <= classifier.threshold_) - 0.05 < 0.03


def test_threshold_on_new_classes(make_clusters, identity):
    rates = []
    for seed in range(10):
        X, y = make_clusters(60, np.random.default_rng(seed))
        classifier = OpenSetClassifier(identity, target_fpir=0.1).fit(X[y < 30], y[y < 30])
        rates.append(np.mean(classifier.predict(X[y >= 30]) != -1))
    assert 0.05 < np.mean(rates) < 0.2


def test_one_query_per_fold_of_classes(clusters, identity, monkeypatch):
    queries = []

    class CountingNeighbors(NearestNeighbors):
        def kneighbors(self, X):
            queries.append(len(X))
            return super().kneighbors(X)

    monkeypatch.setattr(_templates, "NearestNeighbors", CountingNeighbors)
    OpenSetClassifier(identity, cv=4).fit(*clusters)
    assert queries == [60] * 4


def test_enroll(clusters, identity):
    X, y = clusters
    known, new = y < 15, X[y == 17]
    classifier = OpenSetClassifier(identity).fit(X[known], y[known])
    threshold, embedder = classifier.threshold_, classifier.estimator_
    assert (classifier.predict(new) != 17).all()
    assert classifier.enroll(new[:6], np.full(6, 17)) is classifier
    assert (classifier.predict(new[6:]) == 17).mean() > 0.5
    assert classifier.classes_.tolist() == [*range(15), 17]
    assert classifier.threshold_ == threshold
    assert classifier.estimator_ is embedder
    classifier.enroll(X[y == 3] + 100, y[y == 3])
    assert (classifier.predict(X[y == 3] + 100) == 3).all()


def test_enroll_strings_of_another_type(clusters, identity):
    X, y = clusters
    classifier = OpenSetClassifier(identity).fit(X, LETTERS[y])
    classifier.enroll(X[:2] + 500, np.array(["zz", "zz"], dtype=object))
    assert classifier.predict(X[:1] + 500).tolist() == ["zz"]


def test_score_expects_impostors_as_unknown(clusters, identity):
    X, y = clusters
    classifier = OpenSetClassifier(identity).fit(X[y < 15], y[y < 15])
    predicted = classifier.predict(X)
    expected = np.mean(np.where(y < 15, predicted == y, predicted == -1))
    assert classifier.score(X, y) == pytest.approx(expected)
    weights = np.where(y < 15, 0, 1)
    assert classifier.score(X, y, weights) == np.mean(predicted[y >= 15] == -1)


def test_detection_identification_rate(clusters, identity):
    X, y = clusters
    train = (y < 15) & (np.arange(len(y)) % 2 == 0)
    classifier = OpenSetClassifier(identity).fit(X[train], y[train])
    rate = detection_identification_rate_score(
        y[~train], *classifier.identify(X[~train]), enrolled=classifier.classes_, target_fpir=0.1
    )
    assert 0.3 < rate <= 1


@pytest.mark.parametrize(
    ("classes", "unknown_label", "expected"),
    [
        (LETTERS, None, "unknown"),
        (LETTERS, "rejected", "rejected"),
        (np.array([f"person {number}" for number in range(20)], dtype=object), "?", "?"),
        (np.arange(20), None, -1),
        (np.arange(20) - 3, None, -4),
        (np.arange(20.0), 99, 99),
        (np.arange(20.0), None, -1),
        (np.arange(20, dtype=np.int8), 300, 300),
        (np.arange(20, dtype=np.uint8), None, -1),
        (np.arange(236, 256).astype(np.uint8), None, -1),
        (np.arange(20, dtype=np.uint64), None, -1),
        (np.arange(20, dtype=np.uint64) + 2**53, None, -1),
        (np.arange(20, dtype=np.uint64) + 2**63, 5, 5),
    ],
)
def test_unknown_label(classes, unknown_label, expected, clusters, identity):
    """It differs from every class, whatever their types."""
    X, y = clusters
    classifier = OpenSetClassifier(identity, unknown_label=unknown_label).fit(X, classes[y])
    assert classifier.unknown_label_ == expected
    assert classifier.classes_.dtype == classes.dtype
    assert classifier.predict(X).tolist() == classes[y].tolist()
    assert classifier.predict(X + 1000).tolist() == [expected] * len(X)
    assert classifier.score(X, classes[y]) == 1
    assert classifier.score(X + 1000, classes[y]) == 0


def test_images(make_embedder, linear_network, digits):
    X, y = digits[0][:300], digits[1][:300]
    images = (X * 15).astype(np.uint8).reshape(-1, 8, 8)
    known, new = y < 8, y == 9
    embedder = make_embedder(module=linear_network)
    classifier = OpenSetClassifier(embedder, cv=4).fit(images[known], y[known])
    classifier.enroll(images[new][:15], y[new][:15])
    assert 9 in classifier.predict(images[new][15:])
    with pytest.raises(ValueError, match=r"X has shape \(3, 64\).*\(8, 8\)"):
        classifier.predict(X[:3])


def test_reproducible_and_picklable(clusters, make_embedder):
    X, y = clusters
    classifier = OpenSetClassifier(make_embedder(max_epochs=1))
    distances = classifier.fit(X, y).identify(X + 0.1)[1]
    assert (distances == clone(classifier).fit(X, y).identify(X + 0.1)[1]).all()
    loaded = pickle.loads(pickle.dumps(classifier)).enroll(X[:3], [77, 77, 77])
    assert 77 in loaded.classes_
    assert 77 not in classifier.classes_


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("estimator", [3, object()]),
        ("target_fpir", [None, 0, 1.0, True]),
        ("unknown_label", [[1], -1.5]),
        ("cv", [1, 2.0, True, GroupKFold]),
    ],
)
def test_invalid_parameters(name, values, clusters):
    for value in values:
        with pytest.raises(InvalidParameterError, match=f"'{name}'.* Got {re.escape(repr(value))}"):
            OpenSetClassifier(**{name: value}).fit(*clusters)


@pytest.mark.parametrize(
    ("classes", "unknown_label", "value"),
    [
        (np.arange(20), "stranger", "'stranger'"),
        (LETTERS, -1, "-1"),
        (np.arange(20).astype("datetime64[D]"), None, "'unknown'"),
        (np.arange(20), 3, "3"),
        (LETTERS, "c", "'c'"),
    ],
)
def test_invalid_unknown_label(classes, unknown_label, value, clusters, untrained):
    X, y = clusters
    classifier = OpenSetClassifier(untrained, unknown_label=unknown_label)
    with pytest.raises(ValueError, match=rf"'unknown_label' .* Got {value}"):
        classifier.fit(X, classes[y])


@pytest.mark.parametrize("cv", [None, KFold(2)])
def test_target_fpir_too_low(cv, clusters, untrained):
    with pytest.raises(ValueError, match=r"'target_fpir' .*on 240 .* Got 0\.001, .* 1000 samples"):
        OpenSetClassifier(untrained, target_fpir=0.001, cv=cv).fit(*clusters)


def test_target_fpir_of_one_sample(rng, identity):
    X, y = rng.normal(size=(49, 2)), np.arange(49) % 10
    assert OpenSetClassifier(identity, target_fpir=1 / 49).fit(X, y).threshold_ > 0


@pytest.mark.parametrize(
    ("n_features", "y", "message"),
    [
        (8, ["a", "b"], r"labels in y .*\['a', 'b'\]"),
        (8, [98, -1], r"'unknown_label' .* Got -1, which is in y"),
        (8, [1], r"\[2, 1\]"),
        (7, [1, 2], r"^X .* 7 features.* 8 features"),
    ],
)
def test_invalid_enrollment(n_features, y, message, clusters):
    classifier = OpenSetClassifier(StandardScaler()).fit(*clusters)
    before = {**vars(classifier)}
    with pytest.raises(ValueError, match=message):
        classifier.enroll(np.zeros((2, n_features)), y)
    assert vars(classifier) == before


def test_failed_fit_changes_nothing(clusters, identity):
    X, y = clusters
    classifier = OpenSetClassifier(identity)
    with pytest.raises(ValueError, match="'target_fpir'"):
        classifier.set_params(target_fpir=1e-9).fit(X, y)
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    classifier.set_params(target_fpir=0.1).fit(X, y)
    before = {**vars(classifier)}
    with pytest.raises(ValueError, match=r"at most 0\.1: .* zero"):
        classifier.fit(np.zeros_like(X), y)
    assert vars(classifier) == before


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("offset", [10**18, 2**62])
def test_large_labels_are_exact(dtype, offset):
    X = np.arange(40.0)[:, None] // 4 * 10 + np.arange(40)[:, None] % 4
    y = (offset + np.arange(40) // 4).astype(dtype)
    classifier = OpenSetClassifier(FrozenEstimator(StandardScaler().fit(X)), target_fpir=0.3)
    predicted = classifier.fit(X, y).predict(X).tolist()
    assert set(predicted) <= {*y.tolist(), -1}
    assert classifier.score(X, y) == np.mean(
        [a == b for a, b in zip(predicted, y.tolist(), strict=True)]
    )
