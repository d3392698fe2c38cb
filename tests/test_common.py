"""scikit-learn's checks on all public estimators."""

import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils import ClassifierTags, _safe_indexing, indexable
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import _num_samples, check_array, check_is_fitted

import sktriplet
from sktriplet import ComparisonEmbedder, OpenSetClassifier, Pairs, PairVerifier, TripletEmbedder


class SampleVerifier(PairVerifier):
    """A PairVerifier that predicts for samples, each paired with the first training sample.

    scikit-learn has no checks for estimators that are fitted on samples and predict for pairs.
    """

    def fit(self, X, y, groups=None):
        super().fit(X, y, groups)
        self._first = _safe_indexing(*indexable(X), [0])
        return self

    def decision_function(self, X):
        check_is_fitted(self)
        rows = np.arange(_num_samples(X))
        return super().decision_function(
            Pairs(X, self._first, indices=np.column_stack([rows, np.zeros_like(rows)]))
        )

    def score(self, X, y):
        return super().score(X, np.equal(y, y[0]))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = None
        # The checks of sparse samples require it of estimators with predict_proba.
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags


class SampleComparisonEmbedder(ComparisonEmbedder):
    """A ComparisonEmbedder that is fitted on samples, which it compares with each other.

    scikit-learn has no checks for estimators that are fitted on triplets.
    """

    def fit(self, X, y=None):
        X = check_array(X, dtype=float, ensure_min_samples=2, ensure_all_finite="allow-nan")
        return super().fit(np.stack([X, X + 1e-3, np.roll(X, 1, axis=0)], axis=1))

    def fit_transform(self, X, y=None):
        return self.fit(X).transform(X)

    def score(self, X, y=None):
        return self.transform(X).mean()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


EMBEDDER = TripletEmbedder(max_epochs=1, hidden_layer_sizes=(32,), n_members=2, random_state=0)
SINGLE_MEMBER = clone(EMBEDDER).set_params(n_members=1)
ESTIMATORS = [
    EMBEDDER,
    SampleVerifier(SINGLE_MEMBER, cv=2),
    OpenSetClassifier(SINGLE_MEMBER, target_fpir=0.3, cv=2),
    SampleComparisonEmbedder(SINGLE_MEMBER),
]


@parametrize_with_checks(ESTIMATORS)
def test_estimator_check(estimator, check):
    check(estimator)


def test_all_estimators_are_checked():
    public = [getattr(sktriplet, name) for name in sktriplet.__all__]
    estimators = {
        item for item in public if inspect.isclass(item) and issubclass(item, BaseEstimator)
    }
    assert estimators
    checked = {base for estimator in ESTIMATORS for base in type(estimator).__mro__}
    assert estimators <= checked


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_estimator_checks_are_collected(estimator, request):
    name = type(estimator).__name__
    collected = [
        item
        for item in request.session.items
        if item.name.startswith(f"test_estimator_check[{name}(")
    ]
    assert len(collected) >= 40
