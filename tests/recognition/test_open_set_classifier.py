import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktriplet import OpenSetClassifier, TripletEmbedder
from sktriplet.exceptions import InvalidParameterError
from sktriplet.metrics import detection_identification_rate_score

AS_IT_IS = FunctionTransformer()


def people(n_people, rng, n_photos=12, spread=0.2):
    """Clouds around random centres in 8 dimensions."""
    y = np.repeat(np.arange(n_people), n_photos)
    return rng.normal(size=(n_people, 8))[y] + spread * rng.normal(size=(len(y), 8)), y


@pytest.fixture
def known(rng):
    return people(20, rng)


def test_knows_the_enrolled_and_keeps_out_strangers(known, rng, quick):
    X, y = known
    classifier = OpenSetClassifier(quick(), target_fpir=0.1).fit(X[::2], y[::2])
    assert classifier.score(X[1::2], y[1::2]) > 0.9
    strangers, _ = people(40, rng)
    assert np.mean(classifier.predict(strangers) != -1) < 0.4


def test_none_is_the_default_embedder(blobs):
    classifier = OpenSetClassifier(cv=2).fit(*blobs)
    assert repr(classifier.estimator_) == repr(TripletEmbedder())


def test_the_nearest_within_the_threshold(known, rng):
    X, y = known
    classifier = OpenSetClassifier(AS_IT_IS).fit(X, y)
    queries = X[rng.integers(len(X), size=100)] + 0.5 * rng.normal(size=(100, 8))
    between = np.linalg.norm(queries[:, None] - X, axis=2)
    identities, distances = classifier.identify(queries)
    assert (identities == y[between.argmin(axis=1)]).all()
    assert distances == pytest.approx(between.min(axis=1), abs=1e-5)
    predicted = classifier.predict(queries)
    within = distances <= classifier.threshold_
    assert 0 < within.sum() < 100
    assert (predicted[within] == identities[within]).all()
    assert (predicted[~within] == -1).all()


@pytest.mark.parametrize("target", [0.05, 0.2])
def test_the_threshold_lets_so_many_strangers_in(target, known):
    """In each fold the classes held out look for themselves among the others."""
    X, y = known
    cv = GroupKFold(4)
    classifier = OpenSetClassifier(AS_IT_IS, target_fpir=target, cv=cv).fit(X, y)
    nearest = np.empty(len(X))
    for train, test in cv.split(X, y, groups=y):
        nearest[test] = np.linalg.norm(X[test][:, None] - X[train], axis=2).min(axis=1)
    assert np.sum(nearest <= classifier.threshold_) == int(target * len(X))


def test_with_few_classes_rows_are_strangers_to_the_other_classes(iris):
    X, y = iris
    classifier = OpenSetClassifier(FrozenEstimator(StandardScaler().fit(X)), cv=5).fit(X, y)
    flower = StandardScaler().fit_transform(X)
    others = y[:, None] != y
    between = np.linalg.norm(flower[:, None] - flower, axis=2)
    nearest = np.where(others, between, np.inf).min(axis=1)
    # Here every other row is searched, there four fifths of them.
    assert 0 <= np.mean(nearest <= classifier.threshold_) - 0.05 < 0.03


def test_target_is_kept_on_strangers():
    rates = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, y = people(60, rng)
        classifier = OpenSetClassifier(AS_IT_IS, target_fpir=0.1).fit(X[y < 30], y[y < 30])
        rates.append(np.mean(classifier.predict(X[y >= 30]) != -1))
    assert 0.05 < np.mean(rates) < 0.2


def test_enrolled_without_training(known, rng):
    X, y = known
    first = y < 15
    classifier = OpenSetClassifier(AS_IT_IS).fit(X[first], y[first])
    threshold, embedder = classifier.threshold_, classifier.estimator_
    newcomers = X[y == 17]
    assert (classifier.predict(newcomers) != 17).all()
    assert classifier.enroll(newcomers[:6], np.full(6, 17)) is classifier
    assert (classifier.predict(newcomers[6:]) == 17).mean() > 0.5
    assert classifier.classes_.tolist() == [*range(15), 17]
    assert classifier.threshold_ == threshold
    assert classifier.estimator_ is embedder
    classifier.enroll(X[y == 3] + 100, y[y == 3])
    assert (classifier.predict(X[y == 3] + 100) == 3).all()


