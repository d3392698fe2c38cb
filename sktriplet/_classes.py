"""Class labels: validation, classes, and codes of training samples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import type_of_target

from sktriplet._labels import (
    check_labels,
    concatenate_labels,
    find_labeled,
    find_missing,
    may_mark_unlabeled,
)
from sktriplet._warnings import warn_user
from sktriplet.exceptions import AmbiguousLabelWarning

# What to do about several labels per sample.
SEVERAL_LABELS = (
    "Samples with several labels do not form classes: combine the labels to one per sample, or "
    "compare samples instead, with ComparisonEmbedder."
)


def validate_class_labels(
    y: Any, owner: str, unlabeled: Any = None
) -> tuple[NDArray, NDArray[np.bool_]]:
    """Check that y is a vector of class labels without missing values.

    Also return which samples are labeled: all except those whose label is `unlabeled`.
    """
    if y is None:
        raise ValueError(f"{owner} requires y to be passed, but the target y is None.")
    try:
        y = np.asarray(y)
    except ValueError as error:
        raise ValueError(f"y must hold one label per sample. {error} {SEVERAL_LABELS}") from error
    if y.dtype.kind == "c":
        raise ValueError("y must hold class labels. Complex data not supported.")
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(f"y must hold one label per sample. {_explain_label_columns(y)}")
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    is_missing = find_missing(y)
    if is_missing.any():
        raise ValueError(
            f"{owner} requires y without missing labels. Input y contains NaN or missing values: "
            f"{y[is_missing][0]!r} at position {np.flatnonzero(is_missing)[0]}."
        )
    is_labeled = find_labeled(y, unlabeled)
    # As scikit-learn does, but without its warning for many classes, which are common here.
    target_type = type_of_target(y[is_labeled], input_name="y") if is_labeled.any() else "binary"
    if target_type not in ("binary", "multiclass"):
        types = ", ".join(sorted({type(label).__name__ for label in y[is_labeled]}))
        hint = ""
        if unlabeled is None and -1 in y.tolist():
            hint = " If -1 marks unlabeled samples, pass unlabeled=-1 to TripletEmbedder."
        raise ValueError(
            f"y must hold class labels of a single type. Unknown label type: {target_type} "
            f"({types}).{hint}"
        )
    return y, is_labeled


def encode_classes(
    y: NDArray, is_labeled: NDArray[np.bool_], estimator: Any, *, is_chunk: bool = False
) -> tuple[NDArray, NDArray[np.int64]]:
    """Return the classes, and the position of each label in them, -1 if unlabeled."""
    owner = type(estimator).__name__
    labels = np.full(len(y), -1, np.int64)
    classes, labels[is_labeled], counts = np.unique(
        y[is_labeled], return_inverse=True, return_counts=True
    )
    if len(classes) < 2 and not is_chunk:
        raise ValueError(
            f"{owner} requires at least 2 classes in y. Got {len(classes)} "
            f"{'class' if len(classes) == 1 else 'classes'}: {classes.tolist()}."
        )
    if counts.max(initial=0) < 2 and not is_chunk:
        raise ValueError(
            f"{owner} requires a class with at least 2 samples in y, which form a pair. Got "
            f"{len(classes)} classes with 1 sample each."
        )
    if may_mark_unlabeled(classes):
        label = classes[:1].tolist()[0]
        advice = f"pass unlabeled={label!r}" if hasattr(estimator, "unlabeled") else "remove them"
        warn_user(
            f"y holds the label {label!r} next to {len(classes) - 1} other classes, and "
            f"{owner} takes it as a class. scikit-learn marks unlabeled samples, and noise in "
            f"clusters, by -1: if these samples are unlabeled, {advice}. If not, filter this "
            "warning, or rename the class.",
            AmbiguousLabelWarning,
        )
    return classes, labels


def merge_classes(known: NDArray, new: NDArray) -> NDArray:
    """Return the sorted union of two arrays of class labels.

    Raises
    ------
    ValueError
        If the labels have different types, such as numbers and strings.
    """
    try:
        kinds = known.dtype.kind, new.dtype.kind
        if "O" not in kinds and (kinds[0] in "US") != (kinds[1] in "US"):
            raise TypeError
        return np.unique(concatenate_labels(known, new))
    except TypeError as error:
        raise ValueError(
            "The labels in y must have the same type as in earlier calls. Got "
            f"{new[:3].tolist()}, ... after {known[:3].tolist()}, ..."
        ) from error


def declare_classes(classes: Any, seen: NDArray, unlabeled: Any) -> NDArray:
    """Return the sorted classes that `partial_fit` has received, which must contain those seen.

    Raises
    ------
    ValueError
        If they do not, or if they contain the label of unlabeled samples.
    """
    classes = np.unique(check_labels(classes, "classes"))
    if not find_labeled(classes, unlabeled).all():
        raise ValueError(
            f"classes must not contain unlabeled={unlabeled!r}, which marks samples without a "
            f"class. Got {classes.tolist()}."
        )
    if len(merge_classes(classes, seen)) > len(classes):
        unknown = np.setdiff1d(seen, classes)
        raise ValueError(
            f"y must hold labels in classes. Got {unknown[:5].tolist()}, which are not among the "
            f"{len(classes)} classes {classes[:5].tolist()}{', ...' * (len(classes) > 5)}"
        )
    return classes


def _explain_label_columns(y: NDArray) -> str:
    got = f"Got an array of shape {y.shape}"
    if y.dtype.kind in "biuf" and np.isin(y, [0, 1]).all() and (y.sum(axis=1) == 1).all():
        return f"{got} with a column per class: pass y.argmax(axis=1)."
    return f"{got}. {SEVERAL_LABELS}"
