"""Open-set identification: classification with a reject option."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, clone
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from sktriplet._labels import check_labels, concatenate_labels
from sktriplet._parameters import Interval
from sktriplet.metrics._operating_point import check_rate_is_measurable, threshold_at_fpr
from sktriplet.recognition._cross_fitting import (
    CrossFittingEstimator,
    Embed,
    Rows,
    cross_fit,
    cross_fitting_splits,
    embed,
)
from sktriplet.recognition._labeled_samples import validate_enrollment
from sktriplet.recognition._templates import (
    distances_to_classes,
    enroll_templates,
    impostor_distances,
    nearest_templates,
)


class OpenSetClassifier(ClassifierMixin, CrossFittingEstimator):
    """Classify samples into enrolled classes, or reject them as unknown.

    A sample is assigned the class of its nearest template, or ``unknown_label_`` if their
    distance exceeds a threshold. Templates are embeddings of enrolled samples, or their means per
    class. `fit` sets the threshold on cross-fitted distances.

    `enroll` adds samples, also of new classes, without training, and `remove` removes classes.

    Parameters
    ----------
    estimator : transformer, default=None
        Embedder with the methods ``fit(X, y)`` and ``transform(X)``, such as a
        :class:`~sklearn.pipeline.Pipeline`. It receives rows of `X` in the form in which they were
        passed. If None, a :class:`~sktriplet.TripletEmbedder` with default parameters is used. A
        fitted embedder in a :class:`~sklearn.frozen.FrozenEstimator` is not refitted; `fit` must
        then receive samples that the embedder was not fitted on.
    target_fpir : float, default=0.05
        Target false positive identification rate (FPIR): the fraction of impostors, samples of
        classes that are not enrolled, that may be identified as an enrolled class.
    templates : {"samples", "class_means"}, default="samples"
        Whether the embedding of each enrolled sample is a template, or the mean embedding of each
        class. Means need less memory and time; samples can represent classes of several clusters.
    unknown_label : str or int, default=None
        Label of rejected samples. If None, it is ``"unknown"`` for string labels; for numeric
        labels it is -1, or the smallest label minus one if that is lower.
    cv : int, splitter or iterable, default=None
        Number of folds, a splitter such as :class:`~sklearn.model_selection.GroupKFold`, which is
        called with the groups, or with the classes as groups if there are none, or an iterable of
        training and test indices. None means up to 5 folds. Folds consist of whole classes if ``y``
        has at least two classes per fold, and of samples of all classes otherwise. In the
        latter case, the embedder has seen the classes of the impostors, and the FPIR on new
        classes is higher than the target.
    n_jobs : int, default=None
        Number of folds that are processed in parallel; -1 uses all processors. None means 1 unless
        in a :obj:`joblib.parallel_config` context.

    Attributes
    ----------
    estimator_ : transformer
        Embedder fitted on all samples.
    threshold_ : float
        Largest Euclidean distance in the embedding space at which a sample is identified.
    classes_ : ndarray of shape (n_classes,)
        Enrolled classes.
    class_count_ : ndarray of shape (n_classes,)
        Number of enrolled samples of each class.
    unknown_label_ : str or int
        Label of rejected samples.
    n_features_in_ : int
        Number of features seen by the embedder. Defined only if the embedder defines it.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen by the embedder. Defined only if the embedder defines them.

    See Also
    --------
    PairVerifier : Decide whether two samples belong to the same class.
    sktriplet.metrics.detection_identification_rate_score : Identification rate at a fixed FPIR.

    Notes
    -----
    For every fold, a clone of the embedder is fitted on the other folds. The held-out samples
    act as impostors: the distance of an impostor is the one to the nearest template of another
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
    >>> classifier.remove([0]).class_count_
    array([182, 177, 183, 181, 182, 181, 179,  20])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CrossFittingEstimator._parameter_constraints,
        "target_fpir": [Interval(Real, 0, 1, closed="neither")],
        "templates": [StrOptions({"samples", "class_means"})],
        "unknown_label": [str, Interval(Integral, None, None, closed="neither"), None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        target_fpir: float = 0.05,
        templates: str = "samples",
        unknown_label: Any = None,
        cv: Any = None,
        n_jobs: int | None = None,
    ):
        self.estimator = estimator
        self.target_fpir = target_fpir
        self.templates = templates
        self.unknown_label = unknown_label
        self.cv = cv
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Set the threshold by cross-fitting, fit the embedder, and enroll all samples.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, ...), or list
            Training samples.
        y : array-like of shape (n_samples,)
            Class labels, all strings or all numbers.
        groups : array-like of shape (n_samples,), default=None
            Groups of samples that resemble each other regardless of their class, such as those of a
            session, a camera or a patient. Folds do not split groups, unless `cv` does.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is invalid.
        ValueError
            If `X`, `y` or `groups` is invalid, if there are too few samples for cross-fitting or
            for `target_fpir`, or if `unknown_label` is a class or differs from the classes in type.
        """
        embedder, samples = self._validate_fit(X, y, groups)
        unknown_label = self._resolve_unknown_label(samples.classes)
        labels = samples.labels
        splits = cross_fitting_splits(samples.X, samples.y, self.cv, samples.groups)
        self._check_splits([(labels[train], labels[test]) for train, test in splits])
        by_class = self.templates == "class_means"

        def measure(embed: Embed, train: Rows, test: Rows) -> NDArray[np.float64]:
            enrolled = enroll_templates(embed(train), labels[train], by_class=by_class)
            return impostor_distances(*enrolled[:2], embed(test), labels[test])

        distances = cross_fit(embedder, samples, splits, measure, self.n_jobs)
        threshold = threshold_at_fpr(np.concatenate(distances), self.target_fpir)
        fitted = clone(embedder).fit(samples.X, samples.y)
        self._set_templates(embed(fitted, samples.X), samples.y)
        self.estimator_, self.threshold_, self.unknown_label_ = fitted, threshold, unknown_label
        return self

    def enroll(self, X: Any, y: Any) -> Self:
        """Enroll samples of new or known classes, without changing embedder and threshold.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, ...), or list
            Samples to enroll.
        y : array-like of shape (n_samples,)
            Class labels, of the same type as those passed to `fit`. Samples of a class that is
            already enrolled are added to it; to replace a class, `remove` it first.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `X` does not match the samples seen during `fit`, if the labels have a different
            type, or if `unknown_label_` or the embedder's mark of unlabeled samples is one of them.
        """
        check_is_fitted(self)
        X, y = validate_enrollment(type(self).__name__, X, y, self.classes_)
        self._check_labeled(y)
        self._check_is_no_class(self.unknown_label_, y)
        self._set_templates(
            np.concatenate([self._templates, embed(self.estimator_, X)]),
            concatenate_labels(self._template_labels, y),
            np.concatenate([self._template_sizes, np.ones(len(y), dtype=int)]),
        )
        return self

    def remove(self, classes: Any) -> Self:
        """Remove classes, without changing embedder and threshold.

        Parameters
        ----------
        classes : array-like of shape (n_classes,)
            Enrolled classes, of which at least one other must remain.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If a class is not enrolled, or if no class would remain.
        """
        check_is_fitted(self)
        removed = check_labels(classes, "classes").tolist()
        enrolled = self.classes_.tolist()
        missing = [label for label in removed if label not in enrolled]
        if missing:
            raise ValueError(
                f"classes must be enrolled. Got {missing[:5]}, which are not among the "
                f"{len(enrolled)} enrolled classes: {enrolled[:5]}, ..."
            )
        if set(removed) == set(enrolled):
            raise ValueError(f"At least one class must remain enrolled. Got all {len(enrolled)}.")
        is_kept = ~self._is_among(self._template_labels, removed)
        self._set_templates(
            self._templates[is_kept], self._template_labels[is_kept], self._template_sizes[is_kept]
        )
        return self

    def identify(self, X: Any) -> tuple[NDArray, NDArray[np.float64]]:
        """Find the nearest template, regardless of the threshold.

        The negative distance is the score to detect samples of enrolled classes, for example in
        :func:`~sklearn.metrics.roc_auc_score`.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, ...), or list
            Samples to identify.

        Returns
        -------
        identities : ndarray of shape (n_samples,)
            Class of the nearest template.
        distances : ndarray of shape (n_samples,)
            Euclidean distance to that template in the embedding space.

        Raises
        ------
        ValueError
            If `X` does not match the samples seen during `fit`.
        """
        check_is_fitted(self)
        nearest, distances = nearest_templates(embed(self.estimator_, X), self._templates)
        return self._template_labels[nearest], distances

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return how much nearer than the threshold each class is.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, ...), or list
            Samples to classify.

        Returns
        -------
        decisions : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            ``threshold_`` minus the Euclidean distance to the nearest template of each class. If
            all values are negative, `predict` returns ``unknown_label_``. For two classes, as in
            other classifiers, the second value minus the first, which does not tell whether the
            sample is unknown: use the distances of `identify`.
        """
        check_is_fitted(self)
        decisions = self.threshold_ - distances_to_classes(
            embed(self.estimator_, X), self._templates, self._template_labels
        )
        return decisions[:, 1] - decisions[:, 0] if len(self.classes_) == 2 else decisions

    def predict(self, X: Any) -> NDArray:
        """Predict the enrolled class of every sample, or ``unknown_label_``.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, ...), or list
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
        X : array-like, sparse matrix or DataFrame of shape (n_samples, ...), or list
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
        expected = self._with_unknown(y, self._is_among(y, self.classes_.tolist()))
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

    @staticmethod
    def _is_among(labels: NDArray, classes: list) -> NDArray[np.bool_]:
        members = set(classes)  # np.isin rounds large integers
        return np.array([label in members for label in labels.tolist()], dtype=bool)

    def _check_splits(self, folds: list[tuple[NDArray, NDArray]]) -> None:
        """Check that there are enough impostors, and templates of other classes for each."""
        n_impostors = sum(len(test) for _, test in folds)
        check_rate_is_measurable("target_fpir", self.target_fpir, n_impostors, self)
        for number, (train, test) in enumerate(folds, start=1):
            if len(np.unique(train)) < 2 and np.isin(test, train).any():
                raise ValueError(
                    f"The training samples of every fold must have at least 2 classes. Got 1 in "
                    f"fold {number}."
                )

    def _set_templates(
        self, embeddings: NDArray, labels: NDArray, sizes: NDArray | None = None
    ) -> None:
        """Enroll embeddings of samples, or means of several ones."""
        by_class = self.templates == "class_means"
        templates, labels, sizes = enroll_templates(embeddings, labels, sizes, by_class=by_class)
        self._templates, self._template_labels, self._template_sizes = templates, labels, sizes
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.class_count_ = np.bincount(codes, sizes).astype(int)
