import pickle
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import DetCurveDisplay, RocCurveDisplay, balanced_accuracy_score
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet import PairVerifier, TripletEmbedder
from sktriplet.exceptions import InvalidParameterError
from sktriplet.recognition import _pair_verifier


def all_pairs(X, y):
    left, right = np.triu_indices(len(y), k=1)
    return np.stack([X[left], X[right]], axis=1), y[left] == y[right]


@pytest.fixture
def make_clusters(make_clusters):
    def make(n_classes, rng, *, n_samples=12):
        return make_clusters(n_classes, rng, n_samples=n_samples, scale=0.35)

    return make


@pytest.fixture
def clusters(make_clusters, rng):
    return make_clusters(20, rng)


@pytest.fixture
def new_pairs(make_clusters, rng):
    """All pairs of 20 other classes."""
    return all_pairs(*make_clusters(20, rng))


def test_accuracy_on_new_classes(clusters, new_pairs, make_embedder):
    verifier = PairVerifier(make_embedder(max_epochs=2)).fit(*clusters)
    pairs, same = new_pairs
    assert balanced_accuracy_score(same, verifier.predict(pairs)) > 0.85
    assert verifier.score(pairs, same) == np.mean(verifier.predict(pairs) == same)


def test_decision_function_and_predict(clusters, identity):
    verifier = PairVerifier(identity).fit(*clusters)
    pairs, _ = all_pairs(*clusters)
    distances = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1)
    scores = verifier.decision_function(pairs)
    assert scores == pytest.approx(-distances, abs=1e-5)
    assert (verifier.predict(pairs) == (scores >= -verifier.threshold_)).all()
    assert (scores == verifier.decision_function(pairs[:, ::-1])).all()


def test_error_rates_are_those_of_held_out_pairs(clusters, identity):
    X, y = clusters
    cv = GroupKFold(4)
    verifier = PairVerifier(identity, cv=cv).fit(X, y)
    folds = [all_pairs(X[test], y[test]) for _, test in cv.split(X, y, groups=y)]
    pairs, same = (np.concatenate(part) for part in zip(*folds, strict=True))
    accepted = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1) <= verifier.threshold_
    assert verifier.false_positive_rate_ == pytest.approx(accepted[~same].mean())
    assert verifier.false_negative_rate_ == pytest.approx(1 - accepted[same].mean())


def test_frozen_embedder_pairs_all_samples(clusters):
    X, y = clusters
    scaler = StandardScaler().fit(X)
    verifier = PairVerifier(FrozenEstimator(scaler)).fit(X, y)
    pairs, same = all_pairs(X, y)
    assert verifier.false_positive_rate_ == pytest.approx(verifier.predict(pairs)[~same].mean())
    assert verifier.estimator_.transform(X) == pytest.approx(scaler.transform(X), abs=1e-5)


def test_max_samples_are_evenly_spaced(monkeypatch, clusters, identity):
    monkeypatch.setattr(_pair_verifier, "MAX_SAMPLES", 40)
    verifier = PairVerifier(FrozenEstimator(identity)).fit(*clusters)
    pairs, same = all_pairs(*clusters)
    assert verifier.false_positive_rate_ == pytest.approx(
        verifier.predict(pairs)[~same].mean(), abs=0.05
    )


@pytest.mark.parametrize("target", [0.1, 0.3])
def test_target_fpr_on_new_classes(target, clusters, make_clusters, identity):
    verifier = PairVerifier(identity, target_fpr=target).fit(*clusters)
    assert target * 0.8 < verifier.false_positive_rate_ <= target
    rates = []
    for seed in range(100, 110):
        pairs, same = all_pairs(*make_clusters(20, np.random.default_rng(seed)))
        rates.append(verifier.predict(pairs)[~same].mean())
    assert target / 3 < np.mean(rates) < target * 3


def test_intervals_are_wider_than_binomial(clusters, identity):
    verifier = PairVerifier(identity).fit(*clusters)
    for rate, (low, high), n_pairs in [
        (verifier.false_positive_rate_, verifier.false_positive_rate_interval_, 5 * 6 * 144),
        (verifier.false_negative_rate_, verifier.false_negative_rate_interval_, 20 * 66),
    ]:
        assert low < rate < high
        assert high - low > 2 * 2 * 1.96 * np.sqrt(rate * (1 - rate) / n_pairs)


def test_interval_coverage(make_clusters, identity):
    """Coverage stays below 95%, as pairs of few classes share them."""
    covered = []
    for seed in range(20):
        X, y = make_clusters(20, np.random.default_rng(seed))
        verifier = PairVerifier(FrozenEstimator(identity), target_fpr=0.1).fit(X, y)
        low, high = verifier.false_positive_rate_interval_
        rng = np.random.default_rng(seed + 1000)
        pairs, same = all_pairs(*make_clusters(60, rng, n_samples=4))
        covered.append(low <= verifier.predict(pairs)[~same].mean() <= high)
    assert np.mean(covered) >= 0.7


