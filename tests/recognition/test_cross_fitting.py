import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GroupKFold,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet.exceptions import SuspiciousFeatureWarning
from sktriplet.recognition._cross_fitting import cross_fit, cross_fitting_splits
from sktriplet.recognition._labeled_samples import validate_labeled_samples


class Recorder(TransformerMixin, BaseEstimator):
    """Embed every sample as the list of the training samples."""

    def fit(self, X, y):
        self.samples_ = X[:, 0]
        return self

    def transform(self, X):
        return np.tile(self.samples_, (len(X), 1))


def record(embed, train, test):
    return train, test, embed(test)


def make_data(counts):
    """Make classes of these sizes, in which every sample is its index."""
    y = np.repeat([f"class {number:02}" for number in range(len(counts))], counts)
    return np.arange(len(y), dtype=float)[:, None], y


@pytest.mark.parametrize(
    ("counts", "cv", "n_folds", "by_class"),
    [
        ([5] * 10, None, 5, True),
        ([5] * 9, None, 2, False),
        ([20] * 9, None, 5, False),
        ([20, 1, 1], None, 5, False),
        ([4, 4], None, 2, False),
        ([5] * 8, 4, 4, True),
        ([5] * 8, 2, 2, True),
        ([12] * 4, 3, 3, False),
        ([1] * 9 + [30], None, 5, True),
        ([5] * 6, GroupKFold(3), 3, True),
        ([6] * 12, StratifiedKFold(3), 3, False),
    ],
)
def test_cross_fitting(counts, cv, n_folds, by_class):
    """Every sample is held out once, and its embedder was fitted on the other folds."""
    X, y = make_data(counts)
    splits = cross_fitting_splits(X, y, cv)
    assert len(splits) == n_folds
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(len(y)))
    samples = validate_labeled_samples("", X, y)
    for train, test, fitted_on in cross_fit(Recorder(), samples, splits, record, None):
        assert sorted([*train, *test]) == list(range(len(y)))
        assert (fitted_on == train).all()
        assert fitted_on.shape == (len(test), len(train))
        assert set(y[train]).isdisjoint(y[test]) == by_class


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [([100] * 5 + [2] * 15, [106] * 5), ([5] * 9, [23, 22]), ([20, 1, 1], [5, 5, 4, 4, 4])],
)
def test_fold_sizes_are_balanced(counts, sizes):
    splits = cross_fitting_splits(*make_data(counts), None)
    assert sorted((len(test) for _, test in splits), reverse=True) == sizes


def test_consecutive_samples_of_a_class_stay_together():
    X, y = make_data([10, 15])
    for _, test in cross_fitting_splits(X, y, None):
        for label in np.unique(y):
            held_out = test[y[test] == label]
            assert (np.diff(held_out) == 1).all()
            assert len(held_out) in (2, 3)


def test_class_types():
    X, y = make_data([5] * 10)
    dates = np.unique(y, return_inverse=True)[1].astype("datetime64[D]")
    expected = cross_fitting_splits(X, y, None)
    for labels in (y.astype(object), dates):
        for split, other in zip(expected, cross_fitting_splits(X, labels, None), strict=True):
            assert all(map(np.array_equal, split, other))


@pytest.mark.parametrize(
    ("counts", "cv", "message"),
    [
        ([3, 3], None, r"10 classes in y, .* 4 samples\. Got 2 classes, .* 3 samples"),
        ([7] * 3, 4, r"8 classes in y, .* 8 samples\. Got 3 classes, .* 7 samples"),
    ],
)
def test_too_few_samples(counts, cv, message):
    with pytest.raises(ValueError, match=message):
        cross_fitting_splits(*make_data(counts), cv)


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        ([], "at least one split"),
        ([([0, 1], [2, 3]), ([2, 3], [])], "Got none in fold 2"),
        ([([0, 1], [2, 50])], "of the 50 samples.* 50 is out of bounds"),
        ([([0, 1], [2.0, 3.0])], "indices or masks.* integer"),
        ([([0, 1], [True] * 49)], "of the 50 samples.* 49"),
    ],
)
def test_invalid_splits(cv, message):
    with pytest.raises(ValueError, match=f"^cv must .*{message}"):
        cross_fitting_splits(*make_data([25, 25]), cv)


@pytest.mark.parametrize("train", [[], np.zeros(50, bool)])
def test_splits_without_training_samples(train):
    """A frozen embedder needs none."""
    (split,) = cross_fitting_splits(*make_data([25, 25]), [(train, range(50))])
    assert [part.tolist() for part in split] == [[], list(range(50))]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("estimator", [PairVerifier, OpenSetClassifier])
