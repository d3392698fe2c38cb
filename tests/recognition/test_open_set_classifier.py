import pickle
import re
from copy import deepcopy

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import make_scorer, roc_auc_score, top_k_accuracy_score
from sklearn.model_selection import GroupKFold, KFold, cross_validate
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


@pytest.mark.parametrize("seed", [26, 38, 44])
def test_threshold_in_single_precision(seed, identity):
    """The rates at the threshold are those of exact distances, whatever search finds them."""
    rng = np.random.default_rng(seed)
    n_features, y = rng.integers(1, 40), rng.integers(20, size=400)
    X = rng.normal(size=(400, n_features)).astype(np.float32)
    enrolled, impostors = np.flatnonzero(y < 10), np.flatnonzero(y >= 10)
    cv = [(enrolled, impostors)]
    classifier = OpenSetClassifier(FrozenEstimator(identity), target_fpir=0.1, cv=cv).fit(X, y)
    classifier.remove(np.arange(10, 20))
    n_accepted = int(0.1 * len(impostors))
    assert np.sum(classifier.predict(X[impostors]) != -1) == n_accepted
    assert np.sum(classifier.decision_function(X[impostors]).max(axis=1) >= 0) == n_accepted


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
        def kneighbors(self, X, **options):
            queries.append(len(X))
            return super().kneighbors(X, **options)

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


@pytest.fixture(params=["samples", "class_means"])
def templates(request):
    return request.param


class TestEnrollment:
    def expected_templates(self, X, y, templates):
        if templates == "samples":
            return X, y
        classes = np.unique(y)
        return np.array([X[y == label].mean(axis=0) for label in classes]), classes

    def test_nearest_template(self, templates, clusters, rng, identity):
        X, y = clusters
        classifier = OpenSetClassifier(identity, templates=templates).fit(X, LETTERS[y])
        queries = X + rng.normal(size=X.shape)
        points, labels = self.expected_templates(X, LETTERS[y], templates)
        expected = np.linalg.norm(queries[:, None] - points, axis=2)
        identities, distances = classifier.identify(queries)
        assert (identities == labels[expected.argmin(axis=1)]).all()
        assert distances == pytest.approx(expected.min(axis=1), abs=1e-5)
        assert classifier.class_count_.tolist() == [12] * 20

    def test_threshold(self, templates, clusters, identity):
        """Of impostors, whose own class is not searched if it is enrolled."""
        X, y = clusters
        cv = KFold(4, shuffle=True, random_state=0)
        parameters = {"templates": templates, "target_fpir": 0.2, "cv": cv}
        classifier = OpenSetClassifier(identity, **parameters).fit(X, y)
        nearest = np.empty(len(X))
        for train, test in cv.split(X):
            points, labels = self.expected_templates(X[train], y[train], templates)
            distances = np.linalg.norm(X[test][:, None] - points, axis=2)
            distances[y[test][:, None] == labels] = np.inf
            nearest[test] = distances.min(axis=1)
        # Two samples may be each other's nearest impostors.
        n_accepted = np.sum(nearest < np.sort(nearest)[int(0.2 * len(X))] - 1e-6)
        assert np.sum(nearest <= classifier.threshold_) == n_accepted

    def test_enroll_in_parts(self, templates, clusters, identity):
        X, y = clusters
        first = y < 12
        classifier = OpenSetClassifier(identity, templates=templates).fit(X[first], y[first])
        at_once = deepcopy(classifier).enroll(X[~first], y[~first])
        for part in (slice(None, None, 2), slice(1, None, 2)):
            classifier.enroll(X[~first][part], y[~first][part])
        assert classifier.class_count_.tolist() == [12] * 20
        for result, expected in zip(classifier.identify(X), at_once.identify(X), strict=True):
            assert result == pytest.approx(expected, abs=1e-6)

    def test_remove(self, templates, clusters, identity):
        X, y = clusters
        classifier = OpenSetClassifier(identity, templates=templates).fit(X, LETTERS[y])
        identities, distances = classifier.identify(X)
        threshold = classifier.threshold_
        assert classifier.remove(["c", "f"]) is classifier
        assert "".join(classifier.classes_) == "abdeghijklmnopqrst"
        assert len(classifier.class_count_) == 18
        is_removed = np.isin(LETTERS[y], ["c", "f"])
        assert not np.isin(classifier.identify(X)[0], ["c", "f"]).any()
        kept = ~is_removed & ~np.isin(identities, ["c", "f"])
        assert classifier.identify(X[kept])[1] == pytest.approx(distances[kept])
        assert classifier.score(X[is_removed], LETTERS[y[is_removed]]) > 0.5
        assert classifier.threshold_ == threshold

    def test_replace(self, templates, clusters, identity):
        X, y = clusters
        classifier = OpenSetClassifier(identity, templates=templates).fit(X, y)
        moved = X[y == 3] + 100
        classifier.remove([3]).enroll(moved[:5], np.full(5, 3))
        assert (classifier.predict(moved[:5]) == 3).mean() > 0.5
        assert (classifier.predict(X[y == 3]) != 3).all()
        assert classifier.class_count_[3] == 5

    @pytest.mark.parametrize(
        ("classes", "message"),
        [
            (["z"], r"enrolled. Got \['z'\], .* 20 enrolled classes: \['a', 'b'"),
            ([3], r"Got \[3\]"),
            (LETTERS, "At least one class must remain enrolled. Got all 20"),
            ("a", "classes must be one-dimensional"),
            ([None], "classes .*missing"),
        ],
    )
    def test_invalid_removal(self, classes, message, clusters, identity):
        X, y = clusters
        classifier = OpenSetClassifier(identity).fit(X, LETTERS[y])
        before = {**vars(classifier)}
        with pytest.raises(ValueError, match=message):
            classifier.remove(classes)
        assert vars(classifier) == before

    def test_samples_become_means(self, clusters, identity):
        """A changed parameter takes effect with the next enrollment."""
        X, y = clusters
        classifier = OpenSetClassifier(identity).fit(X[y < 19], y[y < 19])
        classifier.set_params(templates="class_means").enroll(X[y == 19], y[y == 19])
        means = OpenSetClassifier(identity, templates="class_means").fit(X, y)
        assert classifier.identify(X)[1] == pytest.approx(means.identify(X)[1], abs=1e-6)