def test_predict_proba_is_calibrated(make_clusters, identity):
    """If positive and negative pairs have the same total weight."""
    rng = np.random.default_rng(99)
    verifier = PairVerifier(identity).fit(*make_clusters(60, rng))
    pairs, same = all_pairs(*make_clusters(60, rng))
    probabilities = verifier.predict_proba(pairs)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    weights = np.where(same, 1 / same.sum(), 1 / (~same).sum())
    for low, high in [(0.1, 0.4), (0.4, 0.6), (0.6, 0.9)]:
        mask = (low <= probabilities[:, 1]) & (probabilities[:, 1] < high)
        observed = np.average(same[mask], weights=weights[mask])
        predicted = np.average(probabilities[mask, 1], weights=weights[mask])
        assert observed == pytest.approx(predicted, abs=0.1)


def test_predict_proba_agrees_with_default_threshold(clusters, new_pairs, identity):
    verifier = PairVerifier(identity).fit(*clusters)
    pairs, _ = new_pairs
    is_clear = np.abs(verifier.decision_function(pairs) + verifier.threshold_) > 0.05
    likely = verifier.predict_proba(pairs)[:, 1] > 0.5
    assert (likely == verifier.predict(pairs))[is_clear].all()


def test_curve_displays(clusters, new_pairs, identity):
    pairs, same = new_pairs
    scores = PairVerifier(identity).fit(*clusters).decision_function(pairs)
    assert RocCurveDisplay.from_predictions(same, scores).roc_auc > 0.9
    DetCurveDisplay.from_predictions(same, scores)


def test_pipeline_with_data_frame_and_strings(clusters):
    X, y = clusters
    X = pd.DataFrame(X, columns=list("abcdefgh"))
    embedder = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis())
    verifier = PairVerifier(embedder).fit(X, np.array([f"person {number}" for number in y]))
    assert verifier.feature_names_in_.tolist() == list("abcdefgh")
    assert verifier.predict(np.stack([X[:5], X[5:10]], axis=1)).dtype == bool


def test_images(make_embedder, linear_network, digits):
    X, y = digits[0][:300], digits[1][:300]
    images = (X * 15).astype(np.uint8).reshape(-1, 8, 8)
    verifier = PairVerifier(make_embedder(module=linear_network), cv=2).fit(images, y)
    pairs = np.stack([images[:-1], images[1:]], axis=1)
    assert verifier.n_features_in_ == 64
    assert verifier.score(pairs, y[:-1] == y[1:]) > 0.6
    with pytest.raises(ValueError, match=r"X has shape \(\d+, 64\).*\(8, 8\)"):
        verifier.predict(pairs.reshape(299, 2, 64))


def test_reproducible_and_picklable(clusters, new_pairs, make_embedder):
    pairs, _ = new_pairs
    verifier = PairVerifier(make_embedder(max_epochs=1))
    scores = verifier.fit(*clusters).decision_function(pairs)
    assert (scores == clone(verifier).fit(*clusters).decision_function(pairs)).all()
    loaded = pickle.loads(pickle.dumps(verifier))
    assert (loaded.predict_proba(pairs) == verifier.predict_proba(pairs)).all()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("estimator", ["TripletEmbedder", object(), TripletEmbedder]),
        ("target_fpr", [0.0, 1, np.nan, "5%"]),
        ("cv", [1, 2.0, True]),
    ],
)
def test_invalid_parameters(name, values, clusters):
    for value in values:
        with pytest.raises(InvalidParameterError, match=f"'{name}'.* Got {re.escape(repr(value))}"):
            PairVerifier(**{name: value}).fit(*clusters)


def test_target_fpr_too_low(clusters, untrained):
    with pytest.raises(ValueError, match=r"'target_fpr' .*on 240 .* Got 0\.001, .* 2000 samples"):
        PairVerifier(untrained, target_fpr=0.001).fit(*clusters)


@pytest.mark.parametrize(
    ("cv", "missing"),
    [(KFold(12), "the same class"), (PredefinedSplit([0] * 6 + [1] * 6), "different classes")],
)
def test_folds_without_pairs(cv, missing, untrained):
    X, y = np.arange(24.0).reshape(12, 2), np.repeat([0, 1], 6)
    with pytest.raises(ValueError, match=f"Got none of {missing}"):
        PairVerifier(untrained, cv=cv).fit(X, y)


def test_failed_fit_changes_nothing(clusters, identity):
    X, y = clusters
    verifier = PairVerifier(identity, target_fpr=0.1).fit(X, y)
    before = {**vars(verifier)}
    with pytest.raises(ValueError, match=r"at most 0\.1: .* zero"):
        verifier.fit(np.zeros_like(X), y)
    assert vars(verifier) == before


@pytest.mark.parametrize("shape", [(5, 2, 7), (5, 2, 8, 1)])
def test_samples_of_another_shape(shape, clusters):
    """The embedder rejects them."""
    verifier = PairVerifier(StandardScaler()).fit(*clusters)
    with pytest.raises(ValueError, match="StandardScaler"):
        verifier.predict(np.zeros(shape))


@pytest.mark.parametrize(("y", "message"), [([True], "2 pairs.* Got 1"), ([1, 2], r"Got \[1, 2\]")])
def test_invalid_pair_labels(y, message, clusters, identity):
    verifier = PairVerifier(identity).fit(*clusters)
    with pytest.raises(ValueError, match=f"^y .*{message}"):
        verifier.score(np.zeros((2, 2, 8)), y)
