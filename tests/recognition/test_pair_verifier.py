import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import DetCurveDisplay, RocCurveDisplay, balanced_accuracy_score
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktriplet import PairVerifier, TripletEmbedder
from sktriplet.exceptions import InvalidParameterError
from sktriplet.recognition import _pair_verifier
from sktriplet.recognition._pair_verifier import _best_balanced, _resampled_rates

AS_IT_IS = FunctionTransformer()


def all_pairs(X, y):
    left, right = np.triu_indices(len(y), k=1)
    return np.stack([X[left], X[right]], axis=1), y[left] == y[right]


def people(n_people, rng, n_photos=12, spread=0.35):
    """Clouds around random centres in 8 dimensions."""
    y = np.repeat(np.arange(n_people), n_photos)
    return rng.normal(size=(n_people, 8))[y] + spread * rng.normal(size=(len(y), 8)), y


@pytest.fixture
def known(rng):
    return people(20, rng)


@pytest.fixture
def strangers(rng):
    return all_pairs(*people(20, rng))


def test_verifies_those_it_has_never_seen(known, strangers, quick):
    verifier = PairVerifier(quick(max_epochs=2)).fit(*known)
    pairs, same = strangers
    assert balanced_accuracy_score(same, verifier.predict(pairs)) > 0.85
    assert verifier.score(pairs, same) == np.mean(verifier.predict(pairs) == same)


def test_none_is_the_default_embedder(blobs):
    verifier = PairVerifier(cv=2).fit(*blobs)
    assert repr(verifier.estimator_) == repr(TripletEmbedder())


def test_distance_decides(known):
    verifier = PairVerifier(AS_IT_IS).fit(*known)
    pairs, _ = all_pairs(*known)
    distances = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1)
    assert verifier.decision_function(pairs) == pytest.approx(-distances, abs=1e-5)
    assert (
        verifier.predict(pairs) == (verifier.decision_function(pairs) >= -verifier.threshold_)
    ).all()
    assert (verifier.decision_function(pairs) == verifier.decision_function(pairs[:, ::-1])).all()


def test_rates_are_those_of_the_pairs_held_out(known):
    X, y = known
    cv = GroupKFold(4)
    verifier = PairVerifier(AS_IT_IS, cv=cv).fit(X, y)
    same, distances = [], []
    for _, test in cv.split(X, y, groups=y):
        pairs, alike = all_pairs(X[test], y[test])
        same.append(alike)
        distances.append(np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1))
    same, distances = np.concatenate(same), np.concatenate(distances)
    accepted = distances <= verifier.threshold_
    assert verifier.false_positive_rate_ == pytest.approx(accepted[~same].mean())
    assert verifier.false_negative_rate_ == pytest.approx(1 - accepted[same].mean())


def test_what_is_frozen_is_not_fitted_and_pairs_all_rows(known):
    X, y = known
    scaler = StandardScaler().fit(X)
    verifier = PairVerifier(FrozenEstimator(scaler)).fit(X, y)
    pairs, same = all_pairs(X, y)
    assert verifier.false_positive_rate_ == pytest.approx(verifier.predict(pairs)[~same].mean())
    assert verifier.estimator_.transform(X) == pytest.approx(scaler.transform(X), abs=1e-5)


@pytest.mark.parametrize("target", [0.1, 0.3])
def test_target_rate_is_kept_on_strangers(target, known):
    verifier = PairVerifier(AS_IT_IS, target_fpr=target).fit(*known)
    assert target * 0.8 < verifier.false_positive_rate_ <= target
    accepted = []
    for seed in range(100, 110):
        pairs, same = all_pairs(*people(20, np.random.default_rng(seed)))
        accepted.append(verifier.predict(pairs)[~same].mean())
    assert target / 3 < np.mean(accepted) < target * 3


distances = st.lists(st.integers(0, 8), min_size=1, max_size=20).map(
    lambda values: np.sort(np.array(values, dtype=np.float32))
)


@given(same=distances, different=distances)
def test_best_balanced_is_the_best_of_all(same, different):
    def balanced(threshold):
        return np.mean(same <= threshold) - np.mean(different <= threshold)

    threshold = _best_balanced(same, different)
    best = max(balanced(candidate) for candidate in np.arange(0, 9.5, 0.5))
    assert balanced(threshold) == pytest.approx(best)


