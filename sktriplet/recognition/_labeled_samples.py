"""Samples with labels, which an embedder inside another estimator will validate."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils import check_consistent_length, indexable

from sktriplet._classes import encode_classes, merge_classes, validate_class_labels
from sktriplet._labels import check_labels
from sktriplet._multi_input import has_several_inputs


@dataclass
class LabeledSamples:
    """Samples as they were passed, with validated labels and groups."""

    X: Any  # can be indexed by scikit-learn
    y: NDArray
    classes: NDArray
    labels: NDArray[np.int64]  # positions in classes
    groups: NDArray[np.int64] | None


def validate_labeled_samples(estimator: Any, X: Any, y: Any, groups: Any = None) -> LabeledSamples:
    """Validate labels and groups of samples that another estimator will validate.

    Raises
    ------
    ValueError
        If X is no collection of at least two samples, if y does not hold class labels, if no
        triplet exists, or if lengths differ.
    """
    owner = type(estimator).__name__
    X = check_collection(X, owner, ensure_min_samples=2)
    y, is_labeled = validate_class_labels(y, owner)
    check_consistent_length(X, y)
    classes, labels = encode_classes(y, is_labeled, estimator)
    if groups is not None:
        groups = check_labels(groups, "groups")
        check_consistent_length(X, groups)
        groups = np.unique(groups, return_inverse=True)[1].astype(np.int64, copy=False)
    return LabeledSamples(X, y, classes, labels, groups)


def validate_enrollment(owner: str, X: Any, y: Any, classes: NDArray) -> tuple[Any, NDArray]:
    """Validate labels, for which classes may be new, of samples for another estimator.

    Raises
    ------
    ValueError
        If y has a different type than the classes, or another length than X.
    """
    X, (y, _) = check_collection(X, owner), validate_class_labels(y, owner)
    check_consistent_length(X, y)
    merge_classes(classes, y)
    return X, y


def check_collection(
    X: Any, owner: str, *, ensure_min_samples: int = 1, input_name: str = "X"
) -> Any:
    """Check that X holds samples, and make sparse matrices indexable.

    Raises
    ------
    ValueError
        If X has no length, or too few samples.
    """
    is_dict = has_several_inputs(X)
    is_single = isinstance(X, str | bytes) or getattr(X, "ndim", 1) == 0
    is_indexable = hasattr(X, "__getitem__") or hasattr(X, "__array__") or issparse(X)
    if is_dict or is_single or not is_indexable:
        got = f"a dict with the keys {list(X)[:5]}" if is_dict else f"{X!r:.100}"
        raise ValueError(
            f"{input_name} must hold samples, in an array, a DataFrame, a sparse matrix or a list. "
            f"Got {got}."
        )
    (X,) = indexable(X)
    shape = X.shape if hasattr(X, "shape") else (len(X),)
    for axis, unit, minimum in [(0, "sample", ensure_min_samples), (1, "feature", 1)]:
        if axis < len(shape) and shape[axis] < minimum:
            raise ValueError(
                f"Found array with {shape[axis]} {unit}(s) (shape={tuple(shape)}) while a minimum "
                f"of {minimum} is required by {owner}."
            )
    return X
