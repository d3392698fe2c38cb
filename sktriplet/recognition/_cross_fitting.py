"""Cross-fitting: embedders for held-out samples, on which thresholds are set.

Distances between training samples are biased, because training pulls classes together.
"""

import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods

from sktriplet._embedder import TripletEmbedder
from sktriplet._input_validation import TrainingData, validate_feature_names, validate_training_data
from sktriplet._labels import find_labeled
from sktriplet._parameters import Interval, validate_parameters

MAX_FOLDS = 5

Split = tuple[NDArray[np.intp], NDArray[np.intp]]


class InstanceWithMethods(HasMethods):
    """scikit-learn's constraint, which classes do not satisfy here."""

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, type) and super().is_satisfied_by(val)


class CrossFittingEstimator(MetaEstimatorMixin, BaseEstimator):
    """Base class of estimators that set a threshold by cross-fitting an embedder."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [InstanceWithMethods(["fit", "transform"]), None],
        "cv": [Interval(Integral, 2, None, closed="left"), InstanceWithMethods(["split"]), None],
    }

    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, TrainingData]:
        """Check parameters and data, and return the embedder to clone and the data."""
        validate_parameters(self, **self.get_params(deep=False))
        data = validate_training_data(self, X, y)
        embedder = TripletEmbedder() if self.estimator is None else self.estimator
        for name, marker in embedder.get_params().items():
            is_marker = name.rpartition("__")[2] == "unlabeled" and marker is not None
            if is_marker and not find_labeled(data.classes, marker).all():
                raise ValueError(
                    f"{type(self).__name__} requires labels of all samples. Got unlabeled samples "
                    f"in y, which the embedder marks by {name}={marker!r}: remove them."
                )
        if isinstance(embedder, FrozenEstimator):
            validate_feature_names(embedder, X)
        return embedder, data

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        return tags


def cross_fitting_splits(X: NDArray | csr_array, y: NDArray, cv: Any) -> list[Split]:
    """Return the training and test indices of every fold, if possible of disjoint classes.

    A splitter is called with the classes as groups. Otherwise, folds consist of whole classes if
    there are at least two per fold, and of consecutive samples of every class if not.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The groups parameter is ignored")
        if cv is None or isinstance(cv, Integral):
            warnings.filterwarnings("ignore", "The least populated class")
            cv = _default_splitter(y, cv)
        return list(cv.split(X, y, groups=y))


def _default_splitter(y: NDArray, n_folds: Any) -> GroupKFold | StratifiedKFold:
    class_counts = np.unique(y, return_counts=True)[1]
    min_folds, max_folds = n_folds or 2, n_folds or MAX_FOLDS
    if len(class_counts) >= 2 * max_folds:
        return GroupKFold(max_folds)
    if class_counts.max() < 2 * min_folds:  # no class has a pair of samples in every fold
        raise ValueError(
            f"Cross-fitting needs at least {2 * max_folds} classes in y, or a class with at least "
            f"{2 * min_folds} samples. Got {len(class_counts)} classes, the largest with "
            f"{class_counts.max()} samples."
        )
    return StratifiedKFold(min(max_folds, class_counts.max() // 2))


def cross_fitted_embedders(
    embedder: Any, X: NDArray | csr_array, y: NDArray, splits: list[Split]
) -> Iterator[tuple[Any, NDArray[np.intp], NDArray[np.intp]]]:
    """Yield, for every split, a clone fitted on the training samples, and both index arrays."""
    for number, (train, test) in enumerate(splits, start=1):
        try:
            fitted = clone(embedder).fit(X[train], y[train])
        except Exception as error:
            error.add_note(f"Raised by the embedder that is fitted without fold {number}.")
            raise
        yield fitted, train, test


def embed(embedder: Any, X: NDArray | csr_array) -> NDArray:
    """Embed samples whose feature names were already checked."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        return np.asarray(embedder.transform(X))