def test_one_warning_about_a_column(estimator, n_jobs, make_embedder):
    frame = pd.DataFrame({"a": ["1", "2", "?"] * 40, "b": np.arange(120.0)})
    y = np.repeat(np.arange(12), 10)
    with parallel_config("threading"), pytest.warns(SuspiciousFeatureWarning) as caught:
        estimator(make_embedder(max_epochs=1), cv=3, n_jobs=n_jobs).fit(frame, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_errors_note_the_fold(n_jobs):
    class Failing(Recorder):
        def fit(self, X, y):
            if "class 00" not in y:
                raise ValueError("failed")
            return super().fit(X, y)

    X, y = make_data([2] * 10)
    splits = cross_fitting_splits(X, y, None)
    (number,) = (number for number, (_, test) in enumerate(splits, start=1) if 0 in test)
    with pytest.raises(ValueError, match="failed") as error:
        cross_fit(Failing(), validate_labeled_samples("", X, y), splits, record, n_jobs)
    (note,) = error.value.__notes__
    assert note.endswith(f"without fold {number}.")


def test_frozen_embedder_embeds_every_sample_once(iris):
    embedded = []

    class Scaler(StandardScaler):
        def transform(self, X):
            embedded.extend(X[:, 0])
            return super().transform(X)

    X, y = np.arange(150.0)[:, None], iris[1]
    frozen = FrozenEstimator(Scaler().fit(X[:50]))
    splits = cross_fitting_splits(X, y, None)
    results = cross_fit(frozen, validate_labeled_samples("", X, y), splits, record, None)
    assert sorted(embedded) == list(range(150))
    for _, test, embeddings in results:
        assert (embeddings == StandardScaler().fit(X[:50]).transform(X[test])).all()


def split_forms(X, y, groups):
    splitter = StratifiedGroupKFold(3)
    splits = list(splitter.split(X, y, groups))
    fold = np.empty(len(y), dtype=int)
    for number, (_, test) in enumerate(splits):
        fold[test] = number
    masks = [[np.isin(np.arange(len(y)), rows) for rows in split] for split in splits]
    return {
        "splitter": splitter,
        "list": splits,
        "tuple": tuple(splits),
        "lists of int": [[rows.tolist() for rows in split] for split in splits],
        "masks": masks,
        "generator": (split for split in splits),
        "predefined": PredefinedSplit(fold),
    }


@pytest.mark.parametrize(
    "form",
    ["splitter", "list", "tuple", "lists of int", "masks", "generator", "predefined"],
)
def test_forms_of_cv(form):
    X, y = make_data([6] * 12)
    groups = np.arange(72) % 6
    expected = list(StratifiedGroupKFold(3).split(X, y, groups))
    splits = cross_fitting_splits(X, y, split_forms(X, y, groups)[form], groups)
    for split, other in zip(splits, expected, strict=True):
        assert all(map(np.array_equal, split, other))


class TestGroups:
    def assert_whole(self, splits, values, *, expected=True):
        is_whole = [set(values[train]).isdisjoint(values[test]) for train, test in splits]
        assert all(is_whole) == expected

    def test_within_classes(self):
        """Folds of classes do not split sessions of one class."""
        X, y = make_data([6] * 12)
        groups = np.arange(72) // 3
        splits = cross_fitting_splits(X, y, None, groups)
        self.assert_whole(splits, y)
        self.assert_whole(splits, groups)

    def test_of_several_classes(self):
        """Two classes per household; neither is split."""
        X, y = make_data([3] * 40)
        groups = np.arange(120) // 6
        splits = cross_fitting_splits(X, y, None, groups)
        assert len(splits) == 5
        self.assert_whole(splits, y)
        self.assert_whole(splits, groups)

    @pytest.mark.parametrize(("n_groups", "n_folds"), [(4, 2), (6, 3), (30, 5)])
    def test_across_classes(self, n_groups, n_folds):
        """Patients with several diagnoses: folds of patients, at least two in each."""
        X, y = make_data([60] * 3)
        groups = np.random.default_rng(0).permutation(np.arange(180) % n_groups)
        splits = cross_fitting_splits(X, y, None, groups)
        assert len(splits) == n_folds
        self.assert_whole(splits, groups)
        assert all(len(np.unique(groups[test])) > 1 for _, test in splits)

    def test_splitter(self):
        X, y = make_data([6] * 12)
        groups = np.arange(72) % 6
        splits = cross_fitting_splits(X, y, GroupKFold(3), groups)
        self.assert_whole(splits, groups)
        self.assert_whole(splits, y, expected=False)

    def test_too_few(self):
        X, y = make_data([20] * 12)
        with pytest.raises(ValueError, match=r"4 groups.* Got 3 groups and 1 such .* cv"):
            cross_fitting_splits(X, y, None, np.arange(240) % 3)

    @pytest.mark.parametrize("estimator_class", [OpenSetClassifier, PairVerifier])
    @pytest.mark.parametrize(
        ("groups", "match"),
        [
            ([1, 2], r"\[150, 2\]"),
            ([None] * 150, "groups .*missing"),
            (np.eye(150), "groups .*one"),
        ],
    )
    def test_invalid(self, estimator_class, groups, match, iris, untrained):
        with pytest.raises(ValueError, match=match):
            estimator_class(untrained).fit(*iris, groups=groups)

    @pytest.mark.parametrize("estimator_class", [OpenSetClassifier, PairVerifier])
    def test_in_fit(self, estimator_class, iris):
        X, y = iris
        groups = np.arange(150) % 30

        class Checking(StandardScaler):
            def fit(self, X, y=None):
                rows = (X[:, -1]).astype(int)
                n_samples.append(len(rows))
                assert (np.bincount(groups[rows])[np.unique(groups[rows])] == 5).all()
                return super().fit(X)

        n_samples = []
        numbered = np.column_stack([X, np.arange(150)])
        estimator_class(Checking()).fit(numbered, y, groups=groups)
        assert sorted(n_samples) == [120] * 5 + [150]

    @pytest.mark.parametrize("estimator_class", [OpenSetClassifier, PairVerifier])
    def test_metadata_routing(self, estimator_class, iris):
        """groups are requested by default."""
        X, y = iris
        groups = np.arange(150) % 30
        received = []

        class Spy(estimator_class):
            def fit(self, X, y, groups=None):
                received.append(groups)
                return super().fit(X, y, groups)

        def scoring(estimator, X, y):
            return 0.0

        for routing in (False, True):
            with config_context(enable_metadata_routing=routing):
                cross_validate(
                    Spy(StandardScaler()),
                    X,
                    y,
                    cv=GroupKFold(3) if routing else 3,
                    scoring=scoring,
                    params={"groups": groups},
                )
            assert all(len(part) == 100 for part in received[-3:])
        assert all(np.unique(part).size == 20 for part in received[3:])


@pytest.mark.parametrize("estimator_class", [OpenSetClassifier, PairVerifier])
def test_default_embedder(estimator_class, blobs):
    embedder, _ = estimator_class()._validate_fit(*blobs, None)
    assert repr(embedder) == repr(TripletEmbedder())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("estimator_class", [OpenSetClassifier, PairVerifier])
def test_unlabeled_samples_are_rejected(estimator_class, frozen, make_embedder, blobs):
    X, y = blobs[0], blobs[1].astype(str)
    y[::4] = "?"
    embedder = make_pipeline(StandardScaler(), make_embedder(unlabeled="?"))
    if frozen:
        embedder = FrozenEstimator(embedder.fit(X, y))
    with pytest.raises(ValueError, match=r"Got unlabeled samples in y, .*unlabeled='\?'"):
        estimator_class(embedder).fit(X, y)


def test_unlabeled_samples_are_not_enrolled(make_embedder, blobs):
    X, y = blobs[0], blobs[1].astype(str)
    classifier = OpenSetClassifier(make_embedder(unlabeled="?"), target_fpir=0.1).fit(X, y)
    with pytest.raises(ValueError, match="Got unlabeled samples in y"):
        classifier.enroll(X[:2], ["0", "?"])


@pytest.mark.parametrize("estimator_class", [OpenSetClassifier, PairVerifier])
class TestFrozenWithFeatureNames:
    """Warnings are errors here, and scikit-learn warns if names are missing."""

    def test_same_names(self, estimator_class, iris):
        X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
        frozen = FrozenEstimator(StandardScaler().fit(X[::2]))
        estimator = estimator_class(frozen).fit(X[1::2], y[1::2])
        assert estimator.feature_names_in_.tolist() == list("abcd")
        if estimator_class is OpenSetClassifier:
            assert estimator.enroll(X[:10], y[:10]).predict(X).shape == (150,)
        else:
            assert estimator.predict(np.stack([X, X], axis=1)).all()
            assert estimator.predict((X, X)).all()

    def test_other_order(self, estimator_class, iris):
        X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
        frozen = FrozenEstimator(StandardScaler().fit(X))
        with pytest.raises(ValueError, match="Feature names must be in the same order"):
            estimator_class(frozen).fit(X[list("badc")], y)

    def test_fitted_without_names(self, estimator_class, iris):
        X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
        frozen = FrozenEstimator(StandardScaler().fit(iris[0]))
        with pytest.warns(UserWarning, match="StandardScaler was fitted without feature names"):
            assert estimator_class(frozen).fit(X, y).n_features_in_ == 4
