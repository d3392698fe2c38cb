"""Verification of pairs: whether two samples belong to the same class."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import accuracy_score, euclidean_distances
from sklearn.utils.validation import check_is_fitted

from sktriplet._input_validation import (
    TrainingData,
    check_pair_labels,
    set_fitted_attributes,
    validate_pairs,
)
from sktriplet._parameters import Interval
from sktriplet.metrics._operating_point import check_rate_is_measurable, threshold_at_fpr
from sktriplet.recognition._cross_fitting import (
    CrossFittingEstimator,
    cross_fitted_embedders,
    cross_fitting_splits,
    embed,
)

# Held-out samples per fold that form pairs. The distance matrix of a fold must fit into memory.
MAX_SAMPLES = 3000

# Positive, and negative, pairs that the probabilities are calibrated on.
MAX_CALIBRATION_PAIRS = 100_000

N_BOOTSTRAPS = 200


class PairVerifier(CrossFittingEstimator):
    """Decide whether two samples belong to the same class, including classes not seen in training.

    Two samples are predicted to belong to the same class if the distance between their
    embeddings is at most a threshold, which `fit` sets on cross-fitted distances.

    `fit` takes samples and class labels. The other methods take pairs of samples, as an array
    of shape ``(n_pairs, 2, ...)``.

    Parameters
    ----------
    estimator : transformer, default=None
        Embedder with the methods ``fit(X, y)`` and ``transform(X)``. If None, a
        :class:`~sktriplet.TripletEmbedder` with default parameters is used. A fitted embedder
        in a :class:`~sklearn.frozen.FrozenEstimator` is not refitted; `fit` must then receive
        samples that the embedder was not fitted on.
    target_fpr : float, default=None
        Target false positive rate: the fraction of negative pairs, those of different classes,
        that may be accepted. If None, the threshold maximizes the balanced accuracy.
    cv : int or splitter, default=None
        Number of folds, or a splitter such as :class:`~sklearn.model_selection.GroupKFold`,
        which is called with the classes as groups. None means up to 5 folds, or pairs of all
        samples if the estimator is frozen. Folds consist of whole classes if ``y`` has at least
        two classes per fold, and of samples of all classes otherwise. In the latter case, the
        embedder has seen all classes, and the rates below are not valid for new classes.

    Attributes
    ----------
    estimator_ : transformer
        Embedder fitted on all samples.
    threshold_ : float
        Largest Euclidean distance in the embedding space at which a pair is accepted.
    false_positive_rate_, false_negative_rate_ : float
        Fraction of negative held-out pairs that are accepted, and of positive ones that are
        rejected. The threshold was set on the same pairs.
    false_positive_rate_interval_, false_negative_rate_interval_ : tuple of float
        95% bootstrap intervals of these rates at ``threshold_``.
    classes_ : ndarray of shape (2,)
        False for different classes and True for the same class: the columns of
        `predict_proba`.
    n_features_in_ : int
        Number of features seen during `fit`; for images, the product of `input_shape_`.
    input_shape_ : tuple of int
        Shape of a sample seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only if `X` has feature names that are all
        strings.

    See Also
    --------
    OpenSetClassifier : Classify samples into enrolled classes, or reject them as unknown.

    Notes
    -----
    For every fold, a clone of the embedder is fitted on the other folds and embeds at most 3,000
    held-out samples, which form pairs with each other. The threshold is set on the distances of
    all folds. With `target_fpr`, it is the largest one that accepts at most that fraction of the
    negative pairs. Finally, the embedder is fitted on all samples.

    The intervals are percentiles of a two-stage cluster bootstrap, which draws classes, and samples
    within classes, with replacement. Pairs that share a sample or a class are not independent,
    so a binomial interval would be much too narrow.

    The probabilities come from an isotonic regression on the same distances, in which positive
    and negative pairs have the same total weight.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sktriplet import PairVerifier, TripletEmbedder
    >>> X, y = load_digits(return_X_y=True)
    >>> seen = y < 5
    >>> embedder = TripletEmbedder(hidden_layer_sizes=(), max_epochs=3, n_members=1, random_state=0)
    >>> verifier = PairVerifier(embedder).fit(X[seen], y[seen])
    >>> X_new, y_new = X[~seen], y[~seen]
    >>> pairs = np.stack([X_new[:-1], X_new[1:]], axis=1)
    >>> verifier.score(pairs, y_new[:-1] == y_new[1:]) > 0.8
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CrossFittingEstimator._parameter_constraints,
        "target_fpr": [Interval(Real, 0, 1, closed="neither"), None],
    }

    def __init__(self, estimator: Any = None, *, target_fpr: float | None = None, cv: Any = None):
        self.estimator = estimator
        self.target_fpr = target_fpr
        self.cv = cv

    def fit(self, X: Any, y: Any) -> Self:
        """Set the threshold by cross-fitting, and fit the embedder.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Training samples.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is invalid.
        ValueError
            If `X` or `y` is invalid, or if there are too few samples for cross-fitting or for
            `target_fpr`.
        """
        embedder, data = self._validate_fit(X, y)
        folds = self._held_out_distances(embedder, data)
        positive, negative = _pool_pairs(folds)
        if self.target_fpr is None:
            threshold = _youden_threshold(positive, negative)
        else:
            threshold = threshold_at_fpr(negative, self.target_fpr)
        rates = _bootstrap_error_rates(folds, threshold, len(data.classes))
        intervals = np.nanpercentile(rates, [2.5, 97.5], axis=1).T.tolist()
        n_samples = sum(len(labels) for _, labels in folds)
        calibrator = _fit_calibrator(positive, negative, n_samples)
        self.estimator_ = clone(embedder).fit(data.X, data.classes[data.labels])
        set_fitted_attributes(self, data.fitted_attributes)
        self.classes_ = np.array([False, True])
        self.threshold_ = threshold
        self.false_positive_rate_ = float(np.mean(negative <= threshold))
        self.false_negative_rate_ = float(np.mean(positive > threshold))
        self.false_positive_rate_interval_, self.false_negative_rate_interval_ = map(
            tuple, intervals
        )
        self._calibrator = calibrator
        return self

    def decision_function(self, pairs: Any) -> NDArray[np.float64]:
        """Return the negative distance; larger values mean a more likely match.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...)
            Pairs of samples.

        Returns
        -------
        scores : ndarray of shape (n_pairs,)
            Negative Euclidean distances in the embedding space, at least ``-threshold_`` for
            accepted pairs.

        Raises
        ------
        ValueError
            If `pairs` is invalid or does not match the samples seen during `fit`.
        """
        check_is_fitted(self)
        pairs = validate_pairs(self, pairs)
        embeddings = embed(self.estimator_, pairs.reshape(-1, *pairs.shape[2:])).astype(float)
        left, right = embeddings.reshape(len(pairs), 2, -1).swapaxes(0, 1)
        return -np.linalg.norm(left - right, axis=1)

    def predict(self, pairs: Any) -> NDArray[np.bool_]:
        """Predict for every pair whether both samples belong to the same class.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...)
            Pairs of samples.

        Returns
        -------
        y_pred : ndarray of shape (n_pairs,)
            True for accepted pairs.
        """
        return self.decision_function(pairs) >= -self.threshold_

    def predict_proba(self, pairs: Any) -> NDArray[np.float64]:
        """Predict probabilities, assuming that half of all pairs are positive.

        If a fraction ``p`` of the pairs is positive, multiply the odds by ``p / (1 - p)``.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...)
            Pairs of samples.

        Returns
        -------
        probabilities : ndarray of shape (n_pairs, 2)
            Probabilities of different classes and of the same class, in the order of ``classes_``.
        """
        distances = -self.decision_function(pairs)
        positive = self._calibrator.predict(distances)
        return np.column_stack([1 - positive, positive])

    def score(self, pairs: Any, y: Any) -> float:
        """Return the accuracy of the predictions.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...)
            Pairs of samples.
        y : array-like of shape (n_pairs,)
            Whether the samples of a pair belong to the same class.

        Returns
        -------
        score : float
            Accuracy of ``predict(pairs)``.
        """
        predicted = self.predict(pairs)
        return float(accuracy_score(check_pair_labels(y, len(predicted)), predicted))

    def _held_out_distances(
        self, embedder: Any, data: TrainingData
    ) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Return the distance matrix and the labels of the held-out samples of every fold."""
        X, y, labels = data.X, data.classes[data.labels], data.labels
        if self.cv is None and isinstance(embedder, FrozenEstimator):
            splits = [(np.arange(0), np.arange(len(y)))]
        else:
            splits = cross_fitting_splits(X, y, self.cv)
        splits = [
            (train, _evenly_spaced(test[np.argsort(labels[test], kind="stable")], MAX_SAMPLES))
            for train, test in splits
        ]
        self._check_pairs([labels[test] for _, test in splits])
        folds = []
        for fitted, _, test in cross_fitted_embedders(embedder, X, y, splits):
            distances = euclidean_distances(embed(fitted, X[test]).astype(float))
            folds.append((distances.astype(np.float32), labels[test]))
        return folds

    def _check_pairs(self, labels: list[NDArray[np.int64]]) -> None:
        """Check that the labels of the folds suffice to set the threshold."""
        n_samples = sum(map(len, labels))
        if self.target_fpr is not None:
            check_rate_is_measurable(
                "target_fpr", self.target_fpr, n_samples, self, samples_per_trial=2
            )
        n_classes = [len(np.unique(fold)) for fold in labels]
        if sum(n_classes) == n_samples or max(n_classes) == 1:
            missing = "the same class" if sum(n_classes) == n_samples else "different classes"
            raise ValueError(
                f"{type(self).__name__} needs held-out pairs of the same class and of different "
                f"classes. Got none of {missing}: the folds need more samples per class, or more "
                "classes."
            )


def _evenly_spaced(values: NDArray, max_size: int) -> NDArray:
    return values[np.linspace(0, len(values) - 1, min(len(values), max_size)).astype(int)]


def _pool_pairs(folds: list) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the sorted distances of all positive pairs, and of all negative pairs."""
    positive, negative = [], []
    for distances, labels in folds:
        left, right = np.triu_indices(len(labels), k=1)
        same_class = labels[left] == labels[right]
        positive.append(distances[left[same_class], right[same_class]])
        negative.append(distances[left[~same_class], right[~same_class]])
    return np.sort(np.concatenate(positive)), np.sort(np.concatenate(negative))


