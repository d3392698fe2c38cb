"""Embeddings of rows by an embedder that has not seen them.

Thresholds must be set on rows that had no part in training: those that had are nearer to
each other, and nearest of all within the classes that the network was taught to draw together.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import PredefinedSplit

N_FOLDS = 5


@dataclass
class Fold:
    """One part of the rows held out.

    Parameters
    ----------
    embedder : object with ``transform``
        Fitted without the rows of ``test``.

    train, test : ndarray of int
        Row numbers. The classes of both are apart, where there are enough classes.
    """

    embedder: Any
    train: NDArray[np.intp]
    test: NDArray[np.intp]


def held_out_folds(
    embedder: Any, X: NDArray | csr_array, classes: NDArray, labels: NDArray[np.intp], cv: Any
) -> Iterator[Fold]:
    """Yield folds, each with an embedder that was fitted on its training rows.

    Parameters
    ----------
    embedder : transformer
        Cloned for each fold. A :class:`~sklearn.frozen.FrozenEstimator` is not fitted, and
        is taken not to have seen any of the rows.

    X : ndarray of shape (n_rows, ...), or CSR matrix

    classes : ndarray of shape (n_classes,)

    labels : ndarray of shape (n_rows,)
        Positions in ``classes``.

    cv : int, splitter or None
        A splitter is called with the classes as groups. An int is a number of folds:
        of classes where each fold gets two or more, of rows of every class otherwise.
        None is as many as there can be, at most 5.

    Raises
    ------
    ValueError
        If it comes from the embedder, a note says in which fold.
    """
    y = classes[labels]
    if cv is None or isinstance(cv, Integral):
        splits = list(PredefinedSplit(_fold_numbers(labels, cv)).split())
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The groups parameter is ignored")
            splits = list(cv.split(X, y, groups=y))
    is_fitted = isinstance(embedder, FrozenEstimator)
    for number, (train, test) in enumerate(splits, start=1):
        fitted = clone(embedder)
        if not is_fitted:
            try:
                fitted.fit(X[train], y[train])
            except ValueError as error:
                error.add_note(f"Rows held out in fold {number} of {len(splits)} were left out.")
                raise
        yield Fold(fitted, train, test)


def embed(embedder: Any, rows: NDArray | csr_array) -> NDArray:
    """Return the embeddings of rows whose columns have been checked, and have no names any more."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        return np.asarray(embedder.transform(rows))


def _fold_numbers(labels: NDArray[np.intp], n_folds: Any) -> NDArray[np.intp]:
    counts = np.bincount(labels)
    wanted = n_folds or N_FOLDS
    if len(counts) >= 2 * wanted:
        # Dealt like cards, the largest first, so that each fold gets large and small ones.
        shuffled = np.random.default_rng(0).permutation(len(counts))
        dealt = shuffled[np.argsort(-counts[shuffled], kind="stable")]
        fold_of_class = np.empty(len(counts), dtype=np.intp)
        fold_of_class[dealt] = np.arange(len(counts)) % wanted
        return fold_of_class[labels]
    least = n_folds or 2
    if counts.max() < 2 * least:
        raise ValueError(
            f"Holding rows out needs {2 * wanted} or more classes in y, or a class with "
            f"{2 * least} or more rows. Got {len(counts)} classes, the largest with "
            f"{counts.max()} rows."
        )
    # Consecutive rows of a class stay together: they may be frames of one film.
    order = np.argsort(labels, kind="stable")
    number_in_class = np.empty(len(labels), dtype=np.intp)
    number_in_class[order] = np.concatenate([np.arange(count) for count in counts])
    return number_in_class * min(wanted, counts.max() // 2) // counts[labels]
