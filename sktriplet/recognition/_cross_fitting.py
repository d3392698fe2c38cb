"""Cross-fitting: embeddings of held-out samples, on which thresholds are set.

Distances between training samples are biased, because training pulls classes together.
"""

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils import Tags, _safe_indexing, check_array, get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.parallel import Parallel, delayed

from sktriplet._embedder import TripletEmbedder
from sktriplet._labels import find_labeled
from sktriplet._parameters import Interval, validate_parameters
from sktriplet._warnings import fold_without_warnings
from sktriplet.recognition._labeled_samples import LabeledSamples, validate_labeled_samples

MAX_FOLDS = 5

Rows = NDArray[np.intp]
Split = tuple[Rows, Rows]
# Embeds the samples in these rows.
Embed = Callable[[Rows], NDArray]
Result = TypeVar("Result")


class InstanceWithMethods(HasMethods):
    """scikit-learn's constraint, which classes and strings do not satisfy here."""

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, type | str) and super().is_satisfied_by(val)


class CrossFittingEstimator(MetaEstimatorMixin, BaseEstimator):
    """Base class of estimators that set a threshold by cross-fitting an embedder.

    They leave X to the embedder, and select its rows only.
    """

    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [InstanceWithMethods(["fit", "transform"]), None],
        "cv": [
            Interval(Integral, 2, None, closed="left"),
            InstanceWithMethods(["split"]),
            InstanceWithMethods(["__iter__"]),
            None,
        ],
        "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
    }

    def _validate_fit(self, X: Any, y: Any, groups: Any) -> tuple[Any, LabeledSamples]:
        """Check parameters and labels, and return the embedder to clone and the samples."""
        self._validate_parameters()
        samples = validate_labeled_samples(self, X, y, groups)
        self._check_labeled(samples.classes)
        return self._embedder, samples

    def _validate_parameters(self) -> None:
        validate_parameters(self, **self.get_params(deep=False))

    def _check_labeled(self, classes: NDArray) -> None:
        embedder = self._embedder
        if isinstance(embedder, FrozenEstimator):  # whose parameters are not those of its estimator
            embedder = embedder.estimator
        for name, marker in embedder.get_params().items():
            is_marker = name.rpartition("__")[2] == "unlabeled" and marker is not None
            if is_marker and not find_labeled(classes, marker).all():
                raise ValueError(
                    f"{type(self).__name__} requires labels of all samples. Got unlabeled samples "
                    f"in y, which the embedder marks by {name}={marker!r}: remove them."
                )

    @property
    def _embedder(self) -> Any:
        return TripletEmbedder() if self.estimator is None else self.estimator

    @property
    def n_features_in_(self) -> int:
        """Number of features that the embedder has seen, if it tells."""
        return self._fitted_embedder.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray:
        """Feature names that the embedder has seen, if it tells."""
        return self._fitted_embedder.feature_names_in_

    @property
    def _fitted_embedder(self) -> Any:
        try:
            return self.estimator_
        except AttributeError as error:
            raise AttributeError(f"{type(self).__name__} is not fitted.") from error

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if hasattr(self._embedder, "__sklearn_tags__") and not isinstance(self._embedder, type):
            tags.input_tags = get_tags(self._embedder).input_tags
        return tags