def test_score_counts_strangers_as_unknown(known):
    X, y = known
    classifier = OpenSetClassifier(AS_IT_IS).fit(X[y < 15], y[y < 15])
    predicted = classifier.predict(X)
    expected = np.mean(np.where(y < 15, predicted == y, predicted == -1))
    assert classifier.score(X, y) == pytest.approx(expected)
    weights = np.where(y < 15, 0, 1)
    assert classifier.score(X, y, weights) == np.mean(predicted[y >= 15] == -1)


def test_measured_by_detection_and_identification(known):
    X, y = known
    train = (y < 15) & (np.arange(len(y)) % 2 == 0)
    classifier = OpenSetClassifier(AS_IT_IS).fit(X[train], y[train])
    probes = ~train
    rate = detection_identification_rate_score(
        y[probes], *classifier.identify(X[probes]), enrolled=classifier.classes_, target_fpir=0.1
    )
    assert 0.3 < rate <= 1


@pytest.mark.parametrize(
    ("names", "unknown_label", "expected"),
    [
        (np.array(list("abcdefghijklmnopqrst")), None, "unknown"),
        (np.array([f"person {number}" for number in range(20)], dtype=object), "?", "?"),
        (np.arange(20), None, -1),
        (np.arange(20) - 3, None, -4),
        (np.arange(20.0), 99, 99),
    ],
)
def test_what_strangers_are_called(names, unknown_label, expected, known):
    X, y = known
    classifier = OpenSetClassifier(AS_IT_IS, unknown_label=unknown_label).fit(X, names[y])
    assert classifier.unknown_label_ == expected
    assert classifier.predict(X + 1000).tolist() == [expected] * len(X)
    assert classifier.predict(X).tolist() == names[y].tolist()


def test_repeatable_and_picklable(known, quick):
    X, y = known
    classifier = OpenSetClassifier(quick(max_epochs=1))
    distances = classifier.fit(X, y).identify(X + 0.1)[1]
    assert (distances == clone(classifier).fit(X, y).identify(X + 0.1)[1]).all()
    again = pickle.loads(pickle.dumps(classifier)).enroll(X[:3], [77, 77, 77])
    assert 77 in again.classes_
    assert 77 not in classifier.classes_


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"target_fpir": None},
            "'target_fpir' parameter of OpenSetClassifier must be a finite number",
        ),
        (
            {"unknown_label": [1]},
            "'unknown_label' parameter of OpenSetClassifier must be None, or a",
        ),
        ({"estimator": 3}, "an object with the methods fit and transform. Got 3"),
    ],
)
def test_parameters_that_cannot_be(parameters, message, known):
    with pytest.raises(InvalidParameterError, match=message):
        OpenSetClassifier(**parameters).fit(*known)


def test_a_rate_too_low_to_be_measured(known):
    with pytest.raises(
        ValueError, match=r"measured on 240 rows held out\. Got 0\.001, which takes 1000"
    ):
        OpenSetClassifier(AS_IT_IS, target_fpir=0.001).fit(*known)


def test_the_unknown_label_is_no_class(known):
    X, y = known
    with pytest.raises(ValueError, match=r"must be no class\. Got 3, which is in y"):
        OpenSetClassifier(AS_IT_IS, unknown_label=3).fit(X, y)
    classifier = OpenSetClassifier(AS_IT_IS, unknown_label=99).fit(X, y)
    with pytest.raises(ValueError, match=r"must be no class\. Got 99, which is in y"):
        classifier.enroll(X[:2], [98, 99])


@pytest.mark.parametrize(
    ("n_columns", "y", "message"),
    [
        (
            8,
            ["a", "b"],
            "labels in y must be of the kind that was seen before",
        ),
        (7, [1, 2], "expecting 8 features"),
        (8, [1], "inconsistent numbers of samples"),
    ],
)
def test_what_cannot_be_enrolled(n_columns, y, message, known):
    classifier = OpenSetClassifier(AS_IT_IS).fit(*known)
    with pytest.raises(ValueError, match=message):
        classifier.enroll(np.zeros((2, n_columns)), y)