class TestDecisionFunction:
    def test_agrees_with_identify_and_predict(self, templates, clusters, rng, identity):
        X, y = clusters
        classifier = OpenSetClassifier(identity, templates=templates).fit(X, LETTERS[y])
        queries = X + rng.normal(size=X.shape)
        decisions = classifier.decision_function(queries)
        identities, distances = classifier.identify(queries)
        assert decisions.shape == (240, 20)
        assert (classifier.classes_[decisions.argmax(axis=1)] == identities).all()
        assert classifier.threshold_ - decisions.max(axis=1) == pytest.approx(distances, abs=1e-6)
        assert ((decisions.max(axis=1) < 0) == (classifier.predict(queries) == "unknown")).all()

    @pytest.mark.parametrize(("n_classes", "shape"), [(1, (240, 1)), (2, (240,)), (3, (240, 3))])
    def test_shape(self, n_classes, shape, clusters, identity):
        X, y = clusters
        classifier = OpenSetClassifier(identity).fit(X, y).remove(np.arange(20)[n_classes:])
        assert classifier.decision_function(X).shape == shape

    def test_scorers_of_two_classes(self, clusters, identity):
        """The scores are those that scikit-learn expects of binary classifiers."""
        X, y = clusters
        X, y = np.concatenate([X[y < 2]] * 5), np.concatenate([y[y < 2]] * 5)
        X = X + np.random.default_rng(0).normal(size=X.shape)
        classifier = OpenSetClassifier(identity, target_fpir=0.3)
        results = cross_validate(
            classifier, X, y, scoring=["roc_auc", "average_precision"], error_score="raise"
        )
        assert results["test_roc_auc"].mean() > 0.7
        decisions = classifier.fit(X, y).decision_function(X)
        assert (classifier.identify(X)[0] == (decisions > 0)).all()

    def test_scorer_of_many_classes(self, clusters, identity):
        X, y = clusters
        scoring = make_scorer(
            top_k_accuracy_score, response_method="decision_function", k=3, labels=np.arange(20)
        )
        classifier = OpenSetClassifier(identity)
        scores = cross_validate(classifier, X, y, scoring=scoring, error_score="raise")
        assert scores["test_score"].min() > 0.9

    def test_detection_of_unknown_samples(self, clusters, identity):
        def detection(classifier, X, y):
            return roc_auc_score(np.isin(y, classifier.classes_), -classifier.identify(X)[1])

        X, y = clusters
        train = (y < 15) & (np.arange(240) % 2 == 0)
        results = cross_validate(
            OpenSetClassifier(identity), X, y, cv=[(train, ~train)], scoring=detection
        )
        assert results["test_score"] > 0.8


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
        ("templates", ["means", None]),
        ("unknown_label", [[1], -1.5]),
        ("n_jobs", [1.5, True]),
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
