"""`PairVerifier`: whether two rows are of one class."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import accuracy_score, euclidean_distances
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sktriplet._embedder import TripletEmbedder
from sktriplet._input_validation import (
    remember,
    validate_names,
    validate_pairs,
    validate_same,
    validate_training_data,
)
from sktriplet._parameters import validate_parameters
from sktriplet.metrics._operating_point import most_within, threshold_at
from sktriplet.recognition._cross_fitting import embed, held_out_folds

# Rows of a fold that form pairs: their number of pairs is what has to fit into memory.
MAX_ROWS = 3000


# Pairs of a kind that the probabilities are learned from, evenly spaced by distance.
MAX_CALIBRATION_PAIRS = 100_000


N_BOOTSTRAPS = 200


class PairVerifier(MetaEstimatorMixin, BaseEstimator):
    r"""Say whether two rows are of one class, also of a class never seen.

    Two rows are held to be the same where their embeddings are no farther apart than a
    threshold. The threshold is set on pairs that the embedder has not seen: the classes are
    dealt into folds, and the rows of each fold are embedded by a clone that was fitted
    on the classes of the others. Then the embedder is fitted on all rows.

    `fit` takes rows and their classes. What comes after takes pairs, an array of shape
    ``(n_pairs, 2, ...)``.

    Parameters
    ----------
    estimator : transformer, default=None
        The embedder, fitted with ``fit(X, y)``. None is a
        :class:`~sktriplet.TripletEmbedder` with its defaults. One that is fitted goes in
        as a :class:`~sklearn.frozen.FrozenEstimator`; then `fit` only sets the threshold,
        and must be given rows that it was not fitted on.

    target_fpr : float, default=None
        Which part of the pairs that are different may be taken for the same. None sets the
        threshold with the best balanced accuracy, at which both errors count alike.

    cv : int, splitter or None, default=None
        How rows are held out. None is 5 folds of classes where y has 10 or more of them,
        and folds of rows, in which all classes were seen, where it has fewer: then
        the rates below do not speak for other classes. An int is the number of folds. A
        splitter, such as :class:`~sklearn.model_selection.GroupKFold`, is called with the
        classes as groups. A frozen estimator has no need of folds, and None takes the
        pairs of all rows.

    Attributes
    ----------
    estimator_ : transformer
        Fitted on all rows.

    threshold_ : float
        The largest Euclidean distance between the embeddings of two rows that are held to
        be the same.

    false_positive_rate_, false_negative_rate_ : float
        Which part of the different pairs held out is taken for the same, and which part of the
        same for different. The threshold was set on these pairs.

    false_positive_rate_interval_, false_negative_rate_interval_ : tuple of float
        Where 95% of the rates lie, at this threshold, when classes, and rows within
        them, are drawn anew with replacement. Pairs share rows, and so are not independent:
        an interval that takes them for it would be far too narrow.

    classes_ : ndarray of shape (2,)
        False and True, different and same: the columns of `predict_proba`.

    n_features_in_ : int
        Number of features seen in fit; of images, the product of `input_shape_`.

    input_shape_ : tuple of int
        Of a row as fit has seen it.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in fit, where X has names that are all strings.

    See Also
    --------
    OpenSetClassifier : Says which of the known classes it is, or none.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sktriplet import PairVerifier, TripletEmbedder
    >>> X, y = load_digits(return_X_y=True)
    >>> seen = y < 5
    >>> embedder = TripletEmbedder(max_epochs=3, n_members=1, random_state=0)
    >>> verifier = PairVerifier(embedder).fit(X[seen], y[seen])
    >>> unseen_X, unseen_y = X[~seen], y[~seen]
    >>> pairs = np.stack([unseen_X[:-1], unseen_X[1:]], axis=1)
    >>> verifier.predict(pairs).shape
    (895,)
    """

    def __init__(self, estimator: Any = None, *, target_fpr: float | None = None, cv: Any = None):
        self.estimator = estimator
        self.target_fpr = target_fpr
        self.cv = cv

    def fit(self, X: Any, y: Any) -> "PairVerifier":
        """Fit the embedder, and set the threshold on rows held out from it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features), or images

        y : array-like of shape (n_rows,)
            Class labels.

        Returns
        -------
        PairVerifier
            Itself.

        Raises
        ------
        InvalidParameterError
            If a parameter has a value that it cannot have.
        ValueError
            If X or y cannot be learned from, or there are too few rows for `target_fpr`.
        """
        validate_parameters(self)
        rows, labels, seen = validate_training_data(self, X, y)
        if self.cv is None or isinstance(self.cv, Integral):  # each row is held out once
            self._check_rate(len(labels))
        classes = seen.pop("classes_")
        embedder = TripletEmbedder() if self.estimator is None else self.estimator
        if isinstance(embedder, FrozenEstimator):
            validate_names(embedder, X)
        folds = self._held_out_distances(embedder, rows, classes, labels)
        same, different = _pooled(folds)
        self._check_support(folds, same, different)
        if self.target_fpr is None:
            threshold = _best_balanced(same, different)
        else:
            threshold = threshold_at(self.target_fpr, different)

        fitted = clone(embedder)
        if not isinstance(embedder, FrozenEstimator):
            fitted.fit(rows, classes[labels])
        self.estimator_ = fitted
        remember(self, seen)
        self.classes_ = np.array([False, True])
        self.threshold_ = threshold
        self.false_positive_rate_ = float(np.mean(different <= threshold))
        self.false_negative_rate_ = float(np.mean(same > threshold))
        false_positives, false_negatives = _resampled_rates(folds, threshold, len(classes))
        self.false_positive_rate_interval_ = _interval(false_positives)
        self.false_negative_rate_interval_ = _interval(false_negatives)
        n_rows = sum(len(fold_labels) for _, fold_labels in folds)
        self._calibrator = _calibrated(same, different, n_rows)
        return self

    def decision_function(self, pairs: Any) -> NDArray[np.float64]:
        """Minus the distance: the larger, the surer that two rows are the same.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...)

        Returns
        -------
        ndarray of shape (n_pairs,)
            At least ``-threshold_`` where `predict` says True.
        """
        check_is_fitted(self)
        pairs = validate_pairs(self, pairs)
        rows = pairs.reshape(-1, *pairs.shape[2:])
        embeddings = embed(self.estimator_, rows).astype(float)
        left, right = embeddings.reshape(len(pairs), 2, -1).swapaxes(0, 1)
        return -np.linalg.norm(left - right, axis=1)

    def predict(self, pairs: Any) -> NDArray[np.bool_]:
        """Say of each pair whether it is the same.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...)

        Returns
        -------
        ndarray of shape (n_pairs,)
        """
        return self.decision_function(pairs) >= -self.threshold_

    def predict_proba(self, pairs: Any) -> NDArray[np.float64]:
        """Probabilities, as they are where half of all pairs are the same.

        Where a part p of the pairs is the same, multiply the odds by ``p / (1 - p)``.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...)

        Returns
        -------
        ndarray of shape (n_pairs, 2)
            Of being different, and of being the same.
        """
        distances = -self.decision_function(pairs)
        same = self._calibrator.predict(distances)
        return np.column_stack([1 - same, same])

    def score(self, pairs: Any, y: Any) -> float:
        """Accuracy of `predict`.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...)

        y : array-like of shape (n_pairs,)
            Whether each pair is the same.

        Returns
        -------
        float
        """
        predicted = self.predict(pairs)
        return float(accuracy_score(validate_same(y, len(predicted)), predicted))

    def _held_out_distances(
        self, embedder: Any, rows: NDArray | csr_array, classes: NDArray, labels: NDArray[np.intp]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.intp]]]:
        """Return, for each fold, the distances of its rows to each other and their labels."""
        if self.cv is None and isinstance(embedder, FrozenEstimator):
            parts: Iterable[tuple[Any, NDArray]] = [(embedder, np.arange(len(labels)))]
        else:
            parts = (
                (fold.embedder, fold.test)
                for fold in held_out_folds(embedder, rows, classes, labels, self.cv)
            )
        folds = []
        for fitted, test in parts:
            by_class = test[np.argsort(labels[test], kind="stable")]
            taken = by_class[np.linspace(0, len(test) - 1, min(len(test), MAX_ROWS)).astype(int)]
            embeddings = embed(fitted, rows[taken]).astype(float)
            folds.append((euclidean_distances(embeddings).astype(np.float32), labels[taken]))
        return folds

    def _check_support(self, folds: list, same: NDArray, different: NDArray) -> None:
        """Check that there is something to set a threshold on."""
        for kind, distances in [("same", same), ("different", different)]:
            if not len(distances):
                raise ValueError(
                    f"{type(self).__name__} needs held-out pairs of rows that are the same and "
                    f"that are different. Got none that is {kind}: more rows of a class, or more "
                    "classes, are needed in a fold."
                )
        self._check_rate(sum(len(labels) for _, labels in folds))

    def _check_rate(self, n_rows: int) -> None:
        """Check that so many rows held out can tell the rate asked for from zero."""
        if self.target_fpr is not None and not most_within(self.target_fpr, n_rows // 2):
            raise ValueError(
                f"The 'target_fpr' parameter of {type(self).__name__} is too low to be measured: "
                f"{n_rows} rows held out form {n_rows // 2} pairs that share no row. Got "
                f"{self.target_fpr}, which takes {int(np.ceil(2 / self.target_fpr))} rows."
            )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        return tags


def _pooled(folds: list) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the distances of all pairs that are the same, and that are different, in order."""
    same, different = [], []
    for distances, labels in folds:
        left, right = np.triu_indices(len(labels), k=1)
        alike = labels[left] == labels[right]
        same.append(distances[left[alike], right[alike]])
        different.append(distances[left[~alike], right[~alike]])
    return np.sort(np.concatenate(same)), np.sort(np.concatenate(different))


