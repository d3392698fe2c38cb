import pickle
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import (
    DetCurveDisplay,
    RocCurveDisplay,
    balanced_accuracy_score,
    fbeta_score,
    get_scorer,
    roc_auc_score,
)
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktriplet import Pairs, PairVerifier, TripletEmbedder
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


@pytest.mark.parametrize(("n_samples", "n_kept"), [(2, 20), (3, 13), (12, 10)])
def test_max_samples_of_many_classes(n_samples, n_kept, monkeypatch, make_clusters, identity, rng):
    """Few samples of all classes would form no positive pairs."""
    monkeypatch.setattr(_pair_verifier, "MAX_SAMPLES", 40)
    X, y = make_clusters(400, rng, n_samples=n_samples)
    shuffled = rng.permutation(len(y))
    embedded = []
    identity.set_params(func=lambda X: embedded.append(X) or X)
    PairVerifier(FrozenEstimator(identity)).fit(X[shuffled], y[shuffled])
    drawn = y[np.isin(X[:, 0], embedded[0][:, 0])]
    sizes = np.unique(drawn, return_counts=True)[1]
    assert sizes.tolist() == [min(n_samples, 4)] * n_kept


@pytest.mark.parametrize("target", [0.1, 0.3])
def test_target_fpr_on_new_classes(target, clusters, make_clusters, identity):
    verifier = PairVerifier(identity, target_fpr=target).fit(*clusters)
    assert target * 0.8 < verifier.false_positive_rate_ <= target
    rates = []
    for seed in range(100, 110):
        pairs, same = all_pairs(*make_clusters(20, np.random.default_rng(seed)))
        rates.append(verifier.predict(pairs)[~same].mean())
    assert target / 3 < np.mean(rates) < target * 3


@pytest.mark.parametrize("n_features", [64, 100])
def test_copies_in_several_classes(n_features, identity, rng):
    """Rounding errors must not tell them apart in fit, as they do not in predict."""
    X, y = np.repeat(rng.normal(size=(30, n_features)), 4, axis=0), np.tile(np.arange(4), 30)
    verifier = PairVerifier(FrozenEstimator(identity), target_fpr=0.02)
    with pytest.raises(ValueError, match=r"No threshold .* at most 0.02: .* distances is zero"):
        verifier.fit(X.astype(np.float32), y)


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


@pytest.fixture
def labeled_pairs(clusters):
    """Random pairs, half of which are positive, of new samples."""
    X, y = clusters
    rng = np.random.default_rng(7)
    left, right = rng.integers(len(y), size=(2, 4000))
    same = y[left] == y[right]
    chosen = np.concatenate([np.flatnonzero(same), np.flatnonzero(~same)[: same.sum()]])
    chosen = rng.permutation(chosen)
    return Pairs(X, indices=np.column_stack([left, right])[chosen]), same[chosen]