def _youden_threshold(positive: NDArray, negative: NDArray) -> float:
    """Return the threshold that maximizes Youden's J, and with it the balanced accuracy."""
    true_positive_rate = np.searchsorted(positive, positive, side="right") / len(positive)
    false_positive_rate = np.searchsorted(negative, positive, side="right") / len(negative)
    accepted = float(positive[np.argmax(true_positive_rate - false_positive_rate)])
    farther = [float(part[part > accepted].min(initial=np.inf)) for part in (positive, negative)]
    # The midpoint exists in double precision, as the distances are in single precision.
    return accepted if min(farther) == np.inf else (accepted + min(farther)) / 2


def _fit_calibrator(positive: NDArray, negative: NDArray, n_samples: int) -> IsotonicRegression:
    """Learn the probability of a positive pair from its distance, at equal class weights."""
    positive, negative = (
        _evenly_spaced(part, MAX_CALIBRATION_PAIRS) for part in (positive, negative)
    )
    sizes = [len(positive), len(negative)]
    # Pairs share samples, so the number of samples limits how certain a prediction can be.
    y_max = 1 - 1 / (n_samples + 2)
    calibrator = IsotonicRegression(
        increasing=False, out_of_bounds="clip", y_min=1 - y_max, y_max=y_max
    )
    return calibrator.fit(
        np.concatenate([positive, negative]),
        np.repeat([1.0, 0.0], sizes),
        sample_weight=np.repeat(1 / np.array(sizes), sizes),
    )


