"""Verification of pairs: whether two samples belong to the same class."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.base import ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from sktriplet._parameters import Interval
from sktriplet.metrics._operating_point import (
    check_rate_is_measurable,
    threshold_at_fpr,
    threshold_by_strategy,
    validate_strategy,
)
from sktriplet.recognition._cross_fitting import (
    CrossFittingEstimator,
    cross_fit,
    cross_fitting_splits,
    embed,
)
from sktriplet.recognition._error_rates import (
    HeldOutSamples,
    bootstrap_intervals,
    dyadic_interval,
    pool_pairs,
)
from sktriplet.recognition._labeled_samples import LabeledSamples
from sktriplet.recognition._pairs import Pairs, check_pair_labels, pair_distances

# Held-out samples per fold that form pairs. The distance matrix of a fold must fit into memory.
# Classes are left out rather than have fewer than this many of their samples.
MAX_SAMPLES, MIN_SAMPLES_PER_CLASS = 3000, 4

# Positive, and negative, pairs that the probabilities are calibrated on.
MAX_CALIBRATION_PAIRS = 100_000


class PairVerifier(ClassifierMixin, CrossFittingEstimator):
    """Decide whether two samples belong to the same class, including classes not seen in training.

    Two samples are predicted to belong to the same class if the distance between their
    embeddings is at most a threshold, which `fit` sets on cross-fitted distances.

    `fit` takes samples and class labels. The other methods take pairs of samples, in one of three
    forms: an array of shape ``(n_pairs, 2, ...)``; a tuple of two tables ``(X_left, X_right)``,
    each row of which forms a pair with the same row of the other; or :class:`~sktriplet.Pairs`,
    for pairs of rows of one or two tables. With a frozen embedder, `fit` also takes pairs and
    pair labels.

    Parameters
    ----------
    estimator : transformer, default=None
        Embedder with the methods ``fit(X, y)`` and ``transform(X)``, such as a
        :class:`~sklearn.pipeline.Pipeline`. It receives rows of `X` in the form in which they were
        passed. If None, a :class:`~sktriplet.TripletEmbedder` with default parameters is used. A
        fitted embedder in a :class:`~sklearn.frozen.FrozenEstimator` is not refitted; `fit` must
        then receive samples that the embedder was not fitted on.
    target_fpr : float, default=None
        Target false positive rate: the fraction of negative pairs, those of different classes,
        that may be accepted. If None, the threshold maximizes the balanced accuracy.
    cv : int, splitter or iterable, default=None
        Number of folds, a splitter such as :class:`~sklearn.model_selection.GroupKFold`, which is
        called with the groups, or with the classes as groups if there are none, or an iterable of
        training and test indices. None means up to 5 folds, or pairs of all samples if the
        estimator is frozen. Folds consist of whole classes if ``y`` has at least two classes per
        fold, and of samples of all classes otherwise. In the latter case, the embedder has
        seen all classes, and the rates below are not valid for new classes. Only used to fit on
        class labels.
    n_jobs : int, default=None
        Number of folds that are processed in parallel; -1 uses all processors. None means 1 unless
        in a :obj:`joblib.parallel_config` context.

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
        95% confidence intervals of these rates at ``threshold_``.
    classes_ : ndarray of shape (2,)
        False for different classes and True for the same class: the columns of
        `predict_proba`.
    n_features_in_ : int
        Number of features seen by the embedder. Defined only if the embedder defines it.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen by the embedder. Defined only if the embedder defines them.

    See Also
    --------
    OpenSetClassifier : Classify samples into enrolled classes, or reject them as unknown.
    Pairs : Pairs of rows of one or two tables.

    Notes
    -----
    For every fold, a clone of the embedder is fitted on the other folds and embeds at most 3,000
    held-out samples, which form pairs with each other. If this leaves fewer than about four samples
    per class, classes are left out instead. The threshold is set on the distances of all
    folds. With `target_fpr`, it is the largest one that accepts at most that fraction of the
    negative pairs. Finally, the embedder is fitted on all samples.

    The intervals are percentiles of a two-stage cluster bootstrap, which draws classes, and samples
    within classes, with replacement. Pairs that share a sample or a class are not independent,
    so a binomial interval would be much too narrow. For labeled pairs, whose classes are not
    known, they are Wilson's intervals with a variance that takes into account which pairs
    share a sample.

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

    def __init__(
        self,
        estimator: Any = None,
        *,
        target_fpr: float | None = None,
        cv: Any = None,
        n_jobs: int | None = None,
    ):
        self.estimator = estimator
        self.target_fpr = target_fpr
        self.cv = cv
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Set the threshold by cross-fitting, and fit the embedder.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, ...), list, or pairs
            Training samples. If the embedder is frozen, also pairs that it was not fitted on, for
            which `fit` is the same as `calibrate_threshold`.
        y : array-like of shape (n_samples,)
            Class labels; for pairs, whether both samples belong to the same class.
        groups : array-like of shape (n_samples,), default=None
            Groups of samples that resemble each other regardless of their class, such as those of a
            session, a camera or a patient. Folds do not split groups, unless `cv` does. Two
            samples of the same class and the same group are not used as a pair.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is invalid.
        ValueError
            If `X`, `y` or `groups` is invalid, or if there are too few samples for cross-fitting or
            for `target_fpr`.
        """
        self._validate_parameters()
        if self._is_pairs(X, y):
            if groups is not None:
                raise ValueError("groups can be passed with class labels only, not with pairs.")
            return self.calibrate_threshold(X, y)
        embedder, samples = self._validate_fit(X, y, groups)
        folds = self._held_out_samples(embedder, samples)
        positive, negative = pool_pairs(folds)
        threshold = self._threshold(positive, negative)
        intervals = bootstrap_intervals(folds, threshold, len(samples.classes))
        n_samples = sum(len(fold.labels) for fold in folds)
        calibrator = _fit_calibrator(positive, negative, n_samples)
        self.estimator_ = clone(embedder).fit(samples.X, samples.y)
        return self._set_threshold(threshold, positive, negative, intervals, calibrator)

    def calibrate_threshold(
        self,
        pairs: Any,
        y: Any,
        *,
        strategy: str | None = None,
        min_rate: float | None = None,
        beta: float | None = None,
    ) -> Self:
        """Set the threshold, the rates and the probabilities on labeled pairs.

        The embedder does not change. It must be fitted, by `fit` or in a
        :class:`~sklearn.frozen.FrozenEstimator`, on other samples than those of the pairs.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...), tuple of two tables, or Pairs
            Pairs of samples.
        y : array-like of shape (n_pairs,)
            Whether the samples of a pair belong to the same class.
        strategy : str, default=None
            What the threshold maximizes: "accuracy", "balanced_accuracy", "f_beta", the true
            positive rate ("max_tpr") with a true negative rate of at least `min_rate`, or the true
            negative rate ("max_tnr") with a true positive rate of at least `min_rate`. If None,
            the threshold is set as in `fit`.
        min_rate : float, default=None
            Minimum of the other rate in the range [0, 1], for "max_tpr" and "max_tnr" only.
        beta : float, default=None
            Weight of the recall against the precision, for "f_beta" only. None means 1.

        Returns
        -------
        self : object
            The estimator with the new threshold.

        Raises
        ------
        NotFittedError
            If the embedder is not fitted.
        InvalidParameterError
            If a parameter is invalid or has no effect.
        ValueError
            If `pairs` or `y` is invalid, or if no threshold reaches the rate.
        """
        self._validate_parameters()
        validate_strategy(strategy, min_rate, beta)
        embedder = self._embedder_to_calibrate()
        distances, codes = pair_distances(pairs, lambda X: embed(embedder, X))
        same, distances = check_pair_labels(y, len(distances)), distances.astype(np.float32)
        if same.all() or not same.any():
            raise ValueError(
                f"y must have pairs of the same class and of different classes. Got only {same[0]}."
            )
        positive, negative = distances[same], distances[~same]
        if strategy is None:
            if self.target_fpr is not None:
                check_rate_is_measurable(
                    "target_fpr", self.target_fpr, len(negative), self, unit="negative pairs"
                )
            threshold = self._threshold(positive, negative)
        else:
            threshold = threshold_by_strategy(positive, negative, strategy, min_rate, beta)
        is_error = (distances <= threshold) != same
        intervals = tuple(dyadic_interval(is_error[part], codes[part]) for part in (~same, same))
        calibrator = _fit_calibrator(positive, negative, len(np.unique(codes)))
        self.estimator_ = embedder
        return self._set_threshold(threshold, positive, negative, intervals, calibrator)

    def decision_function(self, pairs: Any) -> NDArray[np.float64]:
        """Return the negative distance; larger values mean a more likely match.

        Every distinct sample is embedded once.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...), tuple of two tables, or Pairs
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
        return -pair_distances(pairs, lambda X: embed(self.estimator_, X))[0]

    def predict(self, pairs: Any) -> NDArray[np.bool_]:
        """Predict for every pair whether both samples belong to the same class.

        Parameters
        ----------
        pairs : array-like of shape (n_pairs, 2, ...), tuple of two tables, or Pairs
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
        pairs : array-like of shape (n_pairs, 2, ...), tuple of two tables, or Pairs
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
        pairs : array-like of shape (n_pairs, 2, ...), tuple of two tables, or Pairs
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

    def _is_pairs(self, X: Any, y: Any) -> bool:
        """Return whether these are pairs for a frozen embedder, rather than samples."""
        is_frozen = isinstance(self.estimator, FrozenEstimator)
        is_of_tables = isinstance(X, Pairs) or (isinstance(X, tuple) and len(X) == 2)
        if is_of_tables and not is_frozen:
            raise ValueError(
                "Embedders are fitted on samples and class labels. Got pairs: pass samples, or "
                "a fitted embedder in a FrozenEstimator to set the threshold only."
            )
        if is_of_tables:
            return True
        shape: Any = getattr(X, "shape", ())
        if len(shape) < 3 or shape[1] != 2:
            return False
        n_features = getattr(self.estimator, "n_features_in_", None)
        if is_frozen and n_features is not None:
            # Images of shape (2, ...) have twice as many features as the samples of a pair.
            return np.prod(shape[2:]) == n_features
        if _are_truth_values(y) and not self._determines_input_shape():
            frozen = "Pairs(X[:, 0], X[:, 1])" if is_frozen else "a fitted embedder, frozen,"
            raise ValueError(
                f"X of shape {tuple(shape)} with y of only 0 and 1 may be pairs with pair labels. "
                f"Pass {frozen} to set the threshold on pairs. To fit an embedder of samples of "
                f"shape {tuple(shape[1:])}, set its input_shape, or use other class labels."
            )
        return False

    def _determines_input_shape(self) -> bool:
        """Return whether samples can only have the shape that a parameter or a module expects."""
        parameters = self._embedder.get_params() if hasattr(self._embedder, "get_params") else {}
        defaults = {"input_shape": None, "module": "auto"}
        return any(
            name.rpartition("__")[2] in defaults
            and value is not defaults[name.rpartition("__")[2]]
            and not isinstance(value, str)
            for name, value in parameters.items()
        )

    def _held_out_samples(self, embedder: Any, samples: LabeledSamples) -> list[HeldOutSamples]:
        """Return the distances between the held-out samples of every fold."""
        y, labels = samples.y, samples.labels
        groups = np.arange(len(y)) if samples.groups is None else samples.groups
        is_frozen = isinstance(embedder, FrozenEstimator)
        if self.cv is None and is_frozen:
            splits = [(np.arange(0), np.arange(len(y)))]
        else:
            splits = cross_fitting_splits(samples.X, y, self.cv, samples.groups)
        splits = [
            (
                train[:0] if is_frozen else train,
                _subsample(test, labels),
            )
            for train, test in splits
        ]
        self._check_pairs(
            [(labels[test], groups[test]) for _, test in splits], samples.groups is not None
        )

        def measure(embed: Any, train: NDArray, test: NDArray) -> HeldOutSamples:
            # A matrix product would give equal samples a positive distance, unlike `predict`.
            distances = cdist(*[embed(test).astype(float)] * 2).astype(np.float32)
            return HeldOutSamples(distances, labels[test], groups[test])

        return cross_fit(embedder, samples, splits, measure, self.n_jobs)

    def _check_pairs(self, folds: list[tuple[NDArray, NDArray]], has_groups: bool) -> None:
        """Check that the labels and groups of the folds suffice to set the threshold."""
        n_samples = sum(len(labels) for labels, _ in folds)
        if self.target_fpr is not None:
            check_rate_is_measurable(
                "target_fpr", self.target_fpr, n_samples, self, samples_per_trial=2
            )
        n_classes = [len(np.unique(labels)) for labels, _ in folds]
        n_blocks = [len(np.unique(np.column_stack(fold), axis=0)) for fold in folds]
        missing: str | None = None
        if n_blocks == n_classes and has_groups:
            missing, advice = "the same class in different groups", "several groups of a class"
        elif n_blocks == n_classes:
            missing, advice = "the same class", "more samples per class"
        elif max(n_classes) < 2:
            missing, advice = "different classes", "more classes"
        if missing is not None:
            raise ValueError(
                f"{type(self).__name__} needs held-out pairs of the same class and of different "
                f"classes. Got none of {missing}: the folds need {advice}."
            )

    def _embedder_to_calibrate(self) -> Any:
        if isinstance(self.estimator, FrozenEstimator):
            return self.estimator.fit(None, None)
        if not hasattr(self, "estimator_"):
            raise NotFittedError(
                f"This {type(self).__name__} has no fitted embedder: call fit, or pass a fitted "
                "embedder in a FrozenEstimator."
            )
        return self.estimator_

    def _threshold(self, positive: NDArray, negative: NDArray) -> float:
        if self.target_fpr is None:
            return threshold_by_strategy(positive, negative, "balanced_accuracy")
        return threshold_at_fpr(negative, self.target_fpr)

    def _set_threshold(
        self,
        threshold: float,
        positive: NDArray,
        negative: NDArray,
        intervals: Any,
        calibrator: Any,
    ) -> Self:
        """Set all attributes that depend on the threshold."""
        self.classes_ = np.array([False, True])
        self.threshold_ = threshold
        self.false_positive_rate_ = float(np.mean(negative <= threshold))
        self.false_negative_rate_ = float(np.mean(positive > threshold))
        self.false_positive_rate_interval_, self.false_negative_rate_interval_ = intervals
        self._calibrator = calibrator
        return self


def _are_truth_values(y: Any) -> bool:
    values = np.asarray(y)
    return values.dtype.kind in "biuf" and bool(np.isin(values, [0, 1]).all())


def _subsample(rows: NDArray, labels: NDArray) -> NDArray:
    """Return at most `MAX_SAMPLES` rows, sorted by class and evenly spaced.

    If all classes would have too few samples to form positive pairs, so are the classes.
    """
    classes, counts = np.unique(labels[rows], return_counts=True)
    n_classes = int(MAX_SAMPLES / min(MIN_SAMPLES_PER_CLASS, counts.mean()))
    if len(classes) > n_classes:
        rows = rows[np.isin(labels[rows], _evenly_spaced(classes, n_classes))]
    return _evenly_spaced(rows[np.argsort(labels[rows], kind="stable")], MAX_SAMPLES)


def _evenly_spaced(values: NDArray, max_size: int) -> NDArray:
    return values[np.linspace(0, len(values) - 1, min(len(values), max_size)).astype(int)]


def _fit_calibrator(positive: NDArray, negative: NDArray, n_samples: int) -> IsotonicRegression:
    """Learn the probability of a positive pair from its distance, at equal class weights."""
    positive, negative = (
        _evenly_spaced(np.sort(part), MAX_CALIBRATION_PAIRS) for part in (positive, negative)
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
