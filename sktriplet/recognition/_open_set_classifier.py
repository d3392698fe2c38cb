"""`OpenSetClassifier`: which of the known classes a row is of, or none."""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sktriplet._embedder import TripletEmbedder
from sktriplet._input_validation import (
    remember,
    validate_enrolment,
    validate_names,
    validate_rows,
    validate_training_data,
)
from sktriplet._parameters import validate_parameters
from sktriplet.metrics._operating_point import most_within, threshold_at
from sktriplet.recognition._cross_fitting import embed, held_out_folds


class OpenSetClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Say which of the enrolled classes a row is of, or that it is of none.

    A row is identified as the class of its nearest enrolled row, unless that is farther
    than a threshold: then it is unknown. The threshold is set on strangers: the
    classes are dealt into folds, and the rows of each are looked for among the
    others, by an embedder that has seen the others only.

    `enroll` adds rows, and whole classes, without training.

    Parameters
    ----------
    estimator : transformer, default=None
        The embedder, fitted with ``fit(X, y)``. None is a
        :class:`~sktriplet.TripletEmbedder` with its defaults. One that is fitted goes in
        as a :class:`~sklearn.frozen.FrozenEstimator`; then `fit` sets the threshold and
        enrolls, and must be given rows that it was not fitted on.

    target_fpir : float, default=0.05
        Which part of the strangers may be identified as someone: the false positive
        identification rate.

    unknown_label : str, int or None, default=None
        What `predict` says of strangers. None is ``"unknown"`` where labels are strings.
        Where they are numbers it is -1, or one less than the least label if that is lower.

    cv : int, splitter or None, default=None
        How strangers are made. None is 5 folds of classes where y has 10 or more of them. Where
        it has fewer, rows are held out and looked for among the other classes; then their
        classes were seen in training, and real strangers are identified more often than
        asked for. An int is the number of folds. A splitter, such as
        :class:`~sklearn.model_selection.GroupKFold`, is called with the classes as groups.

    Attributes
    ----------
    estimator_ : transformer
        Fitted on all rows.

    threshold_ : float
        The largest Euclidean distance between embeddings at which a row is identified.

    classes_ : ndarray of shape (n_classes,)
        The enrolled classes.

    unknown_label_ : str or int
        What `predict` says of strangers.

    n_features_in_ : int
        Number of features seen in fit; of images, the product of `input_shape_`.

    input_shape_ : tuple of int
        Of a row as fit has seen it.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in fit, where X has names that are all strings.

    See Also
    --------
    PairVerifier : Says whether two rows are of one class.
    sktriplet.metrics.detection_identification_rate_score : How well strangers are kept out
        and the others identified.

    Notes
    -----
    The threshold is right for as many classes as `fit` had. The more are enrolled
    later, the more often a stranger is near to one of them.

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

    def fit(self, X: Any, y: Any) -> "OpenSetClassifier":
        """Fit the embedder, set the threshold on classes held out from it, and enroll all.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features), or images

        y : array-like of shape (n_rows,)
            Class labels.

        Returns
        -------
        OpenSetClassifier
            Itself.

        Raises
        ------
        InvalidParameterError
            If a parameter has a value that it cannot have.
        ValueError
            If X or y cannot be learned from, there are too few rows for `target_fpir`, or
            the unknown label is that of a class, or a number where classes are strings.
        """
        validate_parameters(self)
        rows, labels, seen = validate_training_data(self, X, y)
        classes = seen.pop("classes_")
        embedder = TripletEmbedder() if self.estimator is None else self.estimator
        if isinstance(embedder, FrozenEstimator):
            validate_names(embedder, X)
        unknown_label = self._label_for_strangers(classes)
        if self.cv is None or isinstance(self.cv, Integral):  # each row is held out once
            self._check_rate(len(labels))
        distances = self._distances_of_strangers(embedder, rows, classes, labels)
        self._check_rate(len(distances))
        threshold = threshold_at(self.target_fpir, distances)
        fitted = clone(embedder)
        if not isinstance(embedder, FrozenEstimator):
            fitted.fit(rows, classes[labels])
        self.estimator_, self.threshold_, self.unknown_label_ = fitted, threshold, unknown_label
        remember(self, seen)
        self._enrolled = embed(self.estimator_, rows)
        self._enrolled_classes = classes[labels]
        return self._index()

    def enroll(self, X: Any, y: Any) -> "OpenSetClassifier":
        """Add rows of classes, new or known, to those that are searched.

        Neither the embedder nor the threshold changes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features), or images

        y : array-like of shape (n_rows,)
            Class labels, of the kind that fit was given.

        Returns
        -------
        OpenSetClassifier
            Itself.

        Raises
        ------
        ValueError
            If X does not fit, or y is of another kind or holds the unknown label.
        """
        check_is_fitted(self)
        rows, y = validate_enrolment(self, X, y, self.classes_)
        self._check_no_class(self.unknown_label_, y)
        self._enrolled = np.concatenate([self._enrolled, embed(self.estimator_, rows)])
        self._enrolled_classes = np.concatenate([self._enrolled_classes, y])
        return self._index()

    def identify(self, X: Any) -> tuple[NDArray, NDArray[np.float64]]:
        """Find the nearest of the enrolled, however far.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features), or images

        Returns
        -------
        identities : ndarray of shape (n_rows,)
            The class of the nearest enrolled row.

        distances : ndarray of shape (n_rows,)
            And how far it is.
        """
        check_is_fitted(self)
        embeddings = embed(self.estimator_, validate_rows(self, X))
        distances, nearest = self._neighbors.kneighbors(embeddings)
        return self._enrolled_classes[nearest[:, 0]], distances[:, 0]

    def predict(self, X: Any) -> NDArray:
        """Say of which class each row is, or ``unknown_label_``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features), or images

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        identities, distances = self.identify(X)
        return self._answers(identities, distances <= self.threshold_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy, where "unknown" is the right answer for classes that are not enrolled.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features), or images

        y : array-like of shape (n_rows,)

        sample_weight : array-like of shape (n_rows,), default=None

        Returns
        -------
        float
        """
        predicted = self.predict(X)
        y = np.asarray(y)
        right = self._answers(y, np.isin(y, self.classes_))
        return float(accuracy_score(right, predicted, sample_weight=sample_weight))

    def _label_for_strangers(self, classes: NDArray) -> Any:
        are_numbers = classes.dtype.kind in "biuf"
        label = self.unknown_label
        if label is None:
            label = min(-1, int(np.floor(classes.min())) - 1) if are_numbers else "unknown"
        if isinstance(label, str) == are_numbers or classes.dtype.kind in "mM":
            raise ValueError(
                f"{type(self).__name__} requires classes in y that are strings or numbers, and an "
                f"'unknown_label' that is of the same kind. Got {label!r} beside "
                f"{classes[:3].tolist()}, ..."
            )
        self._check_no_class(label, classes)
        return label

    def _check_rate(self, n_rows: int) -> None:
        """Check that so many rows held out can tell the rate asked for from zero."""
        if not most_within(self.target_fpir, n_rows):
            raise ValueError(
                f"The 'target_fpir' parameter of {type(self).__name__} is too low to be measured "
                f"on {n_rows} rows held out. Got {self.target_fpir}, which takes "
                f"{int(np.ceil(1 / self.target_fpir))}."
            )

    def _answers(self, labels: NDArray, is_known: NDArray[np.bool_]) -> NDArray:
        """Return the labels, and ``unknown_label_`` where they are not known."""
        stranger = np.asarray(self.unknown_label_)
        if stranger.dtype.kind in "iu":
            stranger = stranger.astype(np.min_scalar_type(self.unknown_label_))
        dtype = np.result_type(labels, stranger)
        if labels.dtype == np.uint64 and dtype.kind == "f":  # no integers hold all of both
            dtype = np.dtype(np.int64)
        answers = labels.astype(dtype)
        answers[~is_known] = stranger
        return answers

    def _check_no_class(self, label: Any, y: NDArray) -> None:
        if label in y.tolist():
            raise ValueError(
                f"The 'unknown_label' parameter of {type(self).__name__} must be no class. "
                f"Got {label!r}, which is in y."
            )

    def _distances_of_strangers(
        self, embedder: Any, rows: NDArray | csr_array, classes: NDArray, labels: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Look for each row among the other classes, with an embedder that has not seen it."""
        distances = []
        for fold in held_out_folds(embedder, rows, classes, labels, self.cv):
            gallery = embed(fold.embedder, rows[fold.train])
            strangers = embed(fold.embedder, rows[fold.test])
            for label in np.unique(labels[fold.test]):
                others = gallery[labels[fold.train] != label]
                nearest = NearestNeighbors(n_neighbors=1).fit(others)
                of_label = strangers[labels[fold.test] == label]
                distances.append(nearest.kneighbors(of_label)[0][:, 0])
        return np.concatenate(distances)

    def _index(self) -> "OpenSetClassifier":
        """Make what is enrolled searchable."""
        self.classes_ = np.unique(self._enrolled_classes)
        self._neighbors = NearestNeighbors(n_neighbors=1).fit(self._enrolled)
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        return tags