def test_images(quick, digits):
    def network(input_shape, n_components):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, n_components))

    X, y = digits
    images = (X[:300] * 15).astype(np.uint8).reshape(-1, 8, 8)
    known, new = y[:300] < 8, y[:300] == 9
    embedder = quick(module=network)
    classifier = OpenSetClassifier(embedder, cv=4).fit(images[known], y[:300][known])
    assert classifier.input_shape_ == (8, 8)
    classifier.enroll(images[new][:15], y[:300][new][:15])
    assert 9 in classifier.predict(images[new][15:])
    with pytest.raises(ValueError, match=r"expecting images of shape \(8, 8\), as in fit"):
        classifier.predict(X[:3])


@pytest.mark.parametrize(
    ("names", "unknown_label", "expected"),
    [
        (np.arange(20, dtype=np.uint8), None, -1),
        (np.arange(20, dtype=np.uint64), None, -1),
        (np.arange(20, dtype=np.int8), 300, 300),
        (np.arange(236, 256).astype(np.uint8), None, -1),
        (np.array(list("abcdefghijklmnopqrst")), "a stranger", "a stranger"),
    ],
)
def test_strangers_are_told_from_every_class_in_every_type(names, unknown_label, expected, known):
    X, y = known
    classifier = OpenSetClassifier(AS_IT_IS, unknown_label=unknown_label).fit(X, names[y])
    assert classifier.classes_.dtype == names.dtype
    assert classifier.predict(X + 1000).tolist() == [expected] * len(X)
    assert classifier.predict(X).tolist() == names[y].tolist()
    assert classifier.score(X + 1000, names[y]) == 0
    assert classifier.score(X, names[y]) == 1


@pytest.mark.parametrize(
    ("names", "unknown_label"),
    [
        (np.arange(20), "stranger"),
        (np.array(list("abcdefghijklmnopqrst")), -1),
        (np.arange(20).astype("datetime64[D]"), None),
    ],
)
def test_a_label_that_no_prediction_could_hold_is_refused_before_training(
    names, unknown_label, known
):
    X, y = known

    class Untrained(FunctionTransformer):
        def fit(self, X, y=None):
            raise AssertionError("trained")

    classifier = OpenSetClassifier(Untrained(), unknown_label=unknown_label)
    with pytest.raises(ValueError, match="'unknown_label' that is of the same kind"):
        classifier.fit(X, names[y])


def test_a_rate_too_low_is_refused_before_training(quick):
    with pytest.raises(ValueError, match="measured on 16 rows held out"):
        OpenSetClassifier(quick(lr=-1)).fit(np.zeros((16, 2)), np.repeat([0, 1], 8))


def test_a_rate_that_is_one_row_is_measured(rng):
    X, y = rng.normal(size=(49, 2)), np.arange(49) % 10
    assert OpenSetClassifier(AS_IT_IS, target_fpir=1 / 49).fit(X, y).threshold_ > 0


def test_a_fit_that_fails_leaves_all_as_it_was(known):
    X, y = known
    classifier = OpenSetClassifier(AS_IT_IS)
    with pytest.raises(ValueError, match="too low"):
        classifier.set_params(target_fpir=1e-9).fit(X, y)
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    classifier.set_params(target_fpir=0.1).fit(X, y)
    before = {**vars(classifier)}
    with pytest.raises(ValueError, match="distance zero"):
        classifier.fit(np.zeros_like(X), y)
    assert vars(classifier) == before


def test_strings_of_every_type_are_enrolled(known):
    X, y = known
    classifier = OpenSetClassifier(AS_IT_IS).fit(X, np.array(list("abcdefghijklmnopqrst"))[y])
    classifier.enroll(X[:2] + 500, np.array(["zz", "zz"], dtype=object))
    assert classifier.predict(X[:1] + 500).tolist() == ["zz"]