class TestCalibrateThreshold:
    """The strategies are tested in metrics/test_operating_point.py."""

    @pytest.mark.parametrize(
        "parameters",
        [
            {"strategy": "accuracy"},
            {"strategy": "balanced_accuracy"},
            {"strategy": "f_beta", "beta": 0.5},
            {"strategy": "max_tpr", "min_rate": 0.9},
            {"strategy": "max_tnr", "min_rate": 0.9},
            {},
        ],
    )
    def test_best_of_all_thresholds(self, parameters, labeled_pairs, identity):
        pairs, same = labeled_pairs
        verifier = PairVerifier(FrozenEstimator(identity))
        assert verifier.calibrate_threshold(pairs, same, **parameters) is verifier
        scores = verifier.decision_function(pairs)

        def score(y_pred):
            tpr, tnr = y_pred[same].mean(), (~y_pred)[~same].mean()
            return {
                "accuracy": np.mean(y_pred == same),
                "balanced_accuracy": (tpr + tnr) / 2,
                "f_beta": fbeta_score(same, y_pred, beta=0.5, zero_division=0),
                "max_tpr": tpr if tnr >= 0.9 else -1,
                "max_tnr": tnr if tpr >= 0.9 else -1,
            }[parameters.get("strategy", "balanced_accuracy")]

        best = max(score(scores >= threshold) for threshold in [*scores, np.inf])
        assert score(verifier.predict(pairs)) == pytest.approx(best)

    def test_attributes(self, labeled_pairs, identity):
        """They are those of the predictions for these pairs."""
        pairs, same = labeled_pairs
        verifier = PairVerifier(FrozenEstimator(identity), target_fpr=0.05)
        accepted = verifier.calibrate_threshold(pairs, same).predict(pairs)
        assert verifier.false_positive_rate_ == accepted[~same].mean() <= 0.05
        assert verifier.false_positive_rate_ > 0.05 - 1 / (~same).sum()
        assert verifier.false_negative_rate_ == pytest.approx((~accepted)[same].mean())
        for name in ("false_positive_rate", "false_negative_rate"):
            low, high = getattr(verifier, f"{name}_interval_")
            assert 0 <= low <= getattr(verifier, f"{name}_") < high < 1
        assert verifier.classes_.tolist() == [False, True]
        probabilities = verifier.predict_proba(pairs)[:, 1]
        assert probabilities[same].mean() > 0.7 > 0.3 > probabilities[~same].mean()

    def test_after_fit(self, clusters, labeled_pairs, identity):
        """Nothing remains of the earlier threshold, and the embedder does not change."""
        pairs, same = labeled_pairs
        verifier = PairVerifier(identity, target_fpr=0.05).fit(*clusters)
        before, embedder = dict(vars(verifier)), verifier.estimator_
        verifier.calibrate_threshold(pairs, same, strategy="accuracy")
        assert verifier.estimator_ is embedder
        for name in ("threshold_", "false_positive_rate_interval_", "_calibrator"):
            assert getattr(verifier, name) != before[name]
        other = PairVerifier(FrozenEstimator(identity))
        other.calibrate_threshold(pairs, same, strategy="accuracy")
        assert verifier.threshold_ == other.threshold_
        assert (verifier.predict_proba(pairs) == other.predict_proba(pairs)).all()

    def test_forms_of_pairs(self, clusters, labeled_pairs, make_embedder):
        """The results are bit-for-bit the same."""
        pairs, same = labeled_pairs
        embedder = FrozenEstimator(make_embedder().fit(*clusters))
        left, right = clusters[0][pairs._indices].swapaxes(0, 1)
        results = []
        for form in (pairs, (left, right), np.stack([left, right], axis=1), Pairs(left, right)):
            verifier = PairVerifier(embedder).calibrate_threshold(form, same)
            results.append([verifier.threshold_, *verifier.decision_function(form)])
        assert all(result == results[0] for result in results)

    def test_without_fit(self, labeled_pairs, identity):
        with pytest.raises(NotFittedError, match=r"PairVerifier .*FrozenEstimator"):
            PairVerifier(identity).calibrate_threshold(*labeled_pairs)
        with pytest.raises(NotFittedError):
            PairVerifier(FrozenEstimator(StandardScaler())).calibrate_threshold(*labeled_pairs)

    @pytest.mark.parametrize("label", [True, False])
    def test_one_class(self, label, labeled_pairs, identity):
        pairs, same = labeled_pairs
        verifier = PairVerifier(FrozenEstimator(identity))
        with pytest.raises(ValueError, match=f"y must have pairs .* Got only {label}"):
            verifier.calibrate_threshold(pairs, np.full_like(same, label))
        assert not hasattr(verifier, "threshold_")

    def test_rate_too_low(self, labeled_pairs, identity):
        pairs, same = labeled_pairs
        verifier = PairVerifier(FrozenEstimator(identity), target_fpr=1e-4)
        with pytest.raises(ValueError, match=r"'target_fpr' .* 10000 negative pairs"):
            verifier.calibrate_threshold(pairs, same)

    def test_invalid_strategy(self, labeled_pairs, identity):
        verifier = PairVerifier(FrozenEstimator(identity))
        with pytest.raises(InvalidParameterError, match="'min_rate'"):
            verifier.calibrate_threshold(*labeled_pairs, strategy="max_tpr")