def test_resampled_rates_are_those_of_the_rows_drawn(rng, monkeypatch):
    """Draw as the code does, write out the drawn rows, and count pair by pair."""
    monkeypatch.setattr(_pair_verifier, "N_BOOTSTRAPS", 5)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    points = rng.normal(size=(len(labels), 2))
    between = np.linalg.norm(points[:, None] - points, axis=2)
    threshold = np.median(between)
    rates = np.array(_resampled_rates([(between, labels)], threshold, 3))

    draws = np.random.default_rng(0)
    times_class = draws.multinomial(3, [1 / 3] * 3, 5)
    times_row = [draws.multinomial(count, [1 / count] * count, 5) for count in np.bincount(labels)]
    for number in range(5):
        wrong, total = np.zeros(2), np.zeros(2)
        drawn = []
        for label, times in enumerate(times_class[number]):
            rows = np.repeat(np.flatnonzero(labels == label), times_row[label][number])
            drawn += [(label, copy, row) for copy in range(times) for row in rows]
        for (one, copy, row), (other, other_copy, other_row) in itertools.combinations(drawn, 2):
            if row == other_row or (one == other and copy != other_copy):
                continue
            same = int(one == other)
            total[same] += 1
            wrong[same] += (between[row, other_row] > threshold) == bool(same)
        for kind in range(2):
            if total[kind]:
                assert rates[kind, number] == pytest.approx(wrong[kind] / total[kind])
            else:
                assert np.isnan(rates[kind, number])


def test_intervals_are_wider_than_binomial_ones(known):
    verifier = PairVerifier(AS_IT_IS).fit(*known)
    for rate, (low, high), n_pairs in [
        (verifier.false_positive_rate_, verifier.false_positive_rate_interval_, 5 * 6 * 144),
        (verifier.false_negative_rate_, verifier.false_negative_rate_interval_, 20 * 66),
    ]:
        assert low < rate < high
        assert high - low > 2 * 2 * 1.96 * np.sqrt(rate * (1 - rate) / n_pairs)


def test_intervals_hold_what_strangers_show():
    """In most of 20 repeats; pairs that share classes make 95% of few classes optimistic."""
    inside = []
    for seed in range(20):
        X, y = people(20, np.random.default_rng(seed))
        verifier = PairVerifier(FrozenEstimator(AS_IT_IS.fit(X)), target_fpr=0.1).fit(X, y)
        low, high = verifier.false_positive_rate_interval_
        pairs, same = all_pairs(*people(60, np.random.default_rng(seed + 1000), n_photos=4))
        inside.append(low <= verifier.predict(pairs)[~same].mean() <= high)
    assert np.mean(inside) >= 0.7


def test_probabilities_are_those_of_as_many_same_as_different(known):
    rng = np.random.default_rng(99)
    verifier = PairVerifier(AS_IT_IS).fit(*people(60, rng))
    pairs, same = all_pairs(*people(60, rng))
    probability = verifier.predict_proba(pairs)
    assert probability.sum(axis=1) == pytest.approx(1)
    assert (probability > 0).all()
    assert (probability < 1).all()
    weights = np.where(same, 1 / same.sum(), 1 / (~same).sum())
    for low, high in [(0.1, 0.4), (0.4, 0.6), (0.6, 0.9)]:
        among = (low <= probability[:, 1]) & (probability[:, 1] < high)
        share = np.average(same[among], weights=weights[among])
        assert share == pytest.approx(
            np.average(probability[among, 1], weights=weights[among]), abs=0.1
        )


def test_best_balanced_agrees_with_the_probabilities(known, strangers):
    verifier = PairVerifier(AS_IT_IS).fit(*known)
    pairs, _ = strangers
    far_from_threshold = np.abs(verifier.decision_function(pairs) + verifier.threshold_) > 0.05
    likely = verifier.predict_proba(pairs)[:, 1] > 0.5
    assert (likely == verifier.predict(pairs))[far_from_threshold].all()


def test_scikit_learns_curves_take_it(known, strangers):
    pairs, same = strangers
    decisions = PairVerifier(AS_IT_IS).fit(*known).decision_function(pairs)
    assert RocCurveDisplay.from_predictions(same, decisions).roc_auc > 0.9
    DetCurveDisplay.from_predictions(same, decisions)


def test_in_a_pipeline_with_string_labels_and_a_data_frame(known):
    import pandas as pd

    X, y = known
    X = pd.DataFrame(X, columns=list("abcdefgh"))
    names = np.array([f"person {number}" for number in y])
    embedder = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis())
    verifier = PairVerifier(embedder).fit(X, names)
    assert verifier.feature_names_in_.tolist() == list("abcdefgh")
    assert verifier.predict(np.stack([X[:5], X[5:10]], axis=1)).dtype == bool


