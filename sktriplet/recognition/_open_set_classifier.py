"""Open-set identification: classification with a reject option."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, clone
from sklearn.metrics import accuracy_score
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from sktriplet._input_validation import (
    set_fitted_attributes,
    validate_enrollment,
    validate_samples,
)
from sktriplet._labels import concatenate_labels
from sktriplet._parameters import Interval
from sktriplet.metrics._operating_point import check_rate_is_measurable, threshold_at_fpr
from sktriplet.recognition._cross_fitting import (
    CrossFittingEstimator,
    cross_fitted_embedders,
    cross_fitting_splits,
    embed,
)


class OpenSetClassifier(ClassifierMixin, CrossFittingEstimator):
    """Classify samples into enrolled classes, or reject them as unknown.

    A sample is assigned the class of its nearest enrolled sample, or ``unknown_label_`` if
    their distance exceeds a threshold. `fit` sets the threshold on cross-fitted distances.

    `enroll` adds samples, also of new classes, without training.

    Parameters
    ----------
    estimator : transformer, default=None
        Embedder with the methods ``fit(X, y)`` and ``transform(X)``. If None, a
        :class:`~sktriplet.TripletEmbedder` with default parameters is used. A fitted embedder
        in a :class:`~sklearn.frozen.FrozenEstimator` is not refitted; `fit` must then receive
        samples that the embedder was not fitted on.
    target_fpir : float, default=0.05
        Target false positive identification rate (FPIR): the fraction of impostors, samples of
        classes that are not enrolled, that may be identified as an enrolled class.
    unknown_label : str or int, default=None
        Label of rejected samples. If None, it is ``"unknown"`` for string labels; for numeric
        labels it is -1, or the smallest label minus one if that is lower.
    cv : int or splitter, default=None
        Number of folds, or a splitter such as :class:`~sklearn.model_selection.GroupKFold`,
        which is called with the classes as groups. None means up to 5 folds. Folds consist of
        whole classes if ``y`` has at least two classes per fold, and of samples of all classes
        otherwise. In the latter case, the embedder has seen the classes of the impostors, and
        the FPIR on new classes is higher than the target.

    Attributes
    ----------
    estimator_ : transformer
        Embedder fitted on all samples.
    threshold_ : float
        Largest Euclidean distance in the embedding space at which a sample is identified.
    classes_ : ndarray of shape (n_classes,)
        Enrolled classes.
    unknown_label_ : str or int
        Label of rejected samples.
    n_features_in_ : int
        Number of features seen during `fit`; for images, the product of `input_shape_`.
    input_shape_ : tuple of int
        Shape of a sample seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only if `X` has feature names that are all
        strings.

    See Also
    --------
    PairVerifier : Decide whether two samples belong to the same class.
    sktriplet.metrics.detection_identification_rate_score : Identification rate at a fixed FPIR.

    Notes
    -----
    For every fold, a clone of the embedder is fitted on the other folds. The held-out samples
    act as impostors: the distance of an impostor is the one to the nearest sample of another
    class in the other folds. The threshold is the largest one that accepts at most a
    fraction ``target_fpir`` of the impostors of all folds. Finally, the embedder is fitted on
    all samples, which are then enrolled.

    The threshold holds for about as many classes as `fit` received: the more classes are
    enrolled later, the more likely an impostor is close to one of them.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktriplet import OpenSetClassifier, TripletEmbedder
    >>> X, y = load_digits(return_X_y=True)
    >>> known = y < 8
    >>> embedder = TripletEmbedder(max_epochs=3, n_members=1, random_state=0)
    >>> classifier = OpenSetClassifier(embedder, cv=4).fit(X[known], y[known])
    >>> bool((classifier.predict(X[y == 9]) == -1).mean() > 0.5)
    True
    >>> classifier.enroll(X[y == 9][:20], y[y == 9][:20]).classes_
    array([0, 1, 2, 3, 4, 5, 6, 7, 9])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CrossFittingEstimator._parameter_constraints,
        "target_fpir": [Interval(Real, 0, 1, closed="neither")],
        "unknown_label": [str, Interval(Integral, None, None, closed="neither"), None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        target_fpir: float = 0.05,
        unknown_label: Any = None,
        cv: Any = None,
    ):
        self.estimator = estimator
        self.target_fpir = target_fpir
        self.unknown_label = unknown_label
        self.cv = cv

    def fit(self, X: Any, y: Any) -> Self:
        """Set the threshold by cross-fitting, fit the embedder, and enroll all samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Training samples.
        y : array-like of shape (n_samples,)
            Class labels, all strings or all numbers.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is invalid.
        ValueError
            If `X` or `y` is invalid, if there are too few samples for cross-fitting or for
            `target_fpir`, or if `unknown_label` is a class or differs from the classes in type.
        """
        embedder, data = self._validate_fit(X, y)
        unknown_label = self._resolve_unknown_label(data.classes)
        X, y, labels = data.X, data.classes[data.labels], data.labels
        splits = cross_fitting_splits(X, y, self.cv)
        n_impostors = sum(len(test) for _, test in splits)
        check_rate_is_measurable("target_fpir", self.target_fpir, n_impostors, self)
        distances = [
            _impostor_distances(
                embed(fitted, X[train]), labels[train], embed(fitted, X[test]), labels[test]
            )
            for fitted, train, test in cross_fitted_embedders(embedder, X, y, splits)
        ]
        threshold = threshold_at_fpr(np.concatenate(distances), self.target_fpir)
        fitted = clone(embedder).fit(X, y)
        self._set_gallery(embed(fitted, X), y)
        self.estimator_, self.threshold_, self.unknown_label_ = fitted, threshold, unknown_label
        set_fitted_attributes(self, data.fitted_attributes)
        return self

    def enroll(self, X: Any, y: Any) -> Self:
        """Enroll samples of new or known classes, without changing embedder and threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Samples to enroll.
        y : array-like of shape (n_samples,)
            Class labels, of the same type as those passed to `fit`.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `X` does not match the samples seen during `fit`, if the labels have a different
            type, or if `unknown_label_` is one of them.
        """
        check_is_fitted(self)
        X, y = validate_enrollment(self, X, y, self.classes_)
        self._check_is_no_class(self.unknown_label_, y)
        self._set_gallery(
            np.concatenate([self._gallery, embed(self.estimator_, X)]),
            concatenate_labels(self._gallery_labels, y),
        )
        return self

    def identify(self, X: Any) -> tuple[NDArray, NDArray[np.float64]]:
        """Find the nearest enrolled sample, regardless of the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Samples to identify.

        Returns
        -------
        identities : ndarray of shape (n_samples,)
            Class of the nearest enrolled sample.
        distances : ndarray of shape (n_samples,)
            Euclidean distance to that sample in the embedding space.

        Raises
        ------
        ValueError
            If `X` does not match the samples seen during `fit`.
        """
        check_is_fitted(self)
        embeddings = embed(self.estimator_, validate_samples(self, X))
        distances, nearest = self._neighbors.kneighbors(embeddings)
        return self._gallery_labels[nearest[:, 0]], distances[:, 0]

    def predict(self, X: Any) -> NDArray:
        """Predict the enrolled class of every sample, or ``unknown_label_``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Samples to classify.

        Returns
        -------
        y_pred : ndarray of shape (n_samples,)
            Predicted labels.
        """
        identities, distances = self.identify(X)
        return self._with_unknown(identities, distances <= self.threshold_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy, where impostors are correctly predicted as unknown.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Test samples.
        y : array-like of shape (n_samples,)
            True labels. Those that are not enrolled count as ``unknown_label_``.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        score : float
            Accuracy of ``predict(X)``.
        """
        predicted = self.predict(X)
        y = np.asarray(y)
        classes = set(self.classes_.tolist())  # np.isin rounds large integers
        is_enrolled = np.array([label in classes for label in y.tolist()], dtype=bool)
        expected = self._with_unknown(y, is_enrolled)
        is_correct = expected == predicted
        return float(
            accuracy_score(np.ones_like(is_correct), is_correct, sample_weight=sample_weight)
        )

    def _resolve_unknown_label(self, classes: NDArray) -> Any:
        is_numeric = classes.dtype.kind in "biuf"
        label = self.unknown_label
        if label is None:
            label = min(-1, int(np.floor(classes.min())) - 1) if is_numeric else "unknown"
        if isinstance(label, str) == is_numeric or classes.dtype.kind in "mM":
            raise ValueError(
                f"The 'unknown_label' parameter of {type(self).__name__} must have the type of the "
                f"labels in y, which must be strings or numbers. Got {label!r} and labels "
                f"{classes[:3].tolist()}, ..."
            )
        self._check_is_no_class(label, classes)
        return label

    def _check_is_no_class(self, label: Any, y: NDArray) -> None:
        if label in y.tolist():
            raise ValueError(
                f"The 'unknown_label' parameter of {type(self).__name__} must not be a class. "
                f"Got {label!r}, which is in y."
            )

    def _with_unknown(self, labels: NDArray, is_known: NDArray[np.bool_]) -> NDArray:
        """Return the labels, with ``unknown_label_`` where they are not known."""
        unknown = np.asarray(self.unknown_label_)
        dtype = np.result_type(labels, unknown)
        if dtype.kind == "f" and labels.dtype.kind in "iu":  # int64 and uint64
            extremes = [int(x) for x in (self.unknown_label_, labels.min(), labels.max())]
            fitting = [
                candidate
                for candidate in (np.int64, np.uint64)
                if np.iinfo(candidate).min <= min(extremes)
                and max(extremes) <= np.iinfo(candidate).max
            ]
            dtype = np.dtype(fitting[0] if fitting else object)
        return np.where(is_known, labels.astype(dtype), unknown.astype(dtype))

    def _set_gallery(self, embeddings: NDArray, labels: NDArray) -> None:
        self._neighbors = NearestNeighbors(n_neighbors=1).fit(embeddings)
        self._gallery, self._gallery_labels = embeddings, labels
        self.classes_ = np.unique(labels)


def _impostor_distances(
    gallery: NDArray, gallery_labels: NDArray, probes: NDArray, probe_labels: NDArray
) -> NDArray[np.float64]:
    """Return the distance of every probe to the nearest gallery sample of another class."""
    # Only classes that are on both sides need to be excluded, with a query of their own.
    shared = np.intersect1d(gallery_labels, probe_labels)
    queries = [(np.isin(probe_labels, shared, invert=True), np.full(len(gallery), True))]
    queries += [(probe_labels == label, gallery_labels != label) for label in shared]
    distances = np.empty(len(probes))
    for is_probe, is_candidate in queries:
        if is_probe.any():
            nearest = NearestNeighbors(n_neighbors=1).fit(gallery[is_candidate])
            distances[is_probe] = nearest.kneighbors(probes[is_probe])[0][:, 0]
    return distances