class TestFitOnPairs:
    @pytest.mark.parametrize("form", ["Pairs", "tuple", "stack"])
    def test_equals_calibrate_threshold(self, form, clusters, labeled_pairs):
        pairs, same = labeled_pairs
        left, right = clusters[0][pairs._indices].swapaxes(0, 1)
        forms = {"Pairs": pairs, "tuple": (left, right), "stack": np.stack([left, right], axis=1)}
        verifier = PairVerifier(FrozenEstimator(StandardScaler().fit(clusters[0])))
        expected = clone(verifier).calibrate_threshold(pairs, same)
        assert verifier.fit(forms[form], same).threshold_ == expected.threshold_

    def test_images_are_not_pairs(self, digits, linear_network, make_embedder):
        """An image of two rows has twice as many features as the samples of a pair would have."""
        X, y = digits[0][:200].reshape(-1, 2, 32), digits[1][:200]
        embedder = make_embedder(module=linear_network).fit(X[::2], y[::2])
        verifier = PairVerifier(FrozenEstimator(embedder)).fit(X[1::2], y[1::2])
        assert verifier.false_positive_rate_ < 0.5

    def test_embedder_that_is_not_frozen(self, labeled_pairs, untrained):
        with pytest.raises(ValueError, match=r"Got pairs: pass samples, or .* FrozenEstimator"):
            PairVerifier(untrained).fit(*labeled_pairs)

    def test_tables_for_an_embedder_that_is_not_frozen(self, clusters, untrained):
        X, y = clusters
        with pytest.raises(ValueError, match=r"Got pairs: pass samples, or .* FrozenEstimator"):
            PairVerifier(untrained).fit((X, X), y == 0)

    @pytest.mark.parametrize("dtype", [bool, int, float])
    def test_stack_for_an_embedder_that_is_not_frozen(self, dtype, rng, untrained):
        """It would be taken as images of two rows or with two channels."""
        y = (np.arange(40) % 2).astype(dtype)
        for shape in [(40, 2, 8), (40, 2, 8, 8)]:
            with pytest.raises(
                ValueError, match=r"X of shape \(40, 2, 8.*pairs.*frozen.*of samples"
            ):
                PairVerifier(untrained).fit(rng.normal(size=shape), y)

    def test_stack_for_a_frozen_embedder_of_unknown_shape(self, labeled_pairs, identity):
        pairs, same = labeled_pairs
        stacked = pairs._tables[0][pairs._indices]
        with pytest.raises(ValueError, match=r"Pass Pairs\(X\[:, 0\], X\[:, 1\]\)"):
            PairVerifier(FrozenEstimator(identity)).fit(stacked, same)

    def test_sequences_with_two_channels(self, make_embedder, rng):
        """Two classes, and the shape of a stack: the input shape says that these are samples."""
        X, y = rng.normal(size=(40, 2, 16)), np.arange(40) % 2
        X[y == 1] += 2
        embedder = make_embedder(module="auto", input_shape=(2, 16), max_epochs=1)
        embedder.set_params(hidden_layer_sizes=(256, 128), n_members=4)
        verifier = PairVerifier(embedder, cv=2).fit(X, y)
        assert verifier.predict(X[np.arange(10).reshape(5, 2)]).shape == (5,)
        names = np.array(["no", "yes"])[y]
        default = clone(embedder).set_params(input_shape=None)
        with pytest.raises(ValueError, match="may be pairs"):
            PairVerifier(default, cv=2).fit(X, y)
        PairVerifier(FunctionTransformer(lambda X: X.mean(axis=2)), cv=2).fit(X, names)

    def test_groups(self, labeled_pairs, identity):
        pairs, same = labeled_pairs
        with pytest.raises(ValueError, match="groups"):
            PairVerifier(FrozenEstimator(identity)).fit(pairs, same, groups=same)

    @pytest.mark.parametrize("form", ["Pairs", "stack"])
    @pytest.mark.parametrize("dtype", [bool, int])
    def test_cross_validate(self, form, dtype, clusters, labeled_pairs):
        """With predefined folds and scikit-learn's scorers, as in pair lists of faces."""
        pairs, same = labeled_pairs
        X = pairs if form == "Pairs" else clusters[0][pairs._indices]
        verifier = PairVerifier(FrozenEstimator(StandardScaler().fit(clusters[0])))
        results = cross_validate(
            verifier,
            X,
            same.astype(dtype),
            cv=PredefinedSplit(np.arange(len(same)) % 5),
            scoring=["roc_auc", "average_precision", "accuracy", "f1", "neg_log_loss"],
            error_score="raise",
        )
        scores = verifier.fit(pairs, same).decision_function(pairs)
        assert results["test_roc_auc"].mean() == pytest.approx(
            roc_auc_score(same, scores), abs=0.02
        )
        assert results["test_accuracy"].mean() > 0.8
        assert results["test_f1"].mean() > 0.8

    def test_scorers_of_a_fitted_verifier(self, clusters, new_pairs, identity):
        pairs, same = new_pairs
        verifier = PairVerifier(identity).fit(*clusters)
        scores = verifier.decision_function(pairs)
        assert get_scorer("roc_auc")(verifier, pairs, same) == roc_auc_score(same, scores)
        accuracy = get_scorer("accuracy")(verifier, pairs, same)
        assert accuracy == verifier.score(pairs, same)
        frozen = FrozenEstimator(verifier)
        results = cross_validate(frozen, pairs, same, scoring="accuracy", cv=3)
        assert results["test_score"].mean() == pytest.approx(accuracy, abs=1e-3)


