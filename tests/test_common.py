"""scikit-learn's checks on all public estimators."""

import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils import ClassifierTags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_array, check_is_fitted

import sktriplet
from sktriplet import ComparisonEmbedder, OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet._input_validation import validate_samples
from sktriplet.training._data import as_tensor


class SampleVerifier(PairVerifier):
    """A PairVerifier that predicts for samples, each paired with a sample of zeros.

    scikit-learn has no checks for estimators that are fitted on samples and predict for pairs.
    """

    def decision_function(self, X):
        check_is_fitted(self)
        X = as_tensor(validate_samples(self, X)).numpy()  # pairs are dense
        return super().decision_function(np.stack([X, np.zeros_like(X)], axis=1))

    def score(self, X, y):
        return super().score(X, np.equal(y, y[0]))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
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
