"""Argument checks of the retrieval scores."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from sktriplet._labels import check_labels, concatenate_labels

Pair = tuple[NDArray, NDArray]  # of the queries and of the references


def check_retrieval_arguments(
    embeddings: ArrayLike,
    y: ArrayLike,
    reference: ArrayLike | None,
    reference_y: ArrayLike | None,
    groups: ArrayLike | None,
    reference_groups: ArrayLike | None,
) -> tuple[Pair, Pair, tuple[NDArray | None, NDArray | None]]:
    """Check the arguments of a retrieval score, and encode classes and groups as integers.

    Returns embeddings, labels and exclusions of the queries and of the references. A query
    must not find references with its exclusion, the code of its class and group, if any.
    """
    queries = check_array(embeddings, dtype=np.float64, input_name="embeddings")
    labels = _check_column(y, "y", queries)
    if groups is not None:
        groups = _check_column(groups, "groups", queries)
    if reference is None:
        for name, value in [("reference_y", reference_y), ("reference_groups", reference_groups)]:
            if value is not None:
                raise ValueError(f"{name} requires reference. Got reference=None.")
        references, reference_labels, reference_groups = queries, labels, groups
    else:
        references = check_array(reference, dtype=np.float64, input_name="reference")
        if references.shape[1] != queries.shape[1]:
            raise ValueError(
                "reference must have as many features as embeddings. "
                f"Got {references.shape[1]} instead of {queries.shape[1]}."
            )
        if reference_y is None:
            raise ValueError("reference requires reference_y. Got reference_y=None.")
        reference_labels = _check_column(reference_y, "reference_y", references)
        if (groups is None) != (reference_groups is None):
            raise ValueError(
                "groups and reference_groups must be passed together if there is a reference. "
                f"Got only {'reference_groups' if groups is None else 'groups'}."
            )
        if reference_groups is not None:
            reference_groups = _check_column(reference_groups, "reference_groups", references)
    labels, reference_labels = _encode_jointly(labels, reference_labels, "y")
    if groups is None:
        return (queries, references), (labels, reference_labels), (None, None)
    groups, reference_groups = _encode_jointly(groups, reference_groups, "groups")
    n_groups = 1 + max(groups.max(), reference_groups.max())
    exclusions = labels * n_groups + groups, reference_labels * n_groups + reference_groups
    return (queries, references), (labels, reference_labels), exclusions


def _check_column(values: Any, name: str, samples: NDArray) -> NDArray:
    """Check that there is one value per sample."""
    column = check_labels(values, name)
    if len(column) != len(samples):
        raise ValueError(
            f"{name} must have one value per sample, {len(samples)}. Got {len(column)} instead."
        )
    return column


def _encode_jointly(left: Any, right: Any, name: str) -> Pair:
    """Encode two columns as integers, with equal codes for equal values."""
    is_text = [column.dtype.kind in "UST" for column in (left, right)]
    if is_text[0] != is_text[1] and "O" not in (left.dtype.kind, right.dtype.kind):
        raise ValueError(
            f"{name} and reference_{name} must have comparable types. "
            f"Got {left.dtype} and {right.dtype}."
        )
    try:
        values = left if left is right else concatenate_labels(left, right)
        codes = np.unique(values, return_inverse=True)[1]
    except TypeError as error:
        raise ValueError(f"{name} must not mix types or have missing values. {error}") from error
    return codes[: len(left)], codes[-len(right) :]
