"""scikit-learn's own checks, on every public estimator."""

import inspect

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

import sktriplet
from sktriplet import TripletEmbedder

ESTIMATORS = [TripletEmbedder(max_epochs=1, hidden_layer_sizes=(32,), random_state=0)]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_no_public_estimator_is_missing():
    public = [getattr(sktriplet, name) for name in sktriplet.__all__]
    estimators = {
        item for item in public if inspect.isclass(item) and issubclass(item, BaseEstimator)
    }
    assert estimators
    assert estimators == {type(estimator) for estimator in ESTIMATORS}


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_checks_were_collected(estimator, request):
    name = type(estimator).__name__
    collected = [
        item
        for item in request.session.items
        if item.name.startswith(f"test_scikit_learn_checks[{name}(")
    ]
    assert len(collected) >= 40