class TestGroups:
    def test_positive_pairs_are_of_different_groups(self, clusters, identity):
        X, y = clusters
        groups = np.tile(np.arange(12) // 4, 20)
        cv = list(GroupKFold(4).split(X, groups=y))
        verifier = PairVerifier(identity, cv=cv).fit(X, y, groups=groups)
        positive, negative = [], []
        for _, test in cv:
            left, right = test[np.stack(np.triu_indices(len(test), k=1))]
            distances = np.linalg.norm(X[left] - X[right], axis=1)
            same = y[left] == y[right]
            positive.extend(distances[same & (groups[left] != groups[right])])
            negative.extend(distances[~same])
        assert verifier.false_negative_rate_ == pytest.approx(
            np.mean(np.array(positive) > verifier.threshold_)
        )
        assert verifier.false_positive_rate_ == pytest.approx(
            np.mean(np.array(negative) <= verifier.threshold_)
        )

    def test_similar_samples_of_a_session(self, make_clusters, identity):
        """They would make the false negative rate too low."""
        rng = np.random.default_rng(0)
        X, y = make_clusters(30, rng)
        session = np.arange(len(y)) // 4
        X += 0.5 * rng.normal(size=(session.max() + 1, 8))[session]
        fnr = [
            PairVerifier(identity, target_fpr=0.05).fit(X, y, groups=groups).false_negative_rate_
            for groups in (None, session)
        ]
        assert fnr[1] > fnr[0] + 0.05

    def test_no_pairs(self, clusters, untrained):
        X, y = clusters
        message = r"Got none of the same class in different groups: .* several groups of a class\."
        with pytest.raises(ValueError, match=message):
            PairVerifier(untrained).fit(X, y, groups=y)

    def test_folds_of_one_group(self, clusters, untrained):
        """More samples of a class would not help."""
        X, y = clusters
        groups = np.arange(len(y)) % 12
        verifier = PairVerifier(untrained, cv=LeaveOneGroupOut())
        with pytest.raises(ValueError, match=r"different groups: .* several groups of a class\."):
            verifier.fit(X, y, groups=groups)


def test_predict_embeds_each_sample_once(clusters, identity):
    class Counter(FunctionTransformer):
        def transform(self, X):
            n_samples.append(len(X))
            return X

    X, y = clusters
    n_samples = []
    verifier = PairVerifier(Counter()).fit(X, y)
    left, right = np.triu_indices(len(y), k=1)
    indices = np.column_stack([left, right])
    for pairs in (X[indices], (X[left], X[right]), Pairs(X, indices=indices)):
        n_samples.clear()
        verifier.predict(pairs)
        assert n_samples == [len(y)]


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
    [
        (KFold(12), "the same class: the folds need more samples per class"),
        (PredefinedSplit([0] * 6 + [1] * 6), "different classes: the folds need more classes"),
    ],
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