def _bootstrap_error_rates(folds: list, threshold: float, n_classes: int) -> NDArray[np.float64]:
    """Return false positive and false negative rates, (2, N_BOOTSTRAPS), of a cluster bootstrap.

    The first stage draws classes with replacement, the second one samples within classes. The
    copies of a class form no pairs with each other, and neither do the copies of a sample.
    """
    rng = np.random.default_rng(0)
    class_weights = rng.multinomial(n_classes, np.full(n_classes, 1 / n_classes), N_BOOTSTRAPS).T
    n_errors, n_pairs = np.zeros((2, 2, N_BOOTSTRAPS))
    for distances, labels in folds:
        sample_weights = _draw_sample_weights(labels, rng)
        weights = sample_weights * class_weights[labels].astype(np.float32)
        accepted, same_class = distances <= threshold, labels[:, None] == labels
        # Positive pairs are of one class, whose weight counts only once.
        n_errors[0] += _weighted_count(~same_class & accepted, weights, weights)
        n_errors[1] += _weighted_count(same_class & ~accepted, weights, sample_weights)
        n_pairs[0] += _weighted_count(~same_class, weights, weights)
        np.fill_diagonal(same_class, False)
        n_pairs[1] += _weighted_count(same_class, weights, sample_weights)
    with np.errstate(invalid="ignore"):  # a rate is NaN if no pairs were drawn
        return n_errors / n_pairs


def _draw_sample_weights(labels: NDArray, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return how often the samples are drawn within their class, (n_samples, N_BOOTSTRAPS)."""
    weights = np.empty((len(labels), N_BOOTSTRAPS), dtype=np.float32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        uniform = np.full(len(members), 1 / len(members))
        weights[members] = rng.multinomial(len(members), uniform, N_BOOTSTRAPS).T
    return weights


def _weighted_count(
    pairs: NDArray[np.bool_], left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Sum the products of the weights of both samples over all pairs, per bootstrap."""
    return np.einsum("ib,ib->b", left, pairs.astype(np.float32) @ right)