def _best_balanced(same: NDArray, different: NDArray) -> float:
    """Return the threshold at which the sum of both error rates is least."""
    true_positive = np.searchsorted(same, same, side="right") / len(same)
    false_positive = np.searchsorted(different, same, side="right") / len(different)
    accepted = same[np.argmax(true_positive - false_positive)]
    farther = [float(part[part > accepted].min(initial=np.inf)) for part in (same, different)]
    # In double precision, in which there is a number between the two.
    return float(accepted) if min(farther) == np.inf else (float(accepted) + min(farther)) / 2


def _calibrated(same: NDArray, different: NDArray, n_rows: int) -> IsotonicRegression:
    """Learn the probability of being the same at a distance, both kinds weighing alike."""
    parts = [
        part[np.linspace(0, len(part) - 1, min(len(part), MAX_CALIBRATION_PAIRS)).astype(int)]
        for part in (same, different)
    ]
    kinds = [np.ones(len(parts[0])), np.zeros(len(parts[1]))]
    weights = [np.full(len(part), 1 / len(part)) for part in parts]
    # With so many rows, and pairs that share them, nothing is surer than this.
    surest = 1 - 1 / (n_rows + 2)
    calibrator = IsotonicRegression(
        increasing=False, out_of_bounds="clip", y_min=1 - surest, y_max=surest
    )
    return calibrator.fit(*(np.concatenate(part) for part in (parts, kinds, weights)))