def cross_fitting_splits(X: Any, y: NDArray, cv: Any, groups: NDArray | None = None) -> list[Split]:
    """Return the training and test indices of every fold, if possible of disjoint classes.

    Splitters are called with the groups, or with the classes as groups. By default, folds consist
    of whole classes and whole groups if there are enough, otherwise of whole groups. Without
    groups, these are consecutive samples of a class.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The groups parameter is ignored")
        if cv is None or isinstance(cv, Integral):
            warnings.filterwarnings("ignore", "The least populated class")
            cv, groups = _default_splitter(y, groups, cv)
        splits = check_cv(cv).split(X, y, groups=y if groups is None else groups)
        splits = [(_as_rows(train, len(y)), _as_rows(test, len(y))) for train, test in splits]
    for number, (_, test) in enumerate(splits, start=1):
        if not len(test):
            raise ValueError(f"cv must hold out samples in every fold. Got none in fold {number}.")
    if not splits:
        raise ValueError("cv must yield at least one split. Got none.")
    return splits


def _as_rows(indices: Any, n_samples: int) -> Rows:
    """Return the rows that indices or a mask select."""
    indices = np.asarray(indices)
    if not indices.size:  # an empty list would be an array of floats
        return np.arange(0)
    try:
        return np.arange(n_samples)[indices]
    except IndexError as error:
        raise ValueError(
            f"cv must yield indices or masks of the {n_samples} samples. Got {error}."
        ) from error


def _default_splitter(y: NDArray, groups: NDArray | None, n_folds: Any) -> tuple[Any, Any]:
    """Return a splitter, and the groups to call it with."""
    min_folds, max_folds = n_folds or 2, n_folds or MAX_FOLDS
    blocks = y if groups is None else _connected_classes(y, groups)
    n_blocks = len(np.unique(blocks))
    if n_blocks >= 2 * max_folds:
        return GroupKFold(max_folds), blocks
    if groups is not None:
        n_groups = len(np.unique(groups))
        if n_groups < 2 * min_folds:
            raise ValueError(
                f"Cross-fitting needs at least {2 * min_folds} groups, or {2 * max_folds} classes "
                f"whose groups have no other classes. Got {n_groups} groups and {n_blocks} such "
                "classes: pass a list of splits as cv if folds may split groups."
            )
        return StratifiedGroupKFold(min(max_folds, n_groups // 2)), groups
    largest = np.unique(y, return_counts=True)[1].max()
    if largest < 2 * min_folds:  # no class has a pair of samples in every fold
        raise ValueError(
            f"Cross-fitting needs at least {2 * max_folds} classes in y, or a class with at least "
            f"{2 * min_folds} samples. Got {n_blocks} classes, the largest with {largest} samples."
        )
    return StratifiedKFold(min(max_folds, largest // 2)), None


def _connected_classes(y: NDArray, groups: NDArray) -> NDArray:
    """Return numbers that samples of a class share, and samples of a group."""
    labels = np.unique(y, return_inverse=True)[1]
    codes = np.unique(groups, return_inverse=True)[1] + labels.max() + 1
    n_nodes = codes.max() + 1
    edges = coo_array((np.ones(len(y)), (labels, codes)), shape=(n_nodes, n_nodes))
    return connected_components(edges.tocsr(), directed=False)[1][labels]


def cross_fit(
    embedder: Any,
    samples: LabeledSamples,
    splits: list[Split],
    measure: Callable[[Embed, Rows, Rows], Result],
    n_jobs: int | None,
) -> list[Result]:
    """Return ``measure(embed, train, test)`` of every split.

    The function ``embed`` embeds samples with a clone that is fitted on the training samples. A
    frozen embedder embeds every sample once.
    """
    if isinstance(embedder, FrozenEstimator):
        embedder.fit(samples.X, samples.y)  # raises an error if it is not fitted
        used = np.unique(np.concatenate([rows for split in splits for rows in split]))
        embeddings = embed(embedder, _safe_indexing(samples.X, used))
        tasks = (delayed(_measure_embedded)(embeddings, used, split, measure) for split in splits)
    else:
        tasks = (
            delayed(_measure_fold)(number, clone(embedder), samples, split, measure)
            for number, split in enumerate(splits, start=1)
        )
    return list(Parallel(n_jobs=n_jobs)(tasks))


def _measure_embedded(embeddings: NDArray, used: Rows, split: Split, measure: Callable) -> Any:
    return measure(lambda rows: embeddings[np.searchsorted(used, rows)], *split)


def _measure_fold(
    number: int, embedder: Any, samples: LabeledSamples, split: Split, measure: Callable
) -> Any:
    train, test = split
    try:
        with fold_without_warnings():
            embedder.fit(_safe_indexing(samples.X, train), samples.y[train])
        return measure(lambda rows: embed(embedder, _safe_indexing(samples.X, rows)), train, test)
    except Exception as error:
        error.add_note(f"Raised by the embedder that is fitted without fold {number}.")
        raise


def embed(embedder: Any, X: Any) -> NDArray:
    """Return the embeddings of samples, (n_samples, n_components), as floats."""
    return check_array(
        embedder.transform(X), dtype=[np.float32, np.float64], input_name="embeddings"
    )
