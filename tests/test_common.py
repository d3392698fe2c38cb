"""scikit-learn's own checks, on every public estimator."""

import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils import ClassifierTags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

import sktriplet
from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet._input_validation import validate_rows
from sktriplet.training._data import as_tensor


class RowVerifier(PairVerifier):
    """A PairVerifier that can be asked about rows, each beside a row of zeros.

    scikit-learn's checks know of no estimator that takes rows in fit and pairs in predict.
    All else that they check is the verifier's own.
    """

    def decision_function(self, rows):
        check_is_fitted(self)
        rows = as_tensor(validate_rows(self, rows)).numpy()  # pairs are dense
        return super().decision_function(np.stack([rows, np.zeros_like(rows)], axis=1))

    def score(self, rows, y):
        return super().score(rows, np.equal(y, y[0]))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # Asked for by the checks of sparse rows wherever there is a predict_proba.
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags


EMBEDDER = TripletEmbedder(max_epochs=1, hidden_layer_sizes=(32,), n_members=2, random_state=0)
ONE_NETWORK = clone(EMBEDDER).set_params(n_members=1)
ESTIMATORS = [
    EMBEDDER,
    RowVerifier(ONE_NETWORK, cv=2),
    OpenSetClassifier(ONE_NETWORK, target_fpir=0.3, cv=2),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_no_public_estimator_is_missing():
    public = [getattr(sktriplet, name) for name in sktriplet.__all__]
    estimators = {
        item for item in public if inspect.isclass(item) and issubclass(item, BaseEstimator)
    }
    assert estimators
    checked = {base for estimator in ESTIMATORS for base in type(estimator).__mro__}
    assert estimators <= checked


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_checks_were_collected(estimator, request):
    name = type(estimator).__name__
    collected = [
        item
        for item in request.session.items
        if item.name.startswith(f"test_scikit_learn_checks[{name}(")
    ]
    assert len(collected) >= 40