def _resampled_rates(
    folds: list, threshold: float, n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw classes, and rows within classes, with replacement, and measure the rates again.

    A class that is drawn twice counts twice among the pairs that are the same. Its two copies
    form no pairs with each other, nor does a row with its own.
    """
    rng = np.random.default_rng(0)
    times_class = rng.multinomial(n_classes, np.full(n_classes, 1 / n_classes), N_BOOTSTRAPS)
    n_wrong = np.zeros((2, N_BOOTSTRAPS))
    n_all = np.zeros((2, N_BOOTSTRAPS))
    for distances, labels in folds:
        times_row = np.empty((len(labels), N_BOOTSTRAPS), dtype=np.float32)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            even = np.full(len(members), 1 / len(members))
            times_row[members] = rng.multinomial(len(members), even, N_BOOTSTRAPS).T
        copies = times_class.T[labels].astype(np.float32)
        alike = labels[:, None] == labels
        missed = alike & (distances > threshold)
        accepted = ~alike & (distances <= threshold)
        drawn = times_row * copies
        n_wrong[0] += np.einsum("ij,ij->j", drawn, accepted.astype(np.float32) @ drawn)
        n_wrong[1] += np.einsum("ij,ij->j", drawn, missed.astype(np.float32) @ times_row)
        one_class = np.array([drawn[labels == label].sum(axis=0) for label in np.unique(labels)])
        n_all[0] += drawn.sum(axis=0) ** 2 - (one_class**2).sum(axis=0)
        members = np.array([times_row[labels == label].sum(axis=0) for label in np.unique(labels)])
        n_all[1] += (one_class * members).sum(axis=0) - (drawn * times_row).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return tuple(n_wrong / n_all)


def _interval(rates: NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle 95% of the rates that are defined."""
    low, high = np.nanpercentile(rates, [2.5, 97.5])
    return float(low), float(high)