def test_repeatable_and_picklable(known, strangers, quick):
    pairs, _ = strangers
    verifier = PairVerifier(quick(max_epochs=1))
    decisions = verifier.fit(*known).decision_function(pairs)
    assert (decisions == clone(verifier).fit(*known).decision_function(pairs)).all()
    again = pickle.loads(pickle.dumps(verifier))
    assert (again.predict_proba(pairs) == verifier.predict_proba(pairs)).all()


def test_many_rows_are_thinned_out_evenly(monkeypatch, known):
    X, y = known
    monkeypatch.setattr(_pair_verifier, "MAX_ROWS", 40)
    verifier = PairVerifier(FrozenEstimator(AS_IT_IS.fit(X))).fit(X, y)
    pairs, same = all_pairs(X, y)
    assert verifier.false_positive_rate_ == pytest.approx(
        verifier.predict(pairs)[~same].mean(), abs=0.05
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"estimator": "TripletEmbedder"},
            "'estimator' parameter of PairVerifier must be None, or an",
        ),
        ({"estimator": TripletEmbedder}, "with the methods fit and transform. Got <class"),
        ({"target_fpr": 1}, "'target_fpr' parameter of PairVerifier must be None, or a finite"),
        ({"target_fpr": 0.0}, "a finite number > 0 and < 1"),
        (
            {"cv": 1},
            "'cv' parameter of PairVerifier must be None, or an integer >= 2, or an object",
        ),
    ],
)
def test_parameters_that_cannot_be(parameters, message, known):
    with pytest.raises(InvalidParameterError, match=message):
        PairVerifier(**parameters).fit(*known)


def test_a_rate_too_low_to_be_measured(known):
    with pytest.raises(ValueError, match=r"240 rows held out form 120 .* 0.001, which takes 2000"):
        PairVerifier(AS_IT_IS, target_fpr=0.001).fit(*known)


@pytest.mark.parametrize(
    ("cv", "kind"), [(KFold(12), "same"), (PredefinedSplit([0] * 6 + [1] * 6), "different")]
)
def test_folds_without_pairs_of_a_kind(cv, kind):
    X, y = np.arange(24.0).reshape(12, 2), np.repeat([0, 1], 6)
    with pytest.raises(ValueError, match=f"Got none that is {kind}"):
        PairVerifier(AS_IT_IS, cv=cv).fit(X, y)


def test_a_target_that_no_threshold_keeps():
    X, y = np.zeros((40, 2)), np.arange(40) // 2
    with pytest.raises(ValueError, match=r"No threshold keeps the rate of false positives to 0\.1"):
        PairVerifier(AS_IT_IS, target_fpr=0.1).fit(X, y)


@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8), (5, 2, 7), (5, 2, 8, 1)])
def test_what_is_no_pairs(shape, known):
    verifier = PairVerifier(AS_IT_IS).fit(*known)
    with pytest.raises(ValueError, match=r"pairs must be an array of shape \(n_pairs, 2, 8\)"):
        verifier.predict(np.zeros(shape))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([True], "y must hold a value for each of the 2 pairs. Got 1"),
        ([1, 2], "True or False. Got"),
    ],
)
def test_what_says_not_whether_pairs_are_the_same(y, message, known):
    verifier = PairVerifier(AS_IT_IS).fit(*known)
    with pytest.raises(ValueError, match=message):
        verifier.score(np.zeros((2, 2, 8)), y)


def test_images(quick, digits):
    """Faces come as arrays of bytes."""

    def network(input_shape, n_components):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, n_components))

    X, y = digits
    images = (X[:300] * 15).astype(np.uint8).reshape(-1, 8, 8)
    verifier = PairVerifier(quick(module=network), cv=2).fit(images, y[:300])
    pairs = np.stack([images[:-1], images[1:]], axis=1)
    assert verifier.input_shape_ == (8, 8)
    assert verifier.n_features_in_ == 64
    assert verifier.score(pairs, y[:299] == y[1:300]) > 0.6
    with pytest.raises(ValueError, match=r"shape \(n_pairs, 2, 8, 8\).*Got shape \(299, 2, 64\)"):
        verifier.predict(pairs.reshape(299, 2, 64))
